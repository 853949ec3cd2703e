"""Whose scans a training takes: one subject's, or several subjects' for one decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuroclips_cli import console
from neuroclips_cli.errors import UserError
from neuroclips_cli.models.subject_place import AVERAGE, recorded_place
from neuroclips_cli.models.subject_scans import OneSubject
from neuroclips_cli.runs import manifest, model_card
from neuroclips_cli.runs.locations import decoder_name
from neuroclips_cli.runs.model_card import FRAMES, ModelCard, Parent, TrainedOn
from neuroclips_cli.runs.pipeline import BY_NAME
from neuroclips_cli.runs.stage import read_array, read_json
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.settings.schema import TrainingSettings
from neuroclips_cli.stages._adaptation import Adaptation, scans_of
from neuroclips_cli.stages._training_data import TrainingClips, training_clips
from neuroclips_cli.training.freezing import parts
from neuroclips_cli.training.pool import PooledSamples, Samples
from neuroclips_cli.training.samples import (
    ClipSamples,
    first_minutes,
    repetition_mean,
    scan_size,
    split_minutes,
)
from neuroclips_cli.training.target_cache import clip_digests

OWN = tuple(
    f"data.{name}"
    for name in (
        *("mask", "regions", "space", "layout", "runs", "raw", "films", "task", "session"),
        *("parcels", "test_films", "trailing_volumes"),
    )
)
"""Settings of preprocess in which subjects of one pool may differ: where their data lies, which
films are whose. What a scan and a clip are has to be the same."""


@dataclass(frozen=True)
class TrainingScans:
    """The training clips of every subject that a decoder is trained on.

    Attributes
    ----------
    clips : tuple of TrainingClips
        In the order of the first layers.
    average : bool
        Whether the subjects share a space and an average subject's first layers learn, too.
    named : bool
        Whether the manifest names the only subject: its decoder's folder is not the subject's.
    longer : float
        Factor on the epochs: a part of a subject's films is seen for as many steps as all.
    """

    clips: tuple[TrainingClips, ...]
    average: bool = False
    named: bool = False
    longer: float = 1.0

    @property
    def pooled(self) -> bool:
        """Whether there are several subjects."""
        return len(self.clips) > 1

    @property
    def voxels(self) -> int | list[int]:
        """Length of a scan, of each subject where there are several."""
        sizes = [scan_size(clips.fmri)[0] for clips in self.clips]
        return sizes if self.pooled else sizes[0]

    @property
    def input_sizes(self) -> int | list[int]:
        """Inputs of the first layers, the average subject's among them, for the dry run."""
        sizes = [scan_size(clips.fmri)[0] * self.window for clips in self.clips]
        return [*sizes, *sizes[: int(self.average)]] if self.pooled else sizes[0]

    @property
    def window(self) -> int:
        """Volumes of a clip."""
        return scan_size(self.clips[0].fmri)[1]

    @property
    def sizes(self) -> dict[str, Any]:
        """What the manifest keeps of the inputs' sizes; for one subject only what it has to."""
        found: dict[str, Any] = {"voxels": self.voxels}
        if self.window > 1:
            found["window"] = self.window
        if self.pooled or self.named:
            found["subjects"] = [clips.subject for clips in self.clips]
        if self.pooled:
            found["average"] = self.average
        return found

    @property
    def inputs(self) -> dict[str, Any]:
        """Keyword arguments of the networks beside ``voxels``."""
        return {"window": self.window, "average": self.average}

    def epochs(self, epochs: int) -> int:
        """Return the epochs of a phase."""
        return max(round(epochs * self.longer), 1)

    def samples(
        self,
        options: TrainingSettings,
        targets: Sequence[Mapping[str, np.ndarray]],
        *,
        scans: Sequence[np.ndarray] | None = None,
        frame_targets: Sequence[str] = (),
    ) -> Samples:
        """Return the training samples; ``scans`` stand for every subject's scans where given."""
        given = [clips.fmri for clips in self.clips] if scans is None else scans
        found = [
            ClipSamples(
                fmri,
                clips.train,
                own,
                repetition_mix_prob=options.repetition_mix_prob,
                noise=options.noise,
                frame_targets=frame_targets,
            )
            for fmri, clips, own in zip(given, self.clips, targets, strict=True)
        ]
        if not self.pooled:
            return found[0]
        return PooledSamples(found, options.subject_dropout if self.average else 0.0)

    def held_out(self, device: str) -> list[Tensor]:
        """Return every subject's held-out scans, the mean over their repetitions."""
        return [repetition_mean(c.fmri, c.validation).to(device) for c in self.clips]

    def networks(self, model: nn.Module) -> list[Any]:
        """Return the model as every subject's own network."""
        if not self.pooled:
            return [model]
        voxels = self.voxels
        assert isinstance(voxels, list)
        return [OneSubject(model, place, voxels) for place in range(len(self.clips))]

    def mean_figures(self, figures: Callable[[int], dict[str, float]]) -> dict[str, float]:
        """Return the mean of all subjects' figures on held-out clips, and each one's loss."""
        found = [figures(place) for place in range(len(self.clips))]
        if not self.pooled:
            return found[0]
        mean = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
        named = zip(self.clips, found, strict=True)
        return mean | {f"loss_sub-{clips.subject:02d}": one["loss"] for clips, one in named}

    def card(
        self,
        settings: Settings,
        stage: str,
        model: nn.Module,
        parent: Parent | None = None,
        adaptation: Adaptation | None = None,
    ) -> ModelCard:
        """Return the card of what was trained."""
        trained_on = tuple(_trained_on(clips, settings.data.clip_s) for clips in self.clips)
        minutes = trained_on[0].film_minutes
        mode = adaptation.mode if adaptation else ""
        protocol = model_card.POOLED if self.pooled else model_card.WITHIN
        if adaptation is not None:
            protocol = adaptation.protocol(minutes)
        elif parent is not None and not self.pooled:
            protocol = model_card.adapted(minutes)
        trained, frozen = parts(model, mode)
        return ModelCard(
            network=stage,
            protocol=protocol,
            subjects=trained_on,
            average=self.average,
            mode=mode,
            trained=trained,
            frozen=frozen,
            parent=parent,
            settings={name: settings.section(name) for name in BY_NAME[stage].settings},
        )


