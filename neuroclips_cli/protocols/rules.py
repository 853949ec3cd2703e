"""Choices of an evaluation protocol, filled from ``protocols/*.toml``."""

from __future__ import annotations

from dataclasses import dataclass

SSIM_VARIANTS = ("rgb-uniform7", "grey-columns", "rgb-gaussian", "grey-gaussian")
PAIRS = ("adjacent", "all")


@dataclass(frozen=True)
class ProtocolRules:
    """How the metrics of one protocol are computed; the defaults are protocol ``standard``.

    Attributes
    ----------
    truth_classes : int
        Ground-truth classes of a frame or clip: its K most probable ones; one win is enough.
    ssim : str
        One of `SSIM_VARIANTS`, see `neuroclips_cli.metrics.pixel`.
    pairs : str
        Frames that CLIP-pcc compares: ``adjacent`` ones or ``all`` pairs of a clip.
    similarity_gate : float
        CLIP-pcc of a clip counts as 0 where the CLIP similarity of reconstruction and ground
        truth, embeddings averaged over frames, is not above this; -1 for no such gate.
    """

    truth_classes: int = 1
    ssim: str = "rgb-uniform7"
    pairs: str = "adjacent"
    similarity_gate: float = -1.0
