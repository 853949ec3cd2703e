"""The frozen networks at true size: the generation's own functions on the meta device.

Every method checks that what the one before gives fits its networks, and yields what it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from neuroclips_cli.backbones.clip import compute_clip_in
from neuroclips_cli.backbones.meta_models import build
from neuroclips_cli.backbones.vae import decode_pixels, encode_pixels
from neuroclips_cli.backbones.video import (
    VideoModels,
    animatediff_scheduler,
    combine,
    normalize_per_frame,
)
from neuroclips_cli.generation.decoder import compute_semantics_in, decode_blurry
from neuroclips_cli.generation.keyframe import (
    denoise_images,
    keyframe_scheduler,
    keyframe_timesteps,
)
from neuroclips_cli.generation.tokens import sample_tokens
from neuroclips_cli.generation.video import denoise_clips
from neuroclips_cli.generation.video_generator import video_options
from neuroclips_cli.memory_estimate.needs import (
    MemoryEstimate,
    inference,
    meta_tensor,
    named_stage,
    network_size,
    require_shape,
)
from neuroclips_cli.memory_estimate.training import build_perception, build_semantics
from neuroclips_cli.models.matcher import Matcher
from neuroclips_cli.protocols import EvaluatorReferences
from neuroclips_cli.protocols.evaluation_config import evaluation_config
from neuroclips_cli.runtime.precision import autocast, compute_in
from neuroclips_cli.runtime.seeding import clip_generators
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.settings.schema import BackboneSettings
from neuroclips_cli.simulation.provenance import is_synthetic

FRAMES_AT_ONCE = 64
"""Frames that the VAE and CLIP take at once in ``backbones.vae`` and ``backbones.clip``."""
CAPTION_WORDS = 20
PROMPT_WORDS = 77
"""Longest caption of ``backbones.captioner``; positions of Stable Diffusion's text encoder."""


