"""Checkpoints of OpenAI's guided-diffusion network (arXiv 2105.05233), converted to a diffusers `UNet2DModel`.

Both lay out the same network, so a conversion is a renaming, but for the attention's qkv: here its 3C rows are grouped
per head as [q, k, v] (the "legacy order"), there they are three matrices. Cutting the rows in three equal parts, as
diffusers' own script does for networks in the new order, loads without an error and computes something else.

The map is read off the diffusers config: input and output blocks are numbered in the order in which they run.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor

from bench.cards import Fetchable, need
from bench.errors import BenchError
from priors.loading import load_prior
from priors.prior import Prior

RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


def load_checkpoint(
    checkpoint: str | Path, network: dict[str, Any], image_size: int, card: Fetchable, **execution: Any
) -> Prior:
    """The prior in a guided-diffusion checkpoint. Converted once, to a diffusers folder beside the file.

    Args:
        checkpoint: a `.pt` file with a flat state dict.
        network: `UNet2DModel`'s configuration of the same network.
        image_size: side in pixels.
        card: where the file comes from.
        execution: see `priors.execution.Execution`.

    Raises:
        BenchError: neither the file nor its conversion is there, it is damaged, holds pickled code (never executed),
            or holds another network.
    """
    file = Path(checkpoint).expanduser()
    folder = file.with_suffix(".diffusers")
    if not file.is_file() and not folder.is_dir():
        raise BenchError(f"prior.checkpoint={file}: no such file; it {need(card, file)}")
    if file.is_file() and not _is_conversion_of(folder, file):
        _convert_file(file, network, folder)
    return load_prior(folder, image_size, **execution)


def convert(state: dict[str, Tensor], unet: UNet2DModel) -> dict[str, Tensor]:
    """`state` with `unet`'s names and shapes.

    Raises:
        KeyError: a tensor that `unet` has no place for.
    """
    names = dict(ENDS)
    resnets, attentions = _blocks(unet)
    for theirs, ours in resnets.items():
        names |= {f"{theirs}.{a}": f"{ours}.{b}" for a, b in RESNET.items()}
    for theirs, ours in attentions.items():
        names |= {f"{theirs}.norm": f"{ours}.group_norm", f"{theirs}.proj_out": f"{ours}.to_out.0"}
    head = unet.config["attention_head_dim"]
    converted = {}
    for key, tensor in state.items():
        module, _, kind = key.rpartition(".")
        if module.endswith(".qkv"):
            ours = attentions[module.removesuffix(".qkv")]
            per_head = tensor.reshape(-1, 3, head, *tensor.shape[1:2])  # legacy order; the last axis of size 1 goes
            for index, name in enumerate(("to_q", "to_k", "to_v")):
                converted[f"{ours}.{name}.{kind}"] = per_head[:, index].flatten(0, 1)
        else:
            converted[f"{names[module]}.{kind}"] = tensor.squeeze(-1) if ".proj_out" in key else tensor
    return converted


def _blocks(unet: UNet2DModel) -> tuple[dict[str, str], dict[str, str]]:
    """Names of the residual and of the attention blocks, theirs to ours."""
    config = unet.config
    levels, per_level = len(config["block_out_channels"]), config["layers_per_block"]
    resnets = {"middle_block.0": "mid_block.resnets.0", "middle_block.2": "mid_block.resnets.1"}
    attentions = {"middle_block.1": "mid_block.attentions.0"}
    number = iter(range(1, 1000))
    for level, kind in enumerate(config["down_block_types"]):
        for layer in range(per_level):
            n = next(number)
            resnets[f"input_blocks.{n}.0"] = f"down_blocks.{level}.resnets.{layer}"
            if "Attn" in kind:
                attentions[f"input_blocks.{n}.1"] = f"down_blocks.{level}.attentions.{layer}"
        if level < levels - 1:
            resnets[f"input_blocks.{next(number)}.0"] = f"down_blocks.{level}.downsamplers.0"
    number = iter(range(1000))
    for level, kind in enumerate(config["up_block_types"]):
        for layer in range(per_level + 1):
            n = next(number)
            resnets[f"output_blocks.{n}.0"] = f"up_blocks.{level}.resnets.{layer}"
            if "Attn" in kind:
                attentions[f"output_blocks.{n}.1"] = f"up_blocks.{level}.attentions.{layer}"
            if layer == per_level and level < levels - 1:
                place = 2 if "Attn" in kind else 1
                resnets[f"output_blocks.{n}.{place}"] = f"up_blocks.{level}.upsamplers.0"
    return resnets, attentions


def _convert_file(file: Path, network: dict[str, Any], folder: Path) -> None:
    unet: Any = UNet2DModel(**network)
    try:
        unet.load_state_dict(convert(_read(file), unet), strict=True)
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BenchError(f"prior.checkpoint={file}: holds another network than this prior's ({reason})") from error
    partial = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        unet.save_pretrained(partial)
        DDPMScheduler().save_pretrained(partial)
        (partial / "source.json").write_text(json.dumps(_stamp(file)))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except OSError as error:
        raise BenchError(f"prior.checkpoint={file}: cannot keep its conversion in {folder} ({error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read(file: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BenchError(
            f"prior.checkpoint={file}: is no plain state dict; it holds pickled objects, which are never executed"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BenchError(f"prior.checkpoint={file}: is damaged or truncated ({reason}); get it again") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BenchError(f"prior.checkpoint={file}: is no flat state dict (names to tensors)")
    return {key: value.float() for key, value in state.items()}


def _stamp(file: Path) -> dict[str, int]:
    status = file.stat()
    return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _is_conversion_of(folder: Path, file: Path) -> bool:
    """Whether `folder` was made from this very file; hashing gigabytes at every start would cost seconds."""
    with_stamp = folder / "source.json"
    return with_stamp.is_file() and json.loads(with_stamp.read_text()) == _stamp(file)
