"""``neuroclips reconstruct``: from test scans to clips, with alpha, beta and gamma guidance.

Scans -> blurry clips (perception) and image tokens (semantics) -> keyframes -> captions ->
clips (paper 3.3). Every part is streamed to disk, so that an interruption loses one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from neuroclips_cli import console
from neuroclips_cli.backbones.captioners import load_captioner_fn
from neuroclips_cli.backbones.loading import choose_device
from neuroclips_cli.data.clip_table import parse_clips
from neuroclips_cli.generation.decoder import BlurryDecoder, KeyframeGenerator, TokenDecoder
from neuroclips_cli.generation.video_generator import VideoGenerator, write_videos
from neuroclips_cli.memory_estimate.checks import require_generation_memory
from neuroclips_cli.runs import disk_usage, model_card
from neuroclips_cli.runs.resumable import map_rows, map_texts
from neuroclips_cli.runs.stage import Stage, read_array
from neuroclips_cli.runtime.precision import choose_precision
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.stages import _requests
from neuroclips_cli.stages._training_scans import require_unseen

Compute = Callable[[slice], np.ndarray]
"""From a slice of clips to the rows of an array."""


@dataclass(frozen=True)
class Variant:
    """A reconstruction that is a control.

    Attributes
    ----------
    name : str
        Of the control.
    fmri : numpy.ndarray, optional
        Scans, float32 (clips, voxels), that take the place of the test scans.
    recipe : type, optional
        A subclass of `Reconstruction` that takes its place.
    """

    name: str
    fmri: np.ndarray | None = None
    recipe: type[Reconstruction] | None = None


def run(
    settings: Settings,
    *,
    without: str | None = None,
    clips: str | None = None,
    variant: Variant | None = None,
    overwrite: bool = False,
) -> Path:
    """Reconstruct test clips.

    Parameters
    ----------
    settings : Settings
        ``[reconstruct]``, ``[backbones]`` and ``[data]`` decide the result.
    without : str, optional
        ``keyframe``: no SparseCtrl, and the prompt of the paper's ablation; ``blurry``: clips
        and keyframes start from noise. Written to a folder of its own.
    clips : str, optional
        Which test clips, such as ``0:50``; all by default.
    variant : Variant, optional
        What a control makes otherwise, written to a folder of its own.
    overwrite : bool
        Start afresh.

    Raises
    ------
    UserError
        If a needed stage or backbone is missing, or an option has no meaning.
    """
    control = variant.name if variant else ""
    request = _requests.reconstruct(settings, without=without, clips=clips, variant=control)
    inputs = {name: Path(path) for name, path in request.inputs.items()}
    fmri = read_array(inputs["preprocess"] / "fmri_test.npy")
    if variant and variant.fmri is not None:
        fmri = variant.fmri
    numbers = parse_clips(clips, len(fmri))
    with request.open(settings, overwrite=overwrite) as stage:
        if not stage.up_to_date:
            trained = [inputs[name] for name in ("train-pr", "train-sr") if name in inputs]
            require_unseen(settings, trained, inputs["preprocess"])
            stage.need_space(disk_usage.of_reconstruct(settings, len(numbers), without))
            kind = (variant.recipe if variant else None) or Reconstruction
            kind(settings, stage, inputs, fmri[numbers], numbers).run(without)
        return stage.folder


class Reconstruction:
    """The parts of one reconstruction, in order; each loads its networks and lets them go."""

    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        inputs: dict[str, Path],
        fmri: np.ndarray,
        numbers: list[int],
    ) -> None:

        self.settings, self.stage, self.inputs = settings, stage, inputs
        self.fmri, self.numbers = fmri, numbers
        self.device = choose_device(settings.run.device)
        self.precision = choose_precision(settings.run.precision, self.device)
        stage.fact("precision", self.precision)
        trained = [folder for name, folder in inputs.items() if name in ("train-pr", "train-sr")]
        stage.fact("protocol", model_card.protocol_of(trained, settings.run.subject))
        if self.device.startswith("cuda"):
            require_generation_memory(settings, self.device, fmri.shape[-1])
        self.batch = settings.reconstruct.batch_size

    def run(self, without: str | None) -> None:
        """Make everything; ``without`` leaves one guidance out."""
        blurry = None if without == "blurry" else self.blurry()
        tokens = self.tokens()
        latents = keyframes = captions = None
        if without != "keyframe":
            latents, keyframes = self.keyframes(tokens, blurry)
            captions = self.captions(keyframes, tokens)
        clips = self.clips(blurry, keyframes, latents, captions)
        self.videos(clips)
        self.stage.write_array("index.npy", np.asarray(self.numbers, dtype=np.int64))
        self.stage.fact("clips", len(self.numbers))
        self.stage.fact("blur_init", self.settings.reconstruct.blur_init)
        console.info(f"{len(self.numbers)} clips reconstructed in {self.stage.folder}")

    def videos(self, clips: np.ndarray) -> None:
        """Write every clip as a video file."""
        names = [f"clip-{number:04d}.mp4" for number in self.numbers]
        write_videos(self.stage.folder / "videos", clips, self.settings.reconstruct.fps, names)

    def _scans(self, piece: slice) -> np.ndarray:
        """Return float32 (clips, voxels)."""
        return self.fmri[piece]

    def blurry(self) -> np.ndarray | None:
        """Decode blurry clips, uint8 (clips, Nf, h, w, 3), from scans (alpha guidance)."""

        def load() -> Compute:
            folder = self.inputs["train-pr"]
            decoder = BlurryDecoder(self.settings, folder, self.device, self.precision)
            return lambda piece: decoder(self._scans(piece))

        return self.map_rows("blurry.npy", load, "uint8", "Blurry clips")

    def tokens(self) -> np.ndarray:
        """Decode image tokens, float16 (clips, tokens, dim): contrastive ones and the prior's."""
        decoder = cache(self.token_decoder)

        def contrastive() -> Compute:
            decode = decoder().contrastive
            return lambda piece: decode(self._scans(piece))

        def prior() -> Compute:
            decode = decoder().prior
            return lambda piece: decode(self._scans(piece), self.numbers[piece])

        self.map_rows("tokens_brain.npy", contrastive, "float16", "Tokens")
        return self.map_rows("tokens_prior.npy", prior, "float16", "Prior")

    def token_decoder(self) -> TokenDecoder:
        """Load the Semantics Reconstructor."""
        folder = self.inputs["train-sr"]
        return TokenDecoder(self.settings, folder, self.device, self.precision)

    def keyframes(
        self, tokens: np.ndarray, blurry: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Generate keyframes from tokens (beta guidance).

        Returns
        -------
        latents : numpy.ndarray or None
            float32 (clips, channels, h, w), None where nothing but pictures is known.
        images : numpy.ndarray
            uint8 (clips, h, w, 3).
        """
        generator = cache(lambda: KeyframeGenerator(self.settings, self.device, self.precision))

        def draw() -> Compute:
            generate = generator()
            self.stage.fact("keyframe_contrast", generate.options.contrast)
            return lambda piece: generate.latents(
                tokens[piece], self.numbers[piece], None if blurry is None else blurry[piece]
            )

        def decode() -> Compute:
            generate = generator()
            return lambda piece: generate.images(latents[piece])

        latents = self.map_rows("keyframe_latents.npy", draw, "float32", "Keyframes")
        return latents, self.map_rows("keyframes.npy", decode, "uint8", "Keyframes' pixels")

    def captions(self, keyframes: np.ndarray, tokens: np.ndarray) -> list[str]:
        """Describe the keyframes (gamma guidance) and write ``captions.csv``."""

        def load() -> Callable[[slice], list[str]]:
            describe = load_captioner_fn(self.settings, self.device)
            return lambda piece: describe(keyframes[piece], lambda: tokens[piece])

        path = self.stage.folder / ".captions.json"
        texts = map_texts(path, load, len(keyframes), batch_size=self.batch, what="Captions")
        rows = list(zip(self.numbers, texts, strict=True))
        self.stage.write_csv("captions.csv", ("clip", "caption"), rows)
        return texts

    def clips(
        self,
        blurry: np.ndarray | None,
        keyframes: np.ndarray | None,
        latents: np.ndarray | None,
        captions: list[str] | None,
    ) -> np.ndarray:
        """Generate clips, uint8 (clips, frames, h, w, 3)."""

        def load() -> Compute:
            video = VideoGenerator(self.settings, self.device)
            return lambda piece: video.clips(
                self.numbers[piece],
                blurry=None if blurry is None else blurry[piece],
                keyframes=None if keyframes is None else keyframes[piece],
                keyframe_latents=None if latents is None else latents[piece],
                captions=None if captions is None else captions[piece],
            )

        return self.map_rows("clips.npy", load, "uint8", "Clips")

    def map_rows(self, name: str, load: Callable[[], Compute], dtype: str, what: str) -> np.ndarray:
        """Compute an array with a row for every clip, in batches; see `resumable.map_rows`."""
        path, count = self.stage.folder / name, len(self.numbers)
        return map_rows(path, load, count, batch_size=self.batch, dtype=dtype, what=what)
