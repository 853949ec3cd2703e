"""Trained reconstructors of a run to and from checkpoint files in the authors' layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroclips_cli import console
from neuroclips_cli.artifacts import open_stage, read_array, require_stage
from neuroclips_cli.config import Settings
from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

STAGES = {"train-sr": ("semantics", "train_sr"), "train-pr": ("perception", "train_pr")}
"""Stage to the setting sections that decide it."""


def export_run(settings: Settings, stage: str, path: Path, *, overwrite: bool = False) -> Path:
    """Write a trained reconstructor as a ``last.pth`` with the published names.

    Parameters
    ----------
    settings : Settings
        Whose run folder is read.
    stage : str
        ``train-sr`` or ``train-pr``, finished.
    path : Path
        The file to write.
    overwrite : bool
        Replace a file that is there.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    UserError
        If the stage is not finished, or the file is there.
    """
    from neuroclips_cli.models.checkpoint import load_perception, load_semantics
    from neuroclips_cli.models.published import export_published, write_last_pth

    _known(stage)
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists: give another name, or --overwrite")
    folder = require_stage(settings, stage, needed_by="the export")
    model = load_semantics(folder) if stage == "train-sr" else load_perception(folder)
    write_last_pth(path, export_published(model))
    console.info(f"wrote {path} in the published layout; read it with weights_only=True")
    return path


def import_run(
    settings: Settings, stage: str, weights: dict[str, Tensor], source: Path, *, overwrite: bool
) -> Path:
    """Make a stage folder from a trained checkpoint instead of training.

    Parameters
    ----------
    settings : Settings
        Sizes and wiring; ``--variant released`` for the authors' own checkpoints.
    stage : str
        ``train-sr`` or ``train-pr``.
    weights : dict
        What ``source`` holds, from ``backbones.published.files.read_weights``.
    source : Path
        The file, recorded as the stage's input.
    overwrite : bool
        Replace a finished stage.

    Returns
    -------
    Path
        The stage folder.

    Raises
    ------
    UserError
        If preprocess is missing, or the checkpoint is of another kind, size or subject.
    """
    from neuroclips_cli.models.published import import_published
    from neuroclips_cli.training.checkpoints import plain_state

    _known(stage)
    preprocess = require_stage(settings, "preprocess", needed_by=stage)
    inputs: dict[str, Path | str] = {"preprocess": preprocess, "checkpoint": source}
    with open_stage(
        settings, stage, sections=STAGES[stage], inputs=inputs, overwrite=overwrite
    ) as folder:
        if not folder.up_to_date:
            model, sizes = _empty(settings, stage, preprocess, weights)
            model.load_state_dict(
                import_published(weights, model, str(source)), assign=True, strict=True
            )
            folder.fact("model", sizes)
            folder.fact("imported", source.name)
            folder.write_safetensors("model.safetensors", plain_state(model))
        return folder.folder


def begin_from(model: nn.Module, path: Path) -> None:
    """Put a published checkpoint's weights into a network that is about to be trained.

    The authors begin from MindEye2's ``last.pth`` of another subject, whose ridge layer is of
    another width: it is left out, and what is above it is taken.

    Raises
    ------
    UserError
        If the file is unreadable, or of another kind or size above the ridge layer.
    """
    from neuroclips_cli.models.published import import_published, published_names
    from neuroclips_cli.stages.convert import trained_weights

    weights = trained_weights(path)
    ridge = next(n for n in published_names(model).values() if n.endswith("linears.0.weight"))
    own = next(v for n, v in model.state_dict().items() if n.endswith("linears.0.weight"))
    same = ridge in weights and weights[ridge].shape == own.shape
    model.load_state_dict(import_published(weights, model, str(path), ridge=same))
    console.info(
        f"began from {path.name}" + ("" if same else ", without its ridge layer (other voxels)")
    )


def _known(stage: str) -> None:
    if stage not in STAGES:
        raise UserError(f"there are no published checkpoints of {stage}: take {', '.join(STAGES)}")


def _empty(
    settings: Settings, stage: str, preprocess: Path, weights: dict[str, Tensor]
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the run's network without numbers, and the sizes that its manifest keeps."""
    import torch

    from neuroclips_cli.models.perception import make_perception
    from neuroclips_cli.models.semantics import Semantics

    voxels = int(read_array(preprocess / "fmri_train.npy").shape[2])
    with torch.device("meta"):
        if stage == "train-sr":
            backbones = settings.backbones
            sizes = {
                "voxels": voxels,
                "tokens": backbones.tokens,
                "token_dim": backbones.token_dim,
            }
            return Semantics(settings=settings.semantics, **sizes), sizes
        data, chosen = settings.data, settings.perception
        # Every VAE of the published system reduces by 8; the last layer says its channels.
        side = (chosen.frame_size or data.frame_size) // 8
        last = weights.get("backbone.bupsampler.conv_out.bias")
        latent = (4 if last is None else len(last), side, side)
        frames = data.frames_per_clip
        model = make_perception(voxels, frames, chosen, latent)
        return model, {"voxels": voxels, "frames": frames, "latent_shape": list(latent)}
