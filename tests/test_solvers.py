"""Call counts as published, and known answers on a Gaussian prior."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from bench.cell import make, resolved
from bench.config import composed
from bench.errors import BenchError
from bench.seeds import ImageGenerators, derive, numpy_generator
from operators.base import LinearOperator, Operator
from priors.gaussian import GaussianPrior
from priors.prior import Prior
from priors.sampler import DDIM
from solvers.base import Solver, image_mean
from solvers.dcps import DCPS
from solvers.dmilo import DMILO
from solvers.dmilo_pgd import DMILOPGD
from solvers.dmplug import DMPlug
from solvers.inversion import InversionSettings, LayerInversion

SHAPE = (3, 4, 4)
PIXELS = 48


class Matrix(LinearOperator):
    """A well-conditioned 48 x 48 matrix."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        orthogonal, _ = torch.linalg.qr(torch.randn(PIXELS, PIXELS, generator=generator))
        self.matrix = orthogonal @ torch.diag(torch.linspace(0.5, 1.5, PIXELS)) @ orthogonal.T
        self.image_shape, self.drawn = SHAPE, {}

    def __call__(self, x: Tensor, *unknowns: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.T.to(x.dtype)


class Mask(Matrix):
    """Sees every second pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = torch.eye(PIXELS)[::2]


def smooth_prior() -> GaussianPrior:
    """Neighbouring pixels correlate; standard deviation 0.2, so that clipping to [-1, 1] plays no part."""
    position = torch.arange(PIXELS).double()
    covariance = 0.04 * torch.exp(-((position[:, None] - position) ** 2) / 8)
    return GaussianPrior(SHAPE, 0.1 * torch.ones(PIXELS), covariance + 1e-4 * torch.eye(PIXELS))


def solve(solver: Solver, y: Tensor, operator: Operator, prior: Prior) -> list[Tensor]:
    rng = ImageGenerators([derive("test", i) for i in range(len(y))])
    return list(solver.reconstruct(y, operator, prior, rng))


INVERSION = {"inner": 150, "lr_z": 3e-2, "lr_nu": 1e-3}
OPTIMISERS = {
    "dmilo": DMILO(DDIM(3, shifted=True), 6, **INVERSION),
    "dmilo without deviation": DMILO(DDIM(3, shifted=True), 6, **INVERSION, sparse_deviation=False, z_penalty=0),
    "dmilo_pgd squared": DMILOPGD(DDIM(3, shifted=True), 6, "squared", 50, 0.4, **INVERSION),
    "dmilo_pgd distance": DMILOPGD(DDIM(3, shifted=True), 6, "squared", 50, 0.4, "distance", **INVERSION),
    "dmilo_pgd norm": DMILOPGD(DDIM(3, shifted=True), 6, "norm", 300, 0.01, **INVERSION),
    "dmplug": DMPlug(DDIM(3), 1500, 3e-2),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_find_the_image_that_explains_the_measurement(name: str) -> None:
    prior, operator = smooth_prior(), Matrix()
    truth = prior.sample(2, torch.Generator().manual_seed(2))
    *_, answer = solve(OPTIMISERS[name], operator(truth), operator, prior)
    error = image_mean((answer - truth).square()).sqrt()
    assert error.max() < 0.02, error  # the prior's own spread is 0.2


def test_dcps_samples_the_posterior() -> None:
    prior, operator, sigma = smooth_prior(), Mask(), 0.1
    truth = prior.sample(1, torch.Generator().manual_seed(2))
    y = operator(truth) + sigma * torch.randn(1, PIXELS // 2, generator=torch.Generator().manual_seed(3))
    solver = DCPS(sigma, steps=300, lr=0.02, clip_measurement=False)
    *_, samples = solve(solver, y.repeat(300, 1), operator, prior)
    mean, covariance = prior.posterior(operator.matrix, y, sigma)
    spread = covariance.diagonal().sqrt()
    bias = samples.flatten(1).double().mean(0) - mean[0]
    assert bias.square().mean().sqrt() < 0.25 * spread.mean(), bias
    ratio = samples.flatten(1).double().std(0) / spread
    assert 0.8 < ratio.mean() < 1.25, ratio


class Trivial(Prior):
    """A network that costs nothing: for counting calls."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(lambda x, t: 0.5 * x, DDPMScheduler().alphas_cumprod, shape)


PUBLISHED = {
    ("dmilo", "inpainting"): (3018, 3000),
    ("dmilo", "super_resolution"): (15018, 15000),
    ("dmilo", "gaussian_deblur"): (9033, 9000),
    ("dmilo", "motion_deblur"): (9033, 9000),
    ("dmilo_pgd", "inpainting"): (3018, 3000),
    ("dmilo_pgd", "super_resolution"): (12033, 12000),
    ("dmilo_pgd", "gaussian_deblur"): (7518, 7500),
    ("dmilo_pgd", "motion_deblur"): (7518, 7500),
    ("dmplug", "motion_deblur"): (15000, 15000),
    ("dcps", "motion_deblur"): (912, 613),
}


@pytest.mark.parametrize(("solver", "task"), PUBLISHED, ids=["-".join(pair) for pair in PUBLISHED])
def test_paper_preset_makes_the_published_number_of_calls(solver: str, task: str) -> None:
    shape = (3, 12, 12)
    config = resolved(composed(["preset=paper", f"solver={solver}", f"task={task}"]))
    settings = {k: v for k, v in config["solver"].items() if k != "name"}
    operator = make("operator", config["task"]["operator"]).draw(shape, [numpy_generator(0)])
    operator = operator.to("cpu", torch.float32)
    prior = Trivial(shape)
    with torch.no_grad():
        y = operator(torch.zeros(1, *shape))
    # the data steps make no calls; with the release's 1,000 of them this test would take minutes
    settings |= {"data_steps": 1} if "data_steps" in settings else {}
    solve(make("solver", settings), y, operator, prior)
    assert (prior.forward_images, prior.backward_images) == PUBLISHED[solver, task]


def test_dmilo_follows_its_formulas() -> None:
    """One outer iteration against a plain transcription of the loop, every loss written out."""
    prior, operator = smooth_prior(), Matrix()
    y = operator(prior.sample(1, torch.Generator().manual_seed(2)))
    maps = DDIM(3, shifted=True).maps(prior)
    z0 = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(4))
    settings = InversionSettings(inner=5, lr_z=2e-2)
    layers = LayerInversion(maps, z0, settings)
    outputs = []
    for _ in range(2):
        layers.sweep(y, operator)
        outputs.append(layers.roll_out().clone())

    z = [z0]
    for g in maps:
        z.append(g(z[-1]))
    nu = [torch.zeros_like(z0) for _ in maps]
    for expected in outputs:
        z[3] = y
        for i in (2, 1, 0):
            a, b = z[i].clone().requires_grad_(True), nu[i].clone().requires_grad_(True)
            adam = torch.optim.Adam([{"params": [b], "lr": 1e-3}, {"params": [a], "lr": 2e-2}])
            for _ in range(5):
                out = maps[i](a) + b
                fit = ((operator(out) if i == 2 else out) - z[i + 1]) ** 2
                loss = fit.mean() + 0.1 * b.abs().mean() + 1e-4 * (a**2).mean()
                adam.zero_grad()
                loss.backward()
                adam.step()
            z[i], nu[i] = a.detach(), b.detach()
        x = z[0]
        for i in range(3):
            x = maps[i](x) + nu[i]
            z[i + 1] = x.detach()
        torch.testing.assert_close(expected, z[3], rtol=1e-5, atol=1e-5)


