"""Loading is strict, calls are counted, and an image's result does not depend on its batch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from bench.config import ROOT
from bench.errors import BenchError
from priors.gaussian import GaussianPrior
from priors.loading import WEIGHTS, load_prior


@pytest.fixture
def broken(tiny_prior: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_prior, tmp_path / "broken"))


def damage(folder: Path, change) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def test_missing_key_is_an_error(broken: Path) -> None:
    damage(broken, lambda tensors: tensors.pop("conv_in.weight"))
    with pytest.raises(BenchError, match=r"1 missing keys \(conv_in\.weight\)"):
        load_prior(broken)


def test_extra_key_is_an_error(broken: Path) -> None:
    damage(broken, lambda tensors: tensors.update(surprise=torch.zeros(1)))
    with pytest.raises(BenchError, match=r"1 unexpected keys \(surprise\)"):
        load_prior(broken)


def test_wrong_shape_is_an_error(broken: Path) -> None:
    damage(broken, lambda tensors: tensors.update({"conv_in.bias": torch.zeros(5)}))
    with pytest.raises(BenchError, match=r"prior\.weights=.*conv_in\.bias"):
        load_prior(broken)


def test_truncated_file_is_an_error(broken: Path) -> None:
    content = (broken / WEIGHTS).read_bytes()
    (broken / WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(BenchError, match=r"prior\.weights=.*cannot be loaded"):
        load_prior(broken)


@pytest.mark.parametrize("weights", ["/nowhere/at/all", "nowhere"])
def test_missing_folder_is_an_error(weights: str) -> None:
    with pytest.raises(BenchError, match="no such folder"):
        load_prior(weights)


def test_image_size_must_be_the_networks(tiny_prior: Path) -> None:
    with pytest.raises(BenchError, match=r"prior\.image_size=32.*16 x 16"):
        load_prior(tiny_prior, image_size=32)


def test_fingerprint_is_of_the_weights(tiny_prior: Path, broken: Path) -> None:
    first = load_prior(broken).fingerprint
    assert first == load_prior(tiny_prior).fingerprint
    damage(broken, lambda tensors: tensors["conv_in.bias"].add_(1))
    assert load_prior(broken).fingerprint != first


def test_calls_are_counted_per_image(tiny_prior: Path) -> None:
    prior = load_prior(tiny_prior)
    x = torch.randn(3, 3, 16, 16, requires_grad=True)
    prior.eps(x, 5)
    prior.x0(x, 5).sum().backward()
    assert (prior.forward_images, prior.backward_images) == (6, 3)


def test_a_batch_size_is_warmed_up_once_and_not_counted(tiny_prior: Path) -> None:
    prior = load_prior(tiny_prior)
    sizes, network = [], prior.network
    prior.network = lambda x, t: (sizes.append(len(x)), network(x, t))[1]
    for batch in (2, 2, 1):
        prior.warm_up(batch, torch.device("cpu"))
    assert sizes == [2, 2, 1, 1], "with and without gradients"
    assert (prior.forward_images, prior.backward_images) == (0, 0)


class SeesTf32(TorchDispatchMode):
    """Whether torch's switch was on, for every convolution and its backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "convolution" in str(func):
            self.seen.append(torch.backends.cudnn.allow_tf32 and torch.backends.cuda.matmul.allow_tf32)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_tf32_is_for_the_network_alone(tiny_prior: Path, precision: str) -> None:
    """Not for the operator, forward or backward, nor for a float32 network in the same process."""
    load_prior(tiny_prior, precision="tf32")
    prior = load_prior(tiny_prior, precision=precision)
    z, kernel = torch.zeros(4, 3, 16, 16, requires_grad=True), torch.ones(3, 3, 1, 1)
    with SeesTf32() as network:
        out = prior.eps(z, 5)
    with SeesTf32() as operator:
        loss = torch.nn.functional.conv2d(out, kernel).square().sum()
    with SeesTf32() as backward:
        torch.nn.functional.conv2d(z, kernel).sum().add(loss).backward()
    allowed = precision == "tf32"
    assert set(network.seen) == {allowed}
    assert operator.seen == [False]
    assert backward.seen.count(allowed) >= len(network.seen)
    assert backward.seen.count(False) >= 2
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("which", ["tiny", "bundled"])
def test_an_image_is_the_same_to_the_bit_in_any_batch(which: str, tiny_prior: Path) -> None:
    prior = load_prior(tiny_prior if which == "tiny" else ROOT / "priors" / "emoji")
    x = torch.randn(17, *prior.image_shape, generator=torch.Generator().manual_seed(0))

    def evaluate(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = images.clone().requires_grad_(True)
        out = prior.eps(z, 333)
        out.square().sum().backward()
        return out.detach(), z.grad

    out, gradient = evaluate(x)
    for chosen in (slice(0, 1), slice(1, 3), slice(2, 6), slice(3, 16), slice(16, 17)):  # also at other places
        alone = evaluate(x[chosen])
        assert torch.equal(alone[0], out[chosen])
        assert torch.equal(alone[1], gradient[chosen])


@pytest.mark.parametrize("precision", ["bf16", "bf16_weights"])
def test_bfloat16_stays_inside_the_network(precision: str) -> None:
    """0.004 if the ends were bfloat16, too: the output alone would be rounded by that."""
    exact, rough = (load_prior(ROOT / "priors" / "emoji", precision=p) for p in ("fp32", precision))
    x = torch.randn(4, *exact.image_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = exact.eps(x, 333), rough.eps(x, 333)
    assert 1e-3 < (found - expected).norm() / expected.norm() < 3e-3


def test_gaussian_prior_predicts_the_expected_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(12, 12, generator=generator)
    prior = GaussianPrior((3, 2, 2), 0.3 * torch.ones(12), factor @ factor.T / 12)
    a = prior.abar(400)
    x = torch.randn(2, 3, 2, 2, generator=generator)
    marginal = a * prior.covariance + (1 - a) * torch.eye(12, dtype=torch.float64)
    expected = (1 - a) ** 0.5 * torch.linalg.solve(marginal, (x.flatten(1).double() - a**0.5 * prior.mean).T).T
    torch.testing.assert_close(prior.eps(x, 400).flatten(1), expected.float(), rtol=1e-4, atol=1e-5)
