"""``neuroclips controls``: predictions without decoding, measured like the reconstruction.

Each control is written as a reconstruction of its own, ``reconstruct-control-<name>``, so that it
is evaluated, compared and kept up to date by what does so for any reconstruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neuroclips_cli import console
from neuroclips_cli.errors import UserError
from neuroclips_cli.runs.stage import is_up_to_date
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.settings.parse import nearest
from neuroclips_cli.stages import _requests, compare
from neuroclips_cli.stages._control_names import GENERATED, NAMES, QUICK, folder_of
from neuroclips_cli.stages._launch import run_stage


def run(
    settings: Settings, names: Sequence[str] = tuple(QUICK), *, overwrite: bool = False
) -> list[Path]:
    """Make controls, evaluate them and compare them with the run.

    Parameters
    ----------
    settings : Settings
        The run folder must hold ``reconstruct`` and ``evaluate``.
    names : sequence of str
        Some of `NAMES`.
    overwrite : bool
        Make and measure them again even if nothing changed.

    Returns
    -------
    list of Path
        The folders ``evaluate-control-<name>``.

    Raises
    ------
    UserError
        If a name is unknown or the run is not evaluated yet.
    """
    for name in names:
        if name not in NAMES:
            raise UserError(
                f"there is no control {name!r}{nearest(name, NAMES)}; choose among "
                f"{', '.join(NAMES)}"
            )
    evaluated = []
    for name in names:
        console.info(f"{name}: {(QUICK | GENERATED)[name]}")
        request = _requests.control(settings, name=name)
        if overwrite or not is_up_to_date(settings, request):
            # torch and the networks are imported only where there is something to compute
            from neuroclips_cli.stages import _control_clips

            _control_clips.make(settings, name, request, overwrite=overwrite)
        run_name = folder_of(name)
        evaluated.append(run_stage(settings, "evaluate", run=run_name, overwrite=overwrite))
    shuffled = ["evaluate" + compare.SHUFFLED] if settings.evaluate.shuffles else []
    compare.run(settings, ["evaluate", *shuffled, *(folder.name for folder in evaluated)])
    return evaluated
