"""How a network is run: device, precision, and what trades time for memory. None of it is part of the model.

- `precision`: `fp32`; `tf32` (CUDA's matrix units for float32); `bf16` (autocast: weights stay float32, what they are
  multiplied with does not); `bf16_weights` (weights too, half their memory). In every case latents and Adam's state are
  float32, since `Prior.eps` takes and gives float32; so are the network's two ends, which cost little and halve
  bfloat16's error; and so are operators: A is what the measurement was made with.
- `checkpointing`: keep only the inputs of the residual and attention blocks, and compute the rest again in the backward
  pass (arXiv 1604.06174). diffusers' own switch leaves out the resampling and the attention blocks: at 256 x 256
  the former hold the largest activations.
- `weight_gradients`: as the official releases run, which do not freeze the network. Memory and time for nothing; here
  to compare with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.errors import BenchError, nearest
from bench.invariance import NETWORK, in_groups
from priors.prior import Network

PRECISIONS = ("fp32", "tf32", "bf16", "bf16_weights")
ENDS = {
    "conv_in": torch.bfloat16,
    "time_embedding": torch.bfloat16,
    "conv_norm_out": torch.float32,
    "conv_out": torch.float32,
}
"""What stays float32 in a bfloat16 network, and what it hands on."""


class Execution:
    """The settings of a run; see the module. Two runs that differ in `precision` alone may differ in their results."""

    def __init__(
        self,
        device: str = "cpu",
        precision: str = "fp32",
        checkpointing: bool = False,
        weight_gradients: bool = False,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise BenchError(f"precision={precision}: no such precision{nearest(precision, PRECISIONS)}")
        self.device, self.precision = torch.device(device), precision
        self.checkpointing, self.weight_gradients = checkpointing, weight_gradients
        self.channels_last, self.compile = channels_last, compile

    def prepare(self, unet: UNet2DModel, channels: int) -> Network:
        """`unet`, changed in place, as a noise predictor of `channels` channels (learned variances are cut off)."""
        module: Any = unet.eval().requires_grad_(self.weight_gradients)
        if self.checkpointing:
            checkpoint_blocks(module)
        if self.precision == "bf16_weights":
            round_weights(module)
        if self.precision in ("bf16", "bf16_weights"):
            keep_ends(module)
        self.place(module)
        allow_tf32(False)
        call = torch.compile(module) if self.compile else module

        def evaluate(x: Tensor, t: Tensor) -> Tensor:
            if self.channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
            with self._autocast():
                return call(x, t).sample[:, :channels]

        network = in_tf32(evaluate) if self.precision == "tf32" else evaluate
        return partial(in_groups, network, NETWORK) if self.grouped else network

    @property
    def grouped(self) -> bool:
        """Whether the network is called with groups of fixed size; see `bench.invariance`."""
        return self.device.type == "cpu"

    def place(self, module: nn.Module) -> None:
        """Give the weights their device and layout."""
        module.to(self.device)
        if self.channels_last:
            module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()


def round_weights(network: nn.Module) -> None:
    """Make all weights of `network` but those of its `ENDS` bfloat16."""
    kept = {id(weight) for name in ENDS for weight in getattr(network, name).parameters()}
    replace_weights(network, lambda weight: weight if id(weight) in kept else weight.detach().to(torch.bfloat16))


def replace_weights(network: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Put `change(weight)` in the place of every weight of `network`; also where its kind of tensor is another."""
    for part in network.modules():
        for name, weight in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(change(weight), requires_grad=weight.requires_grad))


def keep_ends(network: nn.Module) -> None:
    """Let the `ENDS` of `network` compute in float32, and what lies between them on bfloat16 activations."""
    for name, after in ENDS.items():
        end = getattr(network, name)
        end.forward = partial(_in_float32, end.forward, after)


def _in_float32(forward: Callable[[Tensor], Tensor], after: torch.dtype, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return forward(x.float()).to(after)


def allow_tf32(allowed: bool) -> None:
    """torch's switches, which hold for the whole process and for backward passes when they run."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def in_tf32(network: Network) -> Network:
    """`network` with TF32 allowed in its forward and backward pass, and nowhere else."""

    def evaluate(x: Tensor, t: Tensor) -> Tensor:
        x = _SwitchBackward.apply(x, False)  # the backward pass ends here
        allow_tf32(True)
        try:
            out = network(x, t)
        finally:
            allow_tf32(False)
        return _SwitchBackward.apply(out, True)  # and begins here

    return evaluate


class _SwitchBackward(torch.autograd.Function):
    """The identity, whose backward pass sets torch's switches."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, allowed: bool) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.allowed = allowed
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        allow_tf32(ctx.allowed)
        return gradients[0], None


def checkpoint_blocks(network: nn.Module) -> None:
    """Let every residual and attention block of `network` recompute its inside in the backward pass."""
    for module in network.modules():
        if isinstance(module, (ResnetBlock2D, Attention)):
            module.forward = partial(_checkpointed, module.forward)


def _checkpointed(forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    # no dropout in a frozen network, so no generator's state to keep; without gradients nothing is saved twice
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
