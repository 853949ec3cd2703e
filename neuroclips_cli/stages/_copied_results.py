"""What a user takes away of a stage's folder: clips, videos and tables, copied elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

from neuroclips_cli import console
from neuroclips_cli.errors import UserError

TAKEN_AWAY = (
    *("index.html", "contact_sheet.png"),
    *("videos", "clips.npy", "clips.csv", "captions.csv"),
)


def copy_results(folder: Path, out: Path) -> None:
    """Copy clips, videos and tables to a folder of the user's choice; it is made if need be.

    Parameters
    ----------
    folder : pathlib.Path
        A finished stage.
    out : pathlib.Path
        Where to. Files of the same names are replaced.

    Raises
    ------
    UserError
        If it is a file.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: name a folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    for name in TAKEN_AWAY:
        if (folder / name).is_dir():
            shutil.copytree(folder / name, out / name, dirs_exist_ok=True)
        elif (folder / name).is_file():
            shutil.copy2(folder / name, out / name)
    console.info(f"clips, videos and captions copied to {out}")
