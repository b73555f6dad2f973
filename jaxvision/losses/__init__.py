"""Losses as pure, unreduced functions of arrays."""
