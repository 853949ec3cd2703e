"""Records of the Semantics Reconstructor: ridge layer, backbone, projectors."""

from __future__ import annotations

from typing import Any

import torch

from neuroclips_cli.models.backbone import RidgeRegression
from neuroclips_cli.models.projector import TokenProjector
from neuroclips_cli.models.semantics import PublishedSemanticsBackbone
from neuroclips_cli.training.objectives import flat_unit
from parity.records import Comparison, part, record, tensors

NAMES = ("sr_backbone", "sr_backbone_seq3")
_TOLERANCE = 1e-5


def build(name: str) -> tuple[RidgeRegression, PublishedSemanticsBackbone, TokenProjector]:
    """Build the networks of a record and load its weights strictly."""
    sizes: dict[str, Any] = record(f"models/{name}.json")["config"]
    state = tensors(f"models/{name}.state.safetensors")
    ridge = RidgeRegression(sizes["voxels"], sizes["h"])
    ridge.load_state_dict(part(state, "ridge."))
    backbone = PublishedSemanticsBackbone(
        sizes["h"], sizes["n_blocks"], 0.15, sizes["tokens"], sizes["clip_dim"], sizes["seq_len"]
    )
    backbone.load_state_dict(part(state, "backbone."))
    return ridge.eval(), backbone.eval(), TokenProjector(state["clipproj.proj"])


@torch.no_grad()
def compare(name: str) -> Comparison:
    """Compare every output of ``sr_backbone`` or ``sr_backbone_seq3``."""
    io = tensors(f"models/{name}.io.safetensors")
    ridge, backbone, projector = build(name)
    rows = ridge(io["in.voxels"])
    tokens, contrastive = backbone(rows)
    trunk = super(PublishedSemanticsBackbone, backbone).forward(rows)
    found = Comparison(name, io)
    for array, ours in {
        "out.ridge_out": rows,
        "out.trunk_out": trunk,
        "out.backbone_out": tokens,
        "out.clip_voxels": contrastive,
        "out.clip_voxels_flat_normed": flat_unit(contrastive),
        "out.clipproj_out": projector(contrastive),
        "out.clipproj_out_of_backbone": projector(tokens),
        # The original returns this constant where its low-level branch is off; we return nothing.
        "out.blurry_placeholder": torch.zeros(2, 1),
    }.items():
        found.add(array, ours, _TOLERANCE)
    return found
