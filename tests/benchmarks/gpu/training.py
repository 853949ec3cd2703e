"""Training steps of both reconstructors, ours and as the released code takes them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ConvNextConfig

from neuroclips_cli.backbones.convnext import ConvNextMaps
from neuroclips_cli.backbones.meta_models import build
from neuroclips_cli.models.perception import make_perception
from neuroclips_cli.models.projector import TokenProjector
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.runtime.precision import choose_precision
from neuroclips_cli.training import loop
from neuroclips_cli.training.activation_checkpointing import checkpoint_as_set
from neuroclips_cli.training.objectives import PerceptionObjective
from neuroclips_cli.training.optimizer import make_optimizer, make_schedule
from neuroclips_cli.training.phases import contrastive_objective, prior_objective
from neuroclips_cli.training.samples import ClipSamples, SeededOrder
from tests.benchmarks.gpu.modes import Mode, autocast
from tests.benchmarks.gpu.timing import on_gpu
from tests.benchmarks.gpu.work import VOXELS, Place, Released, Work

CONVNEXT = {
    "full": ({"depths": [3, 3, 27, 3], "hidden_sizes": [256, 512, 1024, 2048]}, [2048] + [512] * 3),
    "tiny": ({"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]}, [16] * 4),
}
"""VICRegL's ConvNeXt-XL, which the released train_PR.py runs twice on every frame of a step."""
BATCHES = 4
"""Steps of an epoch of the package's loop."""


def perception_step(place: Place) -> Work:
    """A step of train-pr."""
    settings, size = place.settings, place.settings.train_pr.batch_size
    frames, side = settings.data.frames_per_clip, settings.data.frame_size // 8
    with torch.device(place.device):
        model = make_perception(VOXELS[place.size], frames, settings.perception, (4, side, side))
    options = settings.train_pr
    objective = PerceptionObjective(model, options.temperature, options.contrast_weight)
    shapes = {"fmri": (VOXELS[place.size],), "latents": (frames, 4, side, side)}
    trainer = Trainer(place, objective, options, size, shapes)
    work = trainer.work()
    work.released = Released(trainer.released(_latents_again(place, size)), size)
    return work


def contrastive_step(place: Place) -> Work:
    """A step of train-sr's first phase."""
    size = place.settings.train_sr.contrastive_batch_size
    return _semantics_step(place, contrastive_objective, size)


def prior_step(place: Place) -> Work:
    """A step of train-sr's second phase."""
    work = _semantics_step(place, prior_objective, place.settings.train_sr.prior_batch_size)
    # The number of unmixed rows differs from step to step: the second one is compiled again.
    work.compiled_warm_up = 4
    return work


def _semantics_step(place: Place, make: Callable[..., nn.Module], size: int) -> Work:
    settings, backbones = place.settings, place.settings.backbones
    with torch.device(place.device):
        model = Semantics(
            VOXELS[place.size], settings.semantics, backbones.tokens, backbones.token_dim
        )
        weight = torch.randn(backbones.token_dim, backbones.embed_dim)
    checkpoint_as_set(model, settings.train_sr)
    objective = make(settings, model, TokenProjector(weight)).to(place.device)
    shapes = {
        "fmri": (VOXELS[place.size],),
        "tokens": (backbones.tokens, backbones.token_dim),
        "text": (backbones.embed_dim,),
    }
    trainer = Trainer(place, objective, settings.train_sr, size, shapes)
    work = trainer.work()
    work.released = Released(trainer.released(_tokens_again(place, size)), size)
    return work


