"""Stage folders: how every recipe opens, resumes and accounts for its results.

A stage folder is ``<workdir>/sub-01/<stage>``. Its ``manifest.json`` says what it was made from
and whether it is finished; files appear in it whole or not at all; one process writes it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuroclips_cli import console
from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.io.atomic import read_json, sha256
from neuroclips_cli.io.csv import read_csv
from neuroclips_cli.io.lock import stage_lock
from neuroclips_cli.io.npy import read_array
from neuroclips_cli.runs import manifest, pipeline
from neuroclips_cli.runs.locations import (
    decoder_name,
    named_folder,
    pool_name,
    run_folder,
    stage_folder,
    subject_label,
    workdir_folder,
)
from neuroclips_cli.runs.state import command_for, require_stage, require_upstream, stage_state
from neuroclips_cli.runs.writer import FolderWriter
from neuroclips_cli.runtime import distributed
from neuroclips_cli.settings.load import Settings

__all__ = [
    "Stage",
    "StageRequest",
    "command_for",
    "decoder_name",
    "is_up_to_date",
    "open_stage",
    "pool_name",
    "read_array",
    "read_csv",
    "read_json",
    "require_stage",
    "require_upstream",
    "run_folder",
    "sha256",
    "stage_folder",
    "stage_state",
    "subject_label",
    "workdir_folder",
]

LEAST_SPACE = 4 * atomic.MEBIBYTE
"""No stage begins with less: tables, figures, logs and manifests."""


@dataclass(frozen=True)
class StageRequest:
    """What decides a stage's result, beside its settings and the seed.

    Attributes
    ----------
    name : str
        The stage, or a variant of it, and its folder.
    inputs : mapping
        Name to file or folder. A stage folder counts by its manifest's output hashes.
    extra : mapping
        Further things, as JSON values, such as ``{"clips": "0:50"}``.
    sections : tuple of str, optional
        Sections of the settings, where they are not those of the table of stages. The seed
        always decides.
    """

    name: str
    inputs: Mapping[str, Path | str]
    extra: Mapping[str, Any] = field(default_factory=dict)
    sections: tuple[str, ...] | None = None

    def find(self, folder: Path, settings: Settings) -> manifest.Found:
        """Read what the stage's folder holds, and compare it with what is asked for.

        Raises
        ------
        UserError
            If the manifest in the folder is not a manifest.
        """
        sections = self.sections
        if sections is None:
            sections = pipeline.settings_sections(self.name)
        return manifest.find(folder, settings, self.inputs, sections, self.extra)

    @contextmanager
    def open(self, settings: Settings, *, overwrite: bool = False) -> Iterator[Stage]:
        """Open the stage's folder for writing, for the length of the block.

        Parameters
        ----------
        settings : Settings
            All settings; they are recorded whole.
        overwrite : bool
            Start over even if the result exists.

        Yields
        ------
        Stage
            ``up_to_date``: return at once. ``resumed``: partial work of an interrupted run with
            the same inputs and settings lies in the folder. Otherwise the folder is empty.

        Notes
        -----
        Of several processes the first one alone opens the folder; the others get a stage that
        writes nothing, and leave the block when the first one has finished it.

        On a clean exit the outputs are hashed and the state becomes ``done``; on an exception, and
        after :meth:`Stage.pause`, it stays ``running``. A finished result that is being replaced
        is kept aside until its successor is done, and comes back if the new run fails before it
        has written anything. So is partial work of other settings, until the new run ends or the
        disk has no room for both.
        """
        folder = named_folder(settings, self.name)
        if distributed.is_main_process():
            with _broadcast_state(_open_on_main(self, folder, settings, overwrite)) as opened:
                yield opened
        else:
            state = distributed.broadcast_object(None)
            if state is None:
                raise distributed.AbortedByMainProcess
            yield Stage(folder, {}, writes=False, **state)
        distributed.barrier()


def open_stage(
    settings: Settings,
    stage: str,
    *,
    inputs: Mapping[str, Path | str],
    sections: Sequence[str] | None = None,
    overwrite: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> AbstractContextManager[Stage]:
    """Open a stage folder without a request made before; see :class:`StageRequest`."""
    chosen = None if sections is None else tuple(sections)
    request = StageRequest(stage, inputs, extra or {}, chosen)
    return request.open(settings, overwrite=overwrite)


def is_up_to_date(settings: Settings, request: StageRequest) -> bool:
    """Tell, and say to the user, whether the result that is asked for is there; nothing is written.

    Raises
    ------
    UserError
        If the name is none, or the manifest in the folder is not a manifest.
    """
    folder = named_folder(settings, request.name)
    found = request.find(folder, settings)
    if found.up_to_date:
        console.info(f"{_label(folder)} is up to date")
    return found.up_to_date


class Stage(FolderWriter):
    """An open stage folder; see :meth:`StageRequest.open`.

    Attributes
    ----------
    folder : pathlib.Path
        Where the results go.
    writes : bool
        Whether this process is the one that writes.
    up_to_date : bool
        Inputs and settings are unchanged and all outputs there: nothing to do.
    resumed : bool
        An interrupted run with the same inputs and settings left partial work in ``folder``.
    paused : bool
        The recipe stops before the end on purpose, see :meth:`pause`.
    record : dict
        The manifest.
    """

    def __init__(
        self,
        folder: Path,
        record: dict[str, Any],
        *,
        writes: bool = True,
        up_to_date: bool = False,
        resumed: bool = False,
    ) -> None:
        super().__init__(folder, writes=writes)
        self.record = record
        self.up_to_date = up_to_date
        self.resumed = resumed
        self.paused = False

    def pause(self) -> None:
        """Leave the stage unfinished at the end of the block; the next call continues from here."""
        self.paused = True

    def fact(self, key: str, value: Any) -> None:
        """Put something worth knowing into the manifest's ``facts`` (a JSON value)."""
        if self.writes:
            self.record["facts"][key] = value
            manifest.write(self.folder, self.record)

    def need_space(self, size: float) -> None:
        """Refuse at once what the disk cannot hold: ``size`` bytes are still to be written.

        Raises
        ------
        UserError
            If less is free; the message names the disk and how much is missing.
        """
        if not self.writes:
            return
        there = sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file())
        wanted = int(size) - (there if self.resumed else 0)
        try:
            atomic.require_space(self.folder, wanted)
        except UserError:
            if not _drop_partial(self.folder):
                raise
            atomic.require_space(self.folder, wanted)


