"""Results of one subject by decoders that were trained on different minutes of its films."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics.statistics import Difference
from neuroclips_cli.reporting.comparison import ComparedRun
from neuroclips_cli.reporting.minutes import METRICS, SCRATCH, Point
from neuroclips_cli.runs import model_card
from neuroclips_cli.runs.model_card import ModelCard
from neuroclips_cli.runs.stage import subject_label, workdir_folder
from neuroclips_cli.settings.load import Settings


@dataclass(frozen=True)
class Evaluated:
    """An evaluated decoder: its folder's name, its results, how it came to decode the subject."""

    name: str
    results: Path
    mode: str
    minutes: float


def find(settings: Settings, names: Sequence[str] = ()) -> list[Evaluated]:
    """Find the decoders of the work folder that a subject's clips were evaluated with.

    ``names`` are folders of decoders, by default all that have results of the subject; ``sub-04``
    stands for the subject's own decoder. A named one without results or without a card is refused.
    """
    workdir, own = workdir_folder(settings), subject_label(settings.run.subject)
    wanted = list(names)
    if not names:
        results = sorted(workdir.glob(f"*/{own}/evaluate/metrics.json"))
        wanted = [path.parts[-4] for path in results]
        if (workdir / own / "evaluate" / "metrics.json").is_file():
            wanted.insert(0, own)
    found = []
    for name in wanted:
        home = workdir / name
        results_folder = (home if name == own else home / own) / "evaluate"
        if not (results_folder / "metrics.json").is_file():
            raise UserError(
                f"{name} has no evaluation of subject {settings.run.subject} in {workdir}: run "
                f"reconstruct and evaluate with --decoder {name} first"
            )
        card = model_card.read(home / "train-sr")
        if card is None and not names:
            continue
        if card is None:
            raise UserError(
                f"{home / 'train-sr'} has no model card that says what {name} was trained on: "
                "train it again"
            )
        found.append(Evaluated(name, results_folder, *_how(card, settings.run.subject)))
    return found


def _how(card: ModelCard, subject: int) -> tuple[str, float]:
    """Return mode and minutes of a decoder for a subject."""
    protocol = card.protocol_for(subject)
    minutes = next((t.film_minutes for t in card.subjects if t.subject == subject), 0.0)
    if protocol.partition(":")[0] == model_card.WITHIN:
        return SCRATCH, minutes
    return card.mode or protocol, minutes


def points(
    settings: Settings,
    decoders: Sequence[Evaluated],
    compared: Callable[[list[str]], Sequence[ComparedRun]],
) -> list[Point]:
    """Compare every decoder's clips with those that all have, and with ``scratch``'s.

    ``compared`` leads from folders of evaluations to their comparison with the first of them;
    differences are paired with ``scratch`` of the same minutes, to a tenth of a minute.
    """
    if len(decoders) < 2:
        raise UserError(
            f"a curve over minutes needs two evaluated decoders of subject {settings.run.subject} "
            f"at least, and {settings.run.workdir} has {len(decoders)}: adapt, reconstruct and "
            "evaluate another one"
        )
    folders = [str(one.results) for one in decoders]
    summaries = compared(folders)
    made = []
    for number, one in enumerate(decoders):
        base = next((f for f, o in zip(folders, decoders, strict=True) if _pair(o, one)), None)
        differences: Mapping[str, Difference] = {}
        if base is not None:
            differences = compared([base, folders[number]])[1].differences
        kept = {name: s for name, s in summaries[number].metrics.items() if name in METRICS}
        made.append(Point(one.name, one.mode, one.minutes, kept, differences))
    return made


def _pair(base: Evaluated, other: Evaluated) -> bool:
    """Tell whether one is what the other is to be compared with."""
    alike = round(base.minutes, 1) == round(other.minutes, 1)
    return base.mode == SCRATCH and other.mode != SCRATCH and alike
