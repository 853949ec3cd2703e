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
"""Judge -> what ``neuroclips models`` calls it."""


@dataclass(frozen=True)
class JudgesAtHand:
    """Which judges are on this machine.

    Attributes
    ----------
    present : tuple of str
        Names of judges that are complete.
    left_out : str
        One sentence about the others and how to fetch them; empty if there are none.
    """

    present: tuple[str, ...]
    left_out: str


def find_judges(config: EvaluationConfig) -> JudgesAtHand:
    """Look for the judges on this machine; nothing is fetched.

    Raises
    ------
    UserError
        If a judge that the user named is not there.
    """
    problems = {
        judge: local_files.find(PULLED_AS[judge], reference)[1]
        for judge, reference in config.judge_names.items()
    }
    for judge in config.chosen_judges:
        if problems[judge]:
            reference = config.judge_names[judge]
            raise UserError(
                f"evaluate.{judge} is {reference}, which cannot judge ({problems[judge]}): fetch "
                f"it with `neuroclips models pull {PULLED_AS[judge]} --set "
                f"evaluate.{judge}={reference}`, or name another folder or hub id"
            )
    present = tuple(judge for judge, problem in problems.items() if not problem)
    missing = [judge for judge, problem in problems.items() if problem]
    return JudgesAtHand(present, _left_out(config, missing))


def _left_out(config: EvaluationConfig, missing: Sequence[str]) -> str:
    if not missing:
        return ""
    metrics = {
        "image_classifier": [f"frame {n}-way" for n in config.ways],
        "video_classifier": [f"video {n}-way" for n in config.ways],
        "clip": ["CLIP-pcc", "CLIP similarity"],
    }
    names = ", ".join(name for judge in missing for name in metrics[judge])
    references = ", ".join(config.judge_names[judge] for judge in missing)
    pull = " ".join(["neuroclips models pull", *(PULLED_AS[judge] for judge in missing)])
    if config.protocol.name != "standard":
        pull += f" --set evaluate.protocol={config.protocol.name}"
    return (
        f"left out: {names}, whose judges ({references}) are not on this machine; fetch them with "
        f"`{pull}`"
    )
