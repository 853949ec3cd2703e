"""Compiled blocks compute what the blocks as they are compute."""

from __future__ import annotations

import torch

from neuroclips_cli.backbones.unclip import load_unclip
from neuroclips_cli.generation.decoder import KeyframeGenerator
from neuroclips_cli.generation.video_generator import VideoGenerator
from neuroclips_cli.runtime.compilation import BLOCKS, compile_blocks
from neuroclips_cli.settings.load import load_settings


def _compiled(network: torch.nn.Module) -> list[bool]:
    """Tell of each repeated block whether it is compiled when it is called."""
    blocks = [m for m in network.modules() if type(m).__name__ in BLOCKS]
    return [block._compiled_call_impl is not None for block in blocks]


def test_blocks_are_compiled_and_give_the_same_numbers():
    unet, graphs = load_unclip(load_settings({}, environ={}).backbones.unclip), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    rng = torch.Generator().manual_seed(0)
    size = unet.config.sample_size
    latents = torch.randn(1, unet.config.in_channels, size, size, generator=rng)
    tokens = torch.randn(1, 2, unet.config.cross_attention_dim, generator=rng)
    with torch.no_grad():
        plain = unet(latents, 500, tokens).sample
        compiled = compile_blocks(unet, backend=backend)(latents, 500, tokens).sample
    assert graphs and all(_compiled(unet))
    torch.testing.assert_close(compiled, plain, rtol=0, atol=1e-5)


def test_the_denoising_networks_are_compiled_where_the_setting_asks_for_it():
    settings = load_settings({"reconstruct.compile": "true"}, environ={})
    video = VideoGenerator(settings, "cpu").models
    keyframes = KeyframeGenerator(settings, "cpu", "float32").unet
    for network in (video.unet, video.sparsectrl, keyframes):
        assert (found := _compiled(network)) and all(found)
