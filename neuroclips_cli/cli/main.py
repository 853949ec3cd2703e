"""The command ``neuroclips``: its sub-commands and its exit codes.

0 done, 1 a bug, 2 something the user can correct, 128 + a signal stopped by it (130: Ctrl-C).
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import Annotated, Any

import typer

from neuroclips_cli import __version__, console
from neuroclips_cli.cli import signals
from neuroclips_cli.cli.commands import LazyGroup
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import full_disk_message, is_full_disk
from neuroclips_cli.runtime import distributed

STOPPED = 130
"""Exit code after Ctrl-C; Typer returns it instead of the exception."""

app = typer.Typer(
    name="neuroclips",
    cls=LazyGroup,
    help="From fMRI to fluent video: an open implementation of NeuroClips (NeurIPS 2024).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    """Print the version and stop."""
    if asked:
        console.out(f"neuroclips {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """From fMRI to fluent video: an open implementation of NeuroClips (NeurIPS 2024)."""


def main() -> None:
    """Run the command line and exit."""
    try:
        code = guarded_run()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has gone; what it wanted it has read.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def guarded_run(arguments: list[str] | None = None, program: typer.Typer = app) -> int:
    """Run one command, which signals end at a resumable point; return its exit code."""
    try:
        with signals.stoppable():
            return run(arguments, program)
    except KeyboardInterrupt:  # the signal came while the command was ending
        return _stopped(arguments, program)


def run(arguments: list[str] | None = None, program: typer.Typer = app) -> int:
    """Run one command and return its exit code."""
    try:
        code = int(program(arguments, standalone_mode=False) or 0)
        distributed.destroy_process_group()
        return _stopped(arguments, program) if code == STOPPED else code
    except UserError as problem:
        console.error(str(problem))
        return 2
    except distributed.AbortedByMainProcess:
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return _stopped(arguments, program)
    except BrokenPipeError:
        raise
    except Exception as problem:
        return _explain(problem)


def _stopped(arguments: list[str] | None, program: typer.Typer) -> int:
    """Say how to continue after a signal."""
    console.error(signals.message(arguments, str(program.info.name)))
    return signals.exit_code()


def _explain(problem: Exception) -> int:
    """Say what an exception means: a slip on the command line, the machine, or a bug."""
    if hasattr(problem, "format_message") and hasattr(problem, "exit_code"):
        _show_usage(problem)
        return 2
    if is_full_disk(problem):
        console.error(full_disk_message(getattr(problem, "filename", None)))
        return 2
    if isinstance(problem, OSError) and problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        console.error(f"no permission for {problem.filename}: change it or choose another folder")
        return 2
    if _is_out_of_memory(problem):
        console.error(
            f"not enough memory ({str(problem).splitlines()[0] if str(problem) else 'RAM'}): "
            "choose a smaller batch size with --batch-size or --set, or another --device"
        )
        return 2
    if distributed.is_peer_lost(problem):
        console.error(
            "another process of this run has ended: look at its message; what is finished is kept, "
            "start the same command again, with as many processes as you like"
        )
        return 2
    traceback.print_exception(problem)
    console.error(
        f"this is a bug in neuroclips {__version__}; please report it with the command that you "
        "ran and the lines above"
    )
    return 1


def _show_usage(problem: Any) -> None:
    """Show an error of the command line's own checks, or the help where nothing was asked."""
    context = getattr(problem, "ctx", None)
    if type(problem).__name__ == "NoArgsIsHelpError":
        typer.echo(problem.format_message())
        return
    if context is not None:
        asked = f"{context.command_path} {context.help_option_names[0]}"
        typer.echo(f"{context.get_usage()}\nTry '{asked}' for help.", err=True)
    console.error(problem.format_message())


def _is_out_of_memory(problem: Exception) -> bool:
    """Tell whether RAM or a GPU's memory ran out; torch has its own classes for it."""
    return (
        isinstance(problem, MemoryError)
        or type(problem).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(problem)
    )
