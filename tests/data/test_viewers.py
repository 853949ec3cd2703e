"""The table of who saw which film."""

from __future__ import annotations

import pytest

from neuroclips_cli.data.clip_table import read_captions
from neuroclips_cli.data.layout import find_layout
from neuroclips_cli.data.viewers import VIEWERS, unseen_films
from neuroclips_cli.errors import UserError


@pytest.fixture
def dataset(tmp_path):
    """Make three films; subject 1 has runs of all of them, subject 2 of the first two."""
    (tmp_path / "stimuli").mkdir()
    for film in ("seg1", "seg2", "seg3", "test1"):
        (tmp_path / "stimuli" / f"{film}.mp4").touch()
        for subject in (1, 2):
            if (film, subject) == ("seg2", 2):
                continue
            folder = tmp_path / f"subject{subject}" / film
            folder.mkdir(parents=True)
            for repetition in (1, 2):
                (folder / f"{film}_{repetition}.dtseries.nii").touch()
    return tmp_path


def _table(dataset, *pairs):
    lines = "\n".join(("film,subject", *pairs))
    (dataset / "stimuli" / VIEWERS).write_text(lines)


ALL = [f"{film},{n}" for film in ("seg1", "seg3", "test1") for n in (1, 2)]


def test_a_film_that_only_others_saw_is_left_out(dataset):
    with pytest.raises(UserError, match="no run of segment seg2"):
        find_layout(dataset, 2)
    _table(dataset, *ALL, "SEG2, 1")
    assert [s.name for s in find_layout(dataset, 2).train] == ["seg1", "seg3"]
    assert find_layout(dataset, 2).unseen == {("train", 2)}
    assert [s.name for s in find_layout(dataset, 1).train] == ["seg1", "seg2", "seg3"]


def test_a_seen_film_without_runs_is_still_refused(dataset):
    _table(dataset, *ALL, "seg2,1", "seg2,2")
    with pytest.raises(UserError, match="no run of segment seg2"):
        find_layout(dataset, 2)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (
            "film,subject\nseg1,1\nseg2,2\n",
            r"subject 1 has runs of seg[23], such as .* did not see",
        ),
        ("film,subject\nseg1,2\n", "names no film that subject 1 saw"),
        ("film,who\nseg1,1\n", "lacks the column subject"),
        ("film,subject\nseg1,one\n", "a subject that is not a number"),
    ],
)
def test_a_table_that_contradicts_the_runs_is_refused(dataset, text, word):
    (dataset / "stimuli" / VIEWERS).write_text(text)
    with pytest.raises(UserError, match=word):
        find_layout(dataset, 1)


def test_without_a_table_everybody_saw_everything(tmp_path):
    assert unseen_films(tmp_path / VIEWERS, 1) == set()


def test_captions_are_counted_anew_without_unseen_films(tmp_path):
    path = tmp_path / "captions.csv"
    rows = ["train,1,0,a", "train,2,1,b", "train,2,2,c", "train,3,3,d", "test,2,0,e"]
    path.write_text("split,segment,clip,caption\n" + "\n".join(rows))
    known = read_captions(path, {("train", 2)})
    assert known == {("train", 0): "a", ("train", 1): "d", ("test", 0): "e"}
    path.write_text("split,clip,caption\ntrain,0,a\n")
    with pytest.raises(UserError, match="lacks the column segment"):
        read_captions(path, {("train", 2)})
