"""Write a commented ``neuroclips.toml``: a few lines in force, every other key with its source."""

from __future__ import annotations

import json
from pathlib import Path

from neuroclips_cli import console
from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.settings.load import FILE_NAME, Settings, profile_text

_HEAD = """\
# Settings of neuroclips in this folder; `neuroclips config` shows what is in force and why.
# Flags and the environment (NEUROCLIPS_TRAIN_PR_EPOCHS=3) are stronger than this file.
# Lines that begin with "# key = value" show what profile {profile} says: take the # away to change.

[run]
profile = {profile_text}   # tiny, paper or compact
subject = {subject}   # number of the subject
dataset = {dataset}   # folder of the data set
workdir = {workdir}   # folder of all results
# variant = {variant}   # paper, or released: as the authors' code (profiles paper and compact)
# device = {device}   # auto, cpu, cuda or mps
# precision = {precision}   # auto, bfloat16, float32, or highest: float32 without TF32
# seed = {seed}   # of all random numbers

"""


def run(settings: Settings, *, folder: Path | str = ".", overwrite: bool = False) -> Path:
    """Write ``neuroclips.toml`` into a folder.

    Parameters
    ----------
    settings
        The profile and the four active lines come from here.
    folder
        Where to write; the present folder by default.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UserError
        If the file is there and ``overwrite`` is not set.
    """
    path = Path(folder) / FILE_NAME
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; edit it, or write it anew with --overwrite")
    atomic.write_text(path, text(settings))
    console.info(f"wrote {path} (profile {settings.run.profile})")
    if not settings.run.dataset:
        console.info("next: `neuroclips simulate DIR`, or put your data set into it as dataset")
    return path


def text(settings: Settings) -> str:
    """Return the file's content: active lines first, then the profile as comments."""
    run_ = settings.run
    head = _HEAD.format(
        profile=run_.profile,
        profile_text=json.dumps(run_.profile),
        subject=run_.subject,
        dataset=json.dumps(run_.dataset, ensure_ascii=False),
        workdir=json.dumps(run_.workdir, ensure_ascii=False),
        variant=json.dumps(run_.variant),
        device=json.dumps(run_.device),
        precision=json.dumps(run_.precision),
        seed=run_.seed,
    )
    lines = []
    for line in profile_text(run_.profile).splitlines():
        kept = not line or line.startswith(("[", "#"))
        lines.append(line if kept else f"# {line}")
    return head + "\n".join(lines) + "\n"
