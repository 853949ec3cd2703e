"""The card beside trained weights: whose scans, which films, how many minutes, from which parent.

``model_card.json`` lies in every training's folder. It holds no time and no path of this machine,
so that the same training writes the same card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.runs import manifest

NAME = "model_card.json"
FRAMES = "frames_train.npy"
"""The output of preprocess whose hash a card has."""
FORMAT = 1
WITHIN, POOLED, UNSEEN, IMPORTED = "within", "pooled", "unseen", "imported"
"""How a decoder came to decode a subject; ``adapted:<minutes>`` is the fifth way."""


@dataclass(frozen=True)
class TrainedOn:
    """What of one subject a decoder was trained on.

    Attributes
    ----------
    subject, voxels, window, repetitions : int
        Number of the subject, length of a scan, volumes of a clip, scans of a clip.
    clips, held_out_clips : int
        Trained on, and held out to choose the checkpoint.
    film_minutes, scan_minutes : float
        Of the films given, held-out clips among them, and of all scans of them.
    films : dict
        Segment -> number of its clips.
    frames : str
        SHA-256 of the file of all training frames.
    scans : str
        Digest of the preprocess stage's outputs.
    """

    subject: int
    voxels: int
    window: int
    repetitions: int
    clips: int
    held_out_clips: int
    film_minutes: float
    scan_minutes: float
    films: dict[str, int]
    frames: str
    scans: str


@dataclass(frozen=True)
class Parent:
    """The weights that a training began from.

    Attributes
    ----------
    name, sha256 : str
        Of the file; a decoder of a work folder is named by its folders.
    protocol : str
        Of the parent; empty where it has no card.
    subjects : tuple of int
        Whose scans it was trained on; empty where that is not known.
    """

    name: str
    sha256: str
    protocol: str = ""
    subjects: tuple[int, ...] = ()


@dataclass(frozen=True)
class ModelCard:
    """What is to be known of trained weights before they are used.

    Attributes
    ----------
    network : str
        ``train-pr`` or ``train-sr``.
    protocol : str
        ``within``, ``pooled``, ``adapted:<minutes>`` or ``imported``.
    subjects : tuple of TrainedOn
        In the order of the first layers.
    average : bool
        Whether there are first layers of an average subject.
    mode : str
        Of an adaptation; otherwise empty.
    trained, frozen : tuple of str
        Parts of the network.
    parent : Parent or None
        What the training began from.
    settings : dict
        The sections of the settings that decided it.
    """

    network: str
    protocol: str
    subjects: tuple[TrainedOn, ...]
    average: bool = False
    mode: str = ""
    trained: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    parent: Parent | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the subjects, in the order of the first layers."""
        return tuple(one.subject for one in self.subjects)

    def as_json(self) -> dict[str, Any]:
        """Return the card as JSON values."""
        return {"format": FORMAT, **asdict(self)}

    def protocol_for(self, subject: int) -> str:
        """Return the protocol of what the decoder makes of a subject's scans.

        Examples
        --------
        >>> ModelCard("train-sr", "pooled", ()).protocol_for(4)
        'unseen'
        """
        known = not self.subjects and self.protocol == IMPORTED
        return self.protocol if known or subject in self.numbers else UNSEEN


def adapted(minutes: float) -> str:
    """Return the name of the protocol: so many minutes of the subject's own films.

    Examples
    --------
    >>> adapted(30), adapted(2.5)
    ('adapted:30', 'adapted:2.5')
    """
    return f"adapted:{minutes:g}"


def read(folder: Path) -> ModelCard | None:
    """Return the card in a folder, None where there is none.

    Raises
    ------
    UserError
        If it is not a card, or of a newer format.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    found = atomic.read_json(path)
    try:
        if found.pop("format") != FORMAT:
            raise UserError(f"{path} is of a format that this version does not know: update it")
        subjects = tuple(TrainedOn(**one) for one in found.pop("subjects"))
        parent = found.pop("parent")
        if parent is not None:
            parent = Parent(**{**parent, "subjects": tuple(parent["subjects"])})
        words: dict[str, Any] = {key: tuple(found.pop(key)) for key in ("trained", "frozen")}
        return ModelCard(subjects=subjects, parent=parent, **words, **found)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not a model card ({error}): train again, or remove it"
        ) from error


def refuse_contradiction(card: ModelCard, sizes: Mapping[str, Any], folder: Path) -> None:
    """Refuse a card that contradicts ``facts.model`` of the training's manifest beside it."""
    if not card.subjects:
        return
    voxels = sizes.get("voxels")
    said: dict[str, tuple[Any, Any]] = {
        "voxels": (
            [one.voxels for one in card.subjects],
            voxels if isinstance(voxels, list) else [voxels],
        ),
        "volumes per clip": (card.subjects[0].window, sizes.get("window", 1)),
        "an average subject": (card.average, bool(sizes.get("average"))),
    }
    if "subjects" in sizes:
        said["subjects"] = (list(card.numbers), sizes["subjects"])
    for what, (on_card, found) in said.items():
        if on_card != found:
            raise UserError(
                f"{folder / NAME} contradicts the weights beside it: {what} {on_card} on the card, "
                f"{found} in {folder.name}; take both from one training, or train again"
            )


def protocol_of(folders: Sequence[Path], subject: int) -> str:
    """Return the protocol of a result that several trained networks take part in.

    ``folders`` are those of their trainings; one without a card was trained before there were
    cards, by its subject. Different protocols are joined by ``+``, in order.
    """
    found = []
    for folder in folders:
        card = read(folder)
        if card is None:
            found.append(WITHIN)
            continue
        record = manifest.read(folder) or {"facts": {}}
        refuse_contradiction(card, record["facts"].get("model", {}), folder)
        found.append(card.protocol_for(subject))
    return "+".join(dict.fromkeys(found))
