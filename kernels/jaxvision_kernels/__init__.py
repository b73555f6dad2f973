"""Sequence-mixing kernels on JAX alone: the selective scan of Mamba, and scan orders for images."""

from jaxvision_kernels.scan_orders import (
    SCAN_ORDERS,
    inverse_order,
    scan_order,
    to_grid,
    to_sequence,
)
from jaxvision_kernels.selective_scan import BACKENDS, selective_scan

__all__ = [
    "BACKENDS",
    "SCAN_ORDERS",
    "inverse_order",
    "scan_order",
    "selective_scan",
    "to_grid",
    "to_sequence",
]
