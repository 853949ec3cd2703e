"""A random ConvNeXt in the layout of VICRegL's checkpoint."""

from __future__ import annotations

import torch


def convnext_state(width: int) -> dict[str, torch.Tensor]:
    """Return random weights under VICRegL's names."""
    torch.manual_seed(0)
    widths = [width * 2**stage for stage in range(4)]
    state: dict[str, torch.Tensor] = {}

    def layer(name: str, *shape: int) -> None:
        state[f"module.{name}.weight"] = torch.randn(*shape) * 0.2
        state[f"module.{name}.bias"] = torch.randn(shape[0]) * 0.1

    layer("backbone.downsample_layers.0.0", widths[0], 3, 4, 4)
    layer("backbone.downsample_layers.0.1", widths[0])
    for stage, size in enumerate(widths):
        if stage:
            layer(f"backbone.downsample_layers.{stage}.0", widths[stage - 1])
            layer(f"backbone.downsample_layers.{stage}.1", size, widths[stage - 1], 2, 2)
        block = f"backbone.stages.{stage}.0."
        layer(block + "dwconv", size, 1, 7, 7)
        layer(block + "norm", size)
        layer(block + "pwconv1", 4 * size, size)
        layer(block + "pwconv2", size, 4 * size)
    layer("backbone.norm", widths[-1])
    for index, (before, after) in enumerate([(widths[-1], 512), (512, 512)]):
        layer(f"maps_projector.{3 * index}", after, before)
        layer(f"maps_projector.{3 * index + 1}", after)
    state["module.maps_projector.6.weight"] = torch.randn(512, 512) * 0.1
    return state
