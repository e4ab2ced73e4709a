"""Making a network's result for an image independent of the batch it is in, to the bit (on the CPU).

Libraries choose their kernels by the shape of the batch, so the same image comes out with other rounding errors in
another batch: about 1e-6. Hundreds of Adam steps, restarted again and again, blow that up: 0.1 dB for DMILO, 0.7 dB
for DMILO-PGD's un-squared gradient steps (measured on the bundled prior, batch 1 against batch 4). Three causes, and
what removes them at next to no cost in time:

- oneDNN's convolutions pick a blocking by batch size, and from 16 images on torch would take NNPACK's, which are twice
  as slow besides: torch's own loop over images (`exact_kernels`);
- a linear layer is one matrix product over all images' rows: one product per image, in one batched call;
- for a batch of one, strides do not tell channels-last from contiguous, so kernels differ: contiguous inputs.

On CUDA, cuDNN and cuBLAS choose by shape as well and no such switch exists: there, only equal batch sizes give equal
bits, and different ones agree as far as the solver is stable.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class PerImageLinear(nn.Linear):
    """A linear layer applied to each image alone, (B, C) or (B, N, C); a batched product does not mix its members."""

    def forward(self, input: Tensor) -> Tensor:
        rows = input.unsqueeze(1) if input.dim() == 2 else input
        weight = self.weight.t().expand(len(input), -1, -1)
        product = torch.bmm(rows, weight) if self.bias is None else torch.baddbmm(self.bias, rows, weight)
        return product.squeeze(1) if input.dim() == 2 else product


def make_batch_invariant(network: nn.Module) -> None:
    """Change `network` in place; it keeps its parameters and their names."""
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = PerImageLinear
        elif isinstance(module, (nn.Conv2d, nn.GroupNorm)):
            module.register_forward_pre_hook(_contiguous)


@contextlib.contextmanager
def exact_kernels() -> Iterator[None]:
    """Within it, CPU convolutions treat each image alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's note on TF32 for GPUs that it was not built for
        with torch.backends.mkldnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=False):
            yield


def _contiguous(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.contiguous() for x in inputs)