def _trained_on(clips: TrainingClips, clip_s: float) -> TrainedOn:
    voxels, window = scan_size(clips.fmri)
    used = np.concatenate([clips.train, clips.validation])
    segments, counts = np.unique(clips.segments[used], return_counts=True)
    minutes = len(used) * clip_s / 60
    return TrainedOn(
        subject=clips.subject,
        voxels=voxels,
        window=window,
        repetitions=clips.fmri.shape[1],
        clips=len(clips.train),
        held_out_clips=len(clips.validation),
        film_minutes=round(minutes, 3),
        scan_minutes=round(minutes * clips.fmri.shape[1], 3),
        films=dict(zip(map(str, segments.tolist()), counts.tolist(), strict=True)),
        frames=clips.frames_digest,
        scans=manifest.input_digest(clips.preprocess),
    )


def training_scans(
    settings: Settings,
    folders: Mapping[int, Path],
    stage: str,
    adaptation: Adaptation | None = None,
) -> TrainingScans:
    """Open the scans of every subject of a training.

    Refused: subjects that were preprocessed differently, one whose training films are another's
    test films, and fewer minutes than ``adaptation`` asks for.

    Parameters
    ----------
    settings : Settings
        ``data.clip_s``, and the stage's section.
    folders : mapping
        Subject -> its finished preprocess folder.
    stage : str
        ``train-pr`` or ``train-sr``: which segments are held out, whether a pool has an average
        subject.
    adaptation : Adaptation, optional
        How many minutes of the only subject are given; they are split, no segment is held out.
    """
    options: TrainingSettings = getattr(settings, stage.replace("-", "_"))
    clips = [
        training_clips(folder, options.validation_segments, subject)
        for subject, folder in folders.items()
    ]
    if len(clips) == 1:
        named = bool(decoder_name(settings))
        if adaptation is None or not adaptation.minutes:
            return TrainingScans((clips[0],), named=named)
        some = _first_minutes(clips[0], adaptation.minutes, settings.data.clip_s)
        longer = len(clips[0].segments) / (len(some.train) + len(some.validation))
        return TrainingScans((some,), named=named, longer=longer)
    _refuse_other_protocols(clips)
    refuse_shown_tests(folders, folders)
    clips = _without_held_out_films(clips)
    average = bool(options.subject_dropout) and _one_space(clips)
    if options.subject_dropout and not average:
        key = f"{stage.replace('-', '_')}.subject_dropout"
        if settings.chosen_by_user(key):
            raise UserError(
                f"{key} asks for the first layers of an average subject, and the subjects "
                "have different voxels: preprocess all of them in one common space, or set it to 0"
            )
        console.detail("the subjects have different voxels: there is no average subject")
    return TrainingScans(tuple(clips), average)


