"""train-sr: from scans to CLIP image tokens, in two phases (paper 3.2, Eq. 4)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuroclips_cli import console
from neuroclips_cli.backbones.clip import load_projector
from neuroclips_cli.backbones.loading import choose_device
from neuroclips_cli.errors import UserError
from neuroclips_cli.models.projector import TokenProjector
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.models.token_subspace import TokenSubspace
from neuroclips_cli.runs import disk_usage
from neuroclips_cli.runs.stage import Stage
from neuroclips_cli.runtime import distributed
from neuroclips_cli.runtime.precision import choose_precision
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.stages import _requests
from neuroclips_cli.stages import _training_data as inputs
from neuroclips_cli.stages._released_weights import load_pretrained_weights
from neuroclips_cli.stages._requests import PHASES, projector_reference
from neuroclips_cli.stages._training_data import phase_facts
from neuroclips_cli.stages.dry_run import require_training_memory
from neuroclips_cli.training.activation_checkpointing import apply_activation_checkpointing
from neuroclips_cli.training.checkpoints import (
    CheckpointManager,
    TrainingState,
    cpu_state_dict,
    seed_torch,
)
from neuroclips_cli.training.cross_fitted_ridge import (
    cross_fit,
    init_from_ridge,
    joint_targets,
    load_into_ridge,
    padded,
)
from neuroclips_cli.training.loop import Plan, make_accelerator, train_phase
from neuroclips_cli.training.memory import require_gpu_memory
from neuroclips_cli.training.metric_logger import MetricLogger
from neuroclips_cli.training.objectives import ContrastiveObjective, Decode, PriorObjective
from neuroclips_cli.training.samples import ClipSamples, derived_seed, repetition_mean
from neuroclips_cli.training.validation import contrastive_figures, prior_figures

NAME = "train-sr"


def run(
    settings: Settings,
    *,
    phase: str | None = None,
    checkpoint: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Train the Semantics Reconstructor: contrastive phase, then prior phase.

    Parameters
    ----------
    settings : Settings
        ``[semantics]``, ``[train_sr]``, CLIP, projector and captioner decide the result.
    phase : str, optional
        ``contrastive`` stops after phase 1 (the stage stays unfinished, the next call goes on);
        ``prior`` insists that phase 1 is done; both in a row by default.
    checkpoint : Path, optional
        Published weights to begin from; see :func:`exchange.load_pretrained_weights`.
    overwrite : bool
        Train again even if the result is there.

    Returns
    -------
    Path
        The stage folder.

    Raises
    ------
    UserError
        If the checkpoint does not fit, preprocess or phase 1 is missing, there is only one
        training segment, or the loss becomes NaN.
    """
    request = _requests.train_sr(settings, phase=phase, checkpoint=checkpoint)
    preprocess = Path(request.inputs["preprocess"])
    with request.open(settings, overwrite=overwrite) as stage:
        if not stage.up_to_date:
            _Training(settings, preprocess, stage, checkpoint).run(phase)
        return stage.folder


