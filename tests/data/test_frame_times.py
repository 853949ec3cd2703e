"""Times of pictures, who decodes them, and files that would keep a command busy."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from helpers.numbered_films import copied, number, picture, write_film
from PIL import Image

from neuroclips_cli.data import decoding, video_checks
from neuroclips_cli.data.clips import open_clip
from neuroclips_cli.data.decoding import PictureReader, Stopped
from neuroclips_cli.data.frame_times import FrameTimes, grid_interval
from neuroclips_cli.data.quality_checks import QualityReport
from neuroclips_cli.data.stimuli import clip_frames, open_stimulus
from neuroclips_cli.data.video_file import read_frame_times
from neuroclips_cli.errors import UserError

X264 = {"crf": "23", "preset": "ultrafast", "bf": "2", "g": "30"}


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return write_film(path, [picture(n) for n in range(120)], options=X264)


def _sampled(path: Path) -> tuple[list[int], str]:
    film = open_stimulus(path)
    frames = clip_frames(film, film.clips(2.0, 6), 2.0, 6, 64)
    return [number(frame) for clip in frames for frame in clip], film.decoder


def test_a_plain_film_is_read_by_decord_and_by_pyav_to_the_same_bytes(film, monkeypatch):
    pytest.importorskip("decord", reason="decord has no wheel here")
    numbers = np.arange(0, 120, 7)
    for size in (None, 32):
        reader = PictureReader(read_frame_times(film), size)
        by_decord = list(reader.read(numbers))
        assert reader.decoder == "decord"
        with monkeypatch.context() as patch:
            patch.setattr(decoding, "has_decord", lambda: False)
            reader = PictureReader(read_frame_times(film), size)
            assert np.array_equal(by_decord, list(reader.read(numbers)))
            assert reader.decoder == "PyAV"


def test_where_decord_is_not_installed_pyav_reads(film, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    assert not decoding.has_decord()
    assert _sampled(film) == (list(range(0, 120, 10)), "PyAV")


def test_pyav_goes_on_where_decord_fails(film, monkeypatch):
    decord = pytest.importorskip("decord", reason="decord has no wheel here")
    taken = []

    class Failing(decord.VideoReader):
        def next(self):
            taken.append(1)
            if len(taken) > 30:
                raise decord.DECORDError("lost")
            return super().next()

    monkeypatch.setattr(decord, "VideoReader", Failing)
    reader = PictureReader(read_frame_times(film))
    shown = [number(frame) for frame in reader.read(np.arange(120))]
    assert shown == list(range(120)) and reader.decoder == "PyAV"


def test_a_picture_that_begins_late_leaves_time_counted_from_the_sound(tmp_path):
    import av

    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30, options=X264)
        video.width = video.height = 64
        sound = container.add_stream("aac", rate=48000, layout="mono")
        for start in range(0, 48000 * 4, 1024):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            samples.sample_rate, samples.pts = 48000, start
            samples.time_base = Fraction(1, 48000)
            container.mux(sound.encode(samples))
        for n in range(75):
            frame = av.VideoFrame.from_ndarray(picture(n), "rgb24")
            frame.pts, frame.time_base = n + 45, Fraction(1, 30)
            container.mux(video.encode(frame))
        container.mux([*video.encode(None), *sound.encode(None)])
    film = open_stimulus(path)
    assert film.times.start_s == pytest.approx(1.5, abs=0.03)
    assert film.duration_s == pytest.approx(4.0, abs=0.03)
    assert _sampled(path)[0][:6] == pytest.approx([0, 0, 0, 0, 0, 5], abs=1)
    checked = QualityReport()
    checked.films([film])
    assert "first picture appears 1.5" in checked.warnings()[0]


def test_a_film_cut_from_hidden_pictures_counts_from_the_first_shown(film, tmp_path):
    piece = copied(film, tmp_path / "cut.mp4", 41 / 30, 101 / 30)
    times = read_frame_times(piece)
    assert times.duration_s == 2.0 and len(times) == 60 and times.steady
    assert _sampled(piece) == (list(range(41, 101, 10)), "PyAV")


@pytest.mark.parametrize(("rate", "count"), [("30000/1001", 60), ("24000/1001", 48), ("25", 51)])
def test_one_frame_more_than_whole_scans_is_no_frame_more(tmp_path, rate, count):
    frames = [picture(n) for n in range(count)]
    write_film(tmp_path / "clip.mp4", frames, Fraction(rate), options=X264)
    clip = open_clip(tmp_path / "clip.mp4", 2.0)
    assert clip.duration_s == 2.0 and len(clip.frame_numbers(3)) == 6
    assert clip.frame_numbers(3).tolist() == [round(i / 3 * Fraction(rate)) for i in range(6)]


def test_joining_equal_pictures_of_a_gif_changes_nothing(tmp_path):
    numbers = [0] * 9 + list(range(9, 16))
    images = [Image.fromarray(picture(n)) for n in numbers]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=125)
    clip = open_clip(tmp_path / "a.gif", 2.0)
    assert clip.pictures == 8 and clip.fps == pytest.approx(8)
    shown = [number(frame) for frame in clip.read(3)[0]]
    assert shown == [numbers[i] for i in (0, 3, 5, 8, 11, 13)]


def test_times_without_a_rate_have_no_grid():
    uneven = np.cumsum([0, 0.031, 0.047, 0.029, 0.083])
    assert grid_interval(uneven, 1e-5, [Fraction(30)]) == 0
    rounded = np.round(np.arange(40) / 30, 3)
    assert grid_interval(rounded, 1e-3, [None, Fraction(30)]) == pytest.approx(1 / 30)
    held = np.delete(np.arange(40) / 30, slice(5, 20))
    assert grid_interval(held, 1e-5, [Fraction(30)]) == pytest.approx(1 / 30)


def test_the_last_picture_stands_beyond_the_end_and_the_first_before_the_beginning():
    times = FrameTimes(Path("a"), np.array([0.0, 1.0]), 2.0, 4, 4, start_s=0.5)
    assert times.on_screen(np.array([0.0, 1.4, 1.5, 9.0])).tolist() == [0, 0, 1, 1]


def test_a_file_that_hands_out_more_than_it_holds_is_refused(film, monkeypatch):
    real = video_checks.Video.packets

    class Endless:
        def __init__(self, container):
            self.container = container

        def demux(self, stream):
            while True:
                yield from [p for p in self.container.demux(stream) if p.size] or self.rewind()

        def rewind(self):
            self.container.seek(0)
            return []

    def packets(video):
        return real(video_checks.Video(video.path, Endless(video.container), video.stream))

    monkeypatch.setattr(video_checks.Video, "packets", packets)
    with pytest.raises(UserError, match="hands out more pictures than its"):
        read_frame_times(film)


def test_more_pixels_than_bytes_explain_are_refused(tmp_path):
    path = tmp_path / "a.gif"
    Image.new("L", (8, 8)).save(path)
    video_checks.check_work(path, 10, 1000)
    with pytest.raises(UserError, match=r"makes 100000 pictures of 67108864 pixels out of"):
        video_checks.check_work(path, 100_000, 8192 * 8192)


@pytest.mark.parametrize("plain", [True, False])
def test_reading_ends_when_it_is_asked_to(film, plain, monkeypatch):
    monkeypatch.setattr(decoding, "has_decord", lambda: plain)
    stop = Event()
    pictures = PictureReader(read_frame_times(film), 32, stop=stop).read(np.arange(0, 120, 10))
    next(pictures)
    stop.set()
    with pytest.raises(Stopped):
        list(pictures)


def test_a_title_in_another_encoding_is_no_obstacle(tmp_path):
    import av

    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "XXXXXXXX"
        stream = container.add_stream("libx264", rate=30, options=X264)
        stream.width = stream.height = 64
        for n in range(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(n), "rgb24")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"XXXXXXXX", b"caf\xe9\xfc\xdf!!"))
    assert len(read_frame_times(path)) == 60
