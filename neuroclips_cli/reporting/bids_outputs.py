"""A subject's results under BIDS names: maps, tables and the report, with sidecars."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuroclips_cli import __version__
from neuroclips_cli.data.run_table import subject_number
from neuroclips_cli.io.atomic import atomic_path, read_json, write_json, write_text
from neuroclips_cli.io.csv import read_csv, read_table, write_csv
from neuroclips_cli.reporting.subjects import HEADER, Figure, SubjectRun, csv_rows

BIDS_VERSION = "1.10.0"
IGNORED = ("*_statmap.*", "*_scores.*", "*_stimuli.*", "*.html", "figures", "sourcedata/")
"""What a validator does not know: results that BIDS (1.11) has no names for yet."""

_CLIP_COLUMNS = {
    "onset_s": "Beginning of the clip in its stretch of film, s.",
    "crosses_scene": "Whether a cut falls inside the clip.",
    "caption": "What the clip shows.",
}
_SCORE_COLUMNS = {
    "metric": "Name of the measure; the reference of metrics explains it.",
    "mean": "Mean over the test clips.",
    "std": "Standard deviation over the test clips.",
    "n": "Number of clips.",
    "ci95_low": "Lower end of the 95 % interval over clips.",
    "ci95_high": "Upper end of the 95 % interval over clips.",
    "shuffled": "Mean of the control whose clips are dealt to other films.",
}
_SUBJECT_COLUMNS = {
    "source": "ours, or a table of the paper.",
    "run": "What the run or the method is called.",
    "subject": "Number of the subject; n/a in a mean over subjects.",
    "metric": "Name of the measure.",
    "mean": "Mean over the test clips, or of the subjects' means.",
    "std": "Standard deviation over all test clips.",
    "n": "Number of clips.",
    "evaluators": "Whose networks measured.",
}
_MAPS = {
    "mean_z": "Fisher z of the correlation between repetitions, mean over films.",
    "t": "Statistic of the selection test over films.",
    "p": "P of that test, uncorrected.",
    "selected": "1 where the vertex or voxel was selected.",
    "excluded": "1 where a vertex or voxel carries no signal in some training run.",
}


@dataclass(frozen=True)
class Entities:
    """What the names of a subject's files say beside what they hold.

    Attributes
    ----------
    subject : str
        Label without ``sub-``.
    space : str
        Further entities such as ``space-fsLR_den-91k``; empty if unknown.
    """

    subject: str
    space: str = ""

    def name(self, ending: str, *, with_space: bool = False) -> str:
        """Return a file's name."""
        parts = [f"sub-{self.subject}", self.space if with_space else "", ending]
        return "_".join(part for part in parts if part)


def describe(out: Path, sources: Sequence[Path]) -> None:
    """Write ``dataset_description.json`` and ``.bidsignore`` of the derivative.

    Parameters
    ----------
    out
        Folder of the derivative.
    sources
        Data sets that it was made of.
    """
    write_json(
        out / "dataset_description.json",
        {
            "Name": "neuroclips: videos decoded from fMRI",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [
                {
                    "Name": "neuroclips",
                    "Version": __version__,
                    "Description": "neuroclips-bids, the BIDS-App form of neuroclips",
                }
            ],
            "SourceDatasets": [{"URL": path.resolve().as_uri()} for path in sources],
        },
    )
    write_text(out / ".bidsignore", "".join(f"{pattern}\n" for pattern in IGNORED))


def export_subject(run: Path, out: Path, entities: Entities) -> list[Path]:
    """Copy what a subject's stages made, so far as they are done, under BIDS names.

    Parameters
    ----------
    run
        The subject's run folder, which holds a folder per stage.
    out
        Folder of the derivative.
    entities
        Of the names.

    Returns
    -------
    list of Path
        What was written, in order.
    """
    folder = out / f"sub-{entities.subject}"
    written = [
        *_maps(run / "preprocess", folder / "func", entities),
        *_clips(run / "preprocess" / "clips.csv", folder / "func", entities),
        *_scores(run / "evaluate" / "metrics.json", folder / "func", entities),
    ]
    sheet, page = run / "report" / "contact_sheet.png", run / "report" / "index.html"
    if sheet.is_file():
        target = folder / "figures" / entities.name("desc-contactsheet_clips.png")
        written.append(_copy(sheet, target))
    if page.is_file():
        written.append(_copy(page, out / f"sub-{entities.subject}.html"))
    return written


