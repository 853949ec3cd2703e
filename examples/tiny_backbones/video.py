"""The text-to-video model: scene denoiser, motion adapter and SparseCtrl, trained together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import (
    DDIMScheduler,
    MotionAdapter,
    SparseControlNetModel,
    UNet2DConditionModel,
    UNetMotionModel,
)
from torch import Tensor, nn
from torch.nn import functional

from neuroclips_cli.backbones.video import animatediff_scheduler, normalize_per_frame
from neuroclips_cli.generation.video import VideoOptions

from .clock import Clock
from .files import save_half
from .films import FRAMES
from .latents import Latents
from .loop import fit
from .path import SamplingPath, Slots, clean_from_velocity, noised
from .perceptual import LatentPerceptualLoss
from .unclip import CONDITION, Examples, draw_keyframes
from .words import Words

HEADS, GROUPS = 4, 16
STEPS, FROM_BLURRY = 5, 4
OPTIONS = VideoOptions(
    steps=STEPS,
    guidance_scale=1.0,
    guide_keyframe=True,
    blur_init=f"strength:{FROM_BLURRY / STEPS:.2f}",
)
CONTROLLED = 0.9
GENERATED_KEYFRAME, FIRST_FRAME = 0.75, 0.7
DECODED_BLURRY, STARTS_FROM_NOISE = 0.8, 0.15
CUT = 0.15
WITH_MOTION, GENERIC_TEXT, NO_TEXT = 0.1, 0.05, 0.05
PERCEPTUAL, NAMED = 0.4, 0.1


class VideoTraining(nn.Module):
    """Scene model with motion adapter, and SparseCtrl beside it."""

    def __init__(
        self,
        scene: UNet2DConditionModel,
        adapter: MotionAdapter,
        sparsectrl: SparseControlNetModel,
    ) -> None:
        super().__init__()
        self.unet = normalize_per_frame(UNetMotionModel.from_unet2d(scene, adapter))
        self.sparsectrl = normalize_per_frame(sparsectrl)

    def forward(
        self, noisy: Tensor, times: Tensor, text: Tensor, keyframe: Tensor, shown: Tensor
    ) -> Tensor:
        """Predict the velocity of (batch, 4, 16, 8, 8); ``shown`` says which keyframes count."""
        condition = torch.zeros_like(noisy)
        mask = torch.zeros_like(noisy[:, :1])
        weight = shown.view(-1, 1, 1, 1).to(noisy)
        condition[:, :, 0] = keyframe * weight
        mask[:, :, 0] = weight
        states = text.repeat_interleave(FRAMES, dim=0)
        down, middle = self.sparsectrl(
            noisy, times, states, condition, conditioning_mask=mask, return_dict=False
        )
        every = shown.repeat_interleave(FRAMES).view(-1, 1, 1, 1).to(noisy)
        return self.unet(
            noisy,
            times,
            states,
            down_block_additional_residuals=[d * every for d in down],
            mid_block_additional_residual=middle * every,
        ).sample


def _adapter(channels: Sequence[int]) -> MotionAdapter:
    return MotionAdapter(
        block_out_channels=tuple(channels),
        motion_layers_per_block=1,
        motion_num_attention_heads=HEADS,
        motion_norm_num_groups=GROUPS,
        motion_max_seq_length=FRAMES,
        use_motion_mid_block=False,
    )


def _sparsectrl(channels: Sequence[int]) -> SparseControlNetModel:
    return SparseControlNetModel(
        in_channels=4,
        conditioning_channels=4,
        block_out_channels=tuple(channels),
        down_block_types=("CrossAttnDownBlockMotion", "CrossAttnDownBlockMotion"),
        layers_per_block=1,
        cross_attention_dim=CONDITION,
        attention_head_dim=HEADS,
        num_attention_heads=HEADS,
        norm_num_groups=GROUPS,
        transformer_layers_per_block=1,
        motion_num_attention_heads=HEADS,
        motion_max_seq_length=FRAMES,
        use_simplified_condition_embedding=True,
        conditioning_embedding_out_channels=(16, 32),
    )


class Clips:
    """Draws what the model learns from, as it comes when scans are decoded.

    Parameters
    ----------
    latents : Latents
        Of the training films.
    keyframes, shown : Tensor
        What :func:`unclip.draw_keyframes` made for the first clips.
    examples : unclip.Examples
        Its ``clips_like`` makes blurry clips as decoded.
    words : Words
        Captions.
    """

    def __init__(
        self,
        latents: Latents,
        keyframes: Tensor,
        shown: Tensor,
        examples: Examples,
        words: Words,
    ) -> None:
        self.latents, self.keyframes, self.shown = latents, keyframes, shown
        self.clips_like, self.words = examples.clips_like, words
        self.device, self.attributes = latents.device, examples.attributes
        self.frames = torch.arange(FRAMES, device=self.device)

    def draw(self, count: int) -> dict[str, Tensor]:
        """Return ``clean``, ``blurry``, ``keyframe``, ``text``, ``controlled`` and ``labels``.

        Some clips hold a film cut. The keyframe is mostly one that unCLIP made, and the caption
        then says what that shows, as a captioner would.
        """
        latents, chance = self.latents, self._chance
        clip = torch.randint(len(self.keyframes), (count,), device=self.device)
        other = torch.randint(len(latents.clips), (count,), device=self.device)
        at = torch.randint(4, FRAMES - 3, (count, 1), device=self.device)
        after = (self.frames >= at) & chance(count, CUT).view(-1, 1)
        wide = after.view(count, FRAMES, 1, 1, 1)
        clean = torch.where(wide, latents.clips[other], latents.clips[clip]).float()
        own, next_ = (self.attributes[i][:, None] for i in (clip, other))
        labels = torch.where(after.view(count, FRAMES, 1), next_, own)

        # At inference the keyframe is decoded and never exactly the first frame.
        some = torch.randint(FRAMES, (count,), device=self.device)
        true_frame = clean[
            torch.arange(count, device=self.device), some * ~chance(count, FIRST_FRAME)
        ]
        made = chance(count, GENERATED_KEYFRAME)
        keyframe = torch.where(made.view(-1, 1, 1, 1), self.keyframes[clip].float(), true_frame)
        said = torch.where(made.view(-1, 1), self.shown[clip], own[:, 0])
        return {
            "clean": clean.transpose(1, 2),
            "blurry": self._blurry(clean).transpose(1, 2),
            "keyframe": keyframe,
            "text": self._text(said, latents.labels[clip, 2]),
            "controlled": chance(count, CONTROLLED),
            "labels": labels,
        }

    def _chance(self, count: int, share: float) -> Tensor:
        return torch.rand(count, device=self.device) < share

    def _blurry(self, clean: Tensor) -> Tensor:
        """Return clips as decoded, or softened true ones."""
        soft = functional.avg_pool2d(clean.flatten(0, 1), 3, 1, 1, count_include_pad=False)
        decoded = self._chance(len(clean), DECODED_BLURRY).view(-1, 1, 1, 1, 1)
        return torch.where(decoded, self.clips_like(clean), soft.view_as(clean))

    def _text(self, said: Tensor, motion: Tensor) -> Tensor:
        words, count = self.words, len(said)
        moving = self._chance(count, WITH_MOTION)
        text = torch.where(moving, words.number(said, motion), words.number(said))
        text = text.masked_fill(self._chance(count, GENERIC_TEXT), words.generic)
        return text.masked_fill(self._chance(count, NO_TEXT), words.nothing)


def scheduler() -> DDIMScheduler:
    """Return AnimateDiff's noise schedule for velocities; few steps leave none for no noise."""
    return DDIMScheduler.from_config(
        animatediff_scheduler().config,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )


def sampling_path(schedule: DDIMScheduler, device: torch.device) -> SamplingPath:
    """Return the steps that the sampler visits."""
    schedule.set_timesteps(STEPS)
    return SamplingPath(schedule.alphas_cumprod, schedule.timesteps.tolist(), device)


def load(folder: Path, go_on: bool) -> VideoTraining:
    """Return the networks, started from unCLIP's weights or from those that are there."""
    full = {"torch_dtype": torch.float32}
    scene = UNet2DConditionModel.from_pretrained(
        folder / ("scene_unet" if go_on else "unclip"), **full
    )
    if go_on:
        adapter = MotionAdapter.from_pretrained(folder / "motion_adapter", **full)
        sparsectrl = SparseControlNetModel.from_pretrained(folder / "sparsectrl", **full)
    else:
        channels = scene.config.block_out_channels
        adapter, sparsectrl = _adapter(channels), _sparsectrl(channels)
    return VideoTraining(scene, adapter, sparsectrl)


def train(
    latents: Latents,
    perceptual: LatentPerceptualLoss,
    folder: Path,
    clock: Clock,
    state: Path | None,
    batch: int,
    *,
    seed: int = 7,
    go_on: bool = False,
) -> None:
    """Train from the unCLIP denoiser's weights and write the three networks.

    Half of a batch are noised true clips, the other half lie on the sampler's own path, which
    mostly starts from a blurry clip as decoded (:mod:`path`). No guidance beyond the conditions
    is needed then, and few steps are enough. The clean frames that follow from a prediction,
    first to last, must be near the true ones, look right and show their class.

    Parameters
    ----------
    latents : Latents
        Of the training films.
    folder : Path
        Holds ``unclip``, ``text_encoder``, ``tokenizer``; receives ``scene_unet``,
        ``motion_adapter``, ``sparsectrl``.
    batch : int
        Clips at a time.
    """
    torch.manual_seed(seed)
    device = latents.device
    examples, words = Examples(latents), Words(folder, device)
    image = UNet2DConditionModel.from_pretrained(folder / "unclip", torch_dtype=torch.float32)
    made = draw_keyframes(image.to(device).eval(), examples, perceptual, len(latents.clips))
    clips = Clips(latents, *made, examples, words)
    training = load(folder, go_on).to(device, memory_format=torch.channels_last)
    schedule = scheduler()
    path = sampling_path(schedule, device)
    kept_at = schedule.alphas_cumprod.to(device)
    half = batch // 2

    def begin() -> dict[str, Tensor]:
        rows = clips.draw(half)
        blurry = rows.pop("blurry")
        from_noise = torch.rand(half, device=device) < STARTS_FROM_NOISE
        place = (STEPS - FROM_BLURRY) * (~from_noise).long()
        begun = torch.where(from_noise.view(-1, 1, 1, 1, 1), torch.randn_like(blurry), blurry)
        return rows | {"place": place, "state": noised(begun, path.kept[place])[0]}

    slots = Slots(path, begin)

    def loss_of() -> Tensor:
        own, free = slots.now(), clips.draw(batch - half)
        times = torch.randint(1000, (batch - half,), device=device)
        noisy, noise = noised(free["clean"], kept_at[times])
        both = {name: torch.cat([own[name], free[name]]) for name in free if name != "blurry"}
        state = torch.cat([own["state"], noisy])
        velocity = training(
            state,
            torch.cat([own["times"], times]),
            words.states[both["text"]],
            both["keyframe"],
            both["controlled"],
        ).float()
        kept = torch.cat([own["kept"], kept_at[times]])
        image = clean_from_velocity(state, velocity, kept)
        level = kept_at[times].view(-1, 1, 1, 1, 1)
        wanted = level.sqrt() * noise - (1 - level).sqrt() * free["clean"]
        squared = functional.mse_loss(velocity[half:], wanted) + functional.mse_loss(
            image[:half], own["clean"]
        )
        frames = (x.transpose(1, 2).flatten(0, 1) for x in (image, both["clean"]))
        looks, named = perceptual(*frames, both["labels"].flatten(0, 1))
        slots.carry_on(image[:half])
        return 0.5 * squared + PERCEPTUAL * looks.mean() + NAMED * named.mean()

    def write() -> None:
        save(training, folder)

    fit(
        "text-to-video",
        training,
        loss_of,
        clock,
        learning_rate=1e-3,
        average=0.998,
        state=state,
        write=write,
    )
    write()


def save(training: VideoTraining, folder: Path) -> None:
    """Write the scene model, the motion adapter and SparseCtrl in diffusers' formats."""
    weights = training.unet.state_dict()
    adapter = _adapter(training.unet.config.block_out_channels)
    moved = {k: v for k, v in weights.items() if "motion_modules" in k}
    adapter.load_state_dict(moved)
    save_half(adapter, folder / "motion_adapter")
    scene = UNet2DConditionModel.from_pretrained(folder / "unclip", torch_dtype=torch.float32)
    scene.load_state_dict({k: v for k, v in weights.items() if k not in moved})
    save_half(scene, folder / "scene_unet")
    scheduler().save_pretrained(folder / "scene_unet")
    save_half(training.sparsectrl, folder / "sparsectrl")