def test_norm_data_step_survives_a_zero_residual() -> None:
    solver = DMILOPGD(DDIM(1), 1, "norm", 3, 1.0, inner=1, lr_z=0.01)
    operator = Matrix()
    x = torch.zeros(1, *SHAPE)
    assert torch.equal(solver._data_step(x, operator(x), operator, (), None), x)


def test_losses_are_per_image_means() -> None:
    image = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(image_mean(image.repeat(1, 1, 2, 2)), image_mean(image))
    assert image_mean(image.repeat(5, 1, 1, 1)).shape == (5,)


def test_solver_declares_what_it_needs() -> None:
    class Linear(Solver):
        needs = LinearOperator

    class Nonlinear(Operator):
        pass

    assert Linear().unsuitable(Matrix()) is None
    assert Linear().unsuitable(Nonlinear()) == "needs a LinearOperator, Nonlinear is none"


@pytest.mark.parametrize(
    ("make_solver", "key"),
    [
        (lambda: DMILO(DDIM(1), 0, inner=1, lr_z=0.1), "solver.outer=0"),
        (lambda: DMILO(DDIM(1), 1, inner=0, lr_z=0.1), "solver.inner=0"),
        (lambda: DMILO(DDIM(1), 1, inner=1, lr_z=-1.0), "solver.lr_z=-1.0"),
        (lambda: DMILOPGD(DDIM(1), 1, "cubed", 1, 1.0, inner=1, lr_z=0.1), "solver.data_loss=cubed"),
        (lambda: DMILOPGD(DDIM(1), 1, "norm", 1, 1.0, "sideways", inner=1, lr_z=0.1), "solver.projection=sideways"),
        (lambda: DMPlug(DDIM(1), 0), "solver.epochs=0"),
        (lambda: DCPS(sigma=0.0), "solver.sigma=0.0"),
        (lambda: DCPS(sigma=0.1, steps=2), "solver.steps=2"),
    ],
)
def test_bad_settings_are_named(make_solver, key: str) -> None:
    with pytest.raises(BenchError, match=key.replace(".", r"\.")):
        make_solver()
