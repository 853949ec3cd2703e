"""The paper's own figures: Tables 1, 2, 3 and 4, on real cc2017 scans and on MSCOCO.

Means and standard deviations as printed. Retrieval has no deviation. The names of the metrics are
those of ``metrics.json``.
"""

from __future__ import annotations

from dataclasses import dataclass

METRICS = (
    "video_2way",
    "video_50way",
    "clip_pcc",
    "frame_2way",
    "frame_50way",
    "ssim",
    "psnr",
    "retrieval_fmri_to_image",
    "retrieval_image_to_fmri",
)
"""Columns of Tables 1 and 2 in the paper's order, then those of Table 4."""

NOTE = (
    "Published values: real cc2017 scans, other films and classifiers, and accuracies that count "
    "three ground-truth classes (chance 0.750 and 0.058); for orientation, not for comparison."
)


@dataclass(frozen=True)
class Published:
    """One line of a table of the paper.

    Attributes
    ----------
    table : int
        1 to 4.
    method : str
        As the paper calls it.
    mean, std : dict
        Metric -> value; a metric that was not published is absent.
    """

    table: int
    method: str
    mean: dict[str, float]
    std: dict[str, float]


def _line(table: int, method: str, cells: str) -> Published:
    """Read a line as it is printed: ``0.834±0.03 ...`` in the order of `METRICS`, - for none."""
    pairs = {
        name: cell.split("±")
        for name, cell in zip(METRICS, cells.split(), strict=False)
        if cell != "-"
    }
    return Published(
        table,
        method,
        {name: float(pair[0]) for name, pair in pairs.items()},
        {name: float(pair[1]) for name, pair in pairs.items() if pair[1:]},
    )


TABLE_1 = (
    _line(1, "Nishimoto", "- - - 0.727±0.04 - 0.116±0.09 8.012±2.31"),
    _line(1, "Wen", "- 0.166±0.02 - 0.758±0.03 0.070±0.01 0.114±0.15 7.646±3.48"),
    _line(1, "Wang", "0.773±0.03 - 0.402±0.41 0.713±0.04 - 0.118±0.08 11.432±2.42"),
    _line(
        1,
        "Kupershmidt",
        "0.771±0.03 - 0.386±0.47 0.764±0.03 0.179±0.02 0.135±0.08 8.761±2.22",
    ),
    _line(
        1,
        "MinD-Video",
        "0.839±0.03 0.197±0.02 0.408±0.46 0.796±0.03 0.174±0.03 0.171±0.08 8.662±1.52",
    ),
    _line(
        1,
        "NeuroClips",
        "0.834±0.03 0.220±0.01 0.738±0.17 0.806±0.03 0.203±0.01 0.390±0.08 9.211±1.46",
    ),
    _line(
        1,
        "NeuroClips, subject 1",
        "0.830±0.03 0.208±0.01 0.736±0.12 0.799±0.03 0.187±0.01 0.392±0.08 9.226±1.42",
    ),
    _line(
        1,
        "NeuroClips, subject 2",
        "0.837±0.03 0.230±0.01 0.742±0.19 0.811±0.03 0.210±0.01 0.392±0.08 9.336±1.52",
    ),
    _line(
        1,
        "NeuroClips, subject 3",
        "0.835±0.03 0.221±0.01 0.735±0.20 0.807±0.03 0.213±0.01 0.387±0.09 9.072±1.44",
    ),
)
TABLE_2 = (
    _line(
        2,
        "without keyframe, subject 1",
        "0.751±0.04 0.164±0.02 0.695±0.15 0.702±0.04 0.128±0.01 0.413±0.09 9.334±1.30",
    ),
    _line(
        2,
        "without blurry clip, subject 1",
        "0.838±0.03 0.213±0.01 0.718±0.11 0.805±0.03 0.193±0.01 0.256±0.11 8.989±1.37",
    ),
    _line(
        2,
        "GIT captioning, subject 1",
        "0.828±0.03 0.195±0.01 0.728±0.12 0.785±0.03 0.174±0.01 0.399±0.08 9.297±1.43",
    ),
    _line(
        2,
        "NeuroClips, subject 1",
        "0.830±0.03 0.208±0.01 0.736±0.12 0.799±0.03 0.187±0.01 0.392±0.08 9.226±1.42",
    ),
)
TABLE_4 = (
    _line(4, "subject 1", "- - - - - - - 0.231 0.207"),
    _line(4, "subject 2", "- - - - - - - 0.263 0.198"),
    _line(4, "subject 3", "- - - - - - - 0.173 0.159"),
)
TABLES = (*TABLE_1, *TABLE_2, *TABLE_4)
"""What is on cc2017; the metrics of Table 3 are those of the projector on captioned images."""
TABLE_3 = (
    Published(3, "before fine-tuning", {"image_to_text": 0.813, "text_to_image": 0.787}, {}),
    Published(3, "after fine-tuning", {"image_to_text": 0.952, "text_to_image": 0.952}, {}),
)
"""Reftm's projector: top-1 retrieval on MSCOCO 2017 before and after its fine-tuning."""


SUBJECTS = 3
"""Subjects of cc2017, and of Tables 1 and 4."""
NEUROCLIPS = {
    **TABLE_1[5].mean,
    **{name: round(sum(line.mean[name] for line in TABLE_4) / 3, 3) for name in TABLE_4[0].mean},
}
"""NeuroClips, mean of the three subjects: Table 1 and, for retrieval, Table 4."""


def of_subject(subject: int | None) -> dict[str, float]:
    """Return NeuroClips' own values of a subject of cc2017, else the mean of the three.

    Parameters
    ----------
    subject : int or None
        Number from 1; None where clips belong to no subject.
    """
    if subject is None or not 1 <= subject <= SUBJECTS:
        return NEUROCLIPS
    return {**TABLE_1[5 + subject].mean, **TABLE_4[subject - 1].mean}


def counterpart(run: str, subject: int | None = None) -> dict[str, float]:
    """Return the paper's values of the run that a name stands for, empty if it has none.

    ``evaluate`` and ``reconstruct`` are NeuroClips of the subject (Tables 1 and 4), and so is
    ``fuse``: the paper's figures are of clips after fusion. ``...-without-blurry``,
    ``...-without-keyframe`` and ``...-captioner-git`` are the ablations of Table 2, subject 1.
    """
    kind, _, changed = run.partition("-")
    if kind not in ("evaluate", "reconstruct", "fuse"):
        return {}
    rows = {
        "": of_subject(subject),
        "fuse": of_subject(subject),
        "without-keyframe": TABLE_2[0].mean,
        "without-blurry": TABLE_2[1].mean,
        "captioner-git": TABLE_2[2].mean,
    }
    return rows.get("fuse" if kind == "fuse" else changed, {})