class Trainer:
    """An objective with its optimizer and a batch on the device.

    Parameters
    ----------
    place : Place
        Where.
    objective : torch.nn.Module
        What is minimized.
    options : object
        ``[train_pr]`` or ``[train_sr]``.
    size : int
        Of a batch.
    shapes : dict
        Of one row of each tensor of the batch.
    """

    def __init__(
        self,
        place: Place,
        objective: nn.Module,
        options: Any,
        size: int,
        shapes: dict[str, tuple[int, ...]],
    ) -> None:
        self.place, self.objective, self.options = place, objective.train(), options
        self.size, self.shapes = size, shapes
        self.batch = {name: place.normal(size, *shape) for name, shape in shapes.items()}
        self.fused = on_gpu(place.device)
        self.optimizer = self._optimizer(fused=self.fused)

    def _optimizer(self, *, fused: bool) -> Any:
        options = self.options
        return make_optimizer(
            self.objective,
            options.learning_rate,
            options.weight_decay,
            options.ridge_weight_decay,
            options.optimizer,
            fused=fused,
        )

    def work(self) -> Work:
        """Return the step as a case."""
        inputs = list(self.batch.values())
        case = Work(self.step, self.size, inputs, [self.objective], trained=True, modes=())
        case.loop = self.loop
        return case

    def step(self, mode: Mode) -> None:
        """Take a step from the batch on the device, as ``training.loop`` takes it."""
        with autocast(mode, self.place.device):
            losses = self.objective(self.batch)
        losses["loss"].backward()
        if self.place.device == "meta":
            return
        loop._gradient_size(self.objective)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def loop(self, epochs: int) -> int:
        """Train with the package's own loop and data path, in its own precision."""
        precision = choose_precision("auto", self.place.device)
        accelerator = loop.make_accelerator(self.place.device, precision)
        samples = self._samples
        order = SeededOrder(len(samples), 0, "benchmark")
        loader = loop._whole_batches(samples, self.size, order, accelerator)
        schedule = make_schedule(self.optimizer, self.options.learning_rate, 1000, BATCHES)
        take = partial(loop._gradients, self.objective, self.objective.share, accelerator)
        for _ in range(epochs):
            loop._one_epoch(
                self.objective, take, loader, self.optimizer, schedule, lambda figures: None, None
            )
        return epochs * BATCHES

    @cached_property
    def _samples(self) -> ClipSamples:
        """Return random samples of two repetitions and float16 targets of every frame."""
        clips, frames = BATCHES * self.size // 2, self.place.settings.data.frames_per_clip
        targets = {}
        for name in self.shapes.keys() - {"fmri"}:
            each = (frames,) if name == "tokens" else ()
            drawn = torch.randn((clips, *each, *self.shapes[name]), device=self.place.device)
            targets[name] = drawn.half().cpu().numpy()
        fmri = np.random.default_rng(0).standard_normal(
            (clips, 2, *self.shapes["fmri"]), np.float32
        )
        return ClipSamples(
            fmri,
            np.arange(clips),
            targets,
            repetition_mix_prob=self.options.repetition_mix_prob,
            frame_targets=("tokens",) if "tokens" in self.shapes else (),
        )

    def released(self, again: Callable[[Tensor], dict[str, Tensor]]) -> Callable[[Mode], None]:
        """Return a step as the released trainer takes it.

        Its frames come from pageable memory and go through the frozen networks in every step,
        attention writes its scores out, gradients are scaled for float16, AdamW runs without the
        fused kernel, and the host reads several figures of every step.

        Parameters
        ----------
        again : callable
            Frames on the device to the targets.
        """
        frames = self.place.settings.data.frames_per_clip if "latents" in self.shapes else 1
        side = 224 if self.place.size == "full" else self.place.settings.data.frame_size
        host = torch.rand(self.size * frames, 3, side, side)
        scans = torch.randn(self.size, *self.shapes["fmri"])
        device = self.place.device
        scaler = torch.amp.GradScaler(torch.device(device).type, init_scale=1.0)

        def step(mode: Mode) -> None:
            if self.fused:  # the scaler would leave its work to a fused kernel
                self.fused, self.optimizer = False, self._optimizer(fused=False)
            with autocast(mode, device):
                with torch.no_grad():
                    targets = again(host.to(device))
                batch = self.batch | targets | {"fmri": scans.half().to(device)}
                with written_out_attention():
                    losses = self.objective(batch)
            scaler.scale(losses["loss"]).backward()
            scaler.step(self.optimizer)
            scaler.update()
            self.optimizer.zero_grad()
            for value in (*losses.values(), losses["loss"]):
                value.item()

        return step


def _tokens_again(place: Place, size: int) -> Callable[[Tensor], dict[str, Tensor]]:
    """CLIP's tokens of one frame for each sample, which the released train_SR.py recomputes."""
    made: list[Any] = []

    def again(frames: Tensor) -> dict[str, Tensor]:
        made[:] = made or [build("clip", place.settings.backbones, place.device)]
        side = made[0].visual.image_size
        side = side if isinstance(side, int) else side[0]
        pixels = F.interpolate(frames, (side, side), mode="bicubic", antialias=True)
        return {"tokens": made[0].visual((pixels + 1) / 2)[1].float()}

    return again


def _latents_again(place: Place, size: int) -> Callable[[Tensor], dict[str, Tensor]]:
    """The VAE's latents of all frames, ConvNeXt on two views, and a fifth decoded for a figure."""
    made: list[Any] = []

    def networks() -> list[Any]:
        config, widths = CONVNEXT[place.size]
        with torch.device(place.device):
            maps = ConvNextMaps(ConvNextConfig(**config), widths)
        return [build("vae", place.settings.backbones, place.device), maps.eval()]

    def again(frames: Tensor) -> dict[str, Tensor]:
        made[:] = made or networks()
        vae, maps = made
        latents = vae.encode(2 * frames - 1).latent_dist.mode() * 0.18215
        maps(frames)
        maps(frames.flip(-1))
        vae.decode(latents[: len(frames) // 5] / 0.18215)
        # The released frames have 224 pixels, ours 256: the objective keeps the size it has.
        shown = F.interpolate(latents.float(), place.settings.data.frame_size // 8)
        return {"latents": shown.unflatten(0, (size, -1))}

    return again


@contextlib.contextmanager
def written_out_attention() -> Iterator[None]:
    """Replace fused attention by its formula: all scores are written to memory and read again."""

    def formula(query: Tensor, key: Tensor, value: Tensor, *given: Any, **named: Any) -> Tensor:
        bias = named.get("attn_mask", given[0] if given else None)
        scale = named.get("scale")
        scores = (
            query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        )
        if bias is not None:
            scores = scores + bias
        return scores.softmax(-1) @ value

    with mock.patch.object(F, "scaled_dot_product_attention", formula):
        yield
