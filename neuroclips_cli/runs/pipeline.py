"""The table of stages: what each one is called, reads, depends on, and where its results lie.

The command line and its help, the run folders, ``status``, ``demo``, the manifests and the
documentation read this table; nothing else states which stage comes after which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class StageSpec:
    """One stage of the pipeline.

    Attributes
    ----------
    name : str
        The command, and the folder of the results.
    help : str
        One line for ``neuroclips --help``.
    needs : tuple of str
        Stages that must be finished, whose results it reads.
    uses : tuple of str
        Stages whose results it reads where they are there.
    settings : tuple of str
        Sections of the settings that decide the result. The seed always does.
    folder : bool
        Whether it has a folder of its name; ``simulate`` writes a data set elsewhere, ``controls``
        writes variants of other stages, ``compare`` prints.
    variants : bool
        Whether there are folders ``<name>-<variant>`` beside ``<name>``: ablations, captioners,
        controls.
    per_subject : bool
        Whether the folder lies in the subject's; otherwise it lies in the work folder.
    owner : str
        What its folder belongs to where a pooled or adapted decoder is in use
        (``run.decoder``): ``scans``, which stay with their subject; ``decoder``, whatever
        subject it decodes; ``result`` of that decoder on that subject.
    distributed : bool
        Whether several processes of a launcher may work on it together.
    demo : str
        What ``neuroclips demo`` says of it; empty where the demo leaves it out.
    """

    name: str
    help: str
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    folder: bool = True
    variants: bool = False
    per_subject: bool = True
    owner: str = "result"
    distributed: bool = False
    demo: str = ""

    @property
    def module(self) -> str:
        """Name of the command's module in ``cli`` and of the recipe in ``stages``."""
        return self.name.replace("-", "_")


PIPELINE = (
    StageSpec(
        "simulate",
        "Write a data set of cc2017's shape with known ground truth.",
        folder=False,
        demo="films and scans",
    ),
    StageSpec(
        "preprocess",
        "Select voxels, shift by the hemodynamic delay, cut clips and frames.",
        settings=("data",),
        owner="scans",
        demo="voxels, clips, frames",
    ),
    StageSpec(
        "train-pr",
        "Train the Perception Reconstructor: scans to blurry clips.",
        needs=("preprocess",),
        settings=("perception", "train_pr"),
        owner="decoder",
        distributed=True,
        demo="from scans to blurry clips",
    ),
    StageSpec(
        "train-projector",
        "Train Reftm's projector on captioned images; train-sr then uses it.",
        settings=("train_projector",),
        per_subject=False,
    ),
    StageSpec(
        "train-sr",
        "Train the Semantics Reconstructor: scans to image tokens.",
        needs=("preprocess",),
        uses=("train-projector",),
        settings=("semantics", "train_sr"),
        owner="decoder",
        distributed=True,
        demo="from scans to image tokens",
    ),
    StageSpec(
        "adapt",
        "Fit a decoder of other subjects to a new one, from minutes of its films.",
        needs=("preprocess",),
        settings=("perception", "train_pr", "semantics", "train_sr"),
        folder=False,
        distributed=True,
    ),
    StageSpec(
        "reconstruct",
        "Reconstruct the test clips from scans.",
        needs=("preprocess", "train-pr", "train-sr"),
        settings=("reconstruct", "backbones", "data"),
        variants=True,
        distributed=True,
        demo="the test films",
    ),
    StageSpec(
        "decode",
        "Decode new scans, whose film need not be known, into clips.",
        needs=("preprocess", "train-pr", "train-sr"),
        uses=("reconstruct",),
        settings=("reconstruct", "backbones", "data"),
        variants=True,
    ),
    StageSpec(
        "fuse",
        "Chain neighboring clips of one scene, up to 6 s.",
        needs=("preprocess", "reconstruct"),
        settings=("fuse", "reconstruct", "backbones", "data"),
        demo="the test clips of one film",
    ),
    StageSpec(
        "evaluate",
        "Measure a run's reconstructions, or any two sets of clips.",
        needs=("preprocess", "reconstruct"),
        settings=("evaluate",),
        variants=True,
        demo="metrics against the shuffled control",
    ),
    StageSpec(
        "controls",
        "Measure controls, and test the run against each of them.",
        needs=("preprocess", "reconstruct", "evaluate"),
        folder=False,
        demo="what decodes nothing, paired over scenes",
    ),
    StageSpec(
        "compare",
        "Compare runs clip by clip, and with the paper's tables.",
        uses=("evaluate",),
        folder=False,
    ),
    StageSpec(
        "interpret",
        "Map the voxel weights of the reconstructors' ridge layers.",
        needs=("preprocess", "train-pr", "train-sr"),
    ),
    StageSpec(
        "report",
        "Write one HTML file with clips, captions and metrics side by side.",
        needs=("preprocess", "reconstruct", "evaluate"),
        uses=("fuse", "interpret"),
        demo="one HTML file",
    ),
)
"""All stages in working order."""

BY_NAME = {spec.name: spec for spec in PIPELINE}


def spec_of(stage: str) -> StageSpec | None:
    """Return the row of a stage or of a variant of it, None for a name that has none.

    Examples
    --------
    >>> spec_of("reconstruct-without-blurry").name
    'reconstruct'
    >>> spec_of("no-such-stage") is None
    True
    """
    if stage in BY_NAME:
        return BY_NAME[stage]
    return next((s for s in PIPELINE if s.variants and stage.startswith(f"{s.name}-")), None)


def subject_stages() -> tuple[str, ...]:
    """Return the stages with a folder in every subject's, in working order."""
    return tuple(spec.name for spec in PIPELINE if spec.folder and spec.per_subject)


def shared_stages() -> tuple[str, ...]:
    """Return the stages whose result belongs to no subject."""
    return tuple(spec.name for spec in PIPELINE if spec.folder and not spec.per_subject)


def is_shared(stage: str) -> bool:
    """Tell whether the result of a stage belongs to no subject."""
    spec = spec_of(stage)
    return spec is not None and not spec.per_subject


def settings_sections(stage: str) -> tuple[str, ...]:
    """Return the sections of the settings that decide a stage's result."""
    spec = spec_of(stage)
    return spec.settings if spec else ()


def upstream(stage: str, *, reconstruction: str = "reconstruct") -> tuple[str, ...]:
    """Return every subject's stage that a result comes from, near and far, in working order.

    Parameters
    ----------
    stage : str
        A name of the table; any other comes from nothing.
    reconstruction : str
        The variant that takes the place of ``reconstruct``.

    Examples
    --------
    >>> upstream("fuse")
    ('preprocess', 'train-pr', 'train-sr', 'reconstruct')
    """
    found: set[str] = set()
    waiting: Sequence[str] = [stage]
    while waiting:
        specs = [BY_NAME[name] for name in waiting if name in BY_NAME]
        waiting = [n for spec in specs for n in (*spec.needs, *spec.uses) if n not in found]
        found.update(waiting)
    names = [name for name in subject_stages() if name in found]
    return tuple(reconstruction if name == "reconstruct" else name for name in names)
