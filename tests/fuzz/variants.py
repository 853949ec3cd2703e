"""Variants of inputs with an independent answer: what is read is right, or it is refused.

``fuzz.py`` looks for crashes in damaged files; here sound inputs are written in every way that
people have them, and what neuroclips makes of each is compared with what nibabel, numpy, PyAV or
Pillow say of the same file. A generator is a module ``variants_<kind>.py`` with one function
``variants(root)``, which writes what its variants share below ``root`` and returns them.

``python tests/fuzz/variants.py [KIND ...] [--package FOLDER] [--all]`` counts the outcomes; with
``--package`` those of another checkout (``git worktree add ../before <commit>``).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RIGHT, REFUSED, SILENTLY_WRONG, CRASH = "right", "refused", "silently wrong", "crash"
OUTCOMES = (RIGHT, REFUSED, SILENTLY_WRONG, CRASH)
FEWEST = 200
"""Variants that every kind has at least."""


@dataclass(frozen=True)
class Refusal:
    """The input has to be refused in one sentence that holds all of these words."""

    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """One input and what is right for it.

    Attributes
    ----------
    name
        Unique within its generator; says what is unusual about the input.
    make
        Writes the input into an empty folder and returns what `read` takes, often a path.
    read
        Has neuroclips read it.
    expected
        The answer, computed without neuroclips; or a function of what `make` returned that
        computes it; or a `Refusal`.
    may_refuse
        A refusal that holds the words is right too, where an answer is expected.
    same
        Compares what was read with the answer; default `equal`.
    """

    name: str
    make: Callable[[Path], Any]
    read: Callable[[Any], Any]
    expected: Any
    may_refuse: Refusal | None = None
    same: Callable[[Any, Any], bool] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a variant: one of `OUTCOMES`, and details where it is not right."""

    kind: str
    detail: str = ""


def check(variant: Variant, folder: Path) -> Outcome:
    """Make a variant's input in an empty folder, have it read, and compare.

    Returns
    -------
    Outcome
        ``right``: the expected answer, or the expected refusal. ``refused``: a refusal where an
        answer is expected, or one that lacks the expected words. ``silently wrong``: another
        answer, or any answer where a refusal is expected. ``crash``: another error.
    """
    from neuroclips_cli.errors import UserError

    given = variant.make(folder)
    expected = variant.expected
    if callable(expected):
        expected = expected(given)
    try:
        found = variant.read(given)
    except UserError as error:
        wanted = expected if isinstance(expected, Refusal) else variant.may_refuse
        return _refused(str(error), wanted)
    except Exception as error:
        return Outcome(CRASH, f"{type(error).__name__}: {str(error)[:200]}")
    if isinstance(expected, Refusal):
        return Outcome(SILENTLY_WRONG, f"not refused ({'; '.join(expected.words)}): {found!r:.200}")
    if (variant.same or equal)(found, expected):
        return Outcome(RIGHT)
    return Outcome(SILENTLY_WRONG, f"{found!r:.200} instead of {expected!r:.200}")


def _refused(said: str, wanted: Refusal | None) -> Outcome:
    """Evaluator a refusal: one line, with all the words."""
    if wanted is None:
        return Outcome(REFUSED, said)
    missing = [word for word in wanted.words if word not in said]
    if "\n" in said:
        return Outcome(REFUSED, f"more than one line: {said!r}")
    return Outcome(REFUSED, f"lacks {missing}: {said}") if missing else Outcome(RIGHT)


def equal(found: Any, expected: Any) -> bool:
    """Compare nested containers, arrays to 1e-5 of their values (NaN equals itself)."""
    if isinstance(expected, Mapping):
        return found.keys() == expected.keys() and all(equal(found[k], expected[k]) for k in found)
    if isinstance(expected, np.ndarray):
        given = np.asarray(found)
        if given.shape != expected.shape:
            return False
        if expected.dtype.kind in "fc":
            return bool(np.allclose(given, expected, rtol=1e-5, atol=1e-6, equal_nan=True))
        return bool(np.array_equal(given, expected))
    if isinstance(expected, Sequence) and not isinstance(expected, str):
        return len(found) == len(expected) and all(map(equal, found, expected))
    return bool(found == expected)


def run(variants: Iterable[Variant], root: Path) -> dict[str, Outcome]:
    """Check variants one after the other, each in a folder of its own below ``root``."""
    outcomes: dict[str, Outcome] = {}
    for number, variant in enumerate(variants):
        if variant.name in outcomes:
            raise ValueError(f"two variants are named {variant.name}")
        folder = root / f"{number:04d}"
        folder.mkdir()
        outcomes[variant.name] = check(variant, folder)
    return outcomes


def finds(outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Return the variants whose outcome is not right."""
    return {name: outcome for name, outcome in outcomes.items() if outcome.kind != RIGHT}


def kinds() -> list[str]:
    """Return the names of all generators beside this file."""
    here = Path(__file__).resolve().parent
    return sorted(path.stem.partition("_")[2] for path in here.glob("variants_*.py"))


def generate(kind: str, root: Path) -> list[Variant]:
    """Return the variants of a kind; what they share is written below ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    variants: list[Variant] = list(importlib.import_module(f"variants_{kind}").variants(root))
    return variants


def main() -> int:
    """Count the outcomes of the chosen kinds; print those that are not right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", default=kinds())
    parser.add_argument("--package", type=Path, help="checkout whose neuroclips_cli is checked")
    parser.add_argument("--all", action="store_true", help="print every find, not the first 20")
    options = parser.parse_args()
    here = Path(__file__).resolve()
    sys.path[:0] = [str(options.package or here.parents[2]), str(here.parent), str(here.parents[1])]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    bad = 0
    for kind in options.kinds:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="variants-") as name:
            root = Path(name)
            outcomes = run(generate(kind, root / "shared"), root)
        wrong = finds(outcomes)
        bad += len(wrong)
        for title, outcome in list(wrong.items())[: None if options.all else 20]:
            print(f"{kind} / {title}: {outcome.kind}: {outcome.detail}")
        counts = Counter(outcome.kind for outcome in outcomes.values())
        words = ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES)
        print(f"{kind}: {len(outcomes)} variants, {words}, {time.monotonic() - began:.0f} s")
    return int(bad > 0)


if __name__ == "__main__":
    # Under its own name, so that its classes are those that the generators import.
    sys.exit(importlib.import_module("variants").main())
