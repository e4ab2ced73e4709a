"""Nonlinear operators: BKSE's network in its checkpoint's layout, and the blur that saturates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.cards import Card
from bench.errors import BenchError
from operators.bkse import BKSEBlur, KernelWizard, load_wizard
from operators.blur import GaussianBlur
from operators.saturating import SaturatingBlur


def test_layout_of_the_checkpoint() -> None:
    with torch.device("meta"):
        state = KernelWizard().state_dict()
    assert len(state) == 159
    assert sum(t.numel() for t in state.values()) == 115_265_475
    innermost = "adapter.model.submodule.submodule.submodule.submodule"
    expected = {
        "feature_extractor.6.conv1.weight": (64, 64, 3, 3),
        "adapter.model.down.0.weight": (64, 64, 4, 4),
        "adapter.model.submodule.down.1.weight": (128, 64, 4, 4),
        f"{innermost}.up.1.weight": (1024, 512, 4, 4),
        "adapter.model.up.1.bias": (64,),
        "recon_trunk.28.bias": (3,),
        "kernel_extractor.model.1.weight": (64, 128, 7, 7),
        "kernel_extractor.model.22.conv_block.5.weight": (1024, 1024, 3, 3),
    }
    assert {key: tuple(state[key].shape) for key in expected} == expected
    with torch.device("meta"):
        wizard = KernelWizard()
    del wizard.kernel_extractor
    assert sum(p.numel() for p in wizard.parameters()) == pytest.approx(23.66e6, rel=1e-3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("bkse") / "GOPRO_wVAE.pth"
    torch.save(KernelWizard().state_dict(), file)
    return file


def test_blurs_each_image_with_its_own_code(checkpoint: Path) -> None:
    rngs = [np.random.default_rng(i) for i in (1, 2)]
    operator = BKSEBlur(str(checkpoint)).draw((3, 128, 128), rngs).to("cpu", torch.float32)
    assert operator.drawn["code"].shape == (2, 512, 1, 1)
    x = (torch.rand(1, 3, 128, 128) * 2 - 1).repeat(2, 1, 1, 1).requires_grad_(True)
    y = operator(x)
    assert y.shape == x.shape
    assert y.abs().max() <= 1
    assert not torch.equal(y[0], y[1])
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
    alone = BKSEBlur(str(checkpoint)).draw((3, 128, 128), [np.random.default_rng(2)]).to("cpu", torch.float32)
    assert torch.allclose(alone(x[1:]), y[1:], atol=1e-5)


def test_bad_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"by hand: a page .*GOPRO_wVAE\.pth"):
        load_wizard(tmp_path / "GOPRO_wVAE.pth", Card(source="a page", licence="none"))
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(BenchError, match=r"is no GOPRO_wVAE\.pth"):
        load_wizard(tmp_path / "other.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK")
    with pytest.raises(BenchError, match=r"is no GOPRO_wVAE\.pth"):
        load_wizard(tmp_path / "cut.pth")
    with pytest.raises(BenchError, match="multiple of 128, not 64"):
        BKSEBlur("x").draw((3, 64, 64), [np.random.default_rng(0)])


def test_saturating_blur_is_its_formula() -> None:
    operator = SaturatingBlur(gain=2.0).draw((3, 32, 32), [np.random.default_rng(0)]).to("cpu", torch.float32)
    linear = GaussianBlur().draw((3, 32, 32), [np.random.default_rng(0)]).to("cpu", torch.float32)
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.allclose(operator(x), torch.tanh(2 * linear(x)) / np.tanh(2.0), atol=1e-6)
    assert torch.allclose(operator(torch.ones_like(x)), torch.ones_like(x), atol=1e-6)
    with pytest.raises(BenchError, match=r"task.operator.gain=0"):
        SaturatingBlur(gain=0)
