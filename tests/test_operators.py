"""One list of operators, and what every one of them must be: linear, adjoint, deterministic, differentiable."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.seeds import numpy_generator
from operators.base import LinearOperator, Operator, PinvOperator
from operators.blur import GaussianBlur, MotionBlur
from operators.inpainting import RandomInpainting
from operators.kernels import gaussian_kernel, motion_kernel, window
from operators.noise import GaussianNoise
from operators.saturating import SaturatingBlur
from operators.super_resolution import SuperResolution, bicubic_matrix

LINEAR = [SuperResolution(4), RandomInpainting(0.7), GaussianBlur(), MotionBlur()]
SHAPE = (3, 32, 32)


def rngs(count: int) -> list[np.random.Generator]:
    return [numpy_generator("test", i) for i in range(count)]


@pytest.fixture(params=LINEAR, ids=lambda operator: type(operator).__name__)
def operator(request: pytest.FixtureRequest) -> LinearOperator:
    return request.param.draw(SHAPE, rngs(2)).to("cpu", torch.float64)


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_adjoint(operator: LinearOperator) -> None:
    x = images()
    y = torch.randn_like(operator(x))
    left, right = (operator(x) * y).sum(), (x * operator.adjoint(y)).sum()
    assert abs(left - right) <= 1e-5 * abs(left)


def test_linear(operator: LinearOperator) -> None:
    a, b = images(), images().flip(0)
    torch.testing.assert_close(operator(2 * a - 3 * b), 2 * operator(a) - 3 * operator(b))


def test_same_seed_same_operator_whatever_the_batch(operator: LinearOperator) -> None:
    configured = LINEAR[[type(o) for o in LINEAR].index(type(operator))]
    alone = configured.draw(SHAPE, rngs(2)[1:]).to("cpu", torch.float64)
    torch.testing.assert_close(alone(images()[1:]), operator(images())[1:], rtol=0, atol=0)


@pytest.mark.parametrize("configured", [*LINEAR, SaturatingBlur()], ids=lambda operator: type(operator).__name__)
def test_an_image_is_the_same_to_the_bit_in_any_batch(configured: Operator) -> None:
    x = torch.randn(17, *SHAPE, generator=torch.Generator().manual_seed(0))

    def evaluate(chosen: slice) -> tuple[torch.Tensor, torch.Tensor]:
        drawn = configured.draw(SHAPE, rngs(17)[chosen]).to("cpu", torch.float32)
        z = x[chosen].clone().requires_grad_(True)
        out = drawn(z)
        (gradient,) = torch.autograd.grad(out.square().sum(), z)
        return out.detach(), gradient

    out, gradient = evaluate(slice(0, 17))
    for chosen in (slice(0, 1), slice(1, 3), slice(2, 6), slice(3, 16), slice(16, 17)):
        alone = evaluate(chosen)
        assert torch.equal(alone[0], out[chosen])
        assert torch.equal(alone[1], gradient[chosen])


def test_differentiable(operator: LinearOperator) -> None:
    x = images().requires_grad_(True)
    operator(x).square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * operator.adjoint(operator(x.detach())))


def test_preview_is_an_image(operator: LinearOperator) -> None:
    assert operator.preview(operator(images())).shape == (2, *SHAPE)


@pytest.mark.parametrize("configured", [o for o in LINEAR if isinstance(o, PinvOperator)])
def test_pseudo_inverse(configured: PinvOperator) -> None:
    operator = configured.draw(SHAPE, rngs(2)).to("cpu", torch.float64)
    y = operator(images())
    torch.testing.assert_close(operator(operator.pinv(y)), y)
    x = operator.pinv(y)
    torch.testing.assert_close(operator.pinv(operator(x)), x)


def test_bicubic_weights_are_the_releases() -> None:
    half = [-0.00170898, -0.01098633, -0.01831055, -0.01196289, 0.02270508, 0.09741211, 0.18188477, 0.24096680]
    row = bicubic_matrix(256, 4)[20]
    torch.testing.assert_close(row[74:90], torch.tensor([*half, *half[::-1]]).double(), atol=1e-8, rtol=0)
    values = torch.linalg.svdvals(bicubic_matrix(256, 4))
    assert values.min() == pytest.approx(0.3485, abs=1e-4)
    assert values.max() == pytest.approx(0.5, abs=1e-4)


def test_inpainting_hides_exactly_the_share() -> None:
    operator = RandomInpainting(0.7).draw((3, 256, 256), rngs(1))
    mask = operator.drawn["mask"]
    assert int((mask == 0).sum()) == 45875
    assert mask.shape == (1, 1, 256, 256)


def test_gaussian_kernel_is_the_releases() -> None:
    kernel = gaussian_kernel(63, 3.0)
    assert kernel.sum() == pytest.approx(1)
    assert kernel.max() == pytest.approx(0.0176849, abs=1e-7)
    assert (kernel > 0).sum() == 25 * 25


def test_motion_kernels_differ_between_images_and_sum_to_one() -> None:
    kernels = [motion_kernel(11, 0.5, rng) for rng in rngs(20)]
    assert all(k.sum() == pytest.approx(1) for k in kernels)
    assert all(k.min() >= 0 for k in kernels)
    assert not np.allclose(kernels[0], kernels[1])
    assert motion_kernel(64, 0.5, rngs(1)[0]).shape == (64, 64)


def test_kernels_scale_with_the_image() -> None:
    assert [window(64, side) for side in (32, 64, 128, 256)] == [11, 15, 31, 63]
    assert GaussianBlur().draw((3, 256, 256), rngs(1)).drawn["kernel"].shape[-1] == 63


def test_gaussian_noise_has_its_level_on_the_minus_one_one_scale() -> None:
    noisy = GaussianNoise(0.05)(np.zeros((100, 100)), np.random.default_rng(0))
    assert noisy.std() == pytest.approx(0.05, rel=0.02)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: GaussianNoise(-0.1), "task.noise.sigma=-0.1"),
        (lambda: RandomInpainting(1.0), "task.operator.missing=1.0"),
        (lambda: SuperResolution(0), "task.operator.factor=0"),
        (lambda: SuperResolution(5).draw(SHAPE, rngs(1))(images(1)), "task.operator.factor=5"),
        (lambda: MotionBlur(2.0).draw(SHAPE, rngs(1)), "task.operator.intensity=2.0"),
        (lambda: GaussianBlur(-1.0), "task.operator.std=-1.0"),
        (lambda: GaussianBlur(size=900).draw(SHAPE, rngs(1)), "task.operator.size=900"),
    ],
)
def test_bad_settings_are_named(make, key: str) -> None:
    with pytest.raises(BenchError, match=key.replace(".", r"\.")):
        make()