@contextmanager
def _broadcast_state(alone: AbstractContextManager[Stage]) -> Iterator[Stage]:
    """Open a stage and tell the other processes how it was found, or that it was refused."""
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(alone)
        except UserError:
            distributed.broadcast_object(None)
            raise
        distributed.broadcast_object({"up_to_date": opened.up_to_date, "resumed": opened.resumed})
        yield opened


@contextmanager
def _open_on_main(
    request: StageRequest, folder: Path, settings: Settings, overwrite: bool
) -> Iterator[Stage]:
    """Open a stage folder in the process that writes: lock it, read it, begin, account for it."""
    with stage_lock(folder.parent, folder.name):
        found = request.find(folder, settings)
        if found.old and found.up_to_date and not overwrite:
            console.info(f"{_label(folder)} is up to date")
            yield Stage(folder, found.old, up_to_date=True)
        else:
            try:
                yield from _run(_begin(folder, found, overwrite))
            finally:
                if folder.exists():
                    manifest.describe_workdir(Path(settings.run.workdir))


def _label(folder: Path) -> str:
    """Name a stage and whose it is, for messages."""
    return f"{folder.name} of {folder.parent.name}"


def _begin(folder: Path, found: manifest.Found, overwrite: bool) -> Stage:
    """Prepare the folder: continue what lies there, or clear it for a result of its own."""
    name = _label(folder)
    atomic.require_space(folder.parent, LEAST_SPACE)
    resumed = found.resumable and not overwrite
    if resumed:
        console.info(f"{name} was interrupted; continuing where it stopped")
    elif found.old:
        if found.damage:
            console.warn(f"{name} is made again: {'; '.join(found.damage[:4])}")
        elif found.changes:
            console.info(f"{name} is made again: {'; '.join(found.changes[:4])}")
        _set_aside(folder, found.old)
    folder.mkdir(parents=True, exist_ok=True)
    atomic.remove_leftovers(folder)  # half-written files of a killed process
    record = found.resumed_record() if resumed else found.record
    manifest.write(folder, record)
    return Stage(folder, record, resumed=resumed)


def _run(stage: Stage) -> Iterator[Stage]:
    """Hand the stage out, and account for how the block ended."""
    began, before = time.monotonic(), stage.record["seconds"]

    def account() -> None:
        stage.record["seconds"] = round(before + time.monotonic() - began, 3)

    try:
        yield stage
    except BaseException as error:
        account()
        _abandon(stage, keep=not isinstance(error, UserError))
        raise
    account()
    if stage.paused:
        manifest.write(stage.folder, stage.record)
        return
    manifest.finish(stage.folder, stage.record)
    _drop_earlier(stage.folder)


def _aside(folder: Path) -> Path:
    """Return where a result waits while its successor is made."""
    return folder.parent / ".replaced" / folder.name


def _set_aside(folder: Path, record: Mapping[str, Any]) -> None:
    """Move a result aside, and partial work unless a finished result waits there already."""
    waiting = manifest.read(_aside(folder))
    if record["state"] != "done" and waiting is not None and waiting["state"] == "done":
        shutil.rmtree(folder)
        return
    _drop_earlier(folder)
    _aside(folder).parent.mkdir(parents=True, exist_ok=True)
    folder.replace(_aside(folder))


def _drop_earlier(folder: Path) -> None:
    """Remove what was set aside, and the place for it if nothing else waits there."""
    shutil.rmtree(_aside(folder), ignore_errors=True)
    with suppress(OSError):
        _aside(folder).parent.rmdir()


def _drop_partial(folder: Path) -> bool:
    """Remove what was set aside if it was not finished; tell whether it was so."""
    earlier = manifest.read(_aside(folder))
    if earlier is None or earlier["state"] == "done":
        return False
    _drop_earlier(folder)
    return True


def _abandon(stage: Stage, *, keep: bool) -> None:
    """Leave partial work for the next run; without any, bring back what was there before."""
    files = [f for f in stage.folder.rglob("*") if f.is_file() and f.name != manifest.NAME]
    earlier = _aside(stage.folder)
    if files or (keep and not earlier.exists()):
        # On a full disk this fails too; what matters is the error that brought us here.
        with suppress(UserError, OSError):
            manifest.write(stage.folder, stage.record)
            _drop_partial(stage.folder)
        return
    shutil.rmtree(stage.folder)
    if earlier.exists():
        earlier.replace(stage.folder)
    _drop_earlier(stage.folder)
