"""Guided-diffusion checkpoints become the same network in diffusers; and what is no such checkpoint is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from guided_reference import GuidedUNet

from bench.cards import Card
from bench.cell import resolved
from bench.config import composed
from bench.errors import BenchError
from priors.guided_diffusion import convert, load_checkpoint

CARD = Card(source="a page", licence="none", size="some bytes")
LARGE, SMALL = {"blocks": 2, "attention": {8, 16, 32}}, {"blocks": 1, "attention": {16}}
FULL = {"celebahq": (128, SMALL), "ffhq": (128, SMALL), "lsun_bedroom": (256, LARGE), "imagenet256": (256, LARGE)}
COUNTS = {128: 93_563_910, 256: 552_814_086}


def network_config(name: str) -> dict[str, Any]:
    return resolved(composed([f"prior={name}"]))["prior"]["network"]


def narrow(name: str) -> dict[str, Any]:
    """A prior's own block pattern, a sixteenth as wide and for 64 x 64 images."""
    config = network_config(name)
    width = config["block_out_channels"][0]
    small = [c * 8 // width for c in config["block_out_channels"]]
    return {
        **config,
        "sample_size": 64,
        "block_out_channels": small,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
        "attn_norm_num_groups": 4,
    }


def reference(pattern: dict[str, Any]) -> GuidedUNet:
    torch.manual_seed(0)
    network = GuidedUNet(8, **pattern, head=4, groups=4)
    for parameter in network.parameters():  # large enough for every part to matter
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


@pytest.mark.parametrize(("name", "pattern"), [("celebahq", SMALL), ("imagenet256", LARGE)])
def test_converted_network_computes_the_same(name: str, pattern: dict[str, Any]) -> None:
    original = reference(pattern)
    unet: Any = UNet2DModel(**narrow(name)).eval()
    unet.load_state_dict(convert(original.state_dict(), unet), strict=True)
    x, t = torch.randn(2, 3, 64, 64), torch.tensor([3, 700])
    with torch.no_grad():
        expected, got = original(x, t), unet(x, t).sample
    assert (expected - got).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", FULL)
def test_full_size_configurations_match_key_by_key(name: str) -> None:
    width, pattern = FULL[name]
    with torch.device("meta"):
        original = GuidedUNet(width, **pattern)
        unet: Any = UNet2DModel(**network_config(name))
    assert len(original.state_dict()) == {128: 362, 256: 566}[width]
    assert sum(p.numel() for p in unet.parameters()) == COUNTS[width]
    ours = {key: value.shape for key, value in unet.state_dict().items()}
    assert {key: value.shape for key, value in convert(original.state_dict(), unet).items()} == ours


def load(file: Path) -> Any:
    return load_checkpoint(file, narrow("celebahq"), 64, CARD)


def test_file_is_converted_once_and_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    torch.save(reference(SMALL).state_dict(), file)
    prior = load(file)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = reference(SMALL)(x, torch.tensor([500]))[:, :3]
        assert torch.allclose(prior.eps(x, 500), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    made = (tmp_path / "net.diffusers" / "source.json").stat().st_mtime_ns
    assert load(file).fingerprint == prior.fingerprint
    assert (tmp_path / "net.diffusers" / "source.json").stat().st_mtime_ns == made
    torch.save({k: 2 * v for k, v in reference(SMALL).state_dict().items()}, file)
    assert load(file).fingerprint != prior.fingerprint
    file.unlink()  # the conversion is enough
    load(file)


def test_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"by hand: a page \(none; some bytes\): get it there, and put it at .*net.pt"):
        load(tmp_path / "net.pt")


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("/nonexistent/must-not-run").mkdir, ())


def test_bad_files_are_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.pt"
    torch.save(reference(SMALL).state_dict(), good)
    cases = {
        "truncated.pt": (good.read_bytes()[:5000], "damaged or truncated"),
        "code.pt": (pickle.dumps({"a": Harmful()}, protocol=2), "never executed"),
        "empty.pt": (b"", "damaged or truncated"),
    }
    other = tmp_path / "other.pt"
    torch.save(reference(LARGE).state_dict(), other)
    cases["other.pt"] = (other.read_bytes(), "holds another network")
    wrapped = tmp_path / "wrapped.pt"
    torch.save({"state_dict": {"a": torch.zeros(1)}}, wrapped)
    cases["wrapped.pt"] = (wrapped.read_bytes(), "no flat state dict")
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BenchError, match=message):
            load(tmp_path / name)
        assert not (tmp_path / name).with_suffix(".diffusers").exists()