class Generation:
    """All frozen networks of the settings, and the stages that use them.

    Parameters
    ----------
    settings : Settings
        Sizes, batches and backbones.
    voxels : int
        Length of a scan.
    precision : str
        In which the networks compute, ``float32`` or ``bfloat16``; the VAE is float32 always.
    """

    def __init__(self, settings: Settings, voxels: int, precision: str) -> None:
        self.settings, self.voxels, self.precision = settings, voxels, precision
        self.batch = (
            settings.reconstruct.batch_size or 1
        )  # automatic: what the smallest batch takes
        self.size = settings.data.frame_size

    @cached_property
    def vae(self) -> Any:
        """Stable Diffusion's VAE."""
        return build("vae", self.settings.backbones)

    @cached_property
    def clip(self) -> Any:
        """The CLIP model."""
        return self._clip(self.settings.backbones)

    @cached_property
    def captioner(self) -> Any:
        """BLIP-2; its parts are called by themselves, see `_describe`."""
        return self._network("captioner", self.settings.backbones, methods=("generate",))

    @cached_property
    def evaluator_references(self) -> EvaluatorReferences:
        """Where the evaluators of ``evaluate`` are."""
        synthetic = is_synthetic(self.settings.run.dataset)
        return evaluation_config(self.settings, synthetic=synthetic, scans=True).evaluators

    def _network(
        self,
        name: str,
        references: BackboneSettings | EvaluatorReferences,
        methods: Sequence[str] = ("forward",),
    ) -> Any:
        """Build a network that computes in the stage's precision."""
        return compute_in(self.precision, build(name, references), methods)

    def _clip(self, references: BackboneSettings | EvaluatorReferences) -> Any:
        clip: Any = build("clip", references)
        return compute_clip_in(self.precision, clip)

    def targets(self) -> Iterator[MemoryEstimate]:
        """Encode films: VAE latents, CLIP tokens, captions and their embeddings."""
        with named_stage("targets", "the VAE"):
            need, latents = inference(
                [self.vae], lambda: self._encode(FRAMES_AT_ONCE, self.learned)
            )
            yield replace(need, stage="targets of train-pr (VAE)")
        channels, height, width = latents.shape[1:]
        self.latent_shape = (channels, height, width)
        backbones = self.settings.backbones
        with named_stage("targets", "CLIP"):
            need, (tokens, text) = inference([self.clip], self._clip_targets)
        fix = "correct it in [backbones], beside the model that it belongs to"
        wanted = (backbones.tokens, backbones.token_dim)
        require_shape(
            "targets", "CLIP's image tokens", tokens.shape[1:], wanted, f"backbones.tokens: {fix}"
        )
        require_shape(
            "targets", "CLIP's text", text.shape[1:], (backbones.embed_dim,), f"embed_dim: {fix}"
        )
        yield replace(need, stage="targets of train-sr (CLIP)")
        need = self._describe("targets")
        yield replace(need, stage="captions of the films (BLIP-2)")

    @property
    def learned(self) -> int:
        """Pixels of the frames that the Perception Reconstructor learns."""
        return self.settings.perception.frame_size or self.size

    def _encode(self, frames: int, size: int) -> Tensor:
        return encode_pixels(self.vae, meta_tensor(frames, 3, size, size))

    def _clip_tokens(self, frames: int) -> Tensor:
        side = self.clip.visual.image_size
        height, width = (side, side) if isinstance(side, int) else side
        tokens: Tensor = self.clip.visual(meta_tensor(frames, 3, height, width))[1]
        return tokens

    def _clip_targets(self) -> tuple[Tensor, Tensor]:
        tokens = self._clip_tokens(FRAMES_AT_ONCE)
        words = meta_tensor(FRAMES_AT_ONCE, self.clip.context_length, dtype=torch.int64)
        return tokens, self.clip.encode_text(words)

    def _describe(self, stage: str, beside: tuple[nn.Module, ...] = ()) -> MemoryEstimate:
        """Run BLIP-2's parts on frames; its own forward asks for values, which meta has not."""
        model = self.captioner
        side = model.config.vision_config.image_size

        def run() -> None:
            seen = model.vision_model(pixel_values=meta_tensor(self.batch, 3, side, side))[0]
            queries = model.query_tokens.expand(self.batch, -1, -1)
            asked = model.qformer(query_embeds=queries, encoder_hidden_states=seen)[0]
            known = model.language_projection(asked)
            words = model.get_input_embeddings()(
                meta_tensor(self.batch, CAPTION_WORDS, dtype=torch.int64)
            )
            model.language_model(inputs_embeds=torch.cat([known, words], dim=1))

        with named_stage(stage, "the captioner"), autocast("cpu", self.precision):
            return inference([model, *beside], run)[0]

    def blurry(self) -> Iterator[MemoryEstimate]:
        """Decode blurry clips: scans to latents to frames."""
        frames = self.settings.data.frames_per_clip
        model = build_perception(self.settings, self.voxels, self.latent_shape).eval()
        compute_in(self.precision, model, store=False)

        def run() -> Tensor:
            return decode_blurry(model, self.vae, meta_tensor(self.batch, self.voxels))

        with named_stage("reconstruct", "the blurry clip"):
            need, pixels = inference([model, self.vae], run)
        wanted = (self.batch * frames, 3, self.learned, self.learned)
        hint = "perception's latents are not those of the VAE"
        require_shape("reconstruct", "the blurry clip", pixels.shape, wanted, hint)
        yield replace(need, stage="reconstruct: blurry clips")

    def tokens(self) -> Iterator[MemoryEstimate]:
        """Decode image tokens through the prior."""
        model = build_semantics(self.settings, self.voxels).eval()
        compute_semantics_in(self.precision, model)
        generators = clip_generators(0, range(self.batch), "tokens")

        def run() -> Tensor:
            return sample_tokens(model, meta_tensor(self.batch, self.voxels), generators)

        with named_stage("reconstruct", "the diffusion prior"):
            need, tokens = inference([model], run)
        backbones = self.settings.backbones
        wanted = (self.batch, backbones.tokens, backbones.token_dim)
        require_shape(
            "reconstruct", "the prior's tokens", tokens.shape, wanted, "check [semantics]"
        )
        yield replace(need, stage="reconstruct: tokens")

    def keyframes(self) -> Iterator[MemoryEstimate]:
        """Generate keyframes: tokens and the first blurry frame to an image."""
        backbones, stage = self.settings.backbones, "reconstruct"
        unet: Any = self._network("unclip", backbones)
        vae: Any = build("keyframe_vae", backbones)
        require_shape(
            stage,
            "the width that unCLIP attends to",
            (unet.config.cross_attention_dim,),
            (backbones.token_dim,),
            "unCLIP must be trained on this CLIP model's tokens (backbones.unclip)",
        )
        latent = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
        inner = latent[1] * 2 ** (len(vae.config.block_out_channels) - 1)

        scheduler = keyframe_scheduler()
        scheduler.set_timesteps(timesteps=keyframe_timesteps(1))
        guidance = self.settings.reconstruct.keyframe_guidance_scale
        candidates = self.settings.reconstruct.keyframe_candidates

        def run() -> tuple[Tensor, Tensor]:
            first = encode_pixels(vae, meta_tensor(self.batch, 3, inner, inner))
            condition = meta_tensor(2 * self.batch, backbones.tokens, backbones.token_dim)
            latents = denoise_images(unet, first, condition, scheduler, guidance)
            image = decode_pixels(vae, latents)
            if candidates > 1:
                self._clip_tokens(min(FRAMES_AT_ONCE, self.batch * candidates))
            return first, image

        networks = [unet, vae, *([self.clip] if candidates > 1 else [])]
        with named_stage(stage, "the keyframe"):
            need, (first, image) = inference(networks, run)
        hint = "backbones.keyframe_vae must be the one that unCLIP was trained with"
        require_shape(stage, "the keyframe's latent", first.shape[1:], latent, hint)
        require_shape(stage, "the keyframe", image.shape[1:], (3, inner, inner), hint)
        yield replace(need, stage="reconstruct: keyframes (unCLIP)")

    def captions(self) -> Iterator[MemoryEstimate]:
        """Describe keyframes."""
        if self.settings.reconstruct.captioner == "blip2":
            yield replace(self._describe("reconstruct"), stage="reconstruct: captions (BLIP-2)")

    @cached_property
    def video(self) -> VideoModels:
        """The text-to-video networks; there is no tokenizer on the meta device."""
        backbones = self.settings.backbones
        scene: Any = build("scene_unet", backbones)
        adapter: Any = build("motion_adapter", backbones)
        with named_stage("reconstruct", "scene model and motion adapter"), torch.device("meta"):
            unet = combine(scene, adapter).eval().requires_grad_(False)
        control: Any = normalize_per_frame(self._network("sparsectrl", backbones))
        return VideoModels(
            unet=compute_in(self.precision, unet),
            sparsectrl=control,
            vae=self.vae,
            text_encoder=self._network("text_encoder", backbones),
            tokenizer=None,  # type: ignore[arg-type]
            scheduler=animatediff_scheduler(),
        )

    @property
    def _denoisers(self) -> tuple[Any, Any, Any]:
        return self.video.text_encoder, self.video.unet, self.video.sparsectrl

    def clips(self) -> Iterator[MemoryEstimate]:
        """Generate clips: prompt, blurry clip and keyframe to frames; then fuse's chains."""
        networks = self._denoisers
        offload = self.settings.reconstruct.offload
        with named_stage("reconstruct", "the video networks"):
            encode, _ = inference([self.vae], lambda: self._encode(self._frames, self.size))
            need, latents = inference([*networks, *([] if offload else [self.vae])], self._denoised)
            decode, pixels = inference(
                [self.vae], lambda: decode_pixels(self.vae, latents.transpose(1, 2).flatten(0, 1))
            )
        wanted = (self._frames, 3, self.size, self.size)
        hint = "the scene model's latents are not those of backbones.vae"
        require_shape("reconstruct", "the clip", pixels.shape, wanted, hint)
        parts = (encode, need, decode)
        largest = max(part.activations for part in parts)
        need = max(parts, key=_peak) if offload else replace(need, activations=largest)
        yield replace(need, stage="reconstruct: clips (video)")
        yield self._fuse(need)

    @property
    def _frames(self) -> int:
        return self.batch * self.settings.reconstruct.frames

    def _denoised(self) -> Tensor:
        """Take one step of guided sampling."""
        models, options = self.video, video_options(self.settings.reconstruct)
        halves = 2 if options.guidance_scale > 1 else 1
        _, channels, height, width = self._encode(1, self.size).shape
        words = min(PROMPT_WORDS, models.text_encoder.config.max_position_embeddings)
        ids = meta_tensor(halves * self.batch, words, dtype=torch.int64)
        latents = meta_tensor(self.batch, channels, options.frames, height, width)
        models.scheduler.set_timesteps(1)
        return denoise_clips(
            models,
            latents,
            models.scheduler.timesteps,
            models.text_encoder(ids).last_hidden_state,
            options,
            meta_tensor(self.batch, channels, height, width),
        )

    def _fuse(self, video: MemoryEstimate) -> MemoryEstimate:
        """Count what fuse holds at once: video networks, captioner, CLIP and the matcher.

        With offload it is the largest of them; CLIP, alone at first, needs what evaluate shows.
        """
        with torch.device("meta"):
            matcher = Matcher(self.settings.backbones.embed_dim, self.settings.fuse.hidden)
        describe = self._describe("fuse")
        if self.settings.reconstruct.offload:
            return replace(max(video, describe, key=_peak), stage="fuse")
        networks = [*self._denoisers, self.vae, self.clip, self.captioner, matcher]
        parameters, weights = network_size(networks)
        largest = max(describe.activations, video.activations)
        return MemoryEstimate("fuse", parameters, weights, activations=largest)

    def evaluators(self) -> Iterator[MemoryEstimate]:
        """Evaluate clips: frames, clips and CLIP embeddings."""
        references = self.evaluator_references
        image: Any = self._network("image_classifier", references)
        evaluator: Any = self._network("video_classifier", references)
        clip = self._clip(references)
        side = clip.visual.image_size
        height, width = (side, side) if isinstance(side, int) else side

        def run() -> tuple[Tensor, Tensor]:
            size = image.config.image_size
            frames = image(pixel_values=meta_tensor(FRAMES_AT_ONCE, 3, size, size)).logits
            clip.visual(meta_tensor(FRAMES_AT_ONCE, 3, height, width))
            size, count = evaluator.config.image_size, evaluator.config.num_frames
            clips = evaluator(pixel_values=meta_tensor(16, count, 3, size, size)).logits
            return frames, clips

        with named_stage("evaluate", "the evaluators"):
            # retrieval takes the CLIP whose tokens were decoded beside the one that evaluates
            need, (frames, clips) = inference([image, evaluator, clip, self.clip], run)
        for what, logits in (("the image classifier", frames), ("the video classifier", clips)):
            fewest = max(self.settings.evaluate.ways)
            if logits.shape[1] < fewest:
                require_shape(
                    "evaluate", f"{what}'s classes", logits.shape[1:], (fewest,), "evaluate.ways"
                )
        yield replace(need, stage="evaluate")


def _peak(need: MemoryEstimate) -> int:
    return need.peak
