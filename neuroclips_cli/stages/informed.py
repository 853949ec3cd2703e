"""Reconstructions that see everything, or nothing: what the generator itself can do and imagine."""

from __future__ import annotations

import numpy as np

from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.backbones.pixels import resize_frames
from neuroclips_cli.backbones.vae import decode_latents, encode_frames, load_vae
from neuroclips_cli.runs.stage import read_array
from neuroclips_cli.stages.reconstruct import Compute, Reconstruction


class GroundTruthGuided(Reconstruction):
    """Guided by the film itself: its frames through the VAE as blurry clip, one as keyframe.

    What comes out is the ceiling of the generator: no decoder that feeds it can do better on the
    whole.
    """

    def _shown(self, piece: slice) -> np.ndarray:
        """Return uint8 (clips, Nf, h, w, 3): what was on screen."""
        films = read_array(self.inputs["preprocess"] / "frames_test.npy")
        return np.stack([films[number] for number in self.numbers[piece]])

    def blurry(self) -> np.ndarray:
        """Return the film through the VAE, uint8 (clips, Nf, h, w, 3)."""

        def load() -> Compute:
            vae = load_vae(self.settings.backbones.vae, self.device)
            frames, size = self.settings.data.frames_per_clip, self.settings.data.frame_size

            def compute(piece: slice) -> np.ndarray:
                latents = encode_frames(vae, self._shown(piece).reshape(-1, size, size, 3))
                pixels = resize_frames(decode_latents(vae, latents), size)
                return pixels.reshape(-1, frames, size, size, 3)

            return compute

        return self.map_rows("blurry.npy", load, "uint8", "Blurry clips")

    def tokens(self) -> np.ndarray:
        """Return the CLIP tokens of the keyframes, float16 (clips, tokens, dim)."""

        def load() -> Compute:
            clip = load_clip(self.settings.backbones.clip, self.device, self.precision)
            clip = clip.in_space(self.settings.semantics.token_space)
            return lambda piece: clip.tokens(self._keyframes(piece))

        return self.map_rows("tokens_film.npy", load, "float16", "Tokens")

    def keyframes(self, tokens: np.ndarray, blurry: np.ndarray | None) -> np.ndarray:
        """Return the first frame of every clip, uint8 (clips, h, w, 3), which SparseCtrl holds."""
        return self.map_rows("keyframes.npy", lambda: self._keyframes, "uint8", "Keyframes")

    def _keyframes(self, piece: slice) -> np.ndarray:
        return self._shown(piece)[:, 0]


class FromTrueTokens(GroundTruthGuided):
    """unCLIP from the CLIP tokens of the frames themselves (paper D, Figure 13), standing still.

    It shows what image generation loses, and whether tokens and image mapping belong together.
    """

    def run(self, without: str | None) -> None:
        """Make keyframes from noise and let each stand still for the length of a clip."""
        chosen = self.settings.reconstruct
        self.stage.write_array("index.npy", np.asarray(self.numbers, dtype=np.int64))
        keyframes = Reconstruction.keyframes(self, self.tokens(), None)

        def compute(piece: slice) -> np.ndarray:
            return np.repeat(np.asarray(keyframes[piece])[:, None], chosen.frames, axis=1)

        clips = self.map_rows("clips.npy", lambda: compute, "uint8", "Clips")
        self.videos(clips)
        self.stage.fact("clips", len(self.numbers))


class Unconditional(Reconstruction):
    """Guided by no scan: no blurry clip, and tokens that the prior draws without a condition."""

    def blurry(self) -> None:
        """Return nothing: clips and keyframes start from noise."""

    def tokens(self) -> np.ndarray:
        """Return unconditioned draws of the prior, float16 (clips, tokens, dim)."""

        def load() -> Compute:
            decoder = self.token_decoder()
            return lambda piece: decoder.without_scans(self.numbers[piece])

        return self.map_rows("tokens_unguided.npy", load, "float16", "Prior")
