"""ConvNeXt maps from the published checkpoint's layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from convnext_weights import convnext_state

from neuroclips_cli.backbones.convnext import from_published, load_convnext
from neuroclips_cli.errors import UserError

STATE = {k.removeprefix("module."): v for k, v in convnext_state(4).items()}


def norm(x, name):
    weight, bias = STATE[f"{name}.weight"], STATE[f"{name}.bias"]
    return F.layer_norm(x, weight.shape, weight, bias, 1e-6)


def channels_first(x, name):
    return norm(x.movedim(1, -1), name).movedim(-1, 1)


def linear(x, name):
    return F.linear(x, STATE[f"{name}.weight"], STATE.get(f"{name}.bias"))


def conv(x, name, **options):
    return F.conv2d(x, STATE[f"{name}.weight"], STATE[f"{name}.bias"], **options)


def maps(pixels):
    """The paper's network (Liu et al. 2022) with VICRegL's projector, written out."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    x = (pixels - mean) / torch.tensor([0.228, 0.224, 0.225]).view(3, 1, 1)
    for stage in range(4):
        down = f"backbone.downsample_layers.{stage}"
        if stage:
            x = conv(channels_first(x, f"{down}.0"), f"{down}.1", stride=2)
        else:
            x = channels_first(conv(x, f"{down}.0", stride=4), f"{down}.1")
        block = f"backbone.stages.{stage}.0"
        inner = conv(x, f"{block}.dwconv", padding=3, groups=x.shape[1]).movedim(1, -1)
        inner = F.gelu(linear(norm(inner, f"{block}.norm"), f"{block}.pwconv1"))
        x = x + linear(inner, f"{block}.pwconv2").movedim(-1, 1)
    x = norm(x.flatten(2).transpose(1, 2), "backbone.norm")
    for index in (0, 3):
        x = norm(linear(x, f"maps_projector.{index}"), f"maps_projector.{index + 1}").relu()
    return linear(x, "maps_projector.6")


def test_maps_equal_the_network_written_out():
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found = from_published(STATE, "weights").eval()(pixels)
    torch.testing.assert_close(found, maps(pixels), rtol=1e-4, atol=2e-4)


def test_two_views_are_of_the_frame_and_of_another_look_at_it():
    network = from_published(STATE, "weights").eval()
    frames = np.random.default_rng(0).integers(0, 255, (2, 40, 40, 3), dtype=np.uint8)
    views = network.two_views(frames, positions=2)
    assert views.shape == (2, 2, 4, 512)
    assert np.abs(views[:, 0] - views[:, 1]).max() > 1e-3


def test_another_file_or_none_is_one_sentence(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="lacks 'backbone.norm.weight'"):
        load_convnext(str(tmp_path / "other.pth"))
    with pytest.raises(UserError, match="convnext in"):
        load_convnext("")