class _Training:
    """Data, targets and model of one training, and its two phases."""

    def __init__(
        self, settings: Settings, preprocess: Path, stage: Stage, checkpoint: Path | None
    ) -> None:

        self.settings, self.stage, self.options = settings, stage, settings.train_sr
        self.device = choose_device(settings.run.device)
        precision = choose_precision(settings.run.precision, self.device)
        stage.fact("precision", precision)
        self.clips = inputs.training_clips(preprocess, self.options.validation_segments)
        self._require_memory()
        self.tokens = inputs.token_targets(settings, self.clips, self.device)
        self.text = inputs.text_targets(settings, self.clips, self.device)
        self.sizes = {
            "voxels": self.clips.fmri.shape[2],
            "tokens": self.tokens.shape[2],
            "token_dim": self.tokens.shape[3],
        }
        seed_torch(derived_seed(settings.run.seed, NAME, "weights"))
        self.model = Semantics(
            self.sizes["voxels"],
            settings.semantics,
            self.sizes["tokens"],
            self.sizes["token_dim"],
        )
        if self.options.activation_checkpointing:
            apply_activation_checkpointing(self.model)
        stage.need_space(disk_usage.of_training(self.model))
        if checkpoint:
            load_pretrained_weights(self.model, checkpoint, settings)
        self.decode: Decode = self.model
        self.scans = self.clips.fmri
        if self.options.ridge_closed_form:
            self._solve_ridge()
        if isinstance(self.model.token_subspace, TokenSubspace):
            shown = self.tokens[self.clips.train].astype("float32").mean(axis=1)
            self.model.token_subspace.fit(torch.from_numpy(shown))
        projector = TokenProjector(load_projector(projector_reference(settings)))
        self.projector = projector.to(self.device)
        self.accelerator = make_accelerator(self.device, precision)

        held = self.clips.validation
        half = self.tokens.shape[1] // 2
        middle = self.tokens[held, half]
        text = self.text[held] if self.text.ndim == 2 else self.text[held, half]
        self.held_fmri = repetition_mean(self.clips.fmri, held).to(self.device)
        self.held_tokens = torch.from_numpy(middle).float().to(self.device)
        self.held_text = torch.from_numpy(text).float().to(self.device)

    def _require_memory(self) -> None:
        """Refuse a network that cannot fit the GPU, before the frozen targets are computed."""
        sizes, backbones = self.settings.semantics, self.settings.backbones
        shape = (backbones.tokens, backbones.token_dim)
        voxels = self.clips.fmri.shape[2]
        require_gpu_memory(
            self.device,
            lambda hidden: Semantics(voxels, replace(sizes, hidden=hidden), *shape),
            sizes.hidden,
            "semantics.hidden",
            NAME,
            self.options.optimizer,
        )
        require_training_memory(self.settings, NAME, self.device, voxels)

    def _solve_ridge(self) -> None:
        """Solve Eq. 3 for tokens and captions; what lies above learns from cross-fitted scans."""
        train, hidden = self.clips.train, self.settings.semantics.hidden
        tokens = self.tokens[train].astype("float32").mean(axis=1)
        text = self.text[train].astype("float32")
        targets = joint_targets(tokens, text if text.ndim == 2 else text.mean(axis=1))
        fit = cross_fit(self.clips.fmri[train], self.clips.segments[train], targets, hidden)
        load_into_ridge(fit, self.model.ridge)
        init_from_ridge(fit, self.model.backbone)
        self.decode = self.model.decode
        self.scans = np.zeros((*self.clips.fmri.shape[:2], hidden), np.float32)
        self.scans[train] = padded(fit, hidden)
        # Another machine may choose other signs of the components; the weights follow the first's.
        self.scans = distributed.broadcast_object(self.scans)
        self.stage.fact("ridge", {"penalty": fit.penalty, "components": fit.width})

    def run(self, phase: str | None) -> None:
        """Train phase 1, then phase 2 from phase 1's best weights, and write the best of that."""
        folder = self.stage.folder / "checkpoints"
        first = CheckpointManager(folder, PHASES[0])
        if phase == "prior" and first.progress().epoch < self.options.contrastive_epochs:
            raise UserError(
                "phase 2 of train-sr starts from phase 1, which is not done: run `neuroclips "
                "train-sr --phase contrastive` first, or train-sr without --phase"
            )
        self.stage.fact("model", self.sizes)
        progress = self.contrastive(first)
        self.stage.fact(PHASES[0], phase_facts(progress, self.clips))
        self._say("phase 1 (contrastive)", progress)
        if phase == "contrastive":
            self.stage.pause()
            console.info("phase 1 is done; `neuroclips train-sr` goes on with phase 2")
            return
        progress = self.prior(CheckpointManager(folder, PHASES[1]))
        self.stage.fact(PHASES[1], phase_facts(progress, self.clips))
        self._say("phase 2 (prior)", progress)
        self.stage.write_safetensors("model.safetensors", cpu_state_dict(self.model))

    def contrastive(self, checkpoints: Any) -> TrainingState:
        """Phase 1: BiMixCo on the contrastive tokens (Eq. 8)."""
        options = self.options
        objective = ContrastiveObjective(
            self.model,
            self.decode,
            options.temperature,
            options.mixco_beta,
            projector=self.projector if options.contrastive_reftm_weight else None,
            reftm_weight=options.contrastive_reftm_weight,
            reftm_temperature=options.reftm_temperature,
        )
        self.model.diffusion_prior.requires_grad_(False)

        def validate() -> dict[str, float]:
            return contrastive_figures(
                self.model, self.held_fmri, self.held_tokens, options.temperature
            )

        sizes = (options.contrastive_epochs, options.contrastive_batch_size)
        return self._phase(PHASES[0], sizes, objective, validate, checkpoints)

    def prior(self, checkpoints: Any) -> TrainingState:
        """Phase 2: BiMixCo + delta prior + mu Reftm (Eq. 4)."""
        options = self.options
        weights = {
            "temperature": options.temperature,
            "prior_weight": options.prior_weight,
            "reftm_weight": options.reftm_weight,
            "reftm_temperature": options.reftm_temperature,
        }
        objective = PriorObjective(
            self.model,
            self.decode,
            self.projector,
            mixco_beta=options.mixco_beta,
            softclip_epochs=options.prior_epochs if options.prior_contrast == "softclip" else 0,
            **weights,
        )
        everything = options.prior_trains == "all"
        self.model.requires_grad_(everything)
        self.model.ridge.requires_grad_(everything and not options.ridge_closed_form)
        self.model.diffusion_prior.requires_grad_(True)
        self.model.diffusion_prior.freeze_rotary()

        def validate() -> dict[str, float]:
            return prior_figures(
                self.model,
                self.projector,
                self.held_fmri,
                self.held_tokens,
                self.held_text,
                **weights,
            )

        sizes = (options.prior_epochs, options.prior_batch_size)
        return self._phase(PHASES[1], sizes, objective, validate, checkpoints)

    def _phase(
        self, name: str, sizes: tuple[int, int], objective: Any, validate: Any, checkpoints: Any
    ) -> TrainingState:

        options = self.options
        samples = ClipSamples(
            self.scans,
            self.clips.train,
            {"tokens": self.tokens, "text": self.text},
            repetition_mix_prob=options.repetition_mix_prob,
            noise=options.noise,
            frame_targets=("tokens",) if self.text.ndim == 2 else ("tokens", "text"),
        )
        plan = Plan(
            phase=name,
            epochs=sizes[0],
            batch_size=sizes[1],
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            ridge_weight_decay=options.ridge_weight_decay,
            checkpoint_every=options.checkpoint_every,
            seed=self.settings.run.seed,
            optimizer=options.optimizer,
            micro_batch_size=options.micro_batch_size,
        )
        steps = plan.epochs * plan.steps(len(samples))
        with (
            MetricLogger(self.stage.folder) as metric_logger,
            console.progress(f"Semantics, {name} phase", steps, unit="step") as advance,
        ):
            return train_phase(
                objective,
                self.model,
                samples,
                validate,
                plan,
                accelerator=self.accelerator,
                checkpoints=checkpoints,
                metric_logger=metric_logger,
                advance=advance,
            )

    def _say(self, phase: str, progress: TrainingState) -> None:
        figures = progress.best_metrics
        console.info(
            f"{phase}: best epoch {progress.best_epoch} of {progress.epoch}, retrieval among "
            f"{len(self.clips.validation)} held-out clips {figures['fmri_to_image']:.2f} (image) "
            f"and {figures['image_to_fmri']:.2f} (fMRI), chance {1 / len(self.held_fmri):.3f}"
        )
