"""The documented full-size commands, word for word, on miniatures of what a user downloads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import documented
import numpy as np
import pytest
from hub_repositories import NOT_FETCHED

ROOT = Path(__file__).resolve().parents[2]
PRECISIONS = ("bfloat16", "float32")


def test_the_documents_section_is_found_and_an_empty_one_is_not_taken_for_a_list():
    assert any("neuroclips reconstruct" in script for script in documented.scripts())
    with pytest.raises(ValueError, match="no commands"):
        documented.scripts(f"# A\n\n{documented.HEADING}\n\n```sh\nls\n```\n\n## B\n")


@pytest.mark.rehearsal
@pytest.mark.timeout(1500)
def test_every_documented_command_ends_with_0(tmp_path, request):
    """In bfloat16; ``pytest -m rehearsal`` adds float32, for which a whole suite has no time."""
    asked_for = request.config.getoption("markexpr") == "rehearsal"
    precisions = PRECISIONS if asked_for else PRECISIONS[:1]
    out = tmp_path / "rehearsal"
    program = [sys.executable, str(ROOT / "examples" / "rehearsal"), "--out", str(out)]
    program += [f"--precision={precision}" for precision in precisions]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    print(done.stdout)
    for precision in precisions:
        commands = json.loads((out / precision / "commands.json").read_text())
        assert [" ".join(c["words"]) for c in commands] == words_of_the_document()
        assert {c["code"] for c in commands} == {0}
        look_at_pictures(out / precision)
        look_at_tables(out / precision)
        fetched = {path.name for path in (out / precision / "hf").rglob("*")}
        assert "config.json" in fetched and not fetched & set(NOT_FETCHED)
        used = json.loads((out / precision / "runs/sub-01/reconstruct/manifest.json").read_text())
        assert used["facts"]["precision"] == precision
        stray = json.loads(
            (out / precision / "runs-scans/sub-01/preprocess/manifest.json").read_text()
        )
        assert stray["facts"]["missing_test_runs"] == []
    if asked_for:
        clips = [np.load(out / p / "runs/sub-01/reconstruct/clips.npy") for p in precisions]
        assert not np.array_equal(*clips), "bfloat16 changed nothing: it was not in force"


def words_of_the_document() -> list[str]:
    """Write the loop over subjects out by hand; nothing else in the list is a shell's."""
    found: list[str] = []
    for script in documented.scripts():
        body = re.search(r"^for subject in (.*?); do\n(.*?)^done$", script, re.M | re.S)
        before, inside, after = (script, "", "")
        if body:
            before, after = script[: body.start()], script[body.end() :]
            inside = "".join(body[2].replace("$subject", n) for n in body[1].split())
        lines = [line.partition("#")[0].strip() for line in (before + inside + after).splitlines()]
        found += [line for line in lines if line.startswith(("neuroclips", "hf"))]
    return found


def look_at_pictures(folder: Path) -> None:
    """No picture is blank, and no two clips of one run are the same."""
    for run in ("runs", "runs-released"):
        for subject in sorted((folder / run).glob("sub-*")):
            made = subject / "reconstruct"
            for name in ("blurry", "keyframes", "clips"):
                pictures = np.load(made / f"{name}.npy").astype(float)
                pictures = pictures.reshape(len(pictures), -1)
                assert pictures.std(axis=1).min() > 5, (made, name)
                assert np.abs(np.diff(pictures, axis=0)).mean(axis=1).min() > 0, (made, name)
    for subject in ("sub-01", "sub-02", "sub-03"):
        lengths = json.loads((folder / "runs" / subject / "fuse/manifest.json").read_text())
        assert sum(lengths["facts"]["chains_by_length"][1:]) > 0
        assert (folder / "runs" / subject / "report/index.html").stat().st_size > 10_000


def look_at_tables(folder: Path) -> None:
    """Every subject and their mean have a figure in each column of Table 1, and of Table 4."""
    text = (folder / "table-1-and-4.md").read_text()
    for run, columns in (("fuse", 7), ("evaluate", 9)):
        for who in ("subject 1", "subject 2", "subject 3", "mean of 3 subjects"):
            (line,) = re.findall(rf"^\| ours \| {run}, {who} \|(.*)\|$", text, re.M)
            figures = [float(cell.split("±")[0]) for cell in line.split("|") if cell.strip()]
            assert len(figures) == columns and np.isfinite(figures).all()
