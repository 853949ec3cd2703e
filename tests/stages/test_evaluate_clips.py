"""Sets of clips of any format, as ``evaluate --pred --gt`` takes them."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import fake_evaluators
from helpers.clip_files import write_gif, write_pngs, write_video
from PIL import Image

from neuroclips_cli.data import side_by_side
from neuroclips_cli.data.clips import list_clips, open_clips, read_clip
from neuroclips_cli.data.loaded_clips import load_clips
from neuroclips_cli.errors import UserError


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".webm"])
def test_videos_are_read_with_their_frame_rate(tmp_path, suffix):
    clip = fake_evaluators.draw_clips(1, 16, size=64)[0]
    write_video(tmp_path / f"a{suffix}", clip, 8)
    frames, fps = read_clip(tmp_path / f"a{suffix}", clip_s=2.0)
    assert frames.shape == clip.shape
    assert fps == pytest.approx(8)
    assert np.abs(frames.astype(int) - clip).mean() < 12


def test_a_gif_whose_delays_were_rounded_lasts_exactly_one_scan(tmp_path):
    clip = fake_evaluators.draw_clips(1, 14)[0]
    write_gif(tmp_path / "a.gif", clip, 140)
    frames, fps = read_clip(tmp_path / "a.gif", clip_s=2.0)
    assert frames.shape == clip.shape
    assert fps == pytest.approx(7)


def test_a_folder_of_png_is_one_clip_in_natural_order(tmp_path):
    clip = fake_evaluators.draw_clips(1, 12)[0]
    write_pngs(tmp_path / "a", clip)
    frames, fps = read_clip(tmp_path / "a", clip_s=2.0)
    np.testing.assert_array_equal(frames, clip)
    assert fps == 6


def test_a_folder_may_mix_formats_and_all_come_out_alike(tmp_path):
    clips = fake_evaluators.draw_clips(2, 16, size=32)
    write_video(tmp_path / "clip-10.mp4", clips[0], 8)
    write_pngs(tmp_path / "clip-9", clips[1])
    (tmp_path / "notes.txt").write_text("not a clip")
    names = list_clips(tmp_path, "--pred")
    assert list(names) == ["clip-9", "clip-10"]
    source = open_clips(tmp_path, names, "--pred", clip_s=2.0, target_fps=3, size=16)
    (loaded,) = load_clips([source], 3, 16, tmp_path)
    assert loaded.read(np.arange(2), 6).shape == (2, 6, 16, 16, 3)
    assert [shape.frames for shape in loaded.shapes] == [16, 16]


def test_an_array_file_is_a_set_of_clips(tmp_path):
    clips = fake_evaluators.draw_clips(3, 16)
    np.save(tmp_path / "clips.npy", clips)
    names = list_clips(tmp_path / "clips.npy", "--gt")
    source = open_clips(tmp_path / "clips.npy", names, "--gt", clip_s=2.0, target_fps=8, size=16)
    np.testing.assert_array_equal(source.read(np.array([2, 0]), 16), clips[[2, 0]])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "nowhere", "neither a folder of clips nor"),
        (lambda folder: folder, "holds no clips"),
    ],
)
def test_a_set_without_clips_is_one_sentence(tmp_path, make, said):
    with pytest.raises(UserError, match=said):
        list_clips(make(tmp_path), "--pred")


def test_arrays_of_the_wrong_kind_are_one_sentence(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4), np.float32))
    with pytest.raises(UserError, match=r"float32 \(2, 3, 4\): it must be numbers"):
        list_clips(tmp_path / "a.npy", "--gt")
    (tmp_path / "b.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match="not a readable .npy"):
        list_clips(tmp_path / "b.npy", "--gt")


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_a_broken_clip_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"this is not a video")
    with pytest.raises(UserError, match=f"cannot read the clip .*{name}|{name} cannot be decoded"):
        read_clip(tmp_path / name, clip_s=2.0)


def test_frames_of_different_size_are_refused(tmp_path):
    write_pngs(tmp_path / "a", fake_evaluators.draw_clips(1, 2, size=16)[0])
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / "9.png")
    with pytest.raises(UserError, match="differ in size"):
        read_clip(tmp_path / "a", clip_s=2.0)


def test_one_name_twice_is_refused(tmp_path):
    write_pngs(tmp_path / "a", fake_evaluators.draw_clips(1, 2)[0])
    write_gif(tmp_path / "a.gif", fake_evaluators.draw_clips(1, 2)[0], 100)
    with pytest.raises(UserError, match="two clips named 'a'"):
        list_clips(tmp_path, "--pred")


@pytest.mark.parametrize("border", [0, 2])
@pytest.mark.parametrize("order", ["gt|pred", "pred|gt"])
def test_side_by_side_panels_are_cut(tmp_path, border, order):
    size = 24
    shown, made = fake_evaluators.draw_clips(2, 4, size=size)
    both = np.zeros((4, size + 2 * border, 2 * size + 3 * border, 3), np.uint8)
    sides = (shown, made) if order == "gt|pred" else (made, shown)
    for side, frames in enumerate(sides):
        left = border + side * (size + border)
        both[:, border : border + size, left : left + size] = frames
    write_pngs(tmp_path / "clip", both)
    clips = list_clips(tmp_path, "--pred")
    for which, frames in (("gt", shown), ("pred", made)):
        place = side_by_side.position(order, which)
        opened = open_clips(
            tmp_path, clips, "--pred", clip_s=2.0, target_fps=2, size=size, panel=place
        )
        (loaded,) = load_clips([opened], 2, size, tmp_path)
        assert np.array_equal(loaded.read(np.array([0]), 4)[0], frames)


def test_panels_that_cannot_be_cut_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="49 x 24 pixels, which is not a pair"):
        side_by_side.cut(np.zeros((2, 24, 49, 3), np.uint8), 0, tmp_path)
    with pytest.raises(UserError, match="'left' is not an order"):
        side_by_side.position("left", "gt")
    np.save(tmp_path / "a.npy", np.zeros((1, 2, 8, 16, 3), np.uint8))
    with pytest.raises(UserError, match="--panels is for folders"):
        open_clips(
            tmp_path / "a.npy", {"0000": 0}, "--pred", clip_s=2.0, target_fps=1, size=8, panel=0
        )


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webm"])
def test_a_clip_of_zero_bytes_is_named(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=name):
        read_clip(tmp_path / name, clip_s=2.0)


def test_a_folder_without_frames_is_no_clip(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="holds no png frames"):
        read_clip(tmp_path / "a", clip_s=2.0)


def test_grey_and_deep_frames_come_out_as_eight_bit_color(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    for name, image in (
        ("grey", Image.fromarray(grey)),
        ("deep", Image.fromarray(grey.astype(np.uint16) * 256 + 77)),
        ("opaque", Image.fromarray(np.dstack([grey] * 3 + [np.full_like(grey, 255)]))),
    ):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "0.png")
        frames, _ = read_clip(tmp_path / name, clip_s=2.0)
        np.testing.assert_array_equal(frames[0], np.repeat(grey[..., None], 3, -1), err_msg=name)


def test_transparent_frames_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGBA", (8, 8), (9, 9, 9, 100)).save(tmp_path / "a" / "0.png")
    with pytest.raises(UserError, match="0.png has transparent pixels"):
        read_clip(tmp_path / "a", clip_s=2.0)


@pytest.mark.parametrize("last", [1, 4])
def test_an_array_of_grey_or_alpha_frames_is_one_sentence(tmp_path, last):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 8, 8, last), np.uint8))
    with pytest.raises(UserError, match="must be numbers .clips"):
        list_clips(tmp_path / "a.npy", "--gt")


def test_an_array_with_nan_is_one_sentence(tmp_path):
    np.save(tmp_path / "a.npy", np.full((2, 3, 8, 8, 3), np.nan, np.float32))
    path = tmp_path / "a.npy"
    names = list_clips(path, "--gt")
    with pytest.raises(UserError, match=r"a\.npy holds NaN or infinity in frame 0 of clip 0"):
        open_clips(path, names, "--gt", clip_s=2.0, target_fps=3.0, size=8)
