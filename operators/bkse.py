"""Nonlinear deblurring as in the paper: the blur operator that BKSE learned from videos (arXiv 2104.00317).

    y = clip(2 W((x + 1) / 2, kappa) - 1, -1, 1)

W is BKSE's kernel wizard: features of the image (a quarter of its size) go down five levels, meet the code kappa of the
blur at 1/128 of the image's size, come up again and are rendered. kappa = 1.2 n, n normal, (512, side/128, side/128),
is drawn once per image; the DMPlug and DMILO releases draw one at start-up, from torch's generator as it then is.

The modules are laid out and named as in GOPRO_wVAE.pth, so that the file loads strictly, its kernel extractor included,
which inference does not need.
"""

from __future__ import annotations

import copy
import pickle
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.cards import Fetchable, need
from bench.errors import BenchError
from bench.invariance import in_groups
from operators.base import Operator

CODE_CHANNELS, CODE_STRIDE, CODE_STD = 512, 128, 1.2
WIDTH = 64


class BKSEBlur(Operator):
    """BKSE's blur with the weights in `checkpoint` (GOPRO_wVAE.pth), another code for every image."""

    def __init__(self, checkpoint: str, card: Fetchable | None = None) -> None:
        self.checkpoint, self.card = Path(checkpoint).expanduser(), card

    def parameters(self, image_shape: tuple[int, int, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
        side = image_shape[1]
        if side % CODE_STRIDE:
            raise BenchError(f"task=nonlinear_deblur: needs images whose side is a multiple of 128, not {side}")
        cells = side // CODE_STRIDE
        return {"code": CODE_STD * rng.standard_normal((CODE_CHANNELS, cells, cells))}

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        moved = super().to(device, dtype)
        moved._wizard = copy.deepcopy(load_wizard(self.checkpoint, self.card)).to(device, dtype)
        return moved

    def __call__(self, x: Tensor, *unknowns: Tensor) -> Tensor:
        return (2 * in_groups(self._wizard, 1, (x + 1) / 2, self.drawn["code"]) - 1).clamp(-1, 1)

    _wizard: KernelWizard


class KernelWizard(nn.Module):
    """W(image in [0, 1], code) -> blurred image."""

    def __init__(self) -> None:
        super().__init__()
        leaky = nn.LeakyReLU(0.1)
        self.feature_extractor = nn.Sequential(
            *[nn.Conv2d(3, WIDTH, 3, 1, 1), leaky, nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), leaky],
            *[nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), leaky],
            *[Residual() for _ in range(10)],
        )
        self.kernel_extractor = KernelExtractor()
        self.adapter = Adapter()
        self.recon_trunk = nn.Sequential(
            *[Residual() for _ in range(20)],
            *[nn.Conv2d(WIDTH, 4 * WIDTH, 3, 1, 1), nn.PixelShuffle(2), leaky],
            *[nn.Conv2d(WIDTH, 4 * WIDTH, 3, 1, 1), nn.PixelShuffle(2), leaky],
            *[nn.Conv2d(WIDTH, WIDTH, 3, 1, 1), leaky, nn.Conv2d(WIDTH, 3, 3, 1, 1)],
        )

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return x + self.recon_trunk(self.adapter(self.feature_extractor(x), code))


class Residual(nn.Module):
    """x + conv2(relu(conv1 x))."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(WIDTH, WIDTH, 3, 1, 1)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class Adapter(nn.Module):
    """The U-Net in which the code meets the features."""

    def __init__(self) -> None:
        super().__init__()
        level = Level(512, 512, None)
        for outer, inner in ((256, 512), (128, 256), (64, 128)):
            level = Level(outer, inner, level)
        self.model = Level(64, 64, level, outermost=True)

    def forward(self, features: Tensor, code: Tensor) -> Tensor:
        return self.model(features, code)


class Level(nn.Module):
    """One level: down, what lies below (or the code, at the bottom), up, and the way past it."""

    def __init__(self, outer: int, inner: int, below: Level | None, outermost: bool = False) -> None:
        super().__init__()
        down = nn.Conv2d(outer, inner, 4, 2, 1, bias=False)
        up = nn.ConvTranspose2d(2 * inner, outer, 4, 2, 1, bias=outermost)
        self.outermost = outermost
        self.down = nn.Sequential(down) if outermost else nn.Sequential(nn.LeakyReLU(0.2), down)
        if below is not None:
            self.submodule = below
        self.up = nn.Sequential(nn.ReLU(), up, nn.Tanh()) if outermost else nn.Sequential(nn.ReLU(), up)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        if self.outermost:
            return self.up(self.submodule(self.down(x), code))
        # the release activates in place, so that what goes past this level is the activated tensor
        x = self.down[0](x)
        h = self.down[1](x)
        h = self.submodule(h, code) if hasattr(self, "submodule") else torch.cat([h, code], dim=1)
        return torch.cat([self.up(h), x], dim=1)


class KernelExtractor(nn.Module):
    """Only for strict loading: it estimates codes from pairs of images, which the operator never does."""

    def __init__(self) -> None:
        super().__init__()
        widths = [2 * WIDTH, WIDTH, 128, 256, 512, 1024, 1024]
        self.model = nn.ModuleDict({"1": nn.Conv2d(widths[0], widths[1], 7, bias=False)})
        for i in range(5):
            self.model[str(4 + 3 * i)] = nn.Conv2d(widths[i + 1], widths[i + 2], 3, 2, 1, bias=False)
        for i in range(4):
            block = nn.Module()
            block.conv_block = nn.ModuleDict({k: nn.Conv2d(1024, 1024, 3, bias=False) for k in ("1", "5")})
            self.model[str(19 + i)] = block


@cache
def load_wizard(checkpoint: Path, card: Fetchable | None = None) -> KernelWizard:
    """The frozen network with the weights in `checkpoint`, without its kernel extractor.

    Raises:
        BenchError: no such file, a damaged one, or one with other tensors.
    """
    if not checkpoint.is_file():
        raise BenchError(f"task.operator.checkpoint={checkpoint}: no such file; it {need(card, checkpoint)}")
    wizard = KernelWizard()
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        wizard.load_state_dict(state, strict=True)
    except (pickle.UnpicklingError, OSError, EOFError, RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BenchError(f"task.operator.checkpoint={checkpoint}: is no GOPRO_wVAE.pth ({reason})") from error
    del wizard.kernel_extractor
    return wizard.eval().requires_grad_(False)