def _maps(stage: Path, folder: Path, entities: Entities) -> list[Path]:
    """Copy the maps of the selection test, with what each of them is."""
    for name, ending in (("selection.dscalar.nii", ".dscalar.nii"), ("selection.nii", ".nii")):
        if not (stage / name).is_file():
            continue
        stem = entities.name("stat-z_desc-reproducibility_statmap", with_space=True)
        path = _copy(stage / name, folder / f"{stem}{ending}")
        sidecar = folder / f"{stem}.json"
        write_json(
            sidecar,
            {
                "Description": "Reproducibility of responses between repetitions of training films",
                "Maps": _MAPS,
            },
        )
        return [path, sidecar]
    return []


def _clips(table: Path, folder: Path, entities: Entities) -> list[Path]:
    """Write the clips as a tab-separated table, in the order of the arrays."""
    if not table.is_file():
        return []
    header, rows = read_table(table)
    body = [[row[name] or "n/a" for name in header] for _, row in rows]
    return _table(folder, entities.name("desc-clips_stimuli"), header, body, _CLIP_COLUMNS)


def _scores(metrics: Path, folder: Path, entities: Entities) -> list[Path]:
    """Write the metrics, one per line."""
    if not metrics.is_file():
        return []
    rows = score_rows(read_json(metrics))
    name = entities.name("desc-metrics_scores")
    return _table(folder, name, list(_SCORE_COLUMNS), rows, _SCORE_COLUMNS)


def score_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Return a line per metric of ``metrics.json``: see the sidecar's columns."""
    shuffled = result.get("controls", {}).get("shuffled_fmri", {})
    rows = []
    for name, summary in result.get("metrics", {}).items():
        low, high = summary.get("ci95") or (None, None)
        control = shuffled.get(name, {}) if isinstance(shuffled, Mapping) else {}
        values = [summary.get("mean"), summary.get("std"), summary.get("n"), low, high]
        values.append(control.get("mean") if isinstance(control, Mapping) else None)
        rows.append([name, *("n/a" if value is None else f"{value:.6g}" for value in values)])
    return rows


def write_group(out: Path) -> Path | None:
    """Write the scores of all subjects into one table; None if there are none.

    Returns
    -------
    Path or None
        ``group_desc-metrics_scores.tsv``: a line per subject, a column per metric's mean. Beside
        it ``group_desc-subjects_scores.tsv`` has the subjects' mean and the paper's figures.
    """
    found = {
        path.parts[-3]: {line["metric"]: line for line in read_csv(path)}
        for path in sorted(out.glob("sub-*/func/sub-*_desc-metrics_scores.tsv"))
    }
    if not found:
        return None
    metrics = list(dict.fromkeys(name for lines in found.values() for name in lines))
    rows = [
        [subject, *(lines[name]["mean"] if name in lines else "n/a" for name in metrics)]
        for subject, lines in found.items()
    ]
    described = {"participant_id": "The subject.", **dict.fromkeys(metrics, "Mean over clips.")}
    header = ["participant_id", *metrics]
    table = _table(out, "group_desc-metrics_scores", header, rows, described)[0]
    runs = [
        SubjectRun("neuroclips", subject_number(subject), _figures(lines), "")
        for subject, lines in found.items()
    ]
    beside = [[str(value) or "n/a" for value in row] for row in csv_rows([runs])]
    _table(out, "group_desc-subjects_scores", HEADER, beside, _SUBJECT_COLUMNS)
    return table


def _figures(lines: Mapping[str, Mapping[str, str]]) -> dict[str, Figure]:
    """Return the metrics of a subject that have a mean, a deviation and a number of clips."""
    return {
        name: Figure(float(line["mean"]), float(line["std"]), int(float(line["n"])))
        for name, line in lines.items()
        if "n/a" not in (line["mean"], line["std"], line["n"])
    }


def _table(
    folder: Path,
    stem: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    columns: Mapping[str, str],
) -> list[Path]:
    table = write_csv(folder / f"{stem}.tsv", header, rows)
    known = {name: {"Description": columns[name]} for name in header if name in columns}
    write_json(folder / f"{stem}.json", known)
    return [table, folder / f"{stem}.json"]


def _copy(source: Path, target: Path) -> Path:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
    return target
