"""The unCLIP denoiser: image tokens to image latents."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from neuroclips_cli.generation.keyframe import KeyframeOptions, keyframe_timesteps

from .clock import Clock
from .decoded import DecodedLike
from .files import save_half
from .latents import FRAMES_WITH_TOKENS, Latents
from .loop import fit
from .path import SamplingPath, Slots, clean_from_velocity, noised
from .perceptual import ATTRIBUTES, LatentPerceptualLoss

CONDITION = 128
CHANNELS = (96, 160)
UNCONDITIONAL = 0.1
TOKEN_NOISE = 0.4
DECODED = 0.75
STEPS, FROM_BLURRY = 8, 6
OPTIONS = KeyframeOptions(STEPS, guidance_scale=1.0, start=f"blurry:{FROM_BLURRY / STEPS}")
STARTS_FROM_NOISE = 0.2
PERCEPTUAL, NAMED = 0.4, 0.1


def build() -> UNet2DConditionModel:
    """Return an untrained image denoiser; the scene model of the video has the same shape."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=CONDITION,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def scheduler() -> EulerDiscreteScheduler:
    """Return the released noise schedule, for velocities."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
    )


def decoded_tokens(latents: Latents) -> DecodedLike:
    """Return what makes image tokens as a decoder knows them."""
    return DecodedLike(latents.tokens[:, 0], rank=(12, 24), share=(0.2, 1.0))


def decoded_clips(latents: Latents) -> DecodedLike:
    """Return what makes clips as the Perception Reconstructor knows them."""
    rows = latents.clips[:4000]
    return DecodedLike(rows, rank=(4, 20), share=(0.4, 1.0), fall=0.93, elsewhere=0.3)


class Examples:
    """Draws what the denoiser learns from, all on the device.

    Parameters
    ----------
    latents : Latents
        Of the training films.
    """

    def __init__(self, latents: Latents) -> None:
        self.latents, self.device = latents, latents.device
        self.frames = torch.tensor(FRAMES_WITH_TOKENS, device=self.device)
        self.tokens_like, self.clips_like = decoded_tokens(latents), decoded_clips(latents)
        self.spread = float(latents.tokens[:200].float().std())
        self.attributes = latents.labels[:, ATTRIBUTES]

    def draw(self, count: int, decoded: float = DECODED) -> dict[str, Tensor]:
        """Return ``clean``, ``tokens``, ``labels`` and the ``blurry`` picture beside them."""
        device, latents = self.device, self.latents
        clip = torch.randint(len(latents.clips), (count,), device=device)
        frame = torch.randint(len(self.frames), (count,), device=device)
        true = latents.tokens[clip, frame].float()
        level = TOKEN_NOISE * self.spread * torch.rand(count, 1, 1, device=device)
        disturbed = true + level * torch.randn_like(true)
        as_decoded = torch.rand(count, 1, 1, device=device) < decoded
        blurry = self.clips_like(latents.clips[clip].float())[:, 0]
        return {
            "clean": latents.clips[clip, self.frames[frame]].float(),
            "tokens": torch.where(as_decoded, self.tokens_like(true), disturbed),
            "labels": self.attributes[clip],
            "blurry": blurry,
        }


def train(
    latents: Latents,
    perceptual: LatentPerceptualLoss,
    folder: Path,
    clock: Clock,
    state: Path | None,
    batch: int,
    *,
    seed: int = 6,
    start: UNet2DConditionModel | None = None,
) -> None:
    """Train with velocity prediction and decoded, disturbed or, at times, no tokens.

    Half of a batch are noised true pictures, as ever. The other half lie on the path of the
    sampler itself (:mod:`path`), which mostly starts from a blurry picture as decoded. The
    clean picture that follows from a prediction must be near the true one, look right and show
    its class. Tokens are mostly what a decoder would know of them (:class:`DecodedLike`), the
    others are disturbed by up to 0.4 of their own deviation; Gaussian tokens are the
    unconditional case, as in the published unCLIP.
    """
    torch.manual_seed(seed)
    device = latents.device
    unet = (start or build()).to(device, memory_format=torch.channels_last)
    schedule = scheduler()
    kept_at = schedule.alphas_cumprod.to(device)
    path = SamplingPath(schedule.alphas_cumprod, keyframe_timesteps(STEPS), device)
    examples = Examples(latents)
    half = batch // 2

    def begin() -> dict[str, Tensor]:
        rows = examples.draw(half)
        from_noise = torch.rand(half, device=device) < STARTS_FROM_NOISE
        place = (STEPS - FROM_BLURRY) * (~from_noise).long()
        blurry = rows.pop("blurry")
        begun = torch.where(from_noise.view(-1, 1, 1, 1), torch.randn_like(blurry), blurry)
        return rows | {"place": place, "state": noised(begun, path.kept[place])[0]}

    slots = Slots(path, begin)

    def loss_of() -> Tensor:
        own, free = slots.now(), examples.draw(batch - half)
        times = torch.randint(1000, (batch - half,), device=device)
        noisy, noise = noised(free["clean"], kept_at[times])
        kept = torch.cat([own["kept"], kept_at[times]])
        tokens = torch.cat([own["tokens"], free["tokens"]])
        dropped = torch.rand(batch, 1, 1, device=device) < UNCONDITIONAL
        dropped = dropped & (torch.arange(batch, device=device) >= half).view(-1, 1, 1)
        tokens = torch.where(dropped, torch.randn_like(tokens), tokens)
        state = torch.cat([own["state"], noisy])
        velocity = unet(
            state.contiguous(memory_format=torch.channels_last),
            torch.cat([own["times"], times]),
            tokens,
        ).sample.float()
        image = clean_from_velocity(state, velocity, kept)
        clean = torch.cat([own["clean"], free["clean"]])
        labels = torch.cat([own["labels"], free["labels"]])
        level = kept_at[times].view(-1, 1, 1, 1)
        wanted = level.sqrt() * noise - (1 - level).sqrt() * free["clean"]
        squared = functional.mse_loss(velocity[half:], wanted) + functional.mse_loss(
            image[:half], clean[:half]
        )
        looks, named = perceptual(image, clean, labels)
        sure = 1 - dropped.view(-1).float()
        slots.carry_on(image[:half])
        return 0.5 * squared + ((PERCEPTUAL * looks + NAMED * named) * sure).mean()

    def write() -> None:
        save(unet, folder)

    fit(
        "unclip",
        unet,
        loss_of,
        clock,
        learning_rate=1.5e-3,
        average=0.998,
        state=state,
        write=write,
    )
    write()


def save(unet: UNet2DConditionModel, folder: Path) -> None:
    """Write the denoiser as float16 with its noise schedule."""
    save_half(unet, folder)
    scheduler().save_pretrained(folder)


@torch.no_grad()
def draw_keyframes(
    unet: UNet2DConditionModel, examples: Examples, perceptual: LatentPerceptualLoss, count: int
) -> tuple[Tensor, Tensor]:
    """Draw keyframes of the first clips from decoded-like tokens, as ``reconstruct`` does.

    Returns
    -------
    keyframes : Tensor of float16, shape (count, 4, 8, 8)
        Of clips 0, 1, ...
    read : Tensor of int64, shape (count, 3)
        Kind, color and setting that they show, which need not be the clip's.
    """
    latents, device = examples.latents, examples.device
    path = SamplingPath(
        scheduler().alphas_cumprod, keyframe_timesteps(STEPS)[STEPS - FROM_BLURRY :], device
    )
    made, shown = [], []
    for clip in torch.arange(count, device=device).split(512):
        frame = torch.randint(len(examples.frames), (len(clip),), device=device)
        tokens = examples.tokens_like(latents.tokens[clip, frame].float())
        state = examples.clips_like(latents.clips[clip].float())[:, 0]
        place = torch.zeros(len(clip), dtype=torch.long, device=device)
        state = noised(state, path.kept[place])[0]
        for step in range(len(path)):
            place.fill_(step)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                velocity = unet(state, path.times[place], tokens).sample.float()
            clean = clean_from_velocity(state, velocity, path.kept[place])
            state = path.next_state(state, place, clean)
        made.append(state.half())
        shown.append(perceptual.read(state))
    return torch.cat(made), torch.cat(shown)
