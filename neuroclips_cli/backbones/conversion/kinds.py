"""Which published file is which, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from neuroclips_cli.backbones.conversion.image import PREFIX, scene_part, unclip_part
from neuroclips_cli.backbones.conversion.latent import (
    FIRST_STAGE,
    SDXL_SCALING,
    TEXT_STAGE,
    text_part,
    vae_part,
)
from neuroclips_cli.backbones.conversion.parts import ConvertedNetwork
from neuroclips_cli.backbones.conversion.small import converter_part, projector_part
from neuroclips_cli.backbones.conversion.unwrap import from_common_prefix
from neuroclips_cli.backbones.conversion.video import (
    adapter_part,
    lora_part,
    motion_part,
    sparsectrl_part,
)
from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Weights = Mapping[str, "Tensor"]
Parts = dict[str, ConvertedNetwork]


def _unclip(weights: Weights, config: Mapping[str, Any], source: str) -> Parts:
    """Convert the denoiser, and SDXL's VAE where the file holds it (table ``vae``)."""
    own = {key: value for key, value in config.items() if key != "vae"}
    parts = {"": unclip_part(weights, own, source)}
    if any(name.startswith(FIRST_STAGE) for name in weights):
        latent = {"scaling_factor": SDXL_SCALING, **config.get("vae", {})}
        parts["vae"] = vae_part(weights, latent, source)
    return parts


def _scene(weights: Weights, config: Mapping[str, Any], source: str) -> Parts:
    """Convert a whole checkpoint; ``config`` may have one table per part."""
    parts = {"unet": scene_part(weights, config.get("unet", {}), source)}
    if any(name.startswith(FIRST_STAGE) for name in weights):
        parts["vae"] = vae_part(weights, config.get("vae", {}), source)
    if any(name.startswith(TEXT_STAGE) for name in weights):
        parts["text_encoder"] = text_part(weights, config.get("text_encoder", {}), source)
    return parts


def _alone(convert: Callable[..., ConvertedNetwork]) -> Callable[..., Parts]:
    def whole(weights: Weights, config: Mapping[str, Any], source: str) -> Parts:
        return {"": convert(weights, config, source)}

    return whole


CONVERTERS: dict[str, Callable[..., Parts]] = {
    "unclip": _unclip,
    "scene": _scene,
    "vae": _alone(vae_part),
    "motion": _alone(motion_part),
    "adapter": _alone(adapter_part),
    "lora": _alone(lora_part),
    "sparsectrl": _alone(sparsectrl_part),
    "projector": _alone(projector_part),
    "git-tokens": _alone(converter_part),
}
"""Kind -> function of (weights, configuration, file's name) that gives parts by subfolder."""


def convert(weights: Weights, kind: str, config: Mapping[str, Any], source: str) -> Parts:
    """Convert published weights; return subfolder (empty for the folder itself) -> part.

    Parameters
    ----------
    weights : mapping
        From ``files.read_weights``.
    kind : str
        A key of :data:`CONVERTERS`, or empty to tell it from the names.
    config : mapping
        Overrides what the shapes say about the network; empty for the published files.
    source : str
        The file, for messages.
    """
    weights = from_common_prefix(weights, lambda inner: bool(_fits(inner, kind)))
    return CONVERTERS[kind or guess(weights, source)](weights, config, source)


def guess(weights: Weights, source: str) -> str:
    """Tell the kind of a published file from its tensors' names."""
    inner = from_common_prefix(weights, lambda names: bool(_fits(names)))
    found = _fits(inner)
    if found:
        return found[0]
    raise UserError(
        f"{source} is not a file that neuroclips converts, its first tensors are "
        f"{', '.join(repr(name) for name in list(weights)[:3])}: give one of "
        f"{', '.join(CONVERTERS)}"
    )


def _fits(weights: Weights, kind: str = "") -> list[str]:
    """Return the kinds whose marks the names bear, or the one asked for where it does."""
    names = list(weights)
    blocks = [n for n in names if n.startswith(("down_blocks.", "mid_block.", "up_blocks."))]
    marks = (
        ("sparsectrl", any(n.startswith("controlnet_cond_embedding.") for n in names)),
        ("motion", any(".motion_modules." in n for n in blocks)),
        ("adapter", any("_lora.down." in n for n in blocks)),
        ("lora", any(n.startswith("lora_unet_") for n in names)),
        ("unclip", f"{PREFIX}label_emb.0.0.weight" in weights),
        ("scene", any(n.startswith(PREFIX) for n in names)),
        ("vae", any(n.startswith(("encoder.conv_in.", FIRST_STAGE)) for n in names)),
        ("projector", names == ["proj"]),
        ("git-tokens", "linear1.weight" in weights and "linear2.weight" in weights),
    )
    return [name for name, found in marks if found and kind in ("", name)]
