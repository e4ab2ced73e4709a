"""TF32 where there is no such unit: its rounding, for what it does to a result; it says nothing of speed.

TF32 keeps ten bits of a float32's mantissa in the operands of a product and sums in float32. Within `EmulatedTF32`, the
operands of convolutions, matrix products and attention are rounded so, forward and backward, wherever torch's own
switch allows it; attention's inner product with the softmax is not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

PRODUCTS = ("convolution", "addmm", "bmm", "mm", "scaled_dot_product")
OPERANDS = 4
"""They stand among an operation's first arguments; behind them come settings, and what attention kept."""
DROPPED_BITS = 13


def rounded(x: Tensor) -> Tensor:
    """`x` to the nearest TF32 number, ties to even; other types than float32, and biases, as they are."""
    if x.dtype != torch.float32 or x.dim() < 2:
        return x
    bits = x.contiguous().view(torch.int32)
    last_kept = (bits >> DROPPED_BITS) & 1
    return ((bits + (1 << (DROPPED_BITS - 1)) - 1 + last_kept) & -(1 << DROPPED_BITS)).view(torch.float32)


class EmulatedTF32(TorchDispatchMode):
    """While it is active, products that may be in TF32 are."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.backends.cudnn.allow_tf32 and any(part in str(func) for part in PRODUCTS):
            args = (*tree_map_only(Tensor, rounded, args[:OPERANDS]), *args[OPERANDS:])
        return func(*args, **(kwargs or {}))
