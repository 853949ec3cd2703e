"""Backbones: found, loaded in float32, and giving what the contract says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import random_backbones as tiny
import torch
from tiny_backbones import files

import neuroclips_cli
from neuroclips_cli.backbones.loading import choose_device
from neuroclips_cli.backbones.pixels import Preprocess, resize_frames
from neuroclips_cli.backbones.references import locate, resolve
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.schema import BackboneSettings


@pytest.fixture(scope="module")
def backbones(tmp_path_factory) -> BackboneSettings:
    return BackboneSettings(**tiny.save_all(tmp_path_factory.mktemp("backbones")))


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    size = tiny.FRAME_SIZE
    return np.random.default_rng(0).integers(0, 256, (5, size, size, 3), dtype=np.uint8)


def test_references_are_assets_folders_or_hub_ids(tmp_path):
    assert resolve(str(tmp_path)) == str(tmp_path)
    assert resolve("owner/name") == "owner/name"
    assert locate("owner/name:unet") == ("owner/name", "unet")
    for missing in ("assets:tiny/nothing", "/no/such/folder", "./nowhere", ""):
        with pytest.raises(UserError):
            resolve(missing)


def test_an_unknown_device_is_named():
    assert choose_device("cpu") == "cpu"
    if not torch.backends.mps.is_available():
        with pytest.raises(UserError, match="mps"):
            choose_device("mps")


def test_a_model_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    from neuroclips_cli.backbones.clip import load_clip, load_projector
    from neuroclips_cli.backbones.vae import load_vae

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    empty = tmp_path / "empty"
    empty.mkdir()
    for load in (load_vae, load_clip, load_projector):
        with pytest.raises(UserError) as problem:
            load(str(empty))
        assert "\n" not in str(problem.value)


def test_frames_survive_the_trip_through_the_latent_space_in_shape(backbones, frames):
    from neuroclips_cli.backbones.vae import decode_latents, encode_frames, load_vae

    vae = load_vae(backbones.vae)
    assert next(vae.parameters()).dtype == torch.float32
    done = []
    latents = encode_frames(vae, frames, batch_size=2, advance=done.append)
    assert latents.shape == (5, 4, 4, 4) and latents.dtype == np.float32
    assert done == [2, 2, 1]
    assert np.allclose(latents, encode_frames(vae, frames), atol=1e-5)
    pixels = decode_latents(vae, latents)
    assert pixels.shape == frames.shape and pixels.dtype == np.uint8


def test_clip_tokens_are_the_normalized_patches_and_embeddings_are_unit_rows(backbones, frames):
    from neuroclips_cli.backbones.clip import load_clip, load_projector

    clip = load_clip(backbones.clip)
    tokens = clip.tokens(frames, batch_size=3)
    assert tokens.shape == (5, tiny.TOKENS, tiny.TOKEN_DIM) and tokens.dtype == np.float32
    norm = clip.model.visual.ln_post
    plain = (tokens - norm.bias.numpy()) / norm.weight.numpy()
    assert np.allclose(plain.mean(-1), 0, atol=1e-4)
    for rows in (clip.image_embeddings(frames), clip.text_embeddings(tiny.CAPTIONS)):
        assert rows.shape[1] == tiny.EMBED_DIM
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert load_projector(backbones.projector).shape == (tiny.TOKEN_DIM, tiny.EMBED_DIM)


def test_clip_preprocessing_equals_open_clips_own(backbones, frames):
    import open_clip
    from PIL import Image

    from neuroclips_cli.backbones.clip import load_clip

    _, _, own = open_clip.create_model_and_transforms(f"local-dir:{backbones.clip}")
    clip = load_clip(backbones.clip)
    smooth = resize_frames(frames[:2], 96)
    expected = torch.stack([own(Image.fromarray(frame)) for frame in smooth])
    difference = (clip.preprocess(smooth, "cpu") - expected).abs()  # Pillow rounds in between
    assert difference.mean() < 0.01 and difference.max() < 0.1
    same = torch.stack([own(Image.fromarray(frame)) for frame in frames])
    assert torch.allclose(clip.preprocess(frames, "cpu"), same, atol=1e-5)


def test_wide_frames_are_resized_on_the_short_side_and_cut_in_the_middle():
    frames = np.zeros((1, 20, 60, 3), dtype=np.uint8)
    frames[:, :, 20:40] = 255
    prepare = Preprocess(size=(20, 20), mean=(0, 0, 0), std=(1, 1, 1))
    assert prepare(frames, "cpu").min() == 1


def test_the_captioner_says_the_same_about_the_same_frame(backbones, frames):
    from neuroclips_cli.backbones.captioner_blip2 import load_captioner

    captioner = load_captioner(backbones.captioner)
    captions = captioner.caption(frames, batch_size=2)
    assert len(captions) == 5 and all(isinstance(text, str) for text in captions)
    assert captions == captioner.caption(frames)
    assert all("<image>" not in text for text in captions)


def test_classifiers_give_probabilities(tmp_path, frames):
    from neuroclips_cli.backbones.classifiers import load_image_classifier, load_video_classifier

    image, video = str(tmp_path / "image"), str(tmp_path / "video")
    tiny.save_image_classifier(Path(image))
    tiny.save_video_classifier(Path(video))
    images = load_image_classifier(image).probabilities(frames, batch_size=2)
    clips = np.stack([np.resize(frames, (16, *frames.shape[1:]))] * 3)
    videos = load_video_classifier(video).probabilities(clips, batch_size=2)
    for rows, count in ((images, 5), (videos, 3)):
        assert rows.shape == (count, tiny.CLASSES) and rows.dtype == np.float32
        assert np.allclose(rows.sum(1), 1, atol=1e-5)
    for load, ref, wanted in (
        (load_image_classifier, video, "needs a ViTForImageClassification"),
        (load_video_classifier, image, "needs a VideoMAEForVideoClassification"),
    ):
        with pytest.raises(UserError, match=wanted):
            load(ref)
    (tmp_path / "image" / "config.json").write_text("[]")
    with pytest.raises(UserError, match="config.json.* names no network"):
        load_image_classifier(image)


def test_every_motion_module_normalizes_frame_by_frame(backbones):
    from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D

    from neuroclips_cli.backbones.video import FrameGroupNorm, load_video_models

    models = load_video_models(backbones)
    layers = [
        layer
        for network in (models.unet, models.sparsectrl)
        for layer in network.modules()
        if isinstance(layer, AnimateDiffTransformer3D)
    ]
    assert layers and all(type(layer.norm) is FrameGroupNorm for layer in layers)
    norm = layers[0].norm
    hidden = torch.randn(2, norm.num_channels, 3, 4, 4)
    hidden[:, :, 1] *= 100
    assert torch.allclose(norm(hidden)[:, :, 2], norm(hidden[:, :, 2:])[:, :, 0], atol=1e-5)


def test_no_embedded_file_names_a_place_on_the_machine_that_made_it():
    folder = Path(neuroclips_cli.__file__).parent / "assets"
    texts = [path for path in folder.rglob("*") if path.suffix in (".json", ".txt", ".toml")]
    assert len(texts) > 10
    assert [path for path in texts if re.search(r"/(tmp|home|work|root)/", path.read_text())] == []


def test_a_written_network_forgets_the_folder_that_it_was_loaded_from(tmp_path):
    write_config = '{"_name_or_path": "/home/me/vae", "width": 3}'

    def write(part: Path) -> None:
        part.mkdir()
        (part / "config.json").write_text(write_config)

    files.replace(tmp_path / "vae", write)
    assert json.loads((tmp_path / "vae" / "config.json").read_text()) == {"width": 3}
