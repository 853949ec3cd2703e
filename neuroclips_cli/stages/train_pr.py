"""train-pr: from scans to the latents of the blurry clip (paper 3.1)."""

from __future__ import annotations

from pathlib import Path

from neuroclips_cli import console
from neuroclips_cli.backbones.loading import choose_device
from neuroclips_cli.errors import UserError
from neuroclips_cli.memory_estimate.checks import require_training_memory
from neuroclips_cli.models.perception import make_perception
from neuroclips_cli.runs import disk_usage, model_card
from neuroclips_cli.runs.stage import Stage
from neuroclips_cli.runtime import distributed
from neuroclips_cli.runtime.precision import choose_precision
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.stages import _requests
from neuroclips_cli.stages._adaptation import Adaptation
from neuroclips_cli.stages._start import Start
from neuroclips_cli.stages._training_data import (
    latent_targets,
    map_targets,
    of_all_films,
    phase_facts,
)
from neuroclips_cli.stages._training_scans import TrainingScans, as_tensor, training_scans
from neuroclips_cli.training.activation_checkpointing import checkpoint_as_set
from neuroclips_cli.training.checkpoints import CheckpointManager, cpu_state_dict, seed_torch
from neuroclips_cli.training.loop import PhaseConfig, make_accelerator, train_phase
from neuroclips_cli.training.metric_logger import MetricLogger
from neuroclips_cli.training.phases import perception_objective
from neuroclips_cli.training.samples import derived_seed
from neuroclips_cli.training.validation import perception_figures

NAME = "train-pr"


def run(
    settings: Settings,
    *,
    checkpoint: Path | None = None,
    adaptation: Adaptation | None = None,
    overwrite: bool = False,
) -> Path:
    """Train the Perception Reconstructor and keep the weights that validate best.

    Parameters
    ----------
    settings : Settings
        ``[perception]``, ``[train_pr]`` and the VAE decide the result; ``run.subjects`` are
        trained together.
    adaptation : Adaptation, optional
        Fit a parent to the subject instead.
    checkpoint : Path, optional
        Published weights to begin from; see :func:`exchange.load_pretrained_weights`.
    overwrite : bool
        Train again even if the result is there.

    Raises
    ------
    UserError
        If the checkpoint does not fit, preprocess is missing, there is only one training segment,
        or the loss becomes NaN.
    """
    request = _requests.train_pr(settings, checkpoint=checkpoint, adaptation=adaptation)
    with request.open(settings, overwrite=overwrite) as stage:
        if not stage.up_to_date:
            start = Start(NAME, checkpoint, adaptation)
            _train(settings, _requests.preprocess_folders(settings, request), stage, start)
        return stage.folder


def _train(settings: Settings, folders: dict[int, Path], stage: Stage, start: Start) -> None:
    """Read from top to bottom: data, targets, model, one phase, weights."""
    options = settings.train_pr
    released_contrast = options.contrast == "convnext"
    if released_contrast and settings.perception.network != "published":
        raise UserError(
            'train_pr.contrast = "convnext" compares a map that only the published network has: '
            'set perception.network = "published"'
        )
    parts = distributed.world_size() > 1 or options.micro_batch_size
    if parts and settings.perception.attention == "batch":
        raise UserError(
            'perception.attention = "batch" compares the rows of a whole batch inside the network, '
            "so that it cannot be cut: start one process with train_pr.micro_batch_size=0, or set "
            "it to clip"
        )
    device = choose_device(settings.run.device)
    precision = choose_precision(settings.run.precision, device)
    stage.fact("precision", precision)
    scans = training_scans(settings, folders, NAME, start.adaptation)
    _refuse_shared_dropout(settings, scans, parts=bool(parts))
    latents = of_all_films(
        scans.clips, lambda clips, known: latent_targets(settings, clips, device, known)
    )

    voxels, frames, latent_shape = scans.voxels, latents[0].shape[1], latents[0].shape[2:]
    require_training_memory(settings, NAME, device, scans.input_sizes, latent_shape)
    seed_torch(derived_seed(settings.run.seed, NAME, "weights"))
    model = make_perception(voxels, frames, settings.perception, latent_shape, **scans.inputs)
    checkpoint_as_set(model, options)
    stage.need_space(disk_usage.of_training(model))
    parent = start.begin(model, settings)
    targets = [{"latents": values} for values in latents]
    if released_contrast:
        size = settings.perception.start_size
        maps = of_all_films(
            scans.clips, lambda clips, known: map_targets(settings, clips, size, device, known)
        )
        targets = [own | {"maps": values} for own, values in zip(targets, maps, strict=True)]
    objective = perception_objective(settings, model)
    start.freeze(model)

    samples = scans.samples(options, targets)
    networks, held_fmri = scans.networks(model), scans.held_out(device)
    held_latents = [
        as_tensor(values[clips.validation], device)
        for values, clips in zip(latents, scans.clips, strict=True)
    ]

    def validate() -> dict[str, float]:
        # The released contrast has no maps of held-out clips: there the error alone decides.
        weight = 0.0 if released_contrast else options.contrast_weight
        return scans.mean_figures(
            lambda place: perception_figures(
                networks[place], held_fmri[place], held_latents[place], options.temperature, weight
            )
        )

    epochs, seed = scans.epochs(options.epochs), settings.run.seed
    phase_config = PhaseConfig.of(options, "perception", epochs, options.batch_size, seed)
    steps = phase_config.epochs * phase_config.steps(len(samples))
    with (
        MetricLogger(stage.folder) as metric_logger,
        console.progress("Perception Reconstructor", steps, unit="step") as advance,
    ):
        progress = train_phase(
            objective,
            model,
            samples,
            validate,
            phase_config,
            accelerator=make_accelerator(device, precision),
            checkpoints=CheckpointManager(stage.folder / "checkpoints", phase_config.phase),
            metric_logger=metric_logger,
            advance=advance,
        )
    stage.write_safetensors("model.safetensors", cpu_state_dict(model))
    card = scans.card(settings, NAME, model, parent, start.adaptation)
    stage.write_json(model_card.NAME, card.as_json())
    stage.fact("protocol", card.protocol)
    facts = {"frames": frames, "latent_shape": list(latent_shape)}
    stage.fact("model", {**scans.sizes, **facts})
    stage.fact("perception", phase_facts(progress, scans.clips))
    figures = progress.best_metrics
    console.info(
        f"perception: best epoch {progress.best_epoch} of {progress.epoch}, validation error "
        f"{figures['error']:.3f} (with scans of other clips {figures['shuffled_error']:.3f})"
    )


def _refuse_shared_dropout(settings: Settings, scans: TrainingScans, *, parts: bool) -> None:
    """Refuse to cut a batch where a subject's own layers have dropout of their own."""
    if scans.pooled and parts and settings.perception.network == "published":
        raise UserError(
            'perception.network = "published" has dropout in every subject\'s extension, so that a '
            "batch of several subjects cannot be cut: start one process with "
            'train_pr.micro_batch_size=0, or set perception.network = "paper"'
        )
