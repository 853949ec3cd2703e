"""Which of an evaluation's networks are on this machine; none is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuroclips_cli.backbones import local_files
from neuroclips_cli.errors import UserError
from neuroclips_cli.protocols.evaluation_config import EvaluationConfig

PULLED_AS = {
    "image_classifier": "image_classifier",
    "video_classifier": "video_classifier",
    "clip": "evaluation_clip",
}
"""Evaluator -> what ``neuroclips models`` calls it."""


@dataclass(frozen=True)
class EvaluatorsAtHand:
    """Which evaluators are on this machine.

    Attributes
    ----------
    present : tuple of str
        Names of evaluators that are complete.
    left_out : str
        One sentence about the others and how to fetch them; empty if there are none.
    """

    present: tuple[str, ...]
    left_out: str


def find_evaluators(config: EvaluationConfig) -> EvaluatorsAtHand:
    """Look for the evaluators on this machine; nothing is fetched.

    Raises
    ------
    UserError
        If an evaluator that the user named is not there.
    """
    problems = {
        evaluator: local_files.find(PULLED_AS[evaluator], reference)[1]
        for evaluator, reference in config.evaluator_names.items()
    }
    for evaluator in config.chosen_evaluators:
        if problems[evaluator]:
            reference = config.evaluator_names[evaluator]
            raise UserError(
                f"evaluate.{evaluator} is {reference}, which cannot evaluate "
                f"({problems[evaluator]}): fetch it with `neuroclips models pull "
                f"{PULLED_AS[evaluator]} --set evaluate.{evaluator}={reference}`, or name another "
                "folder or hub id"
            )
    present = tuple(evaluator for evaluator, problem in problems.items() if not problem)
    missing = [evaluator for evaluator, problem in problems.items() if problem]
    return EvaluatorsAtHand(present, _left_out(config, missing))


def _left_out(config: EvaluationConfig, missing: Sequence[str]) -> str:
    if not missing:
        return ""
    metrics = {
        "image_classifier": [f"frame {n}-way" for n in config.ways],
        "video_classifier": [f"video {n}-way" for n in config.ways],
        "clip": ["CLIP-pcc", "CLIP similarity"],
    }
    names = ", ".join(name for evaluator in missing for name in metrics[evaluator])
    references = ", ".join(config.evaluator_names[evaluator] for evaluator in missing)
    pull = " ".join(["neuroclips models pull", *(PULLED_AS[evaluator] for evaluator in missing)])
    if config.protocol.name != "standard":
        pull += f" --set evaluate.protocol={config.protocol.name}"
    return (
        f"left out: {names}, whose evaluators ({references}) are not on this machine; fetch them "
        f"with `{pull}`"
    )
