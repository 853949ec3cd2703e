"""``python -m tests.benchmarks gpu``, tried at tiny size, and its counts at full size."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def command(*words: str) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "gpu", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return made.stdout


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"tests.benchmarks.gpu.{name}")


def test_every_precision_of_a_case_is_timed_and_written(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    said = command(
        *("--size", "tiny", "--device", "cpu", "--minutes", "0.5"),
        *("--only", "evaluator: ViT-B/16", "--out", str(out)),
    )
    rows = json.loads(out.read_text())["rows"]
    modes = ["bfloat16", "TF32", "float32", "package's call", "released, float32", "bf16 weights"]
    assert [row["mode"] for row in rows] == modes
    assert all(row["seconds"] > 0 and not row["error"] for row in rows)
    assert [row["items"] for row in rows] == [4, 4, 4, 4, 1, 4]
    assert said.count("\nevaluator: ViT-B/16\n") == 1 and len(said) < 12_000


def test_a_clip_is_scaled_from_its_steps_and_its_coding(part: Any) -> None:
    results = part("results")
    made = results.Results({"size": "full"})
    for case, seconds in (("clip: AnimateDiff step", 2.0), ("clip: VAE there and back", 3.0)):
        made.rows.append(results.Row(case, "TF32", items=4, seconds=seconds))
        made.rows.append(results.Row(case, "released, float32", items=1, seconds=seconds))
    assert made.scaled() == {"clip": {"TF32": 25 * 2 / 4 + 3 / 4, "released": 25 * 2 + 3}}


def test_a_failing_row_is_recorded_and_the_others_go_on(part: Any) -> None:
    command, work, modes = part("command"), part("work"), part("modes")

    def call(mode: Any) -> None:
        if mode == modes.TF32:
            raise RuntimeError("too large")

    case = work.Case("case", lambda place: work.Work(call, 1, [], [], modes=()))
    run = command.Benchmark(work.Place("cpu", "tiny"), 1.0, command.time.monotonic(), None)
    run._case(case, run._plain, 20.0)
    errors = {row.mode: row.error for row in run.results.rows}
    assert errors == {"bfloat16": "", "TF32": "RuntimeError: too large", "float32": ""}
    assert "too large" in run.results.table()


def test_a_case_ends_when_its_time_is_over(part: Any) -> None:
    command, work = part("command"), part("work")
    case = work.Case("case", lambda place: command.time.sleep(30))
    began = command.time.monotonic()
    run = command.Benchmark(work.Place("cpu", "tiny"), 1.0, began, None)
    run._case(case, run._plain, 0.5)
    assert command.time.monotonic() - began < 10
    assert [row.error for row in run.results.rows] == ["out of time"]


def test_busy_time_counts_overlapping_kernels_once(part: Any) -> None:
    covered = part("timing").covered
    assert covered([(5, 6), (0, 2), (1, 3), (1, 2)]) == 4
    assert covered([]) == 0


def test_written_out_attention_is_the_fused_one(part: Any) -> None:
    import torch
    import torch.nn.functional as F

    query, key, value = (torch.randn(2, 3, n, 8) for n in (5, 7, 7))
    bias = torch.randn(3, 5, 7)
    fused = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=0.3)
    with part("training").written_out_attention():
        written = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=0.3)
    torch.testing.assert_close(written, fused)


def test_the_stored_counts_are_those_of_the_networks(part: Any) -> None:
    """One cheap case: ``--device meta`` writes the file again when a network has changed."""
    counting, cases, work = part("counting"), part("cases"), part("work")
    name = "train-pr step"
    case = next(case for case in cases.CASES if case.name == name)
    found = counting.count(case, work.Place("meta", "full"))
    stored = part("results").read_counts("full")
    assert stored.keys() == {case.name for case in cases.CASES}
    for what in ("items", "operations", "bytes"):
        assert stored[name][what] == found[what]
