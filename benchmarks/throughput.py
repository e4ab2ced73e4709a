"""Images per hour and model-FLOP utilisation of DMILO's inner loop, beside the official loop; random weights.

    uv run python -m benchmarks.throughput                                       # CUDA: the 256 x 256 networks
    uv run python -m benchmarks.throughput --device cpu --priors emoji --precisions fp32 --batches 1 4

Writes results/reference/throughput/. DMILO's time is its inner steps': one forward pass, one vector-Jacobian product to
the input, Adam on z and nu. Images per hour are those of the paper's motion-deblurring setting, which takes `CALLS`
of them. The official loop is one image at a time, with weight gradients and torch's own float32 settings (on CUDA:
TF32 in convolutions, not in matrix products). Every variant takes turns with it; the ratio's range is over the rounds.

Model-FLOP utilisation (arXiv 2204.02311): the operations that the mathematics asks for, one forward pass and one
vector-Jacobian product to the input, counted on meta tensors by torch's counter, so neither weight gradients nor
recomputation count; per second, over the device's peak for dense matrices at that precision.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.cell import make, resolved
from bench.config import ROOT, composed
from bench.cost import now
from bench.memory import network_config
from bench.seeds import ImageGenerators
from priors.execution import PRECISIONS, Execution
from priors.prior import Network, Prior
from priors.sampler import DDIM
from solvers.inversion import InversionSettings, LayerInversion

OUT = ROOT / "results" / "reference" / "throughput"
PAPER = resolved(composed(["task=motion_deblur", "solver=dmilo", "preset=paper"]))
"""The paper's setting."""
CALLS = PAPER["solver"]["outer"] * PAPER["solver"]["inner"] * PAPER["solver"]["sampler"]["steps"]
"""Inner steps per image."""
TENSOR_CORES = {
    "H200": {"fp32": 67.0, "tf32": 494.5, "bf16": 989.5},
    "H100 80GB HBM3": {"fp32": 67.0, "tf32": 494.5, "bf16": 989.5},
    "A100": {"fp32": 19.5, "tf32": 156.0, "bf16": 312.0},
    "RTX 4090": {"fp32": 82.6, "tf32": 82.6, "bf16": 165.2},
}
"""Dense peak in TFLOP/s by part of the device's name, from NVIDIA's data sheets."""


def peak_flops(device: str, precision: str) -> float | None:
    """The device's peak in FLOP/s, or None if it is not in the table."""
    for name, peaks in TENSOR_CORES.items():
        if name in device:
            return 1e12 * peaks[precision.removesuffix("_weights")]
    return None


def model_flops(network: dict[str, Any]) -> int:
    """Floating-point operations of one inner step on one image; a multiplication with its addition is two."""
    with torch.device("meta"):
        unet: Any = UNet2DModel(**network).eval().requires_grad_(False)
        side = unet.config["sample_size"]
        x = torch.zeros(1, unet.config["in_channels"], side, side, requires_grad=True)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # others recompute
            unet(x, torch.zeros(1, dtype=torch.long)).sample.sum().backward()
    return counter.get_total_flops()


class InnerLoop:
    """DMILO's inner steps for one sampler step, on a network with random weights."""

    def __init__(
        self, network: Network, side: int, batch: int, device: torch.device, tf32_convolutions: bool = False
    ) -> None:
        shape = (3, side, side)
        self.tf32_convolutions = tf32_convolutions
        self.prior = Prior(network, DDPMScheduler().alphas_cumprod, shape)
        self.batch, self.device = batch, device
        self.z0 = ImageGenerators(range(batch), device).normal(*shape)
        operator = make("task.operator", PAPER["task"]["operator"])
        rngs = [np.random.default_rng(i) for i in range(batch)]
        self.operator = operator.draw(shape, rngs).to(device, torch.float32)
        self.prior.warm_up(batch, device)

    def seconds_per_image(self, inner: int) -> float:
        """Seconds of one inner step, over the batch."""
        settings = InversionSettings(inner, lr_z=PAPER["solver"]["lr_z"])
        layers = LayerInversion(DDIM(1, shifted=True).maps(self.prior), self.z0, settings)
        target = self.operator(torch.zeros_like(self.z0))
        torch.backends.cudnn.allow_tf32 = self.tf32_convolutions
        start = now(self.device)
        layers.sweep(target, self.operator)
        return (now(self.device) - start) / inner / self.batch


def official(unet: UNet2DModel, device: torch.device) -> Network:
    """The network as the release calls it: its weights collect gradients."""
    module: Any = unet.eval().requires_grad_(True).to(device)
    return lambda x, t: module(x, t).sample[:, : x.shape[1]]


def compare(
    network: dict[str, Any], variants: list[dict[str, Any]], inner: int, rounds: int, device: torch.device
) -> list[dict[str, Any]]:
    """One row per variant, which is `batch` and the settings of `Execution`.

    `network` is a `UNet2DModel` configuration.
    """

    def build() -> UNet2DModel:
        with device:
            return UNet2DModel(**network)

    side, flops = network["sample_size"], model_flops(network)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    released = InnerLoop(official(build(), device), side, 1, device, tf32_convolutions=True)  # torch's default
    rows = []
    for variant in variants:
        settings = {key: value for key, value in variant.items() if key != "batch"}
        torch.compiler.reset()
        try:
            predict = Execution(str(device), **settings).prepare(build(), 3)
            loop = InnerLoop(predict, side, variant["batch"], device)
            pairs = [(released.seconds_per_image(inner), loop.seconds_per_image(inner)) for _ in range(rounds)]
        except torch.OutOfMemoryError:
            rows.append({**variant, "official": "out of memory"})
            continue
        ratios = np.array([a / b for a, b in pairs])
        seconds = float(np.median([b for _, b in pairs]))
        peak = peak_flops(name, settings["precision"])
        row = {
            **variant,
            "ms_per_image": f"{1e3 * seconds:.2f}",
            "images_per_hour": f"{3600 / seconds / CALLS:.2f}",
            "times_official": f"{np.median(ratios):.2f} ({ratios.min():.2f}-{ratios.max():.2f})",
            "tflops": f"{flops / seconds / 1e12:.3g}",
            "utilisation": f"{flops / seconds / peak:.1%}" if peak else "n/a",
        }
        print(row, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--priors", nargs="+", default=["imagenet256", "celebahq"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["fp32", "tf32", "bf16", "bf16_weights"])
    parser.add_argument("--compile", nargs="+", choices=["false", "true"], default=["false"])
    parser.add_argument("--inner", type=int, default=5, help="inner steps per timing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the table")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    variants = [
        {"batch": batch, "precision": precision, "compile": compiled == "true"}
        for compiled, precision, batch in itertools.product(arguments.compile, arguments.precisions, arguments.batches)
    ]
    tables = []
    for prior in arguments.priors:
        network = network_config(resolved(composed([f"prior={prior}"]))["prior"])
        rows = compare(network, variants, arguments.inner, arguments.rounds, device)
        tables.append(pd.DataFrame(rows).assign(prior=prior).set_index("prior").reset_index())
        table = pd.concat(tables)
        arguments.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(arguments.out / f"{device.type}.csv", index=False)
    print(table.to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    main()
