"""train-sr: from scans to CLIP image tokens, in two phases (paper 3.2, Eq. 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuroclips_cli import console
from neuroclips_cli.backbones.clip import load_projector
from neuroclips_cli.backbones.loading import choose_device
from neuroclips_cli.errors import UserError
from neuroclips_cli.memory_estimate.checks import require_training_memory
from neuroclips_cli.models.projector import TokenProjector
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.models.token_subspace import TokenSubspace
from neuroclips_cli.runs import disk_usage, model_card
from neuroclips_cli.runs.stage import Stage
from neuroclips_cli.runtime import distributed
from neuroclips_cli.runtime.precision import choose_precision
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.stages import _requests
from neuroclips_cli.stages import _training_data as inputs
from neuroclips_cli.stages._adaptation import Adaptation
from neuroclips_cli.stages._requests import PHASES, projector_reference
from neuroclips_cli.stages._start import Start
from neuroclips_cli.stages._training_data import TrainingClips, phase_facts
from neuroclips_cli.stages._training_scans import as_tensor, training_scans
from neuroclips_cli.training.activation_checkpointing import checkpoint_as_set
from neuroclips_cli.training.checkpoints import (
    CheckpointManager,
    TrainingState,
    cpu_state_dict,
    seed_torch,
)
from neuroclips_cli.training.cross_fitted_ridge import (
    average_ridge,
    cross_fit_pool,
    init_from_ridge,
    joint_targets,
    load_into_ridge,
    padded,
    stretches,
)
from neuroclips_cli.training.loop import PhaseConfig, make_accelerator, train_phase
from neuroclips_cli.training.metric_logger import MetricLogger
from neuroclips_cli.training.phases import contrastive_objective, prior_objective
from neuroclips_cli.training.samples import derived_seed, flat_scans
from neuroclips_cli.training.validation import contrastive_figures, prior_figures

NAME = "train-sr"


def run(
    settings: Settings,
    *,
    phase: str | None = None,
    checkpoint: Path | None = None,
    adaptation: Adaptation | None = None,
    overwrite: bool = False,
) -> Path:
    """Train the Semantics Reconstructor: contrastive phase, then prior phase.

    Parameters
    ----------
    settings : Settings
        ``[semantics]``, ``[train_sr]``, CLIP, projector and captioner decide the result;
        ``run.subjects`` are trained together.
    phase : str, optional
        ``contrastive`` stops after phase 1 (the stage stays unfinished, the next call continues);
        ``prior`` insists that phase 1 is done; both in a row by default.
    checkpoint : Path, optional
        Published weights to begin from; see :func:`exchange.load_pretrained_weights`.
    adaptation : Adaptation, optional
        Fit a parent to the subject instead.
    overwrite : bool
        Train again even if the result is there.

    Raises
    ------
    UserError
        If the checkpoint does not fit, preprocess or phase 1 is missing, there is only one
        training segment, or the loss becomes NaN.
    """
    request = _requests.train_sr(
        settings, phase=phase, checkpoint=checkpoint, adaptation=adaptation
    )
    folders = _requests.preprocess_folders(settings, request)
    with request.open(settings, overwrite=overwrite) as stage:
        if not stage.up_to_date:
            _Training(settings, folders, stage, Start(NAME, checkpoint, adaptation)).run(phase)
        return stage.folder


class _Training:
    """Data, targets and model of one training, and its two phases."""

    def __init__(
        self, settings: Settings, folders: dict[int, Path], stage: Stage, start: Start
    ) -> None:
        self.settings, self.stage, self.options = settings, stage, settings.train_sr
        self.start = start
        self.device = choose_device(settings.run.device)
        precision = choose_precision(settings.run.precision, self.device)
        stage.fact("precision", precision)
        self.scans = training_scans(settings, folders, NAME, start.adaptation)
        self.clips = self.scans.clips
        require_training_memory(settings, NAME, self.device, self.scans.input_sizes)
        self._open_targets()
        self.sizes = {
            **self.scans.sizes,
            "tokens": self.tokens[0].shape[2],
            "token_dim": self.tokens[0].shape[3],
        }
        seed_torch(derived_seed(settings.run.seed, NAME, "weights"))
        self.model = Semantics(
            self.scans.voxels,
            settings.semantics,
            self.sizes["tokens"],
            self.sizes["token_dim"],
            **self.scans.inputs,
        )
        checkpoint_as_set(self.model, self.options)
        stage.need_space(disk_usage.of_training(self.model))
        self.parent = start.begin(self.model, settings)
        # What goes into the network where it is not the scans themselves.
        self.features: list[np.ndarray] | None = None
        if self.closed_form:
            self._solve_ridge()
        if isinstance(self.model.token_subspace, TokenSubspace) and not start.has_parent:
            self.model.token_subspace.fit(torch.from_numpy(self._shown_tokens()))
        projector = TokenProjector(load_projector(projector_reference(settings)))
        self.projector = projector.to(self.device)
        self.accelerator = make_accelerator(self.device, precision)
        self._hold_out()

    @property
    def closed_form(self) -> bool:
        """Whether the ridge layer is solved: not where the layers above it come from a parent."""
        return self.options.ridge_closed_form and not self.start.has_parent

    def _open_targets(self) -> None:
        """Compute or open tokens, and text embeddings of one shape for all subjects."""
        settings, device = self.settings, self.device
        self.tokens = inputs.of_all_films(
            self.clips,
            lambda clips, known: inputs.token_targets(settings, clips, device, known),
        )
        captions = inputs.of_all_films(
            self.clips, lambda clips, known: inputs.captions_of(settings, clips, device, known)
        )
        texts = [inputs.text_embeddings(settings, own, device) for own in captions]
        if len({text.ndim for text in texts}) > 1:
            frames = self.tokens[0].shape[1]
            texts = [np.repeat(t[:, None], frames, 1) if t.ndim == 2 else t for t in texts]
        self.text = texts

    def _shown_tokens(self) -> np.ndarray:
        """Return the mean tokens of every training clip, of films that several saw once."""
        rows: dict[bytes, np.ndarray] = {}
        for tokens, clips in zip(self.tokens, self.clips, strict=True):
            means = tokens[clips.train].astype("float32").mean(axis=1)
            if not self.scans.pooled:
                return means
            rows |= {row.tobytes(): row for row in means}
        return np.stack(list(rows.values()))

    def _hold_out(self) -> None:
        """Keep what validation needs on the device."""
        self.networks = self.scans.networks(self.model)
        self.held_fmri = self.scans.held_out(self.device)
        self.held_tokens, self.held_text = [], []
        for tokens, text, clips in zip(self.tokens, self.text, self.clips, strict=True):
            held, half = clips.validation, tokens.shape[1] // 2
            of_text = text[held] if text.ndim == 2 else text[held, half]
            self.held_tokens.append(as_tensor(tokens[held, half], self.device))
            self.held_text.append(as_tensor(of_text, self.device))

    def _solve_ridge(self) -> None:
        """Solve Eq. 3 for tokens and captions; what lies above learns from cross-fitted scans."""
        hidden = self.settings.semantics.hidden
        tokens = [t[c.train].astype("float32").mean(axis=1) for t, c in self._by_subject()]
        text = [t[c.train].astype("float32") for t, c in zip(self.text, self.clips, strict=True)]
        text = [own if own.ndim == 2 else own.mean(axis=1) for own in text]
        counts = np.cumsum([len(own) for own in tokens])[:-1]
        targets = joint_targets(np.concatenate(tokens), np.concatenate(text))
        parts = [
            (flat_scans(clips.fmri[clips.train]), stretches(clips.segments[clips.train]), own)
            for clips, own in zip(self.clips, np.split(targets, counts), strict=True)
        ]
        fits = cross_fit_pool(parts, hidden)
        for place, fit in enumerate(fits):
            load_into_ridge(fit, self.model.ridge, place)
        average_ridge(self.model.ridge)
        init_from_ridge(fits[0], self.model.backbone)
        features = []
        for clips, fit in zip(self.clips, fits, strict=True):
            own = np.zeros((*clips.fmri.shape[:2], hidden), np.float32)
            own[clips.train] = padded(fit, hidden)
            features.append(own)
        # Another machine may choose other signs of the components; the weights follow the first's.
        self.features = distributed.broadcast_object(features)
        penalties = [fit.penalty for fit in fits]
        penalty = penalties if self.scans.pooled else penalties[0]
        self.stage.fact("ridge", {"penalty": penalty, "components": fits[0].width})

    def _by_subject(self) -> list[tuple[np.ndarray, TrainingClips]]:
        return list(zip(self.tokens, self.clips, strict=True))

    def run(self, phase: str | None) -> None:
        """Train phase 1, then phase 2 from phase 1's best weights, and write the best of that."""
        folder = self.stage.folder / "checkpoints"
        first = CheckpointManager(folder, PHASES[0])
        if phase == "prior" and first.progress().epoch < self.scans.epochs(
            self.options.contrastive_epochs
        ):
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
            console.info("phase 1 is done; `neuroclips train-sr` continues with phase 2")
            return
        progress = self.prior(CheckpointManager(folder, PHASES[1]))
        self.stage.fact(PHASES[1], phase_facts(progress, self.clips))
        self._say("phase 2 (prior)", progress)
        self.stage.write_safetensors("model.safetensors", cpu_state_dict(self.model))
        card = self.scans.card(self.settings, NAME, self.model, self.parent, self.start.adaptation)
        self.stage.write_json(model_card.NAME, card.as_json())
        self.stage.fact("protocol", card.protocol)

    def contrastive(self, checkpoints: Any) -> TrainingState:
        """Phase 1: BiMixCo on the contrastive tokens (Eq. 8)."""
        options = self.options
        objective = contrastive_objective(
            self.settings, self.model, self.projector, ridge_solved=self.closed_form
        )
        self.start.freeze(self.model)

        def validate() -> dict[str, float]:
            return self.scans.mean_figures(
                lambda place: contrastive_figures(
                    self.networks[place],
                    self.held_fmri[place],
                    self.held_tokens[place],
                    options.temperature,
                )
            )

        sizes = (options.contrastive_epochs, options.contrastive_batch_size)
        return self._phase(PHASES[0], sizes, objective, validate, checkpoints)

    def prior(self, checkpoints: Any) -> TrainingState:
        """Phase 2: BiMixCo + delta prior + mu Reftm (Eq. 4)."""
        options = self.options
        objective = prior_objective(
            self.settings, self.model, self.projector, ridge_solved=self.closed_form
        )
        self.start.freeze(self.model)

        def validate() -> dict[str, float]:
            return self.scans.mean_figures(
                lambda place: prior_figures(
                    self.networks[place],
                    self.projector,
                    self.held_fmri[place],
                    self.held_tokens[place],
                    self.held_text[place],
                    temperature=options.temperature,
                    prior_weight=options.prior_weight,
                    reftm_weight=options.reftm_weight,
                    reftm_temperature=options.reftm_temperature,
                )
            )

        sizes = (options.prior_epochs, options.prior_batch_size)
        return self._phase(PHASES[1], sizes, objective, validate, checkpoints)

    def _phase(
        self, name: str, sizes: tuple[int, int], objective: Any, validate: Any, checkpoints: Any
    ) -> TrainingState:
        samples = self.scans.samples(
            self.options,
            [{"tokens": t, "text": x} for t, x in zip(self.tokens, self.text, strict=True)],
            scans=self.features,
            frame_targets=("tokens",) if self.text[0].ndim == 2 else ("tokens", "text"),
        )
        epochs, seed = self.scans.epochs(sizes[0]), self.settings.run.seed
        phase_config = PhaseConfig.of(self.options, name, epochs, sizes[1], seed)
        steps = phase_config.epochs * phase_config.steps(len(samples))
        with (
            MetricLogger(self.stage.folder) as metric_logger,
            console.progress(f"Semantics, {name} phase", steps, unit="step") as advance,
        ):
            return train_phase(
                objective,
                self.model,
                samples,
                validate,
                phase_config,
                accelerator=self.accelerator,
                checkpoints=checkpoints,
                metric_logger=metric_logger,
                advance=advance,
            )

    def _say(self, phase: str, progress: TrainingState) -> None:
        figures = progress.best_metrics
        console.info(
            f"{phase}: best epoch {progress.best_epoch} of {progress.epoch}, retrieval among "
            f"{len(self.held_fmri[0])} held-out clips {figures['fmri_to_image']:.2f} (image) "
            f"and {figures['image_to_fmri']:.2f} (fMRI), chance {1 / len(self.held_fmri[0]):.3f}"
        )
