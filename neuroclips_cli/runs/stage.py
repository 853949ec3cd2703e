"""Stage folders: what every recipe uses to read, write, resume and account for its results.

A stage folder is ``<workdir>/sub-01/<stage>``. Its ``manifest.json`` says what it was made from
and whether it is finished; files appear in it whole or not at all; one process writes it.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroclips_cli import console
from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic, checksums, npy
from neuroclips_cli.io.atomic import read_json, sha256
from neuroclips_cli.io.lock import lock_holder, stage_lock
from neuroclips_cli.io.npy import read_array
from neuroclips_cli.runs import manifest, pipeline
from neuroclips_cli.runtime import distributed
from neuroclips_cli.settings.load import Settings

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import DTypeLike

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

_NAME = re.compile(r"[a-z0-9]+([-_.][a-z0-9]+)*")
LEAST_SPACE = 4 * atomic.MEBIBYTE
"""No stage begins with less: tables, figures, logs and manifests."""


def subject_label(subject: int) -> str:
    """Return the BIDS label of a subject: ``sub-01``."""
    return f"sub-{subject:02d}"


def pool_name(subjects: Sequence[int]) -> str:
    """Return the folder of a decoder that several subjects share: ``pool-01-02-03``."""
    return "-".join(["pool", *(f"{subject:02d}" for subject in sorted(subjects))])


def decoder_name(settings: Settings) -> str:
    """Return the folder of the decoder in use within the work folder; empty: the subject's own.

    Raises
    ------
    UserError
        If ``run.decoder`` is no name of a folder.
    """
    name = settings.run.decoder or (
        pool_name(settings.run.subjects) if settings.run.subjects else ""
    )
    if name and (not _NAME.fullmatch(name) or name.startswith("sub-")):
        raise UserError(
            f"--decoder {name!r} is no decoder's folder in {settings.run.workdir}: write one such "
            "as pool-01-02-03, without a path; leave it out for the subject's own"
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


def command_for(stage: str, settings: Settings) -> str:
    """Return the command line that makes a stage, for messages."""
    spec = pipeline.spec_of(stage)
    name = spec.name if spec else stage
    variant = stage.removeprefix(name)
    words = ["neuroclips", name]
    if name == "evaluate" and variant:
        run = "fuse" if variant == "-fuse" else f"reconstruct{variant}"
        words += ["--run", run]
    elif name == "reconstruct":
        plain, git, _ = variant.partition("-captioner-git")
        words += ["--without", plain.removeprefix("-without-")] if plain else []
        if git or settings.reconstruct.captioner != "blip2":
            words += ["--captioner", "git" if git else "blip2"]
    if "-control-" in stage:
        words = ["neuroclips", "controls", "--only", stage.partition("-control-")[2]]
    if pipeline.is_shared(stage):
        words += ["DIR"]
    elif settings.run.subjects and spec and spec.owner == "decoder":
        words += ["--subjects", ",".join(map(str, settings.run.subjects))]
    else:
        words += ["--subject", str(settings.run.subject)]
        decoder = decoder_name(settings)
        words += ["--decoder", decoder] if decoder and name != "preprocess" else []
    if settings.run.workdir != "runs":
        words += ["--workdir", settings.run.workdir]
    return " ".join(words)


def stage_state(
    settings: Settings, stage: str, digests: dict[Path, str] | None = None
) -> tuple[str, list[str], dict[str, Any] | None]:
    """Return ``(state, reasons, manifest)`` of a stage.

    ``state`` is ``missing``, ``running`` (another process writes it; the reason names it),
    ``interrupted``, ``damaged`` (the reasons name files that are not what was written, as far as
    :mod:`integrity`'s cheap marks show), ``stale`` (the reasons say what changed) or ``done``.
    ``digests`` is shared by calls that ask about several stages, so that every input is read once.
    """
    folder = _home(settings, stage) / stage
    record = manifest.read(folder)
    if record is None:
        return "missing", [], None
    if record["state"] != "done":
        writer = lock_holder(folder.parent, stage)
        return ("running", [writer], record) if writer else ("interrupted", [], record)
    altered = checksums.altered(folder, record)
    if altered:
        return "damaged", altered, record
    reasons = manifest.stale_because(folder, record, settings, digests)
    return ("stale" if reasons else "done"), reasons, record


def require_stage(settings: Settings, stage: str, needed_by: str) -> Path:
    """Return the folder of a finished stage that another one needs.

    Raises
    ------
    UserError
        If it is missing, unfinished, damaged or stale; the message names the command to run first.
    """
    _check_name(stage)
    folder = stage_folder(settings, stage)
    state, reasons, _ = stage_state(settings, stage)
    if state == "done":
        return folder
    label, command = subject_label(settings.run.subject), command_for(stage, settings)
    what = {
        "missing": f"which {folder} does not hold: run `{command}` first",
        "interrupted": f"which was interrupted: run `{command}`, it goes on where it stopped",
        "running": f"which {''.join(reasons)} is writing now: wait for it to end",
        "damaged": f"which is damaged ({'; '.join(reasons[:3])}): run `{command}` again",
        "stale": f"which is stale ({'; '.join(reasons)}): run `{command}` again",
    }[state]
    raise UserError(f"{needed_by} needs {stage} of {label}, {what}")


def require_upstream(
    settings: Settings, stage: str, *, leave_out: Sequence[str] = ()
) -> dict[str, Path]:
    """Return name and folder of every stage that a stage needs, as the table of stages says.

    Raises
    ------
    UserError
        As :func:`require_stage`.
    """
    spec = pipeline.spec_of(stage)
    needs = spec.needs if spec else ()
    return {n: require_stage(settings, n, stage) for n in needs if n not in leave_out}


@dataclass(frozen=True)
class StageRequest:
    """What decides a stage's result, beside its settings and the seed.

    Attributes
    ----------
    name : str
        The stage, or a variant of it, and its folder.
    inputs : mapping
        Name to file or folder.
    extra : mapping
        Further things, as JSON values.
    sections : tuple of str, optional
        Sections of the settings, where they are not those of the table of stages.
    """

    name: str
    inputs: Mapping[str, Path | str]
    extra: Mapping[str, Any] = field(default_factory=dict)
    sections: tuple[str, ...] | None = None

    def open(self, settings: Settings, *, overwrite: bool = False) -> AbstractContextManager[Stage]:
        """Open the stage's folder; see :func:`open_stage`."""
        return open_stage(
            settings,
            self.name,
            inputs=self.inputs,
            sections=self.sections,
            overwrite=overwrite,
            extra=self.extra,
        )


def is_up_to_date(settings: Settings, request: StageRequest) -> bool:
    """Tell, and say to the user, whether the result that is asked for is there; nothing is written.

    Raises
    ------
    UserError
        If the name is none, or the manifest in the folder is no manifest.
    """
    _check_name(request.name)
    sections = request.sections
    if sections is None:
        sections = pipeline.settings_sections(request.name)
    comparison = _compare(settings, request.name, sections, request.inputs, request.extra)
    if comparison.up_to_date:
        console.info(f"{request.name} of {_home(settings, request.name).name} is up to date")
    return comparison.up_to_date


@dataclass(frozen=True)
class _Comparison:
    """A stage as it is asked for beside the one that is there.

    Attributes
    ----------
    record : dict
        The manifest of a stage that begins now.
    old : dict or None
        The manifest in the folder.
    changes, damage : list of str
        What decides the two differently; which files of the old one are not what was written.
    up_to_date : bool
        Whether the old one is what is asked for, finished and whole.
    """

    record: dict[str, Any]
    old: dict[str, Any] | None
    changes: list[str]
    damage: list[str]
    up_to_date: bool


def _compare(
    settings: Settings,
    stage: str,
    sections: Sequence[str],
    inputs: Mapping[str, Path | str],
    extra: Mapping[str, Any] | None,
) -> _Comparison:
    """Compare what a stage's folder holds with what is asked for."""
    folder = _home(settings, stage) / stage
    decided = manifest.determinants(settings, sections, extra)
    recorded = manifest.record_inputs(folder, inputs, workdir_folder(settings))
    record = manifest.new(settings, stage, decided, recorded)
    old = manifest.read(folder)
    if old is None:
        return _Comparison(record, None, [], [], up_to_date=False)
    changes = manifest.differences(old, record)
    damage = checksums.altered(folder, old) if old["state"] == "done" else []
    done = not changes and not damage and _finished(folder, old)
    return _Comparison(record, old, changes, damage, up_to_date=done)


@contextmanager
def open_stage(
    settings: Settings,
    stage: str,
    *,
    inputs: Mapping[str, Path | str],
    sections: Sequence[str] | None = None,
    overwrite: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> Iterator[Stage]:
    """Open a stage folder for writing, for the length of the block.

    Parameters
    ----------
    settings
        All settings; they are recorded whole.
    stage
        Name of the stage and its folder.
    inputs
        Name to file or folder. A stage folder counts by its manifest's output hashes.
    sections
        The setting sections that decide the result, where they are not those of the table of
        stages. The seed always does.
    overwrite
        Start afresh even if the result is there.
    extra
        Further things that decide the result, such as ``{"clips": "0:50"}``; JSON values.

    Yields
    ------
    Stage
        ``up_to_date``: return at once. ``resumed``: partial work of an interrupted run with
        the same inputs and settings lies in the folder. Otherwise the folder is empty.

    Notes
    -----
    Of several processes the first one alone opens the folder; the others get a stage that writes
    nothing, and leave the block when the first one has finished it.

    On a clean exit the outputs are hashed and the state becomes ``done``; on an exception, and
    after :meth:`Stage.pause`, it stays ``running``. A finished result that is being replaced is
    kept aside until its successor is done, and comes back if the new run fails before it has
    written anything.
    """
    _check_name(stage)
    sections = pipeline.settings_sections(stage) if sections is None else sections
    alone = _open_on_main(settings, stage, sections, inputs, overwrite, extra)
    if distributed.world_size() == 1:
        with alone as opened:
            yield opened
    elif distributed.is_main_process():
        with _broadcast_state(alone) as opened:
            yield opened
    else:
        found = distributed.broadcast_object(None)
        if found is None:
            raise distributed.AbortedByMainProcess
        yield _ReadOnlyStage(_home(settings, stage) / stage, {}, **found)
    distributed.barrier()


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
    settings: Settings,
    stage: str,
    sections: Sequence[str],
    inputs: Mapping[str, Path | str],
    overwrite: bool,
    extra: Mapping[str, Any] | None,
) -> Iterator[Stage]:
    """Open a stage folder in the process that writes; see :func:`open_stage`."""
    run = _home(settings, stage)
    folder = run / stage
    with stage_lock(run, stage):
        manifest.describe_workdir(workdir_folder(settings))
        comparison = _compare(settings, stage, sections, inputs, extra)
        record, old, changes = comparison.record, comparison.old, comparison.changes
        damage = comparison.damage
        fresh = old is None or overwrite or bool(changes) or bool(damage)
        if old and comparison.up_to_date and not overwrite:
            console.info(f"{stage} of {run.name} is up to date")
            yield Stage(folder, old, up_to_date=True)
            return
        atomic.require_space(run, LEAST_SPACE)
        resumed = old is not None and not fresh and old["state"] == "running"
        if resumed and old:
            record["facts"], record["seconds"] = old["facts"], old["seconds"]
            record["start"] = old["start"]
            console.info(f"{stage} of {run.name} was interrupted; going on where it stopped")
        elif old:
            if damage:
                console.warn(f"{stage} of {run.name} is made again: {'; '.join(damage[:4])}")
            elif changes:
                console.info(f"{stage} of {run.name} is made again: {'; '.join(changes[:4])}")
            _set_aside(folder)
        _prepare(folder)
        manifest.write(folder, record)
        yield from _run(Stage(folder, record, resumed=resumed))


def _run(stage: Stage) -> Iterator[Stage]:
    """Hand the stage out, and account for how the block ended."""
    began = time.monotonic()
    before = stage.record["seconds"]
    try:
        yield stage
    except BaseException as error:
        stage.record["seconds"] = round(before + time.monotonic() - began, 3)
        _abandon(stage, keep=not isinstance(error, UserError))
        raise
    if stage.paused:
        stage.record["seconds"] = round(before + time.monotonic() - began, 3)
        manifest.write(stage.folder, stage.record)
        return
    outputs = manifest.hash_outputs(stage.folder)
    stage.record.update(
        outputs=outputs,
        marks=checksums.marks(stage.folder, outputs),
        state="done",
        end=manifest.now(),
        seconds=round(before + time.monotonic() - began, 3),
    )
    manifest.write(stage.folder, stage.record)
    shutil.rmtree(_aside(stage.folder), ignore_errors=True)


class Stage:
    """An open stage folder; see :func:`open_stage`.

    Attributes
    ----------
    folder
        Where the results go.
    up_to_date
        Inputs and settings are unchanged and all outputs there: nothing to do.
    resumed
        An interrupted run with the same inputs and settings left partial work in ``folder``.
    paused
        The recipe stops before the end on purpose, see :meth:`pause`.
    """

    def __init__(
        self,
        folder: Path,
        record: dict[str, Any],
        *,
        up_to_date: bool = False,
        resumed: bool = False,
    ) -> None:
        self.folder = folder
        self.record = record
        self.up_to_date = up_to_date
        self.resumed = resumed
        self.paused = False

    def pause(self) -> None:
        """Leave the stage unfinished at the end of the block; the next call goes on from here."""
        self.paused = True

    def fact(self, key: str, value: Any) -> None:
        """Put something worth knowing into the manifest's ``facts`` (a JSON value)."""
        self.record["facts"][key] = value
        manifest.write(self.folder, self.record)

    def need_space(self, size: float) -> None:
        """Refuse at once what the disk cannot hold: ``size`` bytes are still to be written.

        Raises
        ------
        UserError
            If less is free; the message names the disk and how much is missing.
        """
        there = sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file())
        atomic.require_space(self.folder, int(size) - (there if self.resumed else 0))

    @contextmanager
    def atomic(self, name: str) -> Iterator[Path]:
        """Yield a temporary path beside ``name`` with the same suffix; it gets its name at the end.

        Works for a folder too: make it at the path that is handed out.
        """
        with atomic.atomic_path(self.folder / name) as temporary:
            yield temporary

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file."""
        return atomic.write_text(self.folder / name, text)

    def write_json(self, name: str, content: Any) -> Path:
        """Write a JSON file; NaN is refused."""
        return atomic.write_json(self.folder / name, content)

    def write_csv(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
        """Write a table with a header line."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        return atomic.write_text(self.folder / name, text.getvalue())

    def write_array(self, name: str, array: np.ndarray) -> Path:
        """Write a ``.npy`` file."""
        import numpy as np

        path = self.folder / name
        with (
            atomic.explain_full_disk(path, array.nbytes),
            atomic.atomic_path(path) as temporary,
            open(temporary, "wb") as stream,
        ):
            np.save(stream, array, allow_pickle=False)
        return path

    def write_safetensors(
        self,
        name: str,
        tensors: Mapping[str, torch.Tensor],
        metadata: Mapping[str, str] | None = None,
    ) -> Path:
        """Write tensors by name; they are made contiguous and moved to the CPU."""
        from safetensors.torch import save_file

        ready = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        with self.atomic(name) as temporary:
            save_file(ready, temporary, metadata=dict(metadata or {}) or None)
        return self.folder / name

    @contextmanager
    def open_array(
        self, name: str, shape: Sequence[int], dtype: DTypeLike
    ) -> Iterator[np.memmap[Any, Any]]:
        """Open a new ``.npy`` file as a writable memory map, for results that come in pieces.

        It gets its name at the end of the block. See :func:`resumable.map_rows` for results that
        an interrupted run goes on with.

        Raises
        ------
        UserError
            If the disk cannot hold the whole array; known at once, not half way.
        """
        import numpy as np

        file = npy.PartialArray(self.folder / name)
        array = file.create(tuple(shape), np.dtype(dtype))
        yield array
        array.flush()
        file.complete()


