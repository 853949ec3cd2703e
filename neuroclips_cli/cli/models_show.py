"""``neuroclips models show``: the cards of trained weights."""

from __future__ import annotations

from pathlib import Path

from neuroclips_cli import console
from neuroclips_cli.errors import UserError
from neuroclips_cli.runs import manifest, model_card
from neuroclips_cli.runs.model_card import ModelCard

TRAININGS = ("train-pr", "train-sr")


def run(path: Path) -> list[ModelCard]:
    """Print and return the cards of a decoder's or a subject's folder, or of one training."""
    folder = path.parent if path.is_file() else path
    found = []
    for home in (folder, *(folder / name for name in TRAININGS)):
        card = model_card.read(home)
        if card is None:
            continue
        record = manifest.read(home)
        if record is not None:
            model_card.refuse_contradiction(card, record["facts"].get("model", {}), home)
        _print(home, card)
        found.append(card)
    if not found:
        raise UserError(
            f"{path} holds no {model_card.NAME}: name a decoder's folder such as "
            "runs/pool-01-02-03; weights that were trained before there were cards have none"
        )
    return found


def _print(folder: Path, card: ModelCard) -> None:
    rows = [
        (
            f"sub-{one.subject:02d}",
            str(one.voxels),
            str(one.window),
            f"{one.film_minutes:g}",
            f"{one.scan_minutes:g}",
            f"{one.clips} + {one.held_out_clips}",
            ", ".join(one.films),
        )
        for one in card.subjects
    ]
    columns = ("subject", "voxels", "volumes", "film min", "scan min", "clips + held out", "films")
    console.table(f"{folder}: {card.network}, {card.protocol}", columns, rows)
    if card.average:
        console.info("with first layers of an average subject, for subjects it was not trained on")
    mode = f" (mode {card.mode})" if card.mode else ""
    frozen = ", ".join(card.frozen) or "nothing"
    console.info(f"trained{mode}: {', '.join(card.trained) or 'not known'}; frozen: {frozen}")
    if card.parent is not None:
        whose = ", ".join(map(str, card.parent.subjects)) or "not known"
        protocol = f", {card.parent.protocol}" if card.parent.protocol else ""
        console.info(
            f"parent: {card.parent.name}{protocol}, subjects {whose}, sha256 {card.parent.sha256}"
        )
    for section, values in card.settings.items():
        console.detail(f"[{section}] " + ", ".join(f"{k} = {v}" for k, v in values.items()))
