"""Forty films and forty clips through ``neuroclips preprocess`` and ``evaluate``: frames by number.

    PYTHONPATH=tests python tests/fuzz/films_in_commands.py [FOLDER]

Containers, codecs, rates and cuts of :mod:`variants_time`, here with the whole commands. What is
right is known from when each picture was written; the values of ``evaluate`` are compared
with those of lossless clips that hold the pictures which PyAV, frame by frame, decodes then.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import tiny_subject
from helpers.numbered_films import copied, number, picture, write_film
from variants_time import B_FRAMES, PIXELS, RATES, WRITTEN

from neuroclips_cli.settings.load import load_settings
from neuroclips_cli.stages import evaluate

CLIP_S, FRAMES, SIZE = 2, 6, 64
SPREAD = 1103
"""Neighboring pictures show numbers this far apart, so that they differ in many cells."""


def shown(place: int) -> int:
    """Return the number that the picture at a place shows."""
    return place * SPREAD % 4096


def recipes(seconds: int, folder: Path) -> Iterator[tuple[Path, Fraction, int]]:
    """Write forty films; yield the file, its rate, and the place of its first picture."""
    folder.mkdir(parents=True)
    long = folder.parent / f"long-{seconds}.mp4"
    frames = [picture(shown(n), SIZE) for n in range(30 * (seconds + 12))]
    write_film(long, frames, 30, options=B_FRAMES)
    for place, (suffix, codec, options) in enumerate(WRITTEN):
        rate = RATES[place % len(RATES)] if codec not in ("flv", "wmv2") else Fraction(30)
        path = folder / f"{place:02d}.{suffix}"
        pixels = PIXELS.get(codec, "yuv420p")
        count = round(seconds * rate)
        write_film(path, frames[:count], rate, codec, pixels=pixels, options=options)
        yield path, rate, 0
    cuts = [("mp4", first) for first in (7, 55, 93, 130, 201)]
    cuts += [("mov", first) for first in (11, 79, 150, 222)]
    cuts += [(suffix, 80) for suffix in ("mkv", "ts", "m2ts")]
    for place, (suffix, first) in enumerate(cuts, start=len(WRITTEN)):
        path = folder / f"{place:02d}.{suffix}"
        copied(long, path, first / 30, first / 30 + seconds)
        yield path, Fraction(30), first


def expected(rate: Fraction, first: int, clips: int, *, nearest: bool) -> list[int]:
    """Return the places of the pictures that the sampled frames should show."""
    times = [Fraction(i, 3) for i in range(clips * FRAMES)]
    half = Fraction(1, 2) if nearest else 0
    return [first + int(time * rate + half) for time in times]


def through_preprocess(root: Path) -> int:
    """Sample the films of eight subjects with five films each; return how many frames are wrong."""
    wrong = 0
    seconds = tiny_subject.CLIPS * CLIP_S
    films = list(recipes(seconds, root / "films"))
    for start in range(0, len(films), len(tiny_subject.RUNS)):
        some = films[start : start + len(tiny_subject.RUNS)]
        dataset = root / f"dataset-{start}"
        tiny_subject.film(dataset / "film.mp4")
        tiny_subject.Subject().write(dataset, dataset)
        for name, (path, _, _) in zip(tiny_subject.RUNS, some, strict=True):
            (dataset / "stimuli" / f"{name}.mp4").unlink()
            path.rename(dataset / "stimuli" / f"{name}{path.suffix}")
        folder = tiny_subject.preprocess(dataset)
        frames = [np.load(folder / f"frames_{split}.npy") for split in ("train", "test")]
        seen = [number(frame) for frame in np.concatenate(frames).reshape(-1, *frames[0].shape[2:])]
        right = [
            shown(place)
            for _, rate, first in some
            for place in expected(rate, first, tiny_subject.CLIPS, nearest=False)
        ]
        mistakes = sum(a != b for a, b in zip(seen, right, strict=True))
        names = ", ".join(path.name for path, _, _ in some)
        print(f"preprocess: {mistakes} of {len(right)} frames wrong in {names}", flush=True)
        wrong += mistakes
    return wrong


def decoded(path: Path, wanted: list[int], first: int) -> list[np.ndarray]:
    """Return pictures by number as PyAV decodes them, frame by frame."""
    import av

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    by_number = {number(frame): frame for frame in frames}
    return [by_number[shown(place)] for place in wanted]


def through_evaluate(root: Path) -> int:
    """Measure forty clips against a constant; return how many have wrong values."""
    values = {}
    clips = list(recipes(CLIP_S, root / "clips"))
    for path, rate, first in clips:
        wanted = expected(rate, first, 1, nearest=True)
        for kind, frames in (
            ("picked", decoded(path, wanted, first)),
            ("gt", [picture(0, SIZE)] * FRAMES),
        ):
            (root / kind).mkdir(exist_ok=True)
            lossless = root / kind / f"{path.stem}.mkv"
            write_film(lossless, frames, 3, "ffv1", pixels="bgr0")
    for kind in ("clips", "picked"):
        settings = load_settings({"evaluate.shuffles": 0}, folder=root, environ={})
        out = evaluate.run_pair(settings, root / kind, root / "gt", root / f"out-{kind}")
        with open(out / "per_clip.csv", encoding="utf-8") as stream:
            values[kind] = {row["clip"]: row for row in csv.DictReader(stream)}
    wrong = 0
    for name, row in values["clips"].items():
        other = values["picked"][name]
        apart = max(abs(float(row[key]) - float(other[key])) for key in ("ssim", "pixel_pearson"))
        if apart > 2e-3:
            wrong += 1
            print(f"evaluate: clip {name} differs by {apart:.4f} from its own pictures", flush=True)
    print(f"evaluate: {wrong} of {len(clips)} clips wrong", flush=True)
    return wrong


def main() -> int:
    """Run both commands; the exit code tells whether a frame was wrong."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(sys.argv[1] if sys.argv[1:] else temporary)
        return int(
            through_preprocess(root / "preprocess") + through_evaluate(root / "evaluate") > 0
        )


if __name__ == "__main__":
    sys.exit(main())
