"""``neuroclips reconstruct``: from test scans to clips, with alpha, beta and gamma guidance.

Scans -> blurry clips (perception) and image tokens (semantics) -> keyframes -> captions ->
clips (paper 3.3). Every part is streamed to disk, so that an interruption loses one batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuroclips_cli import console
from neuroclips_cli.backbones.captioners import load_captioner_fn, require_captioner
from neuroclips_cli.backbones.token_space import STANDARD, contrast_for
from neuroclips_cli.errors import UserError
from neuroclips_cli.generation.video_generator import VideoGenerator, write_videos
from neuroclips_cli.runs import disk_usage
from neuroclips_cli.runs.resumable import fill_rows, fill_texts, finished
from neuroclips_cli.runs.stage import Stage, open_stage, read_array, require_stage
from neuroclips_cli.settings.load import Settings

if TYPE_CHECKING:
    import torch

    from neuroclips_cli.models.semantics import Semantics

NAME = "reconstruct"
WITHOUT = ("keyframe", "blurry")


def run(
    settings: Settings,
    *,
    without: str | None = None,
    clips: str | None = None,
    instead: tuple[str, np.ndarray] | None = None,
    maker: tuple[str, type[Reconstruction]] | None = None,
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
    instead : tuple of str and numpy.ndarray, optional
        Name of a control and the scans, float32 (clips, voxels), that take the place of the test
        scans. Written to a folder of its own.
    maker : tuple of str and type, optional
        Name of a control and what makes it, likewise in a folder of its own.
    overwrite : bool
        Start afresh.

    Returns
    -------
    pathlib.Path
        The stage folder.

    Raises
    ------
    UserError
        If a needed stage or backbone is missing, or an option has no meaning.
    """
    from neuroclips_cli.backbones.loading import revisions
    from neuroclips_cli.data.clip_selection import parse_clips

    if without not in (None, *WITHOUT):
        raise UserError(f"--without '{without}' is unknown: write keyframe or blurry.")
    require_captioner(settings)
    token_space = settings.semantics.token_space
    contrast_for(token_space, settings.reconstruct.keyframe_contrast)
    name = f"{NAME}-without-{without}" if without else NAME
    captioned = without != "keyframe" and instead is None and maker is None
    if captioned and settings.reconstruct.captioner != "blip2":
        name += f"-captioner-{settings.reconstruct.captioner}"
    inputs = {
        stage: require_stage(settings, stage, needed_by=NAME)
        for stage in ("preprocess", "train-pr", "train-sr")
        if not (without == "blurry" and stage == "train-pr")
    }
    fmri = read_array(inputs["preprocess"] / "fmri_test.npy")
    extra = {
        "without": without or "",
        "clips": clips or "",
        "token_space": token_space,
        "revisions": revisions(settings.backbones),
        "precision": settings.run.precision,
    }
    if instead is not None:
        extra["instead"], fmri = instead
        name = f"{name}-control-{instead[0]}"
    if maker is not None:
        extra["instead"] = maker[0]
        name = f"{name}-control-{maker[0]}"
    numbers = parse_clips(clips, len(fmri))
    with open_stage(
        settings,
        name,
        sections=("reconstruct", "backbones", "data"),
        inputs=inputs,
        overwrite=overwrite,
        extra=extra,
    ) as stage:
        if not stage.up_to_date:
            stage.need_space(disk_usage.of_reconstruct(settings, len(numbers), without))
            kind = maker[1] if maker else Reconstruction
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
        from neuroclips_cli.backbones.loading import choose_device
        from neuroclips_cli.runtime.precision import choose_precision

        self.settings, self.stage, self.inputs = settings, stage, inputs
        self.fmri, self.numbers = fmri, numbers
        self.device = choose_device(settings.run.device)
        self.precision = choose_precision(settings.run.precision, self.device)
        stage.fact("precision", self.precision)
        if self.device.startswith("cuda"):
            from neuroclips_cli.stages.dry_run import require_generation_memory

            require_generation_memory(settings, self.device, fmri.shape[1])
        self.batch = settings.reconstruct.batch_size

    def run(self, without: str | None) -> None:
        """Make everything; ``without`` leaves one guidance out."""
        self.stage.write_array("index.npy", np.asarray(self.numbers, dtype=np.int64))
        blurry = None if without == "blurry" else self.blurry()
        tokens = self.tokens()
        keyframes = captions = None
        if without != "keyframe":
            keyframes = self.keyframes(tokens, blurry)
            captions = self.captions(keyframes, tokens)
        clips = self.clips(blurry, keyframes, captions)
        write_videos(self.stage, clips, self.settings.reconstruct.fps, self._video_names())
        self.stage.fact("clips", len(self.numbers))
        self.stage.fact("blur_init", self.settings.reconstruct.blur_init)
        console.info(f"{len(self.numbers)} clips reconstructed in {self.stage.folder}")

    def _video_names(self) -> list[str]:
        return [f"clip-{number:04d}.mp4" for number in self.numbers]

    def _scans(self, piece: slice) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.array(self.fmri[piece], dtype=np.float32)).to(self.device)

    def blurry(self) -> np.ndarray | None:
        """Decode blurry clips, uint8 (clips, Nf, h, w, 3), from scans (alpha guidance)."""
        there = finished(self.stage, "blurry.npy")
        if there is not None:
            return there
        import torch

        from neuroclips_cli.backbones.pixels import resize_frames
        from neuroclips_cli.backbones.vae import decode_latents, load_vae
        from neuroclips_cli.models.checkpoint import load_perception
        from neuroclips_cli.runtime.precision import compute_in

        data = self.settings.data
        frames, size = data.frames_per_clip, data.frame_size
        perception = load_perception(self.inputs["train-pr"]).to(self.device).eval()
        compute_in(self.precision, perception, store=False)
        vae = load_vae(self.settings.backbones.vae, self.device)

        @torch.inference_mode()
        def compute(piece: slice) -> np.ndarray:
            latents = perception(self._scans(piece)).flatten(0, 1)
            pixels = resize_frames(decode_latents(vae, latents), size)
            return pixels.reshape(-1, frames, size, size, 3)

        shape = (len(self.fmri), frames, size, size, 3)
        return fill_rows(
            self.stage, "blurry.npy", shape, "uint8", self.batch, compute, "Blurry clips"
        )

    def tokens(self) -> np.ndarray:
        """Decode image tokens, float16 (clips, tokens, dim): contrastive ones and the prior's."""
        there = finished(self.stage, "tokens_prior.npy")
        if there is not None:
            return there
        import torch

        from neuroclips_cli.generation.tokens import sample_tokens
        from neuroclips_cli.runtime.seeding import clip_generators

        backbones = self.settings.backbones
        semantics = self.semantics()
        shape = (len(self.fmri), backbones.tokens, backbones.token_dim)

        @torch.inference_mode()
        def contrastive(piece: slice) -> np.ndarray:
            return semantics(self._scans(piece))[1].float().cpu().numpy()

        def prior(piece: slice) -> np.ndarray:
            generators = clip_generators(self.settings.run.seed, self.numbers[piece], "tokens")
            return sample_tokens(semantics, self._scans(piece), generators).float().cpu().numpy()

        fill_rows(
            self.stage, "tokens_brain.npy", shape, "float16", self.batch, contrastive, "Tokens"
        )
        return fill_rows(
            self.stage, "tokens_prior.npy", shape, "float16", self.batch, prior, "Prior"
        )

    def semantics(self) -> Semantics:
        """Load the Semantics Reconstructor, to be called by itself or by its prior."""
        from neuroclips_cli.models.checkpoint import load_semantics
        from neuroclips_cli.runtime.precision import compute_in

        semantics = load_semantics(self.inputs["train-sr"]).to(self.device).eval()
        compute_in(self.precision, semantics.diffusion_prior.net, store=False)
        compute_in(self.precision, semantics, store=False)
        return semantics

    def keyframes(self, tokens: np.ndarray, blurry: np.ndarray | None) -> np.ndarray:
        """Generate keyframes, uint8 (clips, h, w, 3), from tokens (beta guidance)."""
        there = finished(self.stage, "keyframes.npy")
        if there is not None:
            return there
        import torch

        from neuroclips_cli.backbones.pixels import resize_frames
        from neuroclips_cli.backbones.schedulers import load_scheduler
        from neuroclips_cli.backbones.unclip import load_unclip
        from neuroclips_cli.backbones.vae import encode_frames, load_vae
        from neuroclips_cli.generation.fast import fewer
        from neuroclips_cli.generation.keyframe import (
            KeyframeOptions,
            keyframe_images,
            keyframe_scheduler,
            sample_latents,
        )
        from neuroclips_cli.runtime.seeding import clip_generators

        chosen, size = self.settings.reconstruct, self.settings.data.frame_size
        token_space = self.settings.semantics.token_space
        options = KeyframeOptions(
            steps=fewer(chosen.keyframe_steps) if chosen.fast else chosen.keyframe_steps,
            guidance_scale=chosen.keyframe_guidance_scale,
            start=chosen.keyframe_start,
            contrast=contrast_for(token_space, chosen.keyframe_contrast),
        )
        self.stage.fact("keyframe_contrast", options.contrast)
        from_blurry = options.strength() is not None and blurry is not None
        unet = load_unclip(self.settings.backbones.unclip, self.device, self.precision)
        scheduler = load_scheduler(self.settings.backbones.unclip, keyframe_scheduler())
        vae = load_vae(self.settings.backbones.keyframe_vae, self.device)
        inner = unet.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1)

        def compute(piece: slice) -> np.ndarray:
            first = None
            if from_blurry and blurry is not None:
                frames = resize_frames(np.array(blurry[piece][:, 0]), inner)
                # What unCLIP makes of published tokens decodes to 0..1, not to -1..1.
                signed = token_space == STANDARD
                first = torch.from_numpy(encode_frames(vae, frames, signed=signed))
            latents = sample_latents(
                unet,
                torch.from_numpy(tokens[piece].astype(np.float32)).to(self.device),
                clip_generators(self.settings.run.seed, self.numbers[piece], "keyframe"),
                options,
                first,
                scheduler,
            )
            return resize_frames(keyframe_images(vae, latents, options.contrast), size)

        shape = (len(tokens), size, size, 3)
        return fill_rows(
            self.stage, "keyframes.npy", shape, "uint8", self.batch, compute, "Keyframes"
        )

    def captions(self, keyframes: np.ndarray, tokens: np.ndarray) -> list[str]:
        """Describe the keyframes (gamma guidance) and write ``captions.csv``."""
        describe = load_captioner_fn(self.settings, self.device)
        texts = fill_texts(
            self.stage,
            ".captions.json",
            len(keyframes),
            self.batch,
            lambda piece: describe(keyframes[piece], lambda: tokens[piece]),
            "Captions",
        )
        rows = list(zip(self.numbers, texts, strict=True))
        self.stage.write_csv("captions.csv", ("clip", "caption"), rows)
        return texts

    def clips(
        self,
        blurry: np.ndarray | None,
        keyframes: np.ndarray | None,
        captions: list[str] | None,
    ) -> np.ndarray:
        """Generate clips, uint8 (clips, frames, h, w, 3)."""
        there = finished(self.stage, "clips.npy")
        if there is not None:
            return there
        video = VideoGenerator(self.settings, self.device)

        def compute(piece: slice) -> np.ndarray:
            return video.clips(
                self.numbers[piece],
                blurry=None if blurry is None else blurry[piece],
                keyframes=None if keyframes is None else keyframes[piece],
                captions=None if captions is None else captions[piece],
            )

        shape = (len(self.numbers), *video.shape)
        return fill_rows(self.stage, "clips.npy", shape, "uint8", self.batch, compute, "Clips")