def _first_minutes(clips: TrainingClips, minutes: float, clip_s: float) -> TrainingClips:
    given = first_minutes(clips.segments, minutes, clip_s, clips.subject)
    train, validation = split_minutes(given)
    held = tuple(sorted(set(clips.segments[validation].tolist())))
    console.info(
        f"the first {minutes:g} minutes of subject {clips.subject}'s films are {len(given)} clips; "
        f"the last {len(validation)} of them choose the checkpoint"
    )
    return replace(clips, train=train, validation=validation, held_out=held)


def _refuse_other_protocols(clips: Sequence[TrainingClips]) -> None:
    """Refuse subjects whose preprocess differs in more than where voxels are looked for."""
    records = [read_json(one.preprocess / "manifest.json") for one in clips]
    first = records[0]["determined_by"]["sections"].get("data", {})
    for one, record in zip(clips[1:], records[1:], strict=True):
        own = record["determined_by"]["sections"].get("data", {})
        for key in dict.fromkeys([*first, *own]):
            if f"data.{key}" not in OWN and first.get(key) != own.get(key):
                raise UserError(
                    f"subject {one.subject} was preprocessed with data.{key} = {own.get(key)!r} "
                    f"and subject {clips[0].subject} with {first.get(key)!r}: one decoder needs "
                    "one protocol, run `neuroclips preprocess` again for one of them"
                )
    shapes = {one.subject: (scan_size(one.fmri)[1], *one.frames.shape[1:]) for one in clips}
    different = [s for s, shape in shapes.items() if shape != shapes[clips[0].subject]]
    if different:
        raise UserError(
            f"the clips of subject {different[0]} have another number of volumes, frames or pixels "
            f"than those of subject {clips[0].subject}: preprocess both alike"
        )


def _one_space(clips: Sequence[TrainingClips]) -> bool:
    """Tell whether all subjects' voxels are the same places of one common space."""
    found = [_voxels(one.preprocess) for one in clips]
    first = found[0]
    if first is None:
        return False
    return all(own is not None and np.array_equal(first, own) for own in found)


def _voxels(preprocess: Path) -> np.ndarray | None:
    """Return which columns of its runs a subject's voxels are; None where that is not known."""
    path = preprocess / "selection.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as selection:
        # Made from tensors, it does not say whose voxels they are.
        found: np.ndarray | None = selection.get("index")
        return found


