"""From scans to blurry clips, image tokens, keyframes and clips, by a run's trained networks.

Each class holds the networks of one part of a reconstruction (paper 3.3) and computes any clips
of it; ``reconstruct`` streams them to disk, :class:`Decoder` keeps them in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn

from neuroclips_cli.backbones.captioners import load_captioner_fn
from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.backbones.pixels import resize_frames, to_uint8
from neuroclips_cli.backbones.schedulers import halve_steps, load_scheduler
from neuroclips_cli.backbones.token_denoiser import load_token_denoiser
from neuroclips_cli.backbones.token_space import STANDARD, contrast_for
from neuroclips_cli.backbones.unclip import load_unclip
from neuroclips_cli.backbones.vae import decode_pixels, encode_frames, load_vae
from neuroclips_cli.generation.keyframe import (
    KeyframeOptions,
    closest_candidates,
    keyframe_images,
    keyframe_scheduler,
    sample_latents,
)
from neuroclips_cli.generation.tokens import sample_tokens, sample_without_scans
from neuroclips_cli.generation.video_generator import VideoGenerator
from neuroclips_cli.models import checkpoint
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.runtime.auto_batch import AutoBatcher
from neuroclips_cli.runtime.compilation import compile_blocks
from neuroclips_cli.runtime.precision import compute_in
from neuroclips_cli.runtime.seeding import clip_generators
from neuroclips_cli.settings.load import Settings

Result = TypeVar("Result")

PARTS = ("blurry", "tokens", "keyframes", "captions", "clips")
"""Parts of a reconstruction in the order in which they are made."""


def _to_device(fmri: np.ndarray, device: str) -> torch.Tensor:
    return torch.from_numpy(np.array(fmri, dtype=np.float32)).to(device)


def decode_blurry(perception: nn.Module, vae: AutoencoderKL, fmri: torch.Tensor) -> torch.Tensor:
    """Decode scans (clips, voxels) to blurry frames (clips * Nf, 3, H, W), about -1..1."""
    return decode_pixels(vae, perception(fmri).flatten(0, 1).float())


def compute_semantics_in(precision: str, semantics: Semantics) -> Semantics:
    """Let the Semantics Reconstructor compute in ``precision``; see `precision.compute_in`."""
    compute_in(precision, semantics.diffusion_prior.net, store=False)
    compute_in(precision, semantics, store=False)
    return semantics


class BlurryDecoder:
    """The Perception Reconstructor and the VAE: blurry clips from scans (alpha guidance).

    Parameters
    ----------
    settings : Settings
        ``[data]``, ``backbones.vae`` and ``run.subject`` are used.
    folder : pathlib.Path
        A finished ``train-pr`` stage.
    device : str
        A torch device.
    precision : str
        ``float32`` or ``bfloat16``.

    Attributes
    ----------
    shape : tuple of int
        (Nf, height, width, 3) of one blurry clip.
    """

    def __init__(self, settings: Settings, folder: Path, device: str, precision: str) -> None:
        size = settings.data.frame_size
        self.device = device
        self.shape = (settings.data.frames_per_clip, size, size, 3)
        self.perception = checkpoint.load_perception(folder, settings.run.subject).to(device).eval()
        compute_in(precision, self.perception, store=False)
        self.vae = load_vae(settings.backbones.vae, device)

    @torch.inference_mode()
    def __call__(self, fmri: np.ndarray) -> np.ndarray:
        """Decode float32 (clips, voxels) to uint8 (clips, *shape)."""
        decoded = decode_blurry(self.perception, self.vae, _to_device(fmri, self.device))
        pixels = resize_frames(to_uint8(decoded / 2 + 0.5), self.shape[1])
        return pixels.reshape(-1, *self.shape)


class TokenDecoder:
    """The Semantics Reconstructor: CLIP image tokens from scans.

    Parameters
    ----------
    settings : Settings
        ``[backbones]``, ``run.seed`` and ``run.subject`` are used.
    folder : pathlib.Path
        A finished ``train-sr`` stage.
    device : str
        A torch device.
    precision : str
        ``float32`` or ``bfloat16``.

    Attributes
    ----------
    shape : tuple of int
        (tokens, dim) of one clip.
    """

    def __init__(self, settings: Settings, folder: Path, device: str, precision: str) -> None:
        self.device, self.seed = device, settings.run.seed
        self.shape = (settings.backbones.tokens, settings.backbones.token_dim)
        semantics = checkpoint.load_semantics(folder, settings.run.subject).to(device).eval()
        self.semantics = compute_semantics_in(precision, semantics)
        numbers = self.shape[0] * self.shape[1]
        self.denoise = load_token_denoiser(settings.backbones.token_denoiser, numbers, device)

    @torch.inference_mode()
    def contrastive(self, fmri: np.ndarray) -> np.ndarray:
        """Decode float32 (clips, voxels) to the contrastive tokens, float32 (clips, *shape)."""
        return self.semantics(_to_device(fmri, self.device))[1].float().cpu().numpy()

    def prior(self, fmri: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        """Decode float32 (clips, voxels) through the diffusion prior, and denoise the tokens.

        Parameters
        ----------
        fmri : numpy.ndarray
            float32 (clips, voxels).
        numbers : sequence of int
            Test clips; with the seed they decide the random numbers.

        Returns
        -------
        numpy.ndarray
            float32 (clips, *shape), in the scale of the CLIP model's tokens.
        """
        generators = clip_generators(self.seed, numbers, "tokens")
        scans = _to_device(fmri, self.device)
        tokens = sample_tokens(self.semantics, scans, generators).float()
        return self.denoise(tokens).cpu().numpy()

    def without_scans(self, numbers: Sequence[int]) -> np.ndarray:
        """Draw tokens from the prior without a condition, float32 (clips, *shape)."""
        generators = clip_generators(self.seed, numbers, "tokens")
        return sample_without_scans(self.semantics, generators).float().cpu().numpy()


class KeyframeGenerator:
    """The unCLIP denoiser and its VAE: keyframes from image tokens (beta guidance).

    Of several candidates (``reconstruct.keyframe_candidates``) CLIP chooses; see
    :func:`neuroclips_cli.generation.keyframe.closest_candidates`.

    Parameters
    ----------
    settings : Settings
        ``[reconstruct]``, ``[backbones]``, ``semantics.token_space`` and ``run.seed`` are used.
    device : str
        A torch device.
    precision : str
        ``float32`` or ``bfloat16``.

    Attributes
    ----------
    shape : tuple of int
        (height, width, 3) of one keyframe.
    options : KeyframeOptions
        How they are sampled.
    """

    def __init__(self, settings: Settings, device: str, precision: str) -> None:
        chosen, size = settings.reconstruct, settings.data.frame_size
        space = settings.semantics.token_space
        self.device, self.seed, self.shape = device, settings.run.seed, (size, size, 3)
        self.options = KeyframeOptions(
            steps=halve_steps(chosen.keyframe_steps) if chosen.fast else chosen.keyframe_steps,
            guidance_scale=chosen.keyframe_guidance_scale,
            start=chosen.keyframe_start,
            contrast=contrast_for(space, chosen.keyframe_contrast),
        )
        self.from_blurry = self.options.strength() is not None
        # What unCLIP makes of published tokens decodes to 0..1, not to -1..1.
        self.signed = space == STANDARD
        self.unet = load_unclip(settings.backbones.unclip, device, precision)
        if chosen.compile:
            compile_blocks(self.unet)
        self.scheduler = load_scheduler(settings.backbones.unclip, keyframe_scheduler())
        self.vae = load_vae(settings.backbones.keyframe_vae, device)
        self.candidates = chosen.keyframe_candidates
        if self.candidates > 1:
            self.clip = load_clip(settings.backbones.clip, device, precision).in_space(space)

    def __call__(
        self, tokens: np.ndarray, numbers: Sequence[int], blurry: np.ndarray | None = None
    ) -> np.ndarray:
        """Generate keyframes, uint8 (clips, *shape); see :meth:`latents` and :meth:`images`."""
        return self.images(self.latents(tokens, numbers, blurry))

    def latents(
        self, tokens: np.ndarray, numbers: Sequence[int], blurry: np.ndarray | None = None
    ) -> np.ndarray:
        """Generate keyframes in the latent space of ``backbones.keyframe_vae``.

        Parameters
        ----------
        tokens : numpy.ndarray
            float (clips, tokens, dim).
        numbers : sequence of int
            Test clips; with the seed they decide the random numbers.
        blurry : numpy.ndarray, optional
            uint8 (clips, Nf, h, w, 3), whose first frames the denoising starts from where
            ``reconstruct.keyframe_start`` asks for it.

        Returns
        -------
        numpy.ndarray
            float32 (clips, channels, h, w), scaled.
        """
        start = self._start(blurry)
        drawn = [
            self._draw(tokens, clip_generators(self.seed, numbers, purpose), start)
            for purpose in self._purposes()
        ]
        if len(drawn) == 1:
            return drawn[0]
        candidates = np.stack(drawn, axis=1)
        found = self.clip.tokens(self.images(candidates.reshape(-1, *candidates.shape[2:])))
        chosen = closest_candidates(found.reshape(*candidates.shape[:2], *tokens.shape[1:]), tokens)
        return np.asarray(candidates[np.arange(len(candidates)), chosen])

    def images(self, latents: np.ndarray) -> np.ndarray:
        """Decode keyframes, uint8 (clips, *shape), from what :meth:`latents` returned."""
        scaled = torch.from_numpy(np.array(latents, dtype=np.float32))
        return resize_frames(
            keyframe_images(self.vae, scaled, self.options.contrast), self.shape[0]
        )

    def _purposes(self) -> list[str]:
        """Name the random numbers of every candidate; the first one's do not depend on how many."""
        return ["keyframe", *(f"keyframe candidate {i}" for i in range(2, self.candidates + 1))]

    def _draw(
        self,
        tokens: np.ndarray,
        generators: Sequence[torch.Generator],
        start: torch.Tensor | None,
    ) -> np.ndarray:
        """Draw one keyframe for every clip, float32 (clips, channels, h, w)."""
        latents = sample_latents(
            self.unet,
            torch.from_numpy(tokens.astype(np.float32)).to(self.device),
            generators,
            self.options,
            start,
            self.scheduler,
        )
        return latents.float().cpu().numpy()

    def _start(self, blurry: np.ndarray | None) -> torch.Tensor | None:
        """Return the latents of the first blurry frames, None where sampling starts from noise."""
        if blurry is None or not self.from_blurry:
            return None
        inner = self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1)
        frames = resize_frames(np.array(blurry[:, 0]), inner)
        return torch.from_numpy(encode_frames(self.vae, frames, signed=self.signed))


