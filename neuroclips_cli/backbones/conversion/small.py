"""The two small linear maps that are published on their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neuroclips_cli.backbones.catalog import CONVERTER_FILE, CONVERTER_LAYERS
from neuroclips_cli.backbones.clip import PROJECTOR_FILE
from neuroclips_cli.backbones.conversion.parts import ConvertedNetwork, need
from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def projector_part(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], source: str
) -> ConvertedNetwork:
    """Convert ``coco_tokens_avg_proj.pth``: one matrix ``proj`` (token_dim, embed_dim)."""
    what = "projector of image tokens"
    matrix = need(weights, "proj", source, what)
    others = [name for name in weights if name != "proj"]
    if matrix.ndim != 2 or others:
        found = f"'{others[0]}' as well" if others else f"'proj' of shape {tuple(matrix.shape)}"
        raise UserError(f"{source} is not a {what}: it holds {found}; check which file it is")
    return ConvertedNetwork({"weight": matrix}, PROJECTOR_FILE)


def converter_part(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], source: str
) -> ConvertedNetwork:
    """Convert ``bigG_to_L_epoch8.pth``: a map over tokens, then one over their width."""
    what = "map from ViT-bigG's to ViT-L's tokens"
    for layer in CONVERTER_LAYERS:
        for name in (f"{layer}.weight", f"{layer}.bias"):
            need(weights, name, source, what)
        if weights[f"{layer}.weight"].ndim != 2:
            shape = tuple(weights[f"{layer}.weight"].shape)
            raise UserError(f"{source} is not a {what}: '{layer}.weight' is {shape}, not a matrix")
    known = {f"{layer}.{end}" for layer in CONVERTER_LAYERS for end in ("weight", "bias")}
    for name in weights:
        if name not in known:
            raise UserError(f"{source} is not a {what}: it holds '{name}'; check which file it is")
    return ConvertedNetwork(dict(weights), CONVERTER_FILE)
