"""The peak memory of a reconstruction, found without a GPU and without arithmetic.

The solver itself runs, on fake tensors: shapes, strides and storages, but no data. A dispatch mode sees every tensor
that an operation makes and follows its storage to its end, so the peak is that of the real run: graphs, what autograd
saves, optimiser states and all. Each storage counts in CUDA's granule of 512 bytes. Not in it, because the libraries
decide on them at run time: cuDNN's and cuBLAS's workspaces, and the CUDA context (some 0.5 GiB that nvidia-smi shows).

Our own dispatch mode, since torch's MemTracker is private and sorts by module, not by weights, optimiser and operator.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from bench.seeds import ImageGenerators
from operators.base import Operator
from priors.execution import Execution, replace_weights
from priors.prior import Prior
from solvers.base import Solver

CUDA_GRANULE = 512
WEIGHTS, GRADIENTS, ACTIVATIONS, OPTIMISER, OPERATOR = "weights", "gradients", "activations", "optimiser", "operator"


class Footprint(TorchDispatchMode):
    """Bytes alive by kind, while it is active and for what `own` was told of.

    Attributes:
        live: bytes by kind, now.
        peak: bytes by kind at the moment when their sum was highest.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self._kind = ACTIVATIONS
        self._storages: dict[int, tuple[weakref.ref[Any], str, int]] = {}

    @property
    def peak_bytes(self) -> int:
        return self.peak.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._see, out)
        return out

    def own(self, tensors: Iterator[Tensor], kind: str) -> None:
        """Count these tensors as `kind`, whether they are known or not."""
        for tensor in tensors:
            known = self._storages.pop(id(tensor.untyped_storage()), None)
            if known:
                self.live[known[1]] -= known[2]
            self._add(tensor, kind)

    @contextlib.contextmanager
    def making(self, kind: str) -> Iterator[None]:
        """Within it, new tensors are of this kind."""
        before, self._kind = self._kind, kind
        try:
            yield
        finally:
            self._kind = before

    @contextlib.contextmanager
    def watching_optimisers(self) -> Iterator[None]:
        """Within it, what optimisers make in their steps counts as theirs."""

        def set_kind(kind: str) -> None:
            self._kind = kind

        hooks = [
            register_optimizer_step_pre_hook(lambda *_: set_kind(OPTIMISER)),
            register_optimizer_step_post_hook(lambda *_: set_kind(ACTIVATIONS)),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _see(self, tensor: Tensor) -> Tensor:
        if tensor.device.type == "meta":  # a shape on paper; no run makes one
            return tensor
        if id(tensor.untyped_storage()) not in self._storages:
            self._add(tensor, self._kind)
        return tensor

    def _add(self, tensor: Tensor, kind: str) -> None:
        storage = tensor.untyped_storage()
        size = -(-storage.nbytes() // CUDA_GRANULE) * CUDA_GRANULE
        key = id(storage)
        # torch keeps one Python object per storage alive as long as the storage itself: its end is the memory's
        self._storages[key] = (weakref.ref(storage, lambda _: self._remove(key)), kind, size)
        self.live[kind] += size
        if self.live.total() > self.peak.total():
            self.peak = Counter(self.live)

    def _remove(self, key: int) -> None:
        _, kind, size = self._storages.pop(key)
        self.live[kind] -= size


class FakeExecution(Execution):
    """Runs a network as `Execution` would on a GPU, with weights that have a shape and no content."""

    @property
    def grouped(self) -> bool:
        return False

    def place(self, module: nn.Module) -> None:
        replace_weights(module, lambda weight: torch.empty(weight.shape, dtype=weight.dtype, device="cpu"))


class FakeDraws(ImageGenerators):
    """Draws of the right shapes."""

    def normal(self, *shape: int) -> Tensor:
        return torch.empty(len(self), *shape)


class CountedOperator(Operator):
    """An operator whose own tensors are counted as such."""

    def __init__(self, operator: Operator, footprint: Footprint) -> None:
        self._operator, self._footprint = operator, footprint
        self.image_shape, self.drawn = operator.image_shape, operator.drawn

    def unknowns(self, rng: ImageGenerators) -> tuple[Tensor, ...]:
        return self._operator.unknowns(rng)

    def __call__(self, x: Tensor, *unknowns: Tensor) -> Tensor:
        with self._footprint.making(OPERATOR):
            return self._operator(x, *unknowns)


class _Enough(Exception):
    """The solver has called the network often enough."""


def footprint(network: dict[str, Any], solver: Solver, operator: Operator, batch: int, **execution: Any) -> Footprint:
    """The memory of `solver` on `batch` images, with `network` (a `UNet2DModel` configuration) as the prior.

    The solver is stopped after its first few iterations: memory does not grow from one to the next.

    Args:
        operator: A, not yet drawn.
        execution: `Execution`'s settings other than `device`.
    """
    steps = getattr(getattr(solver, "sampler", None), "steps", 1)
    calls = 2 * steps + 3  # one that keeps the whole sampler's graph gets to build it, optimise, and build it again
    with torch.device("meta"):
        unet: Any = UNet2DModel(**network)
    channels, side = unet.config["in_channels"], unet.config["sample_size"]
    prior = Prior(lambda x, t: x, DDPMScheduler().alphas_cumprod, (channels, side, side))
    drawn = operator.draw((channels, side, side), [np.random.default_rng(0)] * batch)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, Footprint() as watch, watch.watching_optimisers():
        predict = FakeExecution(**execution).prepare(unet, channels)

        def network_until_enough(x: Tensor, t: Tensor) -> Tensor:
            if prior.forward_images >= calls * batch:
                raise _Enough
            return predict(x, t)

        prior.network = network_until_enough
        watch.own(unet.parameters(), WEIGHTS)
        for weight in unet.parameters():
            if weight.requires_grad:
                weight.register_post_accumulate_grad_hook(lambda w: watch.own(iter([w.grad]), GRADIENTS))
        bound = drawn.to("cpu", torch.float32)
        bound.drawn = {key: mode.from_tensor(value) for key, value in bound.drawn.items()}
        watch.own(iter(bound.drawn.values()), OPERATOR)
        counted = CountedOperator(bound, watch)
        y = counted(torch.empty(batch, *drawn.image_shape))
        with contextlib.suppress(_Enough):
            for _ in solver.reconstruct(y, counted, prior, FakeDraws([0] * batch)):
                pass
    return watch
