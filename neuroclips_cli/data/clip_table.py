"""The clip table: when every clip was shown, where its response lies, what it shows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.csv import read_table


@dataclass(frozen=True)
class Clip:
    """One row of ``clips.csv``; all text, empty where unknown.

    Attributes
    ----------
    clip : from 0 within the split
    split : train or test
    segment : from 1
    onset_s : seconds from the start of the film's file
    volume : volume that answers to the clip, counted from the beginning of its stretch of film
        without the delay; no whole number where it falls between two
    crosses_scene : 1 if a cut falls inside the clip, 0 if none
    scene : number of the scene that fills most of the clip, counted through all films
    caption
    film : name of the film's file
    held_out : 1 for a training clip that the run table holds out for validation, else 0
    """

    clip: str
    split: str
    segment: str
    onset_s: str
    volume: str
    crosses_scene: str
    scene: str
    caption: str
    film: str
    held_out: str


COLUMNS = tuple(field.name for field in fields(Clip))


@dataclass(frozen=True)
class Scenes:
    """Cuts of the films, as ``stimuli/scenes.csv`` lists them: film -> (number, start, end)."""

    by_film: Mapping[str, tuple[tuple[str, float, float], ...]]

    def of_clip(self, film: str, onset_s: float, clip_s: float) -> tuple[str, str]:
        """Return (crosses_scene, scene) of a clip, both empty if the film is not listed."""
        end_s = onset_s + clip_s
        shown = [
            s for s in self.by_film.get(film, ()) if s[1] < end_s - 1e-6 and s[2] > onset_s + 1e-6
        ]
        if not shown:
            return "", ""
        main = max(shown, key=lambda s: min(end_s, s[2]) - max(onset_s, s[1]))
        return str(int(len(shown) > 1)), main[0]


def read_scenes(*paths: Path) -> Scenes:
    """Read every ``scenes.csv``; a missing file means that nothing is known."""
    films: dict[str, list[tuple[str, float, float]]] = {}
    for path in paths:
        for row in _rows(path, ("film", "scene", "start_s", "end_s")):
            try:
                span = (row["scene"], float(row["start_s"]), float(row["end_s"]))
            except ValueError as error:
                raise UserError(
                    f"{path} has a start or end that is not a number: correct it"
                ) from error
            films.setdefault(row["film"], []).append(span)
    return Scenes({film: tuple(spans) for film, spans in films.items()})


def read_captions(
    path: Path, unseen: Collection[tuple[str, int]] = ()
) -> dict[tuple[str, int], str]:
    """Read ``captions.csv``: (split, clip) -> caption; a missing file means none.

    Parameters
    ----------
    path : Path
        The table.
    unseen : collection of (str, int)
        Films, by split and segment, whose clips are left out; the others are counted anew.

    Raises
    ------
    UserError
        If it is not such a table, or lacks the segments by which films are left out.
    """
    rows = _rows(path, ("split", "clip", "caption", *(("segment",) if unseen else ())))
    try:
        clips = [(row["split"], int(row["clip"]), row["caption"]) for row in rows]
    except ValueError as error:
        raise UserError(f"{path} has a clip that is not a number: correct it") from error
    if not unseen:
        return {(split, clip): caption for split, clip, caption in clips}
    left_out = {(split, str(segment)) for split, segment in unseen}
    seen: dict[tuple[str, int], str] = {}
    counts: dict[str, int] = {}
    for (split, _, caption), row in sorted(
        zip(clips, rows, strict=True), key=lambda pair: pair[0][:2]
    ):
        if (split, row["segment"].strip()) not in left_out:
            counts[split] = counts.get(split, 0) + 1
            seen[split, counts[split] - 1] = caption
    return seen


def check_captions(
    path: Path, captions: Mapping[tuple[str, int], str], clips: Mapping[str, int]
) -> None:
    """Refuse captions of other clips than a split has: they would belong to other films.

    Parameters
    ----------
    path : Path
        Their file, for the message.
    captions : mapping
        (split, clip) -> caption.
    clips : mapping
        Split -> number of clips. A split without any captions is let be.

    Raises
    ------
    UserError
        If a split has captions for some of its clips only, or for more than it has.
    """
    for split, count in clips.items():
        numbers = {number for of, number in captions if of == split}
        if numbers and numbers != set(range(count)):
            wrong = min(numbers.symmetric_difference(range(count)))
            raise UserError(
                f"{path} holds {len(numbers)} captions for the {count} {split} clips (clip {wrong} "
                f"{'lacks one' if wrong not in numbers else 'does not exist'}): write one line for "
                "every clip"
            )


def _rows(path: Path, needed: Iterable[str]) -> list[dict[str, str]]:
    if not path.exists():
        return []
    columns, rows = read_table(path, restval="", advice="correct or remove it")
    lacking = [name for name in needed if name not in columns]
    if lacking:
        raise UserError(f"{path} lacks the column {lacking[0]}: correct or remove it")
    return [row for _, row in rows]


@dataclass(frozen=True)
class ClipSegment:
    """One segment of the clip table: a stretch of film.

    Attributes
    ----------
    number : int
        From 1 within the split.
    name : str
        Of its film, as ``scenes.csv`` calls it.
    clips : int
    film : str
        Name of the film's file; empty if unknown.
    film_start_s : float
        Where in the film it begins, in s.
    held_out : bool
        Whether it is held out for validation.
    volumes_per_s : float or None
        Inverse of the TR; None where it is unknown which volume answers to a clip.
    """

    number: int
    name: str
    clips: int
    film: str = ""
    film_start_s: float = 0.0
    held_out: bool = False
    volumes_per_s: float | None = None


def clip_rows(
    split: str,
    segments: Iterable[ClipSegment],
    clip_s: float,
    delay_s: float,
    scenes: Scenes,
    captions: Mapping[tuple[str, int], str],
) -> list[tuple[str, ...]]:
    """Build the rows of one split in order of segment and onset.

    Parameters
    ----------
    split
        ``train`` or ``test``.
    segments
        In order.
    clip_s, delay_s
        Length of a clip, and how much later its response is, in s.
    scenes, captions
        What is known of the films.
    """
    rows: list[tuple[str, ...]] = []
    for segment in segments:
        rate = segment.volumes_per_s
        for position in range(segment.clips):
            onset = segment.film_start_s + position * clip_s
            crosses, scene = scenes.of_clip(segment.name, onset, clip_s)
            number = len(rows)
            clip = Clip(
                clip=str(number),
                split=split,
                segment=str(segment.number),
                onset_s=f"{onset:.9g}",
                volume="" if rate is None else f"{(position * clip_s + delay_s) * rate:.6g}",
                crosses_scene=crosses,
                scene=scene,
                caption=captions.get((split, number), ""),
                film=segment.film,
                held_out=str(int(segment.held_out)),
            )
            rows.append(astuple(clip))
    return rows


def held_out_segments(rows: Iterable[Mapping[str, str]]) -> tuple[int, ...]:
    """Return the training segments that the run table holds out; empty where it holds none.

    Parameters
    ----------
    rows
        Lines of ``clips.csv``; tables written before the column existed hold none out.
    """
    return tuple(sorted({int(row["segment"]) for row in rows if row.get("held_out") == "1"}))


BLOCK_S, LEAST_BLOCKS = 20.0, 5


def scene_labels(rows: Sequence[Mapping[str, str]]) -> tuple[list[str], str] | None:
    """Name the stretch of film that each clip is part of; clips of one are not independent.

    Parameters
    ----------
    rows
        Lines of ``clips.csv``.

    Returns
    -------
    tuple or None
        A label per clip, and what the labels stand for: scenes between film cuts where all are
        known, else stretches of 20 s of one segment. None where neither is known, or where there
        are fewer than five stretches, over which no interval can be drawn.
    """
    scenes = [row.get("scene", "") for row in rows]
    if all(scenes):
        return scenes, "scenes"
    if not all(row.get("segment") and row.get("onset_s") for row in rows):
        return None
    labels = [f"{row['segment']}:{int(float(row['onset_s']) // BLOCK_S)}" for row in rows]
    return _enough(labels, f"stretches of {BLOCK_S:g} s (film cuts are unknown)")


def block_labels(clips: int, clip_s: float) -> tuple[list[str], str] | None:
    """Do the same for clips of which nothing but their order is known."""
    size = max(1, round(BLOCK_S / clip_s))
    labels = [f"block {number // size}" for number in range(clips)]
    return _enough(labels, f"blocks of {size} consecutive clips (film cuts are unknown)")


def _enough(labels: list[str], what: str) -> tuple[list[str], str] | None:
    return (labels, what) if len(set(labels)) >= LEAST_BLOCKS else None


def parse_clips(text: str | None, count: int) -> list[int]:
    """Read clip numbers from ``0:50``, ``7``, ``10:``, ``0:100:4`` or a list ``1,5,9:12``.

    Parameters
    ----------
    text : str or None
        The option's value; None or empty means every clip.
    count : int
        Test clips there are.

    Returns
    -------
    list of int
        Ascending, without repeats.

    Raises
    ------
    UserError
        If the text is not a range, or names no clip that exists.
    """
    if not text:
        return list(range(count))
    chosen: set[int] = set()
    for part in text.split(","):
        try:
            numbers = [int(number) if number.strip() else None for number in part.split(":")]
            if len(numbers) > 3 or numbers == [None]:
                raise ValueError
            if len(numbers) == 1 and numbers[0] is not None:
                chosen |= {numbers[0]} & set(range(count))
            else:
                chosen |= set(range(count)[slice(*numbers)])
        except ValueError:
            raise UserError(
                f"--clips '{text}' is not a range: write 0:50, 10:, 7 or a list such as 1,5,9:12."
            ) from None
    if not chosen:
        raise UserError(
            f"--clips '{text}' names none of the {count} test clips (0 to {count - 1})."
        )
    return sorted(chosen)
