"""``neuroclips-bids BIDS_DIR OUTPUT_DIR LEVEL``: the BIDS-App form of the pipeline."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from neuroclips_cli import __version__, console
from neuroclips_cli.cli import main as command_line
from neuroclips_cli.cli.help_pages import PlainCommand
from neuroclips_cli.cli.options import set_items
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.load import FILE_NAME


class Level(str, Enum):
    """What is analyzed at once."""

    participant = "participant"
    group = "group"


_SEVERAL = ("--participant-label", "--session-label", "--task-id", "-t", "--test-films")
"""Options that take several labels, one after the other."""

app = typer.Typer(
    name="neuroclips-bids",
    help="Decode the videos that participants of a BIDS data set watched.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    """Print the version and stop."""
    if asked:
        console.out(f"neuroclips-bids {__version__}")
        raise typer.Exit


def _words(values: list[str] | None) -> tuple[str, ...]:
    """Split labels that are given with blanks or commas between them."""
    return tuple(word for value in values or () for word in value.replace(",", " ").split())


@app.command(cls=PlainCommand)
def bids(
    bids_dir: Annotated[Path, typer.Argument(help="The raw BIDS data set.")],
    output_dir: Annotated[Path, typer.Argument(help="The derivative to write.")],
    level: Annotated[
        Level, typer.Argument(metavar="{participant,group}", help="What is analyzed at once.")
    ],
    participant_label: Annotated[
        list[str] | None,
        typer.Option(help="Participants, as 01 or sub-01; several: '01 02' or given again."),
    ] = None,
    derivatives: Annotated[
        Path | None,
        typer.Option("--derivatives", "-d", help="fMRIPrep's outputs; default: in BIDS_DIR."),
    ] = None,
    session_label: Annotated[
        list[str] | None, typer.Option(help="Sessions to read; default all.")
    ] = None,
    task_id: Annotated[
        list[str] | None, typer.Option("--task-id", "-t", help="Tasks to read; default all.")
    ] = None,
    output_spaces: Annotated[
        str | None, typer.Option(help="Which copies of the runs to read, such as fsLR.")
    ] = None,
    bids_filter_file: Annotated[
        Path | None, typer.Option(help="JSON file that chooses task, session and space of bold.")
    ] = None,
    films: Annotated[
        Path | None, typer.Option(help="Folder of the films; default: stimuli of BIDS_DIR.")
    ] = None,
    test_films: Annotated[
        list[str] | None, typer.Option(help="Films or tasks for testing, as patterns.")
    ] = None,
    confounds: Annotated[
        str | None, typer.Option(help="Strategy of the confound regression; default none.")
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Run table (runs.tsv) instead of what is found.")
    ] = None,
    work_dir: Annotated[
        Path | None,
        typer.Option("--work-dir", "-w", help="Run folders; default OUTPUT_DIR/sourcedata."),
    ] = None,
    config_file: Annotated[Path | None, typer.Option(help=f"Settings: a {FILE_NAME}.")] = None,
    until: Annotated[
        str | None,
        typer.Option(help="Last stage to run, such as train-sr; default report."),
    ] = None,
    preprocess_only: Annotated[
        bool, typer.Option("--preprocess-only", help="Stop after voxels, clips and frames.")
    ] = False,
    skip_evaluation: Annotated[
        bool, typer.Option("--skip-evaluation", help="Do not measure the reconstructions.")
    ] = False,
    skip_report: Annotated[
        bool, typer.Option("--skip-report", help="Write no HTML report.")
    ] = False,
    stop_on_first_crash: Annotated[
        bool,
        typer.Option("--stop-on-first-crash", help="Stop at the first participant that fails."),
    ] = False,
    profile: Annotated[
        str | None, typer.Option(help="tiny, paper or compact; default tiny.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random numbers.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting: section.key=value.", metavar="KEY=VALUE"),
    ] = None,
    skip_bids_validation: Annotated[
        bool,
        typer.Option(
            "--skip-bids-validation", help="Accepted as elsewhere: names are read, not validated."
        ),
    ] = False,
    notrack: Annotated[
        bool, typer.Option("--notrack", help="Accepted as elsewhere: nothing is ever sent.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print details.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Decode the videos that participants of a BIDS data set watched."""
    from neuroclips_cli.stages import bids_app as stage

    console.configure(verbose=verbose, quiet=quiet)
    if level is Level.group:
        stage.run_group(output_dir)
        return
    flags = {
        "run.dataset": str(bids_dir if derivatives is None else derivatives),
        "data.raw": None if derivatives is None else str(bids_dir),
        "data.films": None if films is None else str(films),
        "data.task": ",".join(_words(task_id)) or None,
        "data.session": ",".join(_words(session_label)) or None,
        "data.space": output_spaces,
        "data.test_films": _words(test_films) or None,
        "data.confounds": confounds,
        "data.runs": None if runs is None else str(runs),
        "run.profile": profile,
        "run.device": device,
        "run.seed": seed,
    }
    if bids_filter_file is not None:
        flags |= stage.filter_settings(bids_filter_file)
    request = stage.Request(
        bids=bids_dir,
        out=output_dir,
        work=work_dir or output_dir / "sourcedata" / "neuroclips",
        labels=_words(participant_label),
        stages=_stages(
            stage.STAGES, "preprocess" if preprocess_only else until, skip_evaluation, skip_report
        ),
        stop=stop_on_first_crash,
    )
    failed = stage.run_participants(_settings(flags, set_ or [], config_file), request)
    if failed:
        raise UserError(
            f"{len(failed)} participants failed: {', '.join(failed)}; correct the problems listed "
            "above and start the same command again, finished parts are kept"
        )


def _stages(
    every: tuple[str, ...], until: str | None, skip_evaluation: bool, skip_report: bool
) -> tuple[str, ...]:
    """Return the stages to run; a report needs the evaluation."""
    if until is not None and until not in every:
        raise UserError(f"--until {until} is no stage: write {', '.join(every)}")
    wanted = every if until is None else every[: every.index(until) + 1]
    left_out = {"evaluate", "report"} if skip_evaluation else set()
    left_out |= {"report"} if skip_report else set()
    return tuple(name for name in wanted if name not in left_out)


def _settings(flags: dict[str, Any], items: list[str], config: Path | None) -> Any:
    """Put the settings in force together; dedicated options beat ``--set``."""
    from neuroclips_cli.settings.load import load_settings

    given = set_items(items) | {key: value for key, value in flags.items() if value is not None}
    if config is None:
        return load_settings(given)
    if config.name != FILE_NAME or not config.is_file():
        raise UserError(f"--config-file {config} is not a file called {FILE_NAME}: give one")
    return load_settings(given, folder=config.parent)


def spread(arguments: list[str]) -> list[str]:
    """Give the option again before every further label: ``--participant-label 01 02``.

    Only behind the level, as BIDS-Apps are called; before it a label could not be told from a
    folder.
    """
    levels = [place for place, word in enumerate(arguments) if word in set(Level)]
    head = levels[0] + 1 if levels else len(arguments)
    spread_out, option = arguments[:head], ""
    for place, word in enumerate(arguments[head:], start=head):
        if word.startswith("-"):
            option = word if word in _SEVERAL else ""
        elif option and arguments[place - 1] != option:
            spread_out.append(option)
        spread_out.append(word)
    return spread_out


def main() -> None:
    """Run the command and exit."""
    sys.exit(command_line.guarded_run(spread(sys.argv[1:]), app))
