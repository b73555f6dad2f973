"""Sequence-mixing kernels on JAX alone: the scans of Mamba and their kin, and orders for images."""

from jaxvision_kernels.bidirectional import bidirectional_scan, quasiseparable_scan, shift
from jaxvision_kernels.causal_conv1d import causal_conv1d, causal_conv1d_update
from jaxvision_kernels.scan_orders import (
    SCAN_ORDERS,
    check_order,
    inverse_order,
    scan_order,
    to_grid,
    to_sequence,
)
from jaxvision_kernels.selective_scan import BACKENDS, selective_scan
from jaxvision_kernels.selective_state_update import selective_state_update
from jaxvision_kernels.sequence_parallel import sequence_parallel_scan
from jaxvision_kernels.ssd import SSD_BACKENDS, ssd

__all__ = [
    "BACKENDS",
    "SCAN_ORDERS",
    "SSD_BACKENDS",
    "bidirectional_scan",
    "causal_conv1d",
    "causal_conv1d_update",
    "check_order",
    "inverse_order",
    "quasiseparable_scan",
    "scan_order",
    "selective_scan",
    "selective_state_update",
    "sequence_parallel_scan",
    "shift",
    "ssd",
    "to_grid",
    "to_sequence",
]
