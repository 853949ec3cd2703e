"""Files of a stage folder: whole, or left to the process that writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuroclips_cli.io.csv import read_csv
from neuroclips_cli.runs.writer import FolderWriter


def write_all(writer: FolderWriter) -> dict[str, object]:
    return {
        "a.txt": writer.write_text("a.txt", "a"),
        "a.json": writer.write_json("a.json", [1]),
        "a.csv": writer.write_csv("a.csv", ("x", "y"), [(1, "a, b")]),
        "a.npy": writer.write_array("a.npy", np.arange(3)),
        "a.safetensors": writer.write_safetensors("a.safetensors", {"w": torch.ones(2)}),
    }


@pytest.mark.parametrize("writes", [True, False])
def test_one_process_writes_and_all_know_where_the_files_lie(tmp_path, writes):
    named = write_all(FolderWriter(tmp_path, writes=writes))
    assert named == {name: tmp_path / name for name in named}
    assert {path.name for path in tmp_path.iterdir()} == (set(named) if writes else set())
    if writes:
        assert read_csv(tmp_path / "a.csv") == [{"x": "1", "y": "a, b"}]


def test_what_is_filled_in_a_block_is_refused_to_the_others(tmp_path):
    writer = FolderWriter(tmp_path, writes=False)
    with pytest.raises(RuntimeError, match="by the first process only"), writer.atomic("a.bin"):
        pytest.fail("nothing is handed out")
    with (
        pytest.raises(RuntimeError, match="by the first process only"),
        writer.open_array("a.npy", (2,), "uint8"),
    ):
        pytest.fail("nothing is handed out")
    assert not list(tmp_path.iterdir())
