"""Options that every command shares, and the way from options to settings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from neuroclips_cli import console
from neuroclips_cli.cli.commands import COMMANDS, IMPORTED
from neuroclips_cli.cli.help_pages import PlainCommand
from neuroclips_cli.errors import UserError
from neuroclips_cli.runs.pipeline import BY_NAME, upstream
from neuroclips_cli.runtime import distributed
from neuroclips_cli.settings.load import Settings


class SettingKey(str):
    """Marks an option as key: ``Annotated[int | None, setting(...), SettingKey("run.seed")]``."""


class FolderKey(SettingKey):
    """Marks an option that names a subject's folder of results: where to work, for whom."""


SHARED = "Common options"
KEYED: tuple[tuple[str, type, str], ...] = (
    ("--subject,--participant-label", str, "Subject: 1, 01 or sub-01; default 1."),
    (
        "--decoder",
        str,
        "Folder in the work folder whose decoder to use, such as pool-01-02-03; default the "
        "subject's own.",
    ),
    ("--workdir", str, "Folder of all results; default runs."),
    ("--dataset", str, "Folder of the data set."),
    ("--profile", str, "tiny, paper or compact."),
    ("--variant", str, "paper, or released: as the authors' code; default paper."),
    ("--device", str, "auto, cpu, cuda or mps; default auto."),
    ("--precision", str, "auto, bfloat16, float32 or highest; default auto."),
    ("--seed", int, "Seed of all random numbers; default 0."),
)
"""Options of every command that set the key of their name in ``[run]``."""
SWITCHES = (
    ("--overwrite", "Start over even if the result exists."),
    ("--verbose,-v", "Print details."),
    ("--quiet,-q", "Only warnings and errors."),
)


@functools.cache
def _shared_parameters() -> list[inspect.Parameter]:
    """Return the options of the panel that all commands have."""

    def option(kind: Any, default: Any, flags: str, help: str, *marks: Any, **more: Any) -> Any:
        names = flags.split(",")
        shown = typer.Option(*names, help=help, rich_help_panel=SHARED, show_default=False, **more)
        name = names[0].removeprefix("--")
        return inspect.Parameter(
            "set_" if name == "set" else name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[(kind, shown, *marks)],
        )

    keyed = [
        option(kind | None, None, names, help, SettingKey(f"run.{names[2:].partition(',')[0]}"))
        for names, kind, help in KEYED
    ]
    items = option(
        list[str] | None, None, "--set", "Any setting: section.key=value.", metavar="KEY=VALUE"
    )
    return [*keyed, items, *(option(bool, False, names, help) for names, help in SWITCHES)]


def command(
    name: str, *, like: str = "", app: typer.Typer = IMPORTED
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command that gets the settings in force as its first argument.

    Its help stands in ``commands.COMMANDS``; a sub-command's is its docstring.
    The decorated function takes ``settings``, then its own parameters, and ``overwrite`` if it
    asks for it. A parameter annotated with :class:`SettingKey` sets that setting and is not
    handed on.

    The table of stages says what settings a stage takes over from the run folder, and whether
    several processes may work on it together.

    Parameters
    ----------
    like
        The stage as whose settings those of a command that is none are put together.
    app
        The group that gets the command.
    """
    spec = BY_NAME.get(name)
    stage = name if spec else like

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        parameters = [p for p in own if p.name != "overwrite"] + _shared_parameters()
        unmarked = _unmarked(parameters)
        handed_on = [p.name for p in own if not _key(p)]

        @functools.wraps(function)
        def run(**given: Any) -> None:
            quiet = given["quiet"] or not distributed.is_main_process()
            console.configure(verbose=given["verbose"], quiet=quiet)
            if spec and spec.distributed:
                distributed.reject_sharded_launchers()
            else:
                distributed.require_single_process(name)
            flags = _flags(parameters, given)
            run_name = str(given.get("run") or "reconstruct")
            needed = upstream(stage, reconstruction=run_name)
            function(_settings(stage, flags, needed), **{n: given[n] for n in handed_on})

        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in unmarked]
        )
        run.__annotations__ = {p.name: p.annotation for p in unmarked}
        app.command(name, cls=PlainCommand, help=function.__doc__ or COMMANDS[name].help)(run)
        return function

    return register


def _settings(stage: str, flags: Mapping[str, Any], needed: Sequence[str]) -> Settings:
    """Return the settings in force, with what the run folder already settled."""
    from neuroclips_cli.runs.inherit import settings_for

    return settings_for(stage, flags, upstream=needed)


def _flags(parameters: Sequence[inspect.Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the settings that were given as options; dedicated options beat ``--set``."""
    flags: dict[str, Any] = {**set_items(given["set_"])}
    for parameter in parameters:
        key = _key(parameter)
        if isinstance(key, FolderKey) and given[parameter.name] is not None:
            from neuroclips_cli.runs.inherit import place_of

            flags |= place_of(Path(given[parameter.name]))
        elif key and given[parameter.name] is not None:
            flags[key] = given[parameter.name]
    return flags


def set_items(items: Sequence[str] | None) -> dict[str, str]:
    """Return the settings that ``--set section.key=value`` names."""
    found = {}
    for item in items or ():
        key, equals, value = item.partition("=")
        if not equals or "." not in key:
            raise UserError(f"--set {item!r} should be section.key=value")
        found[key.strip()] = value.strip()
    return found


def _key(parameter: inspect.Parameter) -> str:
    """Return the setting that a parameter sets, if any."""
    marks = getattr(parameter.annotation, "__metadata__", ())
    return next((mark for mark in marks if isinstance(mark, SettingKey)), "")


def _unmarked(parameters: Sequence[inspect.Parameter]) -> list[inspect.Parameter]:
    """Return the parameters with Typer's own annotation only."""
    plain = []
    for parameter in parameters:
        kind, marks = parameter.annotation.__origin__, parameter.annotation.__metadata__
        option = next(mark for mark in marks if not isinstance(mark, SettingKey))
        plain.append(parameter.replace(annotation=Annotated[kind, option]))
    return plain


def setting(*names: str, help: str) -> Any:
    """Return a dedicated option for a setting; its value comes from the profile when not given."""
    return typer.Option(*names, help=help, show_default=False)


FromCheckpoint = Annotated[
    Path | None,
    typer.Option(help="Start from published weights (last.pth); repeat the option to resume."),
]
Subjects = Annotated[
    str | None,
    setting("--subjects", help="Train one decoder on these subjects, such as 1,2,3."),
    SettingKey("run.subjects"),
]
Steps = Annotated[
    int | None, setting("--steps", help="Denoising steps."), SettingKey("reconstruct.steps")
]
GeneratedTogether = Annotated[
    int | None,
    setting("--batch-size", help="Clips generated together; 0 for what memory allows."),
    SettingKey("reconstruct.batch_size"),
]
