"""No name that was given up is left in the code, its texts, the documentation or the examples."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import neuroclips_cli

PACKAGE = Path(neuroclips_cli.__file__).parent
ROOT = PACKAGE.parent
SUFFIXES = (".py", ".md", ".toml", ".html", ".sh", ".sbatch")
GIVEN_UP = [
    "Desk",
    "company",
    "Guest",
    "_Guest",
    "_announced",
    "_open_alone",
    "only_writer",
    "in_turn",
    "Dismissed",
    "PATIENCE",
    "PATIENCE_S",
    "is_first",
    "refuse_shards",
    "LateFigures",
    "PiecedShare",
    "SharedDropout",
    "pieces_of",
    "backward_in_pieces",
    "begin_from",
    "diffuse_on",
    "GainNorm",
    "SharedKeyAttention",
    "average_share",
    "prior_draws",
    "token_rank",
    "rows_at_once",
    "FromTheFilm",
    "FromThePrior",
    "GuidedVideo",
    "Judged",
    "load_describer",
    "never_faster",
    "lonely_segments",
    "lonely_repetitions",
    "LONELY",
    "repeat_correlation",
    "repeat_scores",
    "needed_p",
    "refuse_nonsense",
    "adopt_geometry",
    "LiveBytes",
    "NO_MATTER",
    "plain_state",
    "optimiser",
    "optimisers",
    "begin_as_identity",
    "begin_as_linear",
    "begin_as_regression",
    "further_metrics",
    "judge_names",
    "judge_arrays",
    "load_judges",
    "find_judges",
    "chosen_judges",
    "published_judges",
    "fake_judges",
    "JudgesAtHand",
    "JudgeReferences",
    "practice world",
    "practice_world",
    "is_practice_world",
    "practice-world",
    "factorised",
    "FactorisedHead",
    "colour",
    "colours",
    "coloured",
    "centre",
    "centres",
    "centred",
    "neighbour",
    "neighbours",
    "neighbouring",
    "normalise",
    "normalised",
    "normalisation",
    "standardise",
    "standardised",
    "standardising",
    "summarise",
    "behaviour",
    "licence",
    "licences",
    "favour",
    "recognised",
    "minimises",
    "randomise",
    "modelling",
    "learnt",
    "mend",
    "mends",
    "mended",
    "mending",
    "told of",
    "here and there",
    "goes on where",
    "is no table",
    "is no JSON",
    "by heart",
]
"""Names and phrases that stand nowhere, in whatever kind of text."""
ORDINARY_WORDS = [
    "Share",
    "Journal",
    "Checkpoints",
    "Describe",
    "Judges",
    "Rules",
    "Findings",
    "Glance",
    "Listed",
    "Batch",
    "desk",
    "guarded",
    "Checked",
    "Need",
    "Origin",
    "ORIGINS",
    "Plan",
    "Remote",
    "glance",
    "glances",
    "lonely",
    "lively",
    "judges",
    "judge",
    "blank",
]
"""Names that are words as well: no identifier has one."""
GONE_FROM = {
    "runtime/distributed.py": {
        "size",
        "rank",
        "agree",
        "gather",
        "wait",
        "join",
        "leave",
        "refuse",
        "lost",
    },
    "training/cross_fitted_ridge.py": {"install"},
    "io/safetensors.py": {"fitted"},
    "io/lock.py": {"holder"},
    "signal/quality.py": {"look", "inspect", "summarise", "summarize", "matches"},
    "memory_estimate/live.py": {"twice", "bytes_of"},
    "memory_estimate/needs.py": {"at", "expect", "size_of"},
    "runtime/seeding.py": {"draw"},
    "reporting/results.py": {"assemble"},
    "metrics/evaluation.py": {"further"},
    "training/checkpoints.py": {"Progress"},
    "backbones/hub.py": {"Remote"},
    "cli/options.py": {"Key"},
    "backbones/catalog.py": {"Known", "Origin", "ORIGINS"},
    "backbones/conversion/parts.py": {"Part"},
    "backbones/schedulers.py": {"fewer"},
}
"""Common names that one module has given up."""
MOVED = [
    "company",
    "parallel",
    "artifacts",
    "manifest",
    "inheritance",
    "integrity",
    "lock",
    "disk",
    "arrays",
    "tensors",
    "config",
    "schema",
    "values",
    "precision",
    "backbones.desk",
    "backbones.batch",
    "backbones.needs",
    "backbones.blueprints",
    "backbones.local",
    "backbones.published",
    "backbones.captioner",
    "generation.seeds",
    "generation.selection",
    "models.published",
    "models.published_decoder",
    "models.published_perception",
    "models.mixer",
    "models.recompute",
    "training.shares",
    "training.pieces",
    "training.late",
    "training.journal",
    "training.closed_form",
    "training.targets",
    "training.optimiser",
    "dryrun",
    "metrics.suite",
    "metrics.judged",
    "metrics.resample",
    "metrics.regional",
    "data.known_header",
    "data.checked",
    "data.probe",
    "data.captioned",
    "data.release",
    "data.maps",
    "data.panels",
    "data.recordings",
    "reporting.sheet",
    "cli.stopping",
    "cli.registry",
    "simulation.world",
    "stages.streamed",
    "stages.space",
    "stages.pairing",
    "stages.exchange",
    "stages.training_inputs",
    "stages.from_release",
    "stages.guided",
    "stages.captions",
    "stages.convert",
    "stages.doctor",
    "stages.init",
    "stages.models",
    "stages.status",
    "stages.informed",
    "stages.judging",
    "stages._evaluators",
    "stages._metric_table",
    "metrics.identification",
    "metrics.pairwise",
    "metrics.permutation",
    "metrics.comparison",
    "metrics.ssim_variants",
    "metrics.rules",
    "models.voxel_weights",
    "reporting.published",
    "reporting.versus",
    "reporting.weight_panels",
    "generation.fast",
    "data.clip_selection",
    "training.split",
]
"""Modules that lie elsewhere and have other names."""
OLD_KEYS = PACKAGE / "settings" / "renamed.py"
"""The table by which an error names the new key for an old one; tests that import it use them."""
IMPORTS_OLD_KEYS = re.compile(
    r"^from neuroclips_cli\.settings(\.renamed)? import .*renamed", re.I | re.M
)


def texts() -> Iterator[tuple[Path, str]]:
    """Return every text of the repository but the changelog, this file and the old keys."""
    for folder in (PACKAGE, ROOT / "docs", ROOT / "examples", ROOT / "tests"):
        for path in sorted(folder.rglob("*")):
            if path.suffix not in SUFFIXES or path in (OLD_KEYS, Path(__file__)):
                continue
            text = path.read_text(encoding="utf-8")
            if not IMPORTS_OLD_KEYS.search(text):
                yield path, text
    for name in ("README.md", "pyproject.toml"):
        yield ROOT / name, (ROOT / name).read_text(encoding="utf-8")


def given_up_names() -> re.Pattern[str]:
    """Match the names as whole words, also behind the underscores of ``section__key``."""
    return re.compile(rf"(?<![A-Za-z0-9])_*({'|'.join(map(re.escape, GIVEN_UP))})\b")


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def identifiers(text: str) -> set[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME}


def defined(path: Path) -> set[str]:
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def test_no_text_holds_a_name_that_was_given_up():
    found = lines_with(given_up_names())
    assert not found, "\n".join(found)


def test_no_identifier_is_a_word_that_was_given_up_as_a_name():
    found = {
        str(path.relative_to(ROOT)): sorted(left)
        for path, text in texts()
        if path.suffix == ".py" and (left := identifiers(text) & {*ORDINARY_WORDS, *GIVEN_UP})
    }
    assert not found


@pytest.mark.parametrize("module", GONE_FROM)
def test_a_module_defines_no_name_that_it_gave_up(module):
    names = defined(PACKAGE / module)
    assert names and not names & GONE_FROM[module]


def test_moved_modules_are_named_nowhere_by_their_old_path():
    for name in MOVED:
        path = PACKAGE / name.replace(".", "/")
        assert not path.with_suffix(".py").exists() and not (path / "__init__.py").exists(), name
    dotted = "|".join(re.escape(name) for name in MOVED)
    slashed = "|".join(re.escape(name.replace(".", "/")) for name in MOVED if "." in name)
    pattern = re.compile(rf"\bneuroclips_cli[./]({dotted}|{slashed})(\.py)?\b(?![\w./]*\()|"
                         rf"(?<![\w/])({slashed})\.py\b")  # fmt: skip
    found = lines_with(pattern)
    assert not found, "\n".join(found)


def test_the_search_finds_what_it_looks_for():
    assert identifiers("def f(desk): return Share.x  # Rules\n'Journal'") >= {"desk", "Share"}
    assert not identifiers("x = 'Journal'  # Rules") & {"Journal", "Rules"}
    pattern = given_up_names()
    assert pattern.search("semantics__token_rank=0") and pattern.search("use `Desk`.")
    assert not pattern.search("token_ranks") and not pattern.search("an accompanying company2")