@dataclass(frozen=True)
class Decoded:
    """What a run's networks make of scans; parts that were not asked for are None.

    Attributes
    ----------
    numbers : tuple of int
        Clip number of every scan, which decided the random numbers.
    blurry : numpy.ndarray or None
        uint8 (clips, Nf, h, w, 3), by the Perception Reconstructor (alpha guidance).
    tokens_brain, tokens_prior : numpy.ndarray or None
        float16 (clips, tokens, dim), of the contrastive head and of the diffusion prior.
    keyframe_latents : numpy.ndarray or None
        float32 (clips, channels, h, w), what unCLIP made.
    keyframes : numpy.ndarray or None
        uint8 (clips, h, w, 3), decoded from them (beta guidance).
    captions : tuple of str or None
        One for each keyframe (gamma guidance).
    clips : numpy.ndarray or None
        uint8 (clips, frames, h, w, 3).
    """

    numbers: tuple[int, ...]
    blurry: np.ndarray | None = None
    tokens_brain: np.ndarray | None = None
    tokens_prior: np.ndarray | None = None
    keyframe_latents: np.ndarray | None = None
    keyframes: np.ndarray | None = None
    captions: tuple[str, ...] | None = None
    clips: np.ndarray | None = None


Advance = Callable[[str, int], None]


