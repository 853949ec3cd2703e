"""How one evaluation measures: a protocol, and what the settings change of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from neuroclips_cli.errors import UserError
from neuroclips_cli.protocols import AUTO, STANDARD, SYNTHETIC, EvaluatorReferences, Protocol, load
from neuroclips_cli.settings.load import Settings

EVALUATORS = ("image_classifier", "video_classifier", "clip")
"""Attributes of `EvaluatorReferences`, and keys of ``[evaluate]`` that replace them."""
EMBEDDED = "assets:"
SYNTHETIC_EVALUATORS = "synthetic-dataset evaluators"


@dataclass(frozen=True)
class EvaluationConfig:
    """Everything that decides an evaluation, fixed before the first clip is read.

    Attributes
    ----------
    protocol : Protocol
        The protocol in force.
    fps, size : int
        Frame rate in Hz, and height and width in pixels, at which clips are compared.
    evaluators : EvaluatorReferences
        The networks in force.
    chosen_evaluators : tuple of str
        Those of `EVALUATORS` that the user named; they must be there.
    clip_s : float
        Duration of one scan's clip in seconds: folders of frames and arrays last that long.
    ways : tuple of int
        N of the N-way accuracies.
    retrieval_part : int
        Clips of one retrieval part.
    bootstrap_samples, shuffles, monte_carlo, batch_size : int
        Resamples behind the intervals, re-pairings of the control, draws of the sampled N-way
        estimate (0 for none), clips in memory at a time.
    seed : int
        Of the re-pairings, the draws and the bootstrap.
    extra_metrics : tuple of str
        Further metrics by name.
    perceptual : str
        The AlexNet checkpoint of LPIPS.
    control : str
        What the re-paired control is called: ``shuffled_fmri`` for a run, ``shuffled_pairs``
        where no scans are involved.
    """

    protocol: Protocol
    fps: int
    size: int
    evaluators: EvaluatorReferences
    chosen_evaluators: tuple[str, ...]
    clip_s: float
    ways: tuple[int, ...]
    retrieval_part: int
    bootstrap_samples: int
    shuffles: int
    monte_carlo: int
    batch_size: int
    seed: int
    extra_metrics: tuple[str, ...]
    perceptual: str
    control: str

    @property
    def evaluator_names(self) -> Mapping[str, str]:
        """Return the reference of every evaluator by its name."""
        return asdict(self.evaluators)

    @property
    def label(self) -> str:
        """Return ``synthetic-dataset evaluators`` where embedded ones are used, else nothing."""
        embedded = any(is_embedded(reference) for reference in self.evaluator_names.values())
        return SYNTHETIC_EVALUATORS if embedded else ""

    @property
    def evaluated_by(self) -> str:
        """Return whose networks evaluate, in words."""
        if self.label:
            return self.label
        own = self.evaluators == self.protocol.evaluators
        return "published evaluators" if own else "evaluators named in the settings"

    def at_rate_of(self, *own: float) -> EvaluationConfig:
        """Return the configuration for clips of some frame rates in Hz.

        Protocols that do not fill up slower clips measure those at their own rate.
        """
        if not self.protocol.no_upsampling:
            return self
        return replace(self, fps=max(1, min(self.fps, *(int(fps + 1e-6) for fps in own))))


def evaluation_config(settings: Settings, *, synthetic: bool, scans: bool) -> EvaluationConfig:
    """Decide how to measure.

    Parameters
    ----------
    settings : Settings
        ``[evaluate]`` names a protocol and what is changed of it.
    synthetic : bool
        Whether the films are those of the synthetic dataset, which the embedded networks know.
    scans : bool
        Whether the clips were decoded from scans.

    Returns
    -------
    EvaluationConfig

    Raises
    ------
    UserError
        If the settings contradict a published protocol, or an embedded network would evaluate films
        that it does not know.
    """
    chosen = settings.evaluate
    name: str = chosen.protocol
    if name == AUTO:
        name = SYNTHETIC if synthetic else STANDARD
    protocol = load(name)
    changed = {
        evaluator: value for evaluator in EVALUATORS if (value := getattr(chosen, evaluator))
    }
    evaluators = replace(protocol.evaluators, **changed)
    if not synthetic:
        _refuse_embedded(protocol, evaluators)
    return EvaluationConfig(
        protocol=protocol,
        fps=_fixed(protocol, "fps", chosen.fps),
        size=_fixed(protocol, "size", chosen.size),
        evaluators=evaluators,
        chosen_evaluators=tuple(changed),
        clip_s=settings.data.clip_s,
        ways=chosen.ways,
        retrieval_part=chosen.retrieval_part,
        bootstrap_samples=chosen.bootstrap_samples,
        shuffles=chosen.shuffles,
        monte_carlo=chosen.monte_carlo,
        batch_size=chosen.batch_size,
        seed=settings.run.seed,
        extra_metrics=chosen.extra_metrics,
        perceptual=chosen.perceptual,
        control="shuffled_fmri" if scans else "shuffled_pairs",
    )


def is_embedded(reference: str) -> bool:
    """Tell whether a reference is a network of this package, by its name or by its folder."""
    if reference.startswith(EMBEDDED):
        return True
    folder = Path(reference).expanduser()
    return folder.is_dir() and folder.resolve().is_relative_to(
        Path(__file__).resolve().parents[1] / "assets"
    )


def _fixed(protocol: Protocol, key: str, asked: int) -> int:
    """Return the protocol's frame rate or size, or what stands in its place in our own two."""
    own: int = getattr(protocol, key)
    if asked in (0, own):
        return own
    if protocol.name in (STANDARD, SYNTHETIC):
        return asked
    raise UserError(
        f"protocol {protocol.name} measures at {key} {own}, and evaluate.{key} asks for {asked}: "
        f"leave evaluate.{key} out, or choose protocol standard"
    )


def _refuse_embedded(protocol: Protocol, evaluators: EvaluatorReferences) -> None:
    """Refuse networks of this package as evaluators of other films than the synthetic ones."""
    if protocol.name == SYNTHETIC:
        raise UserError(
            "protocol synthetic evaluates only runs on films that `neuroclips simulate` made of "
            "the synthetic dataset, and these are others: choose protocol standard"
        )
    for evaluator, reference in asdict(evaluators).items():
        if is_embedded(reference):
            raise UserError(
                f"evaluate.{evaluator} is {reference}, a network of this package, which knows "
                "drawn objects only and evaluates only runs on films of the synthetic dataset: "
                "leave it out, "
                "or name another network"
            )
