"""Which layout a folder has, and cc2017's runs as a table."""

from __future__ import annotations

import pytest
from helpers.simulation_world import simulated

from neuroclips_cli.data.readers import READERS, ReaderOptions, recognize, tree_of
from neuroclips_cli.data.run_table import check_run_table
from neuroclips_cli.errors import UserError


def test_cc2017_is_recognized_and_says_why():
    found = recognize(tree_of(simulated()))
    assert found.reader.name == "cc2017" and found.others == ()
    assert found.reason == "22 runs such as seg1_1_Atlas.dtseries.nii"


def test_cc2017_as_a_table():
    tree = tree_of(simulated())
    rows = recognize(tree, "cc2017").reader.run_table(tree, "1", ReaderOptions())
    check_run_table(rows)
    train = [(f"seg{n}.mp4", "train", r) for n in range(1, 9) for r in (1, 2)]
    test = [(f"test{n}.mp4", "test", r) for n in (1, 2) for r in (1, 2, 3)]
    assert [(row.film.name, row.split, row.repetition) for row in rows] == train + test
    assert {row.scan_start_s for row in rows} == {None}


def test_a_folder_of_no_layout_is_one_sentence(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"none of cc2017.*--layout.*--runs"):
        recognize(tree_of(tmp_path))
    with pytest.raises(UserError, match="layout 'bids' is unknown: choose one of cc2017"):
        recognize(tree_of(tmp_path), "bids")
    with pytest.raises(UserError, match="neuroclips simulate"):
        tree_of(tmp_path / "nowhere")


def test_names_of_layouts_are_told_apart():
    assert len({reader.name for reader in READERS}) == len(READERS)
