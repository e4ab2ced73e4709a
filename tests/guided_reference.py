"""An independent, plain version of the guided-diffusion U-Net (arXiv 2105.05233), with its checkpoints' key layout.

Unconditional, scale-shift norm, resampling inside residual blocks, legacy attention order.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    def __init__(self, cin: int, cout: int, embedding: int, groups: int, resample: str = "") -> None:
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(nn.GroupNorm(groups, cin), nn.SiLU(), nn.Conv2d(cin, cout, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * cout))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, cout), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(cout, cout, 3, padding=1)
        )
        if cin != cout:
            self.skip_connection = nn.Conv2d(cin, cout, 1)

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2, mode="nearest") if self.resample == "up" else x

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.in_layers[2](self._resampled(self.in_layers[1](self.in_layers[0](x))))
        scale, shift = self.emb_layers(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.out_layers[0](h) * (1 + scale) + shift
        h = self.out_layers[3](self.out_layers[1](h))
        x = self._resampled(x)
        return h + (self.skip_connection(x) if hasattr(self, "skip_connection") else x)


class Attention(nn.Module):
    def __init__(self, channels: int, head: int, groups: int) -> None:
        super().__init__()
        self.head = head
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        batch, channels = x.shape[:2]
        flat = x.reshape(batch, channels, -1)
        heads = self.qkv(self.norm(flat)).reshape(batch * channels // self.head, 3 * self.head, -1)
        q, k, v = heads.split(self.head, dim=1)
        scale = self.head**-0.25
        weights = torch.einsum("bct,bcs->bts", q * scale, k * scale).softmax(-1)
        h = torch.einsum("bts,bcs->bct", weights, v).reshape(batch, channels, -1)
        return (flat + self.proj_out(h)).view_as(x)


class Block(nn.Sequential):
    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        for layer in self:
            x = layer(x) if isinstance(layer, nn.Conv2d) else layer(x, embedding)
        return x


class GuidedUNet(nn.Module):
    """`attention` holds the downsampling factors with attention, as in the release's attention_resolutions."""

    def __init__(
        self,
        width: int,
        blocks: int,
        attention: set[int],
        multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4),
        head: int = 64,
        groups: int = 32,
    ) -> None:
        super().__init__()
        self.width, emb = width, 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.input_blocks = nn.ModuleList([Block(nn.Conv2d(3, width, 3, padding=1))])
        channels, skips, factor = width, [width], 1
        for level, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                layers: list[nn.Module] = [Residual(channels, multiplier * width, emb, groups)]
                channels = multiplier * width
                if factor in attention:
                    layers.append(Attention(channels, head, groups))
                self.input_blocks.append(Block(*layers))
                skips.append(channels)
            if level < len(multipliers) - 1:
                self.input_blocks.append(Block(Residual(channels, channels, emb, groups, "down")))
                skips.append(channels)
                factor *= 2
        self.middle_block = Block(
            Residual(channels, channels, emb, groups),
            Attention(channels, head, groups),
            Residual(channels, channels, emb, groups),
        )
        self.output_blocks = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for layer in range(blocks + 1):
                layers = [Residual(channels + skips.pop(), multiplier * width, emb, groups)]
                channels = multiplier * width
                if factor in attention:
                    layers.append(Attention(channels, head, groups))
                if level and layer == blocks:
                    layers.append(Residual(channels, channels, emb, groups, "up"))
                    factor //= 2
                self.output_blocks.append(Block(*layers))
        self.out = nn.Sequential(nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, 6, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        half = self.width // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half) / half)
        angles = t[:, None].float() * frequencies
        embedding = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        skips = []
        for block in self.input_blocks:
            x = block(x, embedding)
            skips.append(x)
        x = self.middle_block(x, embedding)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), embedding)
        return self.out(x)
