"""Metrics computed on the host, and the reports made of them."""
