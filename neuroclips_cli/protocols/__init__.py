"""Evaluation protocols as data: what each paper's figures were measured by, one file each."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from neuroclips_cli.errors import UserError
from neuroclips_cli.protocols.rules import PAIRS, SSIM_VARIANTS, ProtocolRules
from neuroclips_cli.settings.parse import nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

AUTO, STANDARD, SYNTHETIC = "auto", "standard", "synthetic"
NAMES = (STANDARD, SYNTHETIC, "neuroclips", "mindvideo", "mind-animator", "neurons")


@dataclass(frozen=True)
class EvaluatorReferences:
    """Where the networks that evaluate clips are: hub ids, folders or ``assets:<name>``.

    Attributes
    ----------
    image_classifier : str
        Classifies frames: a ViT on ImageNet (paper 4.3).
    video_classifier : str
        Classifies clips: VideoMAE on Kinetics-400 (paper 4.3).
    clip : str
        Embeds frames and captions: an OpenCLIP model.
    """

    image_classifier: str
    video_classifier: str
    clip: str


@dataclass(frozen=True)
class Protocol:
    """How a set of published figures was measured.

    Attributes
    ----------
    name, title, source : str
        What it is called, in words, and where it is taken from.
    fps, size : int
        Frame rate in Hz, and height and width in pixels, that clips are brought to.
    no_upsampling : bool
        ``fps`` is the most: clips with fewer frames are not filled up.
    trials : int
        Random draws behind a published N-way accuracy, for the record: here it is exact.
    rules : ProtocolRules
        What it decides about the metrics.
    evaluators : EvaluatorReferences
        The networks.
    remarks : tuple of str
        What else is peculiar about it.
    """

    name: str
    title: str
    source: str
    fps: int
    size: int
    no_upsampling: bool
    trials: int
    rules: ProtocolRules
    evaluators: EvaluatorReferences
    remarks: tuple[str, ...]


@lru_cache(maxsize=len(NAMES))
def load(name: str) -> Protocol:
    """Read a protocol.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    if name not in NAMES:
        raise UserError(
            f"there is no protocol {name!r}{nearest(name, NAMES)}; choose one of {', '.join(NAMES)}"
        )
    text = (resources.files(__name__) / f"{name}.toml").read_text("utf-8")
    content = tomllib.loads(text)
    rules = ProtocolRules(**content.pop("rules"))
    if rules.ssim not in SSIM_VARIANTS or rules.pairs not in PAIRS:
        raise ValueError(f"{name}.toml: {rules} names no known variant")
    remarks = tuple(content.pop("remarks"))
    evaluators = EvaluatorReferences(**content.pop("evaluators"))
    return Protocol(name=name, rules=rules, remarks=remarks, evaluators=evaluators, **content)
