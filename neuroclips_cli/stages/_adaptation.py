"""What a new subject's decoder takes from a parent, and what of it learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuroclips_cli.backbones.references import resolve
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import sha256
from neuroclips_cli.runs import manifest, model_card
from neuroclips_cli.runs.locations import subject_label, workdir_folder
from neuroclips_cli.runs.model_card import ModelCard, Parent
from neuroclips_cli.settings.load import Settings

RIDGE, EMBEDDER, FULL, SCRATCH = "ridge", "embedder", "full", "scratch"
GRADIENT_MODES = (RIDGE, EMBEDDER, FULL, SCRATCH)
"""Modes that learn by gradient steps; the others are solved."""
WEIGHTS = "model.safetensors"
SHARED_SETTINGS = {
    "train-pr": ("backbones.vae", "data.frames_per_clip", "perception."),
    "train-sr": (
        *("backbones.clip", "backbones.tokens", "backbones.token_dim", "backbones.embed_dim"),
        "semantics.",
    ),
}
"""Settings in which a decoder and its parent have to agree: what the shared layers lead to."""


@dataclass(frozen=True)
class Adaptation:
    """How a decoder is fitted to a subject from some minutes of its films.

    Attributes
    ----------
    mode : str
        ``ridge``: the new first layers learn alone; ``embedder``: the residual blocks above them,
        too; ``full``: everything; ``scratch``: everything, from random weights and without a
        parent, which is what the others are to be compared with.
    minutes : float
        Of the subject's training films; 0 for all.
    parent : Path or None
        A decoder's folder, or a published checkpoint; None with ``scratch``.
    """

    mode: str
    minutes: float = 0.0
    parent: Path | None = None

    def parent_of(self, stage: str) -> Path | None:
        """Return the folder or file that a stage's weights come from."""
        if self.parent is None or self.parent.is_file():
            return self.parent
        return self.parent / stage

    def protocol(self, film_minutes: float) -> str:
        """Return the protocol's name for so many minutes of film."""
        if self.mode == SCRATCH:
            whole = not self.minutes
            return model_card.WITHIN if whole else f"{model_card.WITHIN}:{film_minutes:g}"
        return model_card.adapted(film_minutes)

    def decoder(self, subject: int) -> str:
        """Return the default name of the decoder's folder."""
        amount = f"{self.minutes:g}min" if self.minutes else "all"
        return f"adapted-{subject:02d}-{amount}-{self.mode}"


def parent_folder(settings: Settings, name: str) -> Path:
    """Return the decoder or the checkpoint file that ``--from`` names.

    It is a folder's name in the work folder, a path of a decoder's folder, or a file.
    """
    for path in (workdir_folder(settings) / name, Path(name).expanduser()):
        if path.is_file():
            return path
        if any((path / stage / manifest.NAME).is_file() for stage in SHARED_SETTINGS):
            return path
    raise UserError(
        f"--from {name}: there is no decoder of that name in {settings.run.workdir}, and no file: "
        "name a folder with train-pr and train-sr, such as pool-01-02-03, or a checkpoint, such "
        "as last.pth"
    )


def require_parent(settings: Settings, stage: str, folder: Path) -> ModelCard | None:
    """Check that a decoder's stage can be the parent of the subject's; return its card.

    Refused: one that is unfinished, was trained on the subject, or leads to other targets: by
    other settings, or by other weights of a backbone of the same name.
    """
    record = manifest.read(folder)
    if record is None or record["state"] != "done":
        raise UserError(f"{folder} is not finished: run its training to the end first")
    card = model_card.read(folder)
    sizes = record["facts"].get("model", {})
    if card is not None:
        model_card.refuse_contradiction(card, sizes, folder)
    subjects = list(card.numbers) if card else sizes.get("subjects", [])
    if settings.run.subject in subjects:
        raise UserError(
            f"subject {settings.run.subject} is among those that {folder} was trained on "
            f"({', '.join(map(str, subjects))}): decode it with --decoder {folder.parent.name}, or "
            "train the parent without it"
        )
    _refuse_other_targets(settings, stage, record, folder)
    return card


def _refuse_other_targets(
    settings: Settings, stage: str, record: Mapping[str, Any], folder: Path
) -> None:
    for wanted in SHARED_SETTINGS[stage]:
        section, _, name = wanted.partition(".")
        own, theirs = settings.section(section), record["settings"].get(section, {})
        for key in [name] if name else own:
            if key not in theirs:
                continue
            network = record["inputs"].get(key) if section == "backbones" else None
            same = theirs[key] == own[key]
            if not (_is_network(network, own[key], same) if network else same):
                raise UserError(
                    f"{folder} was trained with {section}.{key} = {theirs[key]!r}, and the "
                    f"adaptation has {'other weights in' if same else ''} {own[key]!r}: what they "
                    "share has to lead to the same targets; leave the setting out, or take "
                    "another parent"
                )


def _is_network(recorded: Mapping[str, str], name: str, same_name: bool) -> bool:
    """Tell whether a backbone is the recorded one: by its content, wherever it lies."""
    digest = manifest.input_digest(resolve(name))
    if digest == recorded["digest"]:
        return True
    # The listing of a large folder is another one after a mere copy: there the name decides.
    return same_name and digest.startswith("listing:")


def scans_of(folder: Path, card: ModelCard | None) -> dict[int, Path]:
    """Return the preprocess folders, still there, of the subjects that a training's card names.

    They lie in the work folder of the training. Refused are other films than the card names.
    """
    found = {}
    for one in card.subjects if card else ():
        scans = folder.parents[1] / subject_label(one.subject) / "preprocess"
        record = manifest.read(scans)
        if record is None:
            continue
        if record["outputs"].get(model_card.FRAMES) != one.frames:
            raise UserError(
                f"{scans} is not what {folder} was trained on, whose card names other films: "
                f"preprocess subject {one.subject} as then, or train {folder.parent.name} again"
            )
        found[one.subject] = scans
    return found


def parent_entry(path: Path, card: ModelCard | None) -> Parent:
    """Return what a card says of a parent."""
    if path.is_file():
        return Parent(path.name, sha256(path))
    record = manifest.read(path) or {"outputs": {}}
    digest = record["outputs"].get(WEIGHTS) or sha256(path / WEIGHTS)
    name = f"{path.parent.name}/{path.name}"
    if card is None:
        return Parent(name, digest)
    return Parent(name, digest, card.protocol, card.numbers)
