"""Token spaces: which pixels CLIP sees, and that keyframes get the tones of their tokens' space."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neuroclips_cli.backbones import clip as clip_module
from neuroclips_cli.backbones import vae as vae_module
from neuroclips_cli.backbones.pixels import Preprocess
from neuroclips_cli.backbones.token_space import SPACES, contrast_for
from neuroclips_cli.errors import UserError
from neuroclips_cli.generation import decoder, keyframe
from neuroclips_cli.runs.stage import open_stage, read_array, read_json
from neuroclips_cli.settings.load import Settings, load_settings, replace_settings
from neuroclips_cli.simulation.synthetic_world import draw_scene, render_scene
from neuroclips_cli.stages import _training_data, reconstruct
from neuroclips_cli.stages._control_clips import FromTrueTokens

TRAIN, TEST, SIDE, BLOCK, CHANNELS = 700, 100, 64, 8, 4
RIDGE = 100.0


class BlockAutoencoder:
    """A linear VAE: principal components of 8 x 8 blocks, fitted to the training frames."""

    def __init__(self, frames: np.ndarray) -> None:
        blocks = self._blocks(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1)
        sample = blocks.permute(0, 2, 3, 1).reshape(-1, blocks.shape[1])
        self.basis = torch.linalg.svd(sample.mT @ sample)[0][:, :CHANNELS]
        self.config = SimpleNamespace(scaling_factor=1.0, block_out_channels=(1, 1, 1, 1))
        self.device = torch.device("cpu")
        self.use_tiling = False

    @staticmethod
    def _blocks(pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pixel_unshuffle(pixels, BLOCK)

    def encode(self, pixels: torch.Tensor) -> SimpleNamespace:
        latents = torch.einsum("nchw,ck->nkhw", self._blocks(pixels), self.basis)
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=latents))

    def decode(self, latents: torch.Tensor) -> SimpleNamespace:
        blocks = torch.einsum("nkhw,ck->nchw", latents, self.basis)
        return SimpleNamespace(sample=torch.nn.functional.pixel_shuffle(blocks, BLOCK))


class LinearUnclip:
    """Ridge regression from tokens to latents of the image that a space's tokens stand for."""

    def __init__(self, tokens: np.ndarray, latents: np.ndarray) -> None:
        x, y = (a.reshape(len(a), -1).astype(np.float64) for a in (tokens, latents))
        self.shape, self.at, self.to = latents.shape[1:], x.mean(0), y.mean(0)
        centered = x - self.at
        kernel = centered @ centered.T + RIDGE * np.eye(len(x))
        self.weights = centered.T @ np.linalg.solve(kernel, y - self.to)

    def __call__(self, _unet, tokens, *_given) -> torch.Tensor:
        made = (tokens.flatten(1).numpy() - self.at) @ self.weights + self.to
        return torch.from_numpy(made.reshape(-1, *self.shape)).float()


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Frames of scenes, uint8 (n, 64, 64, 3)."""
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng, 2.0) for _ in range(TRAIN + TEST)]
    return np.stack([render_scene(scene, np.array([0.5]), SIDE)[0] for scene in scenes])


@pytest.fixture(scope="module")
def fitted(frames) -> tuple[BlockAutoencoder, dict[str, LinearUnclip]]:
    """An unCLIP per token space: of washed-out tokens it makes x, of others 2 x - 1."""
    vae, clip = BlockAutoencoder(frames[:TRAIN]), clip_module.load_clip("assets:tiny/clip")
    made = {}
    for space in SPACES:
        tokens = clip.in_space(space).tokens(frames[:TRAIN])
        latents = vae_module.encode_frames(vae, frames[:TRAIN], signed=space == "standard")
        made[space] = LinearUnclip(tokens, latents)
    return vae, made


def settings_in(folder: Path, space: str, frames: np.ndarray) -> Settings:
    """Write what the earlier stages leave, for tokens of a space."""
    flags = {"run.workdir": str(folder / "runs"), "run.device": "cpu"}
    flags |= {"semantics.token_space": space, "reconstruct.keyframe_steps": 2}
    settings = load_settings(flags, folder=folder, environ={})
    with open_stage(settings, "preprocess", sections=("data",), inputs={}) as stage:
        stage.write_array("fmri_test.npy", np.zeros((TEST, 3), np.float32))
        stage.write_array("frames_test.npy", np.repeat(frames[TRAIN:, None], 6, axis=1))
    for name, sections in (("train-pr", ()), ("train-sr", ("semantics", "train_sr"))):
        with open_stage(settings, name, sections=sections, inputs={}) as stage:
            stage.write_json("weights.json", name)
    return settings


@pytest.mark.parametrize("space", SPACES)
def test_unclip_restores_the_tones_of_true_tokens_in_their_own_space(
    space, frames, fitted, tmp_path, monkeypatch
):
    vae, unclip = fitted
    monkeypatch.setattr(decoder, "load_vae", lambda *_: vae)
    monkeypatch.setattr(decoder, "sample_latents", unclip[space])
    monkeypatch.setattr(reconstruct, "write_videos", lambda *_: None)
    settings = settings_in(tmp_path, space, frames)
    variant = reconstruct.Variant("unclip-true-tokens", recipe=FromTrueTokens)
    folder = reconstruct.run(settings, variant=variant)
    made, shown = read_array(folder / "keyframes.npy"), frames[TRAIN:]
    clips = read_array(folder / "clips.npy")
    assert clips.shape[:2] == (TEST, settings.reconstruct.frames)
    assert np.array_equal(clips[:, 0], made) and np.array_equal(clips[:, -1], made)
    black, true = (float((pictures == 0).mean()) for pictures in (made, shown))
    assert abs(black - true) < 0.01, f"{black:.4f} of the pixels are black, {true:.4f} were"
    assert np.corrcoef(made.ravel(), shown.ravel())[0, 1] > 0.8
    record = read_json(folder / "manifest.json")
    assert record["determined_by"]["extra"]["token_space"] == space
    facts = record["facts"]
    assert facts["keyframe_contrast"] == {"standard": "none", "published": "released"}[space]

    # The other space's mapping, as profile paper had it: a third of the picture turns black.
    tokens = read_array(folder / "tokens_film.npy").astype(np.float32)
    latents = unclip[space](None, torch.from_numpy(tokens))
    other = "released" if space == "standard" else "none"
    wrong = keyframe.keyframe_images(vae, latents, other)
    if space == "standard":
        assert (wrong == 0).mean() - true > 0.3
    else:
        assert wrong.mean() - shown.mean() > 40


def test_a_mapping_of_the_other_space_is_refused(frames, tmp_path):
    assert contrast_for("published", "auto") == contrast_for("published", "released") == "released"
    assert contrast_for("standard", "auto") == contrast_for("standard", "none") == "none"
    for space, contrast in (("published", "none"), ("standard", "released")):
        settings = settings_in(tmp_path / space, space, frames)
        asked = replace_settings(settings, {"reconstruct.keyframe_contrast": contrast})
        with pytest.raises(UserError, match=f"'{contrast}' is the mapping of .* tokens") as said:
            reconstruct.run(asked)
        assert "semantics.token_space" in str(said.value)
    for profile, space in (("paper", "published"), ("compact", "published"), ("tiny", "standard")):
        assert load_settings({"run.profile": profile}).semantics.token_space == space


def test_published_tokens_are_of_a_picture_without_dark_tones(frames):
    some = frames[:4]
    plain = Preprocess((SIDE, SIDE), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    lighter = np.rint(some / 2.0 + 127.5).astype(np.uint8)
    found = plain(some, "cpu", upper_half=True)
    torch.testing.assert_close(found, plain(lighter, "cpu"), atol=0.011, rtol=0)
    clip = clip_module.load_clip("assets:tiny/clip")
    published = clip.in_space("published")
    assert not np.allclose(published.tokens(some), clip.tokens(some), atol=0.1)
    assert np.array_equal(published.image_embeddings(some), clip.image_embeddings(some))


def test_each_space_has_a_target_cache_of_its_own(frames, tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr(
        _training_data, "_frame_targets", lambda path, *_: counted.append(path.name)
    )
    clips = SimpleNamespace(frames=frames[:2, None], frames_digest="d")
    for space in ("standard", "published", "published"):
        settings = load_settings({"semantics.token_space": space}, environ={})
        _training_data.token_targets(settings, clips, "cpu")
    assert len(set(counted)) == 2 and counted[1] == counted[2]


@pytest.mark.parametrize("space", SPACES)
def test_a_keyframe_begins_from_latents_of_its_own_space(space, frames, tmp_path, monkeypatch):
    seen, begun = [], []

    def encode(_vae, pictures, *, signed=True):
        seen.append(signed)
        return np.zeros((len(pictures), 4, 8, 8), np.float32)

    def sample(_unet, tokens, _generators, _options, first, _scheduler):
        begun.append(first is not None)
        return torch.zeros(len(tokens), 4, 8, 8)

    monkeypatch.setattr(decoder, "encode_frames", encode)
    monkeypatch.setattr(decoder, "sample_latents", sample)
    monkeypatch.setattr(reconstruct.Reconstruction, "captions", lambda *_: [])
    monkeypatch.setattr(reconstruct.Reconstruction, "clips", lambda *_: np.zeros((0, 1, 8, 8, 3)))
    tokens = np.zeros((TEST, 16, 128), np.float16)
    monkeypatch.setattr(reconstruct.Reconstruction, "tokens", lambda *_: tokens)
    blurry = np.zeros((TEST, 6, SIDE, SIDE, 3), np.uint8)
    monkeypatch.setattr(reconstruct.Reconstruction, "blurry", lambda *_: blurry)
    monkeypatch.setattr(reconstruct, "write_videos", lambda *_: None)
    reconstruct.run(settings_in(tmp_path, space, frames))
    assert all(begun) and set(seen) == {space == "standard"}
