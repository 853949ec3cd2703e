"""simulate: write a data set whose ground truth is known, in the layout of a real one."""

from __future__ import annotations

from pathlib import Path

from neuroclips_cli import console
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.simulation.dataset import simulate_dataset, steps


def run(
    settings: Settings, folder: Path, stimuli: Path | None = None, overwrite: bool = False
) -> Path:
    """Simulate films, brains and a scanner.

    Parameters
    ----------
    settings
        ``simulate`` and ``data`` say what to write, ``run.seed`` which films and brains.
    folder
        Where the data set goes: new, empty, or interrupted earlier with the same settings.
    stimuli
        Folder of videos to show instead of the synthetic dataset: they are laid end to end in
        natural order, trimmed to whole clips, and dealt out to the segments.
    overwrite
        Write a data set that an earlier simulation left there again.

    Returns
    -------
    Path
        The data set's folder.
    """
    plan = settings.simulate
    with console.progress("simulate", steps(plan, settings.data), unit="file") as advance:
        written = simulate_dataset(
            folder,
            plan,
            settings.data,
            settings.run.seed,
            stimuli=stimuli,
            overwrite=overwrite,
            advance=advance,
        )
    if written:
        console.info(
            f"simulated {plan.subjects} subject{'s' * (plan.subjects > 1)}, "
            f"{plan.train_segments} training and {plan.test_segments} test segments in {folder}"
        )
    else:
        console.info(f"{folder} already holds this data set: nothing to do")
    return folder
