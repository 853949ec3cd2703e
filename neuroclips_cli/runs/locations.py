"""Where results lie: the folders of the work folder, of subjects, of decoders and of stages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from neuroclips_cli.errors import UserError
from neuroclips_cli.runs import pipeline
from neuroclips_cli.settings.load import Settings

_NAME = re.compile(r"[a-z0-9]+([-_.][a-z0-9]+)*")


def subject_label(subject: int) -> str:
    """Return the BIDS label of a subject: ``sub-01``."""
    return f"sub-{subject:02d}"


def pool_name(subjects: Sequence[int]) -> str:
    """Return the folder of a decoder that several subjects share: ``pool-01-02-03``."""
    return "-".join(["pool", *(f"{subject:02d}" for subject in sorted(subjects))])


def pooled_subjects(decoder: str) -> list[int]:
    """Return the subjects that a name of :func:`pool_name` tells; none of another name."""
    numbers = [int(number) for number in decoder.split("-")[1:] if number.isdigit()]
    return numbers if numbers and decoder == pool_name(numbers) else []


def decoder_name(settings: Settings) -> str:
    """Return the folder of the decoder in use within the work folder; empty: the subject's own.

    Raises
    ------
    UserError
        If ``run.decoder`` is not the name of a folder.
    """
    name = settings.run.decoder or (
        pool_name(settings.run.subjects) if settings.run.subjects else ""
    )
    if name and (not _NAME.fullmatch(name) or name.startswith("sub-")):
        raise UserError(
            f"--decoder {name!r} is not a decoder's folder in {settings.run.workdir}: write one "
            "such as pool-01-02-03, without a path; leave it out for the subject's own"
        )
    return name


def run_folder(settings: Settings) -> Path:
    """Return the folder of the subject's results.

    ``<workdir>/sub-01``, or ``<workdir>/pool-01-02/sub-01`` of a decoder that is not its own.
    """
    return workdir_folder(settings) / decoder_name(settings) / subject_label(settings.run.subject)


def workdir_folder(settings: Settings) -> Path:
    """Return the folder of all results of all subjects."""
    return Path(settings.run.workdir)


def stage_folder(settings: Settings, stage: str) -> Path:
    """Return the folder of a stage: the subject's, or for shared stages the work folder's."""
    return _home(settings, stage) / stage


def named_folder(settings: Settings, stage: str) -> Path:
    """Return the folder of a stage whose name the user may have had a part in.

    Raises
    ------
    UserError
        If the name, such as one made from ``--run``, leads out of the run folder.
    """
    if not _NAME.fullmatch(stage):
        raise UserError(
            f"{stage!r} is not the name of a stage: write small letters, digits and hyphens only"
        )
    return stage_folder(settings, stage)


def _home(settings: Settings, stage: str) -> Path:
    """Return the folder that a stage's own folder lies in."""
    spec = pipeline.spec_of(stage)
    owner = spec.owner if spec else "result"
    if pipeline.is_shared(stage):
        return workdir_folder(settings)
    if owner == "scans":
        return workdir_folder(settings) / subject_label(settings.run.subject)
    if owner == "decoder" and (decoder := decoder_name(settings)):
        return workdir_folder(settings) / decoder
    return run_folder(settings)
