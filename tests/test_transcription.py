"""DMILO and DMILO-PGD against a straightforward transcription of the release's loops, written independently.

One image at a time, plain Python lists, formulas as in the release (its scripts, without the oracle): nothing of
`solvers/`, `priors/sampler.py` or `operators/` is used, except the drawn mask or kernel. In double precision: the
sign in the gradient of |nu| turns rounding errors of float32 into steps of a whole learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor

from bench.seeds import ImageGenerators, numpy_generator
from operators.base import Operator
from operators.blur import GaussianBlur, MotionBlur
from operators.inpainting import RandomInpainting
from operators.super_resolution import SuperResolution
from priors.loading import load_unet
from priors.prior import Prior
from priors.sampler import DDIM
from solvers.dmilo import DMILO
from solvers.dmilo_pgd import DMILOPGD

SIDE = 16
OUTER, INNER, LR_Z, LR_NU = 3, 6, 2e-2, 1e-3
STEPS = [(999, 666), (666, 333), (333, 0)]
OPERATORS: dict[str, Operator] = {
    "super_resolution": SuperResolution(4),
    "inpainting": RandomInpainting(0.7),
    "gaussian_deblur": GaussianBlur(),
    "motion_deblur": MotionBlur(),
}
DATA_STEP = {
    "super_resolution": ("squared", 1, 8.0),
    "inpainting": ("squared", 1, 0.5),
    "gaussian_deblur": ("norm", 20, 0.3),
    "motion_deblur": ("norm", 20, 0.3),
}


def transcribed_operator(task: str, drawn: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """The four operators in other words."""
    if task == "inpainting":
        return lambda x: x * drawn["mask"]
    if task == "super_resolution":
        taps = torch.arange(-6, 10, dtype=torch.float64)
        distance = ((taps - 1.5) / 4).abs()
        near = 1.5 * distance**3 - 2.5 * distance**2 + 1
        far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        weights = torch.where(distance <= 1, near, torch.where(distance <= 2, far, 0.0))
        weights = (weights / weights.sum()).double().repeat(3, 1, 1, 1)

        def half(x: Tensor) -> Tensor:
            """Along the last axis: 6 pixels before and 9 after each group of four, edges mirrored with repetition."""
            mirrored = torch.cat([x[..., :6].flip(-1), x, x[..., -6:].flip(-1)], -1)
            return F.conv2d(mirrored, weights, stride=(1, 4), groups=3)

        return lambda x: half(half(x).transpose(2, 3)).transpose(2, 3)
    kernel = drawn["kernel"]
    pad = kernel.shape[-1] // 2
    return lambda x: F.conv2d(F.pad(x, (pad,) * 4, mode="reflect"), kernel.repeat(3, 1, 1, 1), groups=3)


class Doubles(ImageGenerators):
    def normal(self, *shape: int) -> Tensor:
        return super().normal(*shape).double()


class Release:
    """The state and the loops of the release for one image."""

    def __init__(self, unet: torch.nn.Module, z0: Tensor) -> None:
        self.unet, self.abar = unet, DDIMScheduler().alphas_cumprod.double()
        self.z, self.nu = [z0], [torch.zeros_like(z0) for _ in STEPS]
        for t, s in STEPS:
            self.z.append(self.g(self.z[-1], t, s).detach())

    def g(self, x: Tensor, t: int, s: int) -> Tensor:
        noise = self.unet(x, torch.tensor([t])).sample.float()  # the suite's priors answer in float32
        x0 = torch.clamp((x - torch.sqrt(1 - self.abar[t]) * noise) / torch.sqrt(self.abar[t]), -1, 1)
        noise = (x - torch.sqrt(self.abar[t]) * x0) / torch.sqrt(1 - self.abar[t])
        return torch.sqrt(self.abar[s]) * x0 + torch.sqrt(1 - self.abar[s]) * noise

    def project(self, a: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
        for i in (2, 1, 0):
            target = y if i == 2 else self.z[i + 1]
            z, nu = self.z[i].clone().requires_grad_(True), self.nu[i].clone().requires_grad_(True)
            adam = torch.optim.Adam([{"params": [nu], "lr": LR_NU}, {"params": [z], "lr": LR_Z}])
            for _ in range(INNER):
                adam.zero_grad()
                out = self.g(z, *STEPS[i]) + nu
                loss = torch.mean(((a(out) if i == 2 else out) - target) ** 2)
                (loss + 0.1 * torch.mean(nu.abs()) + 1e-4 * torch.mean(z**2)).backward()
                adam.step()
            self.z[i], self.nu[i] = z.detach(), nu.detach()
        with torch.no_grad():
            x = self.z[0]
            for i, (t, s) in enumerate(STEPS):
                x = self.z[i + 1] = self.g(x, t, s) + self.nu[i]
        return x.clamp(-1, 1)

    def dmilo(self, a: Callable[[Tensor], Tensor], y: Tensor) -> list[Tensor]:
        return [self.project(a, y) for _ in range(OUTER)]

    def dmilo_pgd(self, a: Callable[[Tensor], Tensor], y: Tensor, task: str) -> list[Tensor]:
        kind, count, lr = DATA_STEP[task]
        x, found = torch.zeros_like(self.z[0]), []
        for _ in range(OUTER):
            for _ in range(count):
                x = x.detach().requires_grad_(True)
                residual = torch.linalg.vector_norm(a(x) - y)
                (residual**2 if kind == "squared" else residual).backward()
                assert x.grad is not None
                x = (x - lr * x.grad).clamp(-1, 1).detach()
            x = self.project(a, a(x).detach())
            found.append(x)
        return found


@pytest.mark.parametrize("solver", ["dmilo", "dmilo_pgd"])
@pytest.mark.parametrize("task", OPERATORS)
def test_every_outer_iterate_is_the_transcription_s(task: str, solver: str, tiny_prior: Path) -> None:
    rngs = [numpy_generator("transcription", i) for i in range(2)]
    operator = OPERATORS[task].draw((3, SIDE, SIDE), rngs).to("cpu", torch.float64)
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, SIDE, SIDE, generator=generator, dtype=torch.float64) * 1.6 - 0.8
    y = operator(truth)
    y = y + 0.01 * torch.randn(y.shape, generator=generator, dtype=torch.float64)

    inversion = {"inner": INNER, "lr_z": LR_Z, "lr_nu": LR_NU}
    sampler = DDIM(3, shifted=True)
    ours = DMILO(sampler, OUTER, **inversion)
    if solver == "dmilo_pgd":
        ours = DMILOPGD(sampler, OUTER, *DATA_STEP[task], **inversion)
    unet: Any = load_unet(tiny_prior).eval().double().requires_grad_(False)
    prior = Prior(lambda x, t: unet(x, t).sample, DDIMScheduler().alphas_cumprod, (3, SIDE, SIDE))
    iterates = list(ours.reconstruct(y, operator, prior, Doubles([1, 2])))

    z0 = Doubles([1, 2]).normal(3, SIDE, SIDE)
    for i in range(2):
        a = transcribed_operator(task, {name: value[i : i + 1] for name, value in operator.drawn.items()})
        torch.testing.assert_close(a(truth[i : i + 1]), operator(truth)[i : i + 1], rtol=0, atol=1e-6)
        release = Release(unet, z0[i : i + 1])
        loop = release.dmilo if solver == "dmilo" else lambda a, y, release=release: release.dmilo_pgd(a, y, task)
        for expected, found in zip(loop(a, y[i : i + 1]), iterates, strict=True):
            assert isinstance(found, Tensor)
            torch.testing.assert_close(found[i : i + 1], expected, rtol=0, atol=1e-5)
    assert (iterates[-1] - iterates[0]).abs().max() > 0.05, "the loop moves"