class _ReadOnlyStage(Stage):
    """The stage as the other processes have it: they compute, the first one writes."""

    def fact(self, key: str, value: Any) -> None:
        """Leave it to the first process."""

    def need_space(self, size: float) -> None:
        """Leave it to the first process."""

    def write_text(self, name: str, text: str) -> Path:
        """Return where the first process writes it."""
        return self.folder / name

    def write_json(self, name: str, content: Any) -> Path:
        """Return where the first process writes it."""
        return self.folder / name

    def write_csv(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
        """Return where the first process writes it."""
        return self.folder / name

    def write_array(self, name: str, array: np.ndarray) -> Path:
        """Return where the first process writes it."""
        return self.folder / name

    def write_safetensors(
        self,
        name: str,
        tensors: Mapping[str, torch.Tensor],
        metadata: Mapping[str, str] | None = None,
    ) -> Path:
        """Return where the first process writes it."""
        return self.folder / name


def read_csv(path: Path | str) -> list[dict[str, str]]:
    """Read a table with a header line as one dictionary per row."""
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no table in UTF-8 ({error}): make it again") from error


def _check_name(stage: str) -> None:
    """Refuse a stage name, such as one made from ``--run``, that leads out of the run folder."""
    if not _NAME.fullmatch(stage):
        raise UserError(
            f"{stage!r} is no name of a stage: write small letters, digits and hyphens only"
        )


def _finished(folder: Path, record: Mapping[str, Any]) -> bool:
    """Tell whether a stage is done and none of its files has gone."""
    return record["state"] == "done" and all((folder / n).is_file() for n in record["outputs"])


def _aside(folder: Path) -> Path:
    """Return where a result waits while its successor is made."""
    return folder.parent / ".replaced" / folder.name


def _set_aside(folder: Path) -> None:
    """Move a finished result aside; drop the partial work of an interrupted one."""
    record = manifest.read(folder)
    if record and record["state"] == "done":
        shutil.rmtree(_aside(folder), ignore_errors=True)
        _aside(folder).parent.mkdir(parents=True, exist_ok=True)
        folder.replace(_aside(folder))
    else:
        shutil.rmtree(folder)


def _prepare(folder: Path) -> None:
    """Make the folder, and remove half-written files that a killed process left."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic.remove_leftovers(folder)


def _abandon(stage: Stage, *, keep: bool) -> None:
    """Leave partial work for the next run; without any, bring the earlier result back."""
    files = [f for f in stage.folder.rglob("*") if f.is_file() and f.name != manifest.NAME]
    earlier = _aside(stage.folder)
    if files or (keep and not earlier.exists()):
        # On a full disk this fails too; what matters is the error that brought us here.
        with suppress(UserError, OSError):
            manifest.write(stage.folder, stage.record)
        return
    shutil.rmtree(stage.folder)
    if earlier.exists():
        earlier.replace(stage.folder)
