"""The text-to-video model: scene denoiser, motion adapter and SparseCtrl, trained together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
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
from transformers import CLIPTextModel, CLIPTokenizer

from neuroclips_cli.backbones.video import animatediff_scheduler, normalise_per_frame
from neuroclips_cli.simulation import world

from .films import FRAMES, Pool
from .loop import fit
from .perceptual import LatentPerceptualLoss
from .tokenizer import GENERIC
from .unclip import CONDITION

HEADS, GROUPS = 4, 16
CHANNELS = (48, 80)
CONTROLLED, FIRST_FRAME = 0.85, 0.6
PERCEPTUAL, LOOKED_AT = 0.4, 6


class VideoTraining(nn.Module):
    """Scene model with motion adapter, and SparseCtrl beside it."""

    def __init__(
        self,
        scene: UNet2DConditionModel,
        adapter: MotionAdapter,
        sparsectrl: SparseControlNetModel,
    ) -> None:
        super().__init__()
        self.unet = normalise_per_frame(UNetMotionModel.from_unet2d(scene, adapter))
        self.sparsectrl = normalise_per_frame(sparsectrl)

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


def _adapter() -> MotionAdapter:
    return MotionAdapter(
        block_out_channels=CHANNELS,
        motion_layers_per_block=1,
        motion_num_attention_heads=HEADS,
        motion_norm_num_groups=GROUPS,
        motion_max_seq_length=FRAMES,
        use_motion_mid_block=False,
    )


def _sparsectrl() -> SparseControlNetModel:
    return SparseControlNetModel(
        in_channels=4,
        conditioning_channels=4,
        block_out_channels=CHANNELS,
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


def _words(scene: world.Scene, rng: np.random.Generator) -> str:
    """Return a caption without motion (half), with it, the generic one, or nothing."""
    kind = rng.random()
    if kind < 0.5:
        return world.caption(scene)
    if kind < 0.8:
        return world.caption(scene, with_motion=True)
    return GENERIC if kind < 0.9 else ""


def _batches(
    latents: np.ndarray, pool: Pool, batch: int, steps: int, seed: int
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        index = rng.integers(len(latents), size=batch)
        clips = torch.from_numpy(np.asarray(latents[index], dtype=np.float32)).transpose(1, 2)
        # At inference the keyframe is decoded and never exactly the first frame.
        first = rng.random(batch) < FIRST_FRAME
        frame = np.where(first, 0, rng.integers(FRAMES, size=batch))
        keyframe = clips[torch.arange(batch), :, torch.from_numpy(frame)]
        yield clips, keyframe, [_words(scene, rng) for scene in pool.scenes(index)]


def train(
    latents: np.ndarray,
    pool: Pool,
    perceptual: LatentPerceptualLoss,
    folder: Path,
    steps: int,
    seed: int = 7,
    go_on: bool = False,
) -> None:
    """Train from the unCLIP denoiser's weights and write the three networks.

    The loss is the velocity's error, and how the clean frames that follow from it look.

    Parameters
    ----------
    latents : array of shape (clips, 16, 4, 8, 8)
        Scaled latents of the first clips of ``pool``.
    pool : Pool
        Where their captions come from.
    folder : Path
        Holds ``unclip``, ``text_encoder``, ``tokenizer``; receives ``scene_unet``,
        ``motion_adapter``, ``sparsectrl``.
    """
    torch.manual_seed(seed)
    adapter, sparsectrl = _adapter(), _sparsectrl()
    if go_on:
        full = {"torch_dtype": torch.float32}
        adapter = MotionAdapter.from_pretrained(folder / "motion_adapter", **full)
        sparsectrl = SparseControlNetModel.from_pretrained(folder / "sparsectrl", **full)
    begin = folder / ("scene_unet" if go_on else "unclip")
    scene = UNet2DConditionModel.from_pretrained(begin, torch_dtype=torch.float32)
    training = VideoTraining(scene, adapter, sparsectrl).to(memory_format=torch.channels_last)
    text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    scheduler = DDIMScheduler.from_config(
        animatediff_scheduler().config, prediction_type="v_prediction"
    )
    noise_schedule = scheduler.alphas_cumprod

    def loss_of(batch: tuple[Tensor, Tensor, list[str]]) -> Tensor:
        clean, keyframe, texts = batch
        ids = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
        with torch.no_grad():
            text = text_encoder(ids).last_hidden_state
        times = torch.randint(1000, (len(clean),))
        noise = torch.randn_like(clean)
        kept = noise_schedule[times].view(-1, 1, 1, 1, 1)
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        shown = torch.rand(len(clean)) < CONTROLLED
        velocity = kept.sqrt() * noise - (1 - kept).sqrt() * clean
        predicted = training(noisy, times, text, keyframe, shown)
        image = kept.sqrt() * noisy - (1 - kept).sqrt() * predicted
        frames = torch.randperm(FRAMES)[:LOOKED_AT]
        seen = [x[:, :, frames].transpose(1, 2).flatten(0, 1) for x in (image, clean)]
        return functional.mse_loss(predicted, velocity) + PERCEPTUAL * perceptual(*seen).mean()

    batches = _batches(latents, pool, 8, steps, seed)
    fit("video", training, batches, loss_of, steps=steps, learning_rate=1.5e-3, average=0.998)
    save(training, folder)
    scheduler.save_pretrained(folder / "scene_unet")


def save(training: VideoTraining, folder: Path) -> None:
    """Write the scene model, the motion adapter and SparseCtrl in diffusers' formats."""
    training.unet.save_motion_modules(str(folder / "motion_adapter"))
    adapter = MotionAdapter.from_pretrained(folder / "motion_adapter")
    adapter.half().save_pretrained(folder / "motion_adapter")
    scene = UNet2DConditionModel.from_pretrained(folder / "unclip", torch_dtype=torch.float32)
    own = {k: v for k, v in training.unet.state_dict().items() if "motion_modules" not in k}
    scene.load_state_dict(own)
    scene.half().save_pretrained(folder / "scene_unet")
    training.sparsectrl.half().save_pretrained(folder / "sparsectrl")
