"""One converted network: its configuration as text and its weights, checked against its class."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class ConvertedNetwork:
    """What one folder will hold.

    Attributes
    ----------
    weights : dict
        Name -> tensor.
    weights_name : str
        Name of the safetensors file.
    texts : dict
        Name -> content of the small files beside it.
    """

    weights: dict[str, Tensor]
    weights_name: str
    texts: dict[str, str] = field(default_factory=dict)


def diffusers_part(
    kind: Any, config: Mapping[str, Any], weights: dict[str, Tensor], source: str
) -> ConvertedNetwork:
    """Check weights in diffusers' names against a class; nothing is allocated.

    The class is built from ``config``. A name or shape that differs is refused; the first is named.
    """
    import torch

    with torch.device("meta"):
        network = kind.from_config(dict(config))
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    require_layout(expected, weights, source, kind.__name__)
    text = network.to_json_string()
    return ConvertedNetwork(dict(weights), DIFFUSERS_WEIGHTS, {"config.json": text})


def require_layout(
    expected: Mapping[str, tuple[int, ...]],
    weights: Mapping[str, Tensor],
    source: str,
    what: str,
) -> None:
    """Compare names and shapes; the first that differs is a :class:`UserError` naming it."""
    for name, shape in expected.items():
        if name not in weights:
            raise UserError(
                f"{source} is not a {what} of the expected size: it lacks '{name}' {shape}; "
                "check which file it is, or give the network's configuration with --config"
            )
        if tuple(weights[name].shape) != shape:
            raise UserError(
                f"{source} is not a {what} of the expected size: '{name}' is "
                f"{tuple(weights[name].shape)} where {shape} is needed; check which file it is, "
                "or give the network's configuration with --config"
            )
    for name in weights:
        if name not in expected:
            raise UserError(
                f"{source} is not a {what} of the expected size: it holds '{name}', which the "
                "network lacks; check which file it is, or give its configuration with --config"
            )


def need(weights: Mapping[str, Tensor], name: str, source: str, what: str) -> Tensor:
    """Return a tensor whose shape decides the configuration."""
    if name not in weights:
        first = next(iter(weights), "nothing")
        raise UserError(
            f"{source} is not a {what}: it lacks '{name}' (its first tensor is '{first}'); "
            "check which file it is"
        )
    return weights[name]


def as_json(content: Mapping[str, Any]) -> str:
    """Return a small file's text."""
    return json.dumps(content, indent=2, sort_keys=True) + "\n"
