"""Image denoisers in the layout of CompVis' and Stability's code (sgm) to diffusers' UNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neuroclips_cli.backbones.conversion.parts import ConvertedNetwork, diffusers_part, need
from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "model.diffusion_model."
UNCLIP_HEAD_WIDTH = 64  # of the published network [MindEye2]
UNCLIP_SAMPLE_SIZE = 96  # 768 pixels
SCENE_HEADS, SCENE_SAMPLE_SIZE = 8, 64  # Stable Diffusion 1.5


def unclip_part(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], source: str
) -> ConvertedNetwork:
    """Convert SDXL-unCLIP's denoiser (fixtures/generate/README.md, item 1).

    Parameters
    ----------
    weights : mapping
        A whole checkpoint in sgm's layout; only the denoiser is taken.
    config : mapping
        Overrides what follows from the shapes; the width of an attention head does not.
    source : str
        The file, for messages.
    """
    found = unet_config(weights, source)
    if "projection_class_embeddings_input_dim" not in found:
        raise UserError(
            f"{source} is not an unCLIP checkpoint: it lacks '{PREFIX}label_emb.0.0.weight', the "
            "size condition; a scene model is converted with --kind scene"
        )
    found["attention_head_dim"] = [
        max(width // UNCLIP_HEAD_WIDTH, 1) for width in found["block_out_channels"]
    ]
    found["sample_size"] = UNCLIP_SAMPLE_SIZE
    return unet_part(weights, {**found, **config}, source)


def scene_part(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], source: str
) -> ConvertedNetwork:
    """Convert the denoiser of a Stable Diffusion 1.5 checkpoint; as :func:`unclip_part`."""
    found = unet_config(weights, source)
    if "projection_class_embeddings_input_dim" in found:
        raise UserError(
            f"{source} is not a scene model: '{PREFIX}label_emb.0.0.weight' belongs to an SDXL "
            "network; unCLIP's checkpoint is converted with --kind unclip"
        )
    found |= {"attention_head_dim": SCENE_HEADS, "sample_size": SCENE_SAMPLE_SIZE}
    return unet_part(weights, {**found, **config}, source)


def unet_part(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], source: str
) -> ConvertedNetwork:
    """Rename the denoiser's tensors by diffusers' own table and check them."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    converted = convert_ldm_unet_checkpoint(dict(weights), dict(config))
    return diffusers_part(UNet2DConditionModel, config, converted, source)


def unet_config(weights: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    """Read diffusers' configuration off the shapes of a denoiser in sgm's layout.

    Returns
    -------
    dict
        All but the number of heads and the sample size, which no shape tells.
    """
    state = {k.removeprefix(PREFIX): v for k, v in weights.items() if k.startswith(PREFIX)}
    what = "denoiser in the layout of Stable Diffusion's code"
    first = need(state or weights, "input_blocks.0.0.weight", source, what)
    levels = _levels(state)
    depths = [depth for _, depth, _ in levels]
    middle = _depth(state, "middle_block.1.")
    config: dict[str, Any] = {
        "in_channels": first.shape[1],
        "out_channels": need(state, "out.2.weight", source, what).shape[0],
        "block_out_channels": [width for width, _, _ in levels],
        "layers_per_block": levels[0][2],
        "down_block_types": [_block("Down", depth) for depth in depths],
        "up_block_types": [_block("Up", depth) for depth in reversed(depths)],
        # a level without attention has no depth; the last entry is the middle block's as well
        "transformer_layers_per_block": [depth or 1 for depth in depths[:-1]] + [middle or 1],
        "cross_attention_dim": _context(state),
        "use_linear_projection": _linear(state),
    }
    vector = state.get("label_emb.0.0.weight")
    if vector is not None:
        config["class_embed_type"] = "projection"
        config["projection_class_embeddings_input_dim"] = vector.shape[1]
    return config


def _block(direction: str, depth: int) -> str:
    return f"{'CrossAttn' if depth else ''}{direction}Block2D"


def _levels(state: Mapping[str, Tensor]) -> list[tuple[int, int, int]]:
    """Width, transformer depth and residual blocks of every resolution, from the finest."""
    levels: list[tuple[int, int, int]] = []
    width = depth = layers = 0
    index = 1
    while any(name.startswith(f"input_blocks.{index}.") for name in state):
        residual = state.get(f"input_blocks.{index}.0.out_layers.3.weight")
        if residual is None:  # a down-sampling ends the level
            levels.append((width, depth, layers))
            depth = layers = 0
        else:
            width, layers = residual.shape[0], layers + 1
            depth = _depth(state, f"input_blocks.{index}.1.")
        index += 1
    return [*levels, (width, depth, layers)]


def _depth(state: Mapping[str, Tensor], prefix: str) -> int:
    """Count the transformer layers of one attention block."""
    start = prefix + "transformer_blocks."
    return len({n[len(start) :].split(".")[0] for n in state if n.startswith(start)})


def _context(state: Mapping[str, Tensor]) -> int:
    """Width of the condition that the network attends to."""
    return next((v.shape[1] for n, v in state.items() if n.endswith("attn2.to_k.weight")), 1280)


def _linear(state: Mapping[str, Tensor]) -> bool:
    """Tell whether attention blocks begin with a linear layer, not a convolution."""
    return any(v.ndim == 2 for n, v in state.items() if n.endswith("1.proj_in.weight"))