class Decoder:
    """All parts of a reconstruction in memory; each loads its networks, and frees them.

    Parameters
    ----------
    settings : Settings
        ``[reconstruct]``, ``[backbones]`` and ``[data]`` decide the result, and ``run.seed``.
    perception, semantics : pathlib.Path or None
        Finished ``train-pr`` and ``train-sr`` stages; None for a part that is not asked for.
    device : str
        A torch device.
    precision : str
        ``float32`` or ``bfloat16``.
    advance : callable, optional
        Called with the part's name and the number of clips after every batch.
    keep : bool
        Keep all networks in memory from one call to the next, for clips that come one by one.
    """

    def __init__(
        self,
        settings: Settings,
        perception: Path | None,
        semantics: Path | None,
        device: str,
        precision: str,
        advance: Advance | None = None,
        *,
        keep: bool = False,
    ) -> None:
        self.settings, self.device, self.precision = settings, device, precision
        self.perception, self.semantics = perception, semantics
        self.advance = advance or (lambda _part, _clips: None)
        self._kept: dict[str, Any] | None = {} if keep else None

    def decode(
        self, fmri: np.ndarray, numbers: Sequence[int], without: str | None, last: str
    ) -> Decoded:
        """Decode scans as ``reconstruct`` does.

        Parameters
        ----------
        fmri : numpy.ndarray
            float32 (clips, voxels).
        numbers : sequence of int
            Their clip numbers.
        without : str or None
            ``keyframe`` or ``blurry``: the guidance that is left out.
        last : str
            The last of :data:`PARTS` to make; tokens need no blurry clips.

        Returns
        -------
        Decoded
        """
        wanted = PARTS[: PARTS.index(last) + 1]
        made = Decoded(tuple(numbers))
        if without != "blurry" and last != "tokens":
            made = replace(made, blurry=self._blurry(fmri))
        if "tokens" in wanted:
            brain, prior = self._tokens(fmri, numbers)
            made = replace(made, tokens_brain=brain, tokens_prior=prior)
        if "keyframes" in wanted and without != "keyframe":
            latents, images = self._keyframes(made)
            made = replace(made, keyframe_latents=latents, keyframes=images)
        if "captions" in wanted and made.keyframes is not None:
            made = replace(made, captions=self._captions(made))
        if "clips" in wanted:
            made = replace(made, clips=self._clips(made))
        return made

    def _loaded(self, part: str, load: Callable[[], Result]) -> Result:
        """Return the networks of a part: newly loaded ones, or those that are kept."""
        if self._kept is None:
            return load()
        if part not in self._kept:
            self._kept[part] = load()
        networks: Result = self._kept[part]
        return networks

    def _rows(self, part: str, count: int, compute: Callable[[slice], np.ndarray]) -> np.ndarray:
        """Compute a part in the batches that ``reconstruct`` takes."""
        return np.concatenate(list(self._batches(part, count, compute)))

    def _batches(
        self, part: str, count: int, compute: Callable[[slice], Result]
    ) -> Iterator[Result]:
        """Yield the batches of a part."""
        for piece, made in AutoBatcher(self.settings.reconstruct.batch_size).map(0, count, compute):
            self.advance(part, piece.stop - piece.start)
            yield made

    def _blurry(self, fmri: np.ndarray) -> np.ndarray:
        if self.perception is None:
            raise ValueError("blurry clips need the Perception Reconstructor")
        folder = self.perception
        decoder = self._loaded(
            "blurry", lambda: BlurryDecoder(self.settings, folder, self.device, self.precision)
        )
        return self._rows("blurry", len(fmri), lambda piece: decoder(fmri[piece]))

    def _tokens(self, fmri: np.ndarray, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        if self.semantics is None:
            raise ValueError("tokens need the Semantics Reconstructor")
        folder = self.semantics
        decoder = self._loaded(
            "tokens", lambda: TokenDecoder(self.settings, folder, self.device, self.precision)
        )

        def prior(piece: slice) -> np.ndarray:
            return decoder.prior(fmri[piece], numbers[piece])

        brain = self._rows("tokens", len(fmri), lambda piece: decoder.contrastive(fmri[piece]))
        drawn = self._rows("tokens", len(fmri), prior)
        return brain.astype(np.float16), drawn.astype(np.float16)

    def _keyframes(self, made: Decoded) -> tuple[np.ndarray, np.ndarray]:
        tokens, blurry = _present(made.tokens_prior), made.blurry
        generate = self._loaded(
            "keyframes", lambda: KeyframeGenerator(self.settings, self.device, self.precision)
        )

        def compute(piece: slice) -> tuple[np.ndarray, np.ndarray]:
            start = None if blurry is None else blurry[piece]
            latents = generate.latents(tokens[piece], made.numbers[piece], start)
            return latents, generate.images(latents)

        latents, images = zip(*self._batches("keyframes", len(tokens), compute), strict=True)
        return np.concatenate(latents), np.concatenate(images)

    def _captions(self, made: Decoded) -> tuple[str, ...]:
        keyframes, tokens = _present(made.keyframes), _present(made.tokens_prior)
        describe = self._loaded("captions", lambda: load_captioner_fn(self.settings, self.device))
        texts = self._batches(
            "captions",
            len(keyframes),
            lambda piece: describe(keyframes[piece], lambda: tokens[piece]),
        )
        return tuple(text for piece in texts for text in piece)

    def _clips(self, made: Decoded) -> np.ndarray:
        video = self._loaded("clips", lambda: VideoGenerator(self.settings, self.device))

        def compute(piece: slice) -> np.ndarray:
            return video.clips(
                made.numbers[piece],
                blurry=None if made.blurry is None else made.blurry[piece],
                keyframes=None if made.keyframes is None else made.keyframes[piece],
                keyframe_latents=(
                    None if made.keyframe_latents is None else made.keyframe_latents[piece]
                ),
                captions=None if made.captions is None else made.captions[piece],
            )

        return self._rows("clips", len(made.numbers), compute)


def _present(array: np.ndarray | None) -> np.ndarray:
    if array is None:
        raise ValueError("a part was asked for before the one that it is made from")
    return array
