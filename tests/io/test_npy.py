"""Pages of memory maps are given back without losing what was written."""

from __future__ import annotations

import numpy as np

from neuroclips_cli.io.npy import release_pages


def test_what_was_written_stays(tmp_path):
    array = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, (300, 1000))
    array[:] = 7
    release_pages(array)
    array[0] = 8
    release_pages(array)
    assert (array[0] == 8).all() and (array[1:] == 7).all()
    del array
    found = np.load(tmp_path / "a.npy")
    assert (found[0] == 8).all() and (found[1:] == 7).all()
    release_pages(found)