def refuse_shown_tests(training: Mapping[int, Path], tested: Mapping[int, Path]) -> None:
    """Refuse training films of one subject that are test films of another.

    A decoder that learned from one brain's response to a clip has seen the clip, whoever is
    decoded. ``training`` and ``tested`` lead from subjects to preprocess folders.
    """
    folders = {**training, **tested}
    digests = {s: read_json(f / "manifest.json")["outputs"] for s, f in folders.items()}
    names = (FRAMES, "frames_test.npy")
    shown_to = {tuple(digests[subject].get(name) for name in names) for subject in training}
    # Subjects of one data set saw the same films; those of its test are not looked at again.
    known = {test for _, test in shown_to} if len(shown_to) == 1 else set()
    tested = {s: folder for s, folder in tested.items() if digests[s].get(names[1]) not in known}
    if not tested:
        return
    shown: dict[str, int] = {}
    for subject, folder in training.items():
        for digest in clip_digests(read_array(folder / FRAMES)):
            shown.setdefault(digest, subject)
    for subject, folder in tested.items():
        if names[1] not in digests[subject]:
            continue
        for number, digest in enumerate(clip_digests(read_array(folder / "frames_test.npy"))):
            other = shown.get(digest, subject)
            if other != subject:
                raise UserError(
                    f"test clip {number} of subject {subject} is a training clip of subject "
                    f"{other}: a decoder of both would have seen what it is tested on; leave one "
                    "of them out"
                )


def require_unseen(settings: Settings, trained: Sequence[Path], preprocess: Path) -> None:
    """Refuse to decode a subject by the average of others unless both have the same voxels.

    Parameters
    ----------
    settings : Settings
        ``run.subject``.
    trained : sequence of Path
        Folders of ``train-pr`` and ``train-sr``.
    preprocess : Path
        The subject's.

    Raises
    ------
    UserError
        If a voxel is another one, the subject's own training films chose them, too, or the others
        learned from a film that is a test film here.
    """
    subject = settings.run.subject
    data = read_json(preprocess / "manifest.json")["determined_by"]["sections"].get("data", {})
    for folder in trained:
        if recorded_place(folder, subject) != AVERAGE:
            continue
        if subject in data.get("common", ()):
            raise UserError(
                f"the voxels of subject {subject} were chosen by its own training films, too, so "
                f"it is not unseen: run `neuroclips preprocess --subject {subject} --common ...` "
                "with the training subjects alone"
            )
        others = scans_of(folder, model_card.read(folder))
        if not others:
            console.warn(
                f"the scans that {folder} was trained on are not in {folder.parents[1]}: "
                f"whether subject {subject} has their voxels, and other films, cannot be told"
            )
        for other, theirs in others.items():
            own, wanted = _voxels(preprocess), _voxels(theirs)
            if own is None or wanted is None or not np.array_equal(own, wanted):
                raise UserError(
                    f"subject {subject} was not preprocessed in the voxels that {folder} was "
                    f"trained on, those of subject {other}: run `neuroclips preprocess --subject "
                    f"{subject} --common ...` with the same subjects as then"
                )
        refuse_shown_tests(others, {subject: preprocess})


def _without_held_out_films(clips: Sequence[TrainingClips]) -> list[TrainingClips]:
    """Train nobody on a clip that chooses the checkpoint for somebody."""
    if len({one.frames_digest for one in clips}) == 1:
        return list(clips)
    digests = [np.array(clip_digests(one.frames)) for one in clips]
    held = set[str]().union(
        *(set(found[one.validation]) for one, found in zip(clips, digests, strict=True))
    )
    kept = []
    for one, found in zip(clips, digests, strict=True):
        train = np.array([clip for clip in one.train if found[clip] not in held], dtype=int)
        if not len(train):
            raise UserError(
                f"all training films of subject {one.subject} are held out for another subject: "
                "hold out other validation_segments"
            )
        kept.append(replace(one, train=train))
    return kept


def as_tensor(rows: np.ndarray, device: str) -> Tensor:
    """Return targets of held-out clips in float32 on a device."""
    return torch.from_numpy(rows).float().to(device)
