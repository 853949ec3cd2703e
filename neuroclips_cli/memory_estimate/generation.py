"""The frozen networks at true size: from a scan to a evaluated clip, one call of each network.

Every method checks that what the one before gives fits its networks, and yields what it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from neuroclips_cli.backbones.meta_models import build
from neuroclips_cli.backbones.video import combine, normalize_per_frame
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
from neuroclips_cli.settings.load import Settings
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
    """

    def __init__(self, settings: Settings, voxels: int) -> None:
        self.settings, self.voxels = settings, voxels
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
        return build("clip", self.settings.backbones)

    @cached_property
    def captioner(self) -> Any:
        """BLIP-2."""
        return build("captioner", self.settings.backbones)

    @cached_property
    def evaluator_references(self) -> EvaluatorReferences:
        """Where the evaluators of ``evaluate`` are."""
        synthetic = is_synthetic(self.settings.run.dataset)
        return evaluation_config(self.settings, synthetic=synthetic, scans=True).evaluators

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
        return self.vae.encode(meta_tensor(frames, 3, size, size)).latent_dist.mean

    def _clip_targets(self) -> tuple[Tensor, Tensor]:
        side = self.clip.visual.image_size
        height, width = (side, side) if isinstance(side, int) else side
        _, tokens = self.clip.visual(meta_tensor(FRAMES_AT_ONCE, 3, height, width))
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

        with named_stage(stage, "the captioner"):
            return inference([model, *beside], run)[0]

    def blurry(self) -> Iterator[MemoryEstimate]:
        """Decode blurry clips: scans to latents to frames."""
        frames = self.settings.data.frames_per_clip
        model = build_perception(self.settings, self.voxels, self.latent_shape).eval()

        def run() -> Tensor:
            latents = model(meta_tensor(self.batch, self.voxels)).flatten(0, 1)
            return self.vae.decode(latents).sample

        with named_stage("reconstruct", "the blurry clip"):
            need, pixels = inference([model, self.vae], run)
        wanted = (self.batch * frames, 3, self.learned, self.learned)
        hint = "perception's latents are not those of the VAE"
        require_shape("reconstruct", "the blurry clip", pixels.shape, wanted, hint)
        yield replace(need, stage="reconstruct: blurry clips")

    def tokens(self) -> Iterator[MemoryEstimate]:
        """Decode image tokens through the prior."""
        model = build_semantics(self.settings, self.voxels).eval()
        draws = self.settings.semantics.prior_samples

        def run() -> Tensor:
            brain, _ = model(meta_tensor(self.batch, self.voxels))
            many = brain.repeat_interleave(draws, dim=0)
            times = meta_tensor(len(many), dtype=torch.int64)
            drawn = model.diffusion_prior.predict(torch.empty_like(many), times, many)
            return model.token_subspace(drawn.unflatten(0, (-1, draws)).mean(dim=1))

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
        unet: Any = build("unclip", backbones)
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

        def run() -> tuple[Tensor, Tensor]:
            first = vae.encode(meta_tensor(self.batch, 3, inner, inner)).latent_dist.mean
            labels = None
            if unet.config.class_embed_type == "projection":
                width = unet.config.projection_class_embeddings_input_dim
                labels = meta_tensor(2 * self.batch, width)
            noise = unet(
                torch.cat([first, first]),
                meta_tensor(2 * self.batch, dtype=torch.int64),
                encoder_hidden_states=meta_tensor(
                    2 * self.batch, backbones.tokens, backbones.token_dim
                ),
                class_labels=labels,
            ).sample
            return first, vae.decode(noise[: self.batch]).sample

        with named_stage(stage, "the keyframe"):
            need, (first, image) = inference([unet, vae], run)
        hint = "backbones.keyframe_vae must be the one that unCLIP was trained with"
        require_shape(stage, "the keyframe's latent", first.shape[1:], latent, hint)
        require_shape(stage, "the keyframe", image.shape[1:], (3, inner, inner), hint)
        yield replace(need, stage="reconstruct: keyframes (unCLIP)")

    def captions(self) -> Iterator[MemoryEstimate]:
        """Describe keyframes."""
        if self.settings.reconstruct.captioner == "blip2":
            yield replace(self._describe("reconstruct"), stage="reconstruct: captions (BLIP-2)")

    @cached_property
    def video(self) -> tuple[Any, Any, Any]:
        """Text encoder, video denoiser and SparseCtrl."""
        backbones = self.settings.backbones
        scene: Any = build("scene_unet", backbones)
        adapter: Any = build("motion_adapter", backbones)
        with named_stage("reconstruct", "scene model and motion adapter"), torch.device("meta"):
            unet = combine(scene, adapter).eval().requires_grad_(False)
        control = normalize_per_frame(build("sparsectrl", backbones))
        return build("text_encoder", backbones), unet, control

    def clips(self) -> Iterator[MemoryEstimate]:
        """Generate clips: prompt, blurry clip and keyframe to frames; then fuse's chains."""
        networks = self.video
        offload = self.settings.reconstruct.offload
        with named_stage("reconstruct", "the video networks"):
            encode, _ = inference([self.vae], lambda: self._encode(self._frames, self.size))
            need, latents = inference([*networks, *([] if offload else [self.vae])], self._denoised)
            decode, pixels = inference(
                [self.vae], lambda: self.vae.decode(latents.transpose(1, 2).flatten(0, 1)).sample
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
        """Take one step of guided sampling, as ``generation.video`` takes it."""
        text, unet, control = self.video
        chosen = self.settings.reconstruct
        halves = 2 if chosen.guidance_scale > 1 else 1
        _, channels, height, width = self._encode(1, self.size).shape
        words = min(PROMPT_WORDS, text.config.max_position_embeddings)
        states = text(meta_tensor(halves * self.batch, words, dtype=torch.int64)).last_hidden_state
        states = states.repeat_interleave(chosen.frames, dim=0)
        noisy = meta_tensor(halves * self.batch, channels, chosen.frames, height, width)
        step = meta_tensor(dtype=torch.int64)
        rows = self.batch * (1 if chosen.guide_keyframe else halves)
        down, middle = control(
            noisy[-rows:],
            step,
            encoder_hidden_states=states[-rows * chosen.frames :],
            controlnet_cond=meta_tensor(rows, channels, chosen.frames, height, width),
            conditioning_mask=meta_tensor(rows, 1, chosen.frames, height, width),
            return_dict=False,
        )
        if rows < len(noisy):
            down = [torch.cat([torch.zeros_like(d), d]) for d in down]
            middle = torch.cat([torch.zeros_like(middle), middle])
        made: Tensor = unet(
            noisy,
            step,
            encoder_hidden_states=states,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
        return made[-self.batch :]

    def _fuse(self, video: MemoryEstimate) -> MemoryEstimate:
        """Count what fuse holds at once: video networks, captioner, CLIP and the matcher.

        With offload it is the largest of them; CLIP, alone at first, needs what evaluate shows.
        """
        with torch.device("meta"):
            matcher = Matcher(self.settings.backbones.embed_dim, self.settings.fuse.hidden)
        describe = self._describe("fuse")
        if self.settings.reconstruct.offload:
            return replace(max(video, describe, key=_peak), stage="fuse")
        networks = [*self.video, self.vae, self.clip, self.captioner, matcher]
        parameters, weights = network_size(networks)
        largest = max(describe.activations, video.activations)
        return MemoryEstimate("fuse", parameters, weights, activations=largest)

    def evaluators(self) -> Iterator[MemoryEstimate]:
        """Evaluate clips: frames, clips and CLIP embeddings."""
        references = self.evaluator_references
        image: Any = build("image_classifier", references)
        evaluator: Any = build("video_classifier", references)
        clip: Any = build("clip", references)
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
