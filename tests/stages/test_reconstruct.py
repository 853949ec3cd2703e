"""``reconstruct`` and ``fuse`` as stages: what they write, leave out, and resume."""

from __future__ import annotations

import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import random_backbones as tiny
import torch
from helpers import trained_run

from neuroclips_cli.backbones import captioner_blip2, loading, unclip, vae, video
from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.models import checkpoint
from neuroclips_cli.models.perception import Perception
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.runs.stage import open_stage, read_array, read_csv, read_json
from neuroclips_cli.settings.load import Settings, load_settings
from neuroclips_cli.stages import fuse, reconstruct
from neuroclips_cli.stages._control_clips import GroundTruthGuided, Unconditional
from neuroclips_cli.stages.reconstruct import Variant

VOXELS, TEST, TRAIN, SIZE = 10, 5, 24, tiny.FRAME_SIZE
CLIP_COLUMNS = (
    "clip",
    "split",
    "segment",
    "onset_s",
    "volume",
    "crosses_scene",
    "scene",
    "caption",
)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory) -> dict[str, object]:
    return tiny.save_all(tmp_path_factory.mktemp("backbones"))


@pytest.fixture
def settings(backbones, tmp_path) -> Settings:
    settings = trained_run.settings(tmp_path / "runs", backbones)
    prepare(settings)
    return settings


def prepare(settings: Settings) -> None:
    """Write what the earlier stages leave."""
    rng = np.random.default_rng(0)
    with open_stage(settings, "preprocess", sections=("data",), inputs={}) as stage:
        stage.write_array("fmri_test.npy", rng.normal(size=(TEST, VOXELS)).astype(np.float32))
        frames = rng.integers(0, 256, (TRAIN, 6, SIZE, SIZE, 3), dtype=np.uint8)
        stage.write_array("frames_train.npy", frames)
        train = [
            (i, "train", 1 + i // 4, 2.0 * (i % 4), i % 4, 0, i // 3, "") for i in range(TRAIN)
        ]
        test = [(i, "test", 1, 2.0 * i, i, 0, "", "") for i in range(TEST)]
        stage.write_csv("clips.csv", CLIP_COLUMNS, train + test)
    for name in ("train-pr", "train-sr"):
        with open_stage(settings, name, sections=(), inputs={}) as stage:
            stage.write_json("weights.json", name)


@pytest.fixture(autouse=True)
def decoders(settings, monkeypatch) -> None:
    """Untrained reconstructors in place of trained ones."""

    def perception(_folder: Path, _subject: int) -> Perception:
        torch.manual_seed(0)
        return Perception(VOXELS, 6, settings.perception, (4, SIZE // 8, SIZE // 8))

    def semantics(_folder: Path, _subject: int) -> Semantics:
        torch.manual_seed(0)
        return Semantics(VOXELS, settings.semantics, tiny.TOKENS, tiny.TOKEN_DIM)

    monkeypatch.setattr(checkpoint, "load_perception", perception)
    monkeypatch.setattr(checkpoint, "load_semantics", semantics)


def test_reconstruct_writes_what_the_contract_says_and_is_then_up_to_date(settings):
    folder = reconstruct.run(settings)
    shapes = {path.name: read_array(path).shape for path in folder.glob("*.npy")}
    assert shapes == {
        "index.npy": (TEST,),
        "blurry.npy": (TEST, 6, SIZE, SIZE, 3),
        "tokens_brain.npy": (TEST, tiny.TOKENS, tiny.TOKEN_DIM),
        "tokens_prior.npy": (TEST, tiny.TOKENS, tiny.TOKEN_DIM),
        "keyframe_latents.npy": (TEST, 4, SIZE // 8, SIZE // 8),
        "keyframes.npy": (TEST, SIZE, SIZE, 3),
        "clips.npy": (TEST, 4, SIZE, SIZE, 3),
    }
    assert read_array(folder / "clips.npy").dtype == np.uint8
    assert [row["clip"] for row in read_csv(folder / "captions.csv")] == list("01234")
    videos = sorted(path.name for path in (folder / "videos").iterdir())
    assert videos == [f"clip-{number:04d}.mp4" for number in range(TEST)]
    stamp = (folder / "clips.npy").stat().st_mtime_ns
    assert reconstruct.run(settings) == folder
    assert (folder / "clips.npy").stat().st_mtime_ns == stamp


def test_chosen_clips_come_out_as_in_the_whole_run(settings):
    whole = np.array(read_array(reconstruct.run(settings) / "clips.npy"))
    folder = reconstruct.run(settings, clips="1:4")
    assert read_array(folder / "index.npy").tolist() == [1, 2, 3]
    part = read_array(folder / "clips.npy").astype(int)
    assert np.abs(part - whole[1:4]).mean() < 0.05


def test_other_scans_are_decoded_into_a_folder_of_their_own(settings):
    scans = np.array(read_array(Path(settings.run.workdir) / "sub-01/preprocess/fmri_test.npy"))
    whole = reconstruct.run(settings, clips="0:2")
    other = reconstruct.run(settings, clips="0:2", variant=Variant("reversed", scans[::-1]))
    assert other.name == "reconstruct-control-reversed"
    same = reconstruct.run(settings, clips="0:2", variant=Variant("same", scans))
    ours, theirs, again = (read_array(f / "tokens_brain.npy") for f in (whole, other, same))
    assert np.array_equal(ours, again)
    assert not np.array_equal(ours, theirs)


def test_without_keyframe_and_without_blurry_leave_one_guidance_out(settings):
    whole = np.array(read_array(reconstruct.run(settings) / "clips.npy"))
    for part, missing in (("keyframe", "keyframes.npy"), ("blurry", "blurry.npy")):
        folder = reconstruct.run(settings, without=part)
        assert folder.name == f"reconstruct-without-{part}"
        assert not (folder / missing).exists()
        assert not np.array_equal(read_array(folder / "clips.npy"), whole)
    with pytest.raises(UserError, match="--without"):
        reconstruct.run(settings, without="captions")


@pytest.mark.parametrize("stop_after", [1, 8, 14])
def test_an_interrupted_run_goes_on_to_the_same_arrays(settings, monkeypatch, stop_after):
    whole = reconstruct.run(settings)
    expected = {path.name: np.array(read_array(path)) for path in whole.glob("*.npy")}
    captions = read_csv(whole / "captions.csv")
    write, written = atomic.write_json, []

    def interrupt(path, content):
        result = write(path, content)
        if path.name.startswith("."):  # a note of what is done
            written.append(path.name)
            if len(written) == stop_after:
                raise KeyboardInterrupt
        return result

    monkeypatch.setattr(atomic, "write_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        reconstruct.run(settings, overwrite=True)
    before = len(written)
    assert read_json(whole / "manifest.json")["state"] == "running"
    folder = reconstruct.run(settings)
    # six kinds of rows and captions, three batches each: none is made twice
    assert before + len(written[before:]) == 21
    for name, array in expected.items():
        assert np.array_equal(read_array(folder / name), array), name
    assert read_csv(folder / "captions.csv") == captions
    assert len(list((folder / "videos").iterdir())) == TEST


def test_networks_are_loaded_once_and_let_go_when_their_part_ends(settings, monkeypatch):
    loaded: list[tuple[str, weakref.ref]] = []
    alive_at: dict[str, list[str]] = {}
    load, map_rows = loading.load_network, reconstruct.map_rows

    def remember(kind, ref, device, **options):
        network = load(kind, ref, device, **options)
        loaded.append((f"{kind.__name__} {ref}", weakref.ref(network)))
        return network

    def note(path, begin, *args, **options):
        def begun():
            compute = begin()
            alive_at[path.name] = [what for what, network in loaded if network() is not None]
            return compute

        return map_rows(path, begun, *args, **options)

    for module in (loading, unclip, vae, video, captioner_blip2):
        monkeypatch.setattr(module, "load_network", remember)
    monkeypatch.setattr(reconstruct, "map_rows", note)
    reconstruct.run(settings)
    names = settings.backbones
    assert alive_at["tokens_brain.npy"] == []
    kinds = {part: sorted(what.split()[0] for what in alive_at[part]) for part in alive_at}
    assert kinds["blurry.npy"] == ["AutoencoderKL"]
    assert kinds["keyframes.npy"] == ["AutoencoderKL", "UNet2DConditionModel"]
    assert "Blip2ForConditionalGeneration" not in kinds["clips.npy"]
    assert f"UNet2DConditionModel {names.unclip}" not in alive_at["clips.npy"]
    counts = Counter(what for what, _ in loaded if not what.startswith("AutoencoderKL"))
    assert set(counts.values()) == {1}


def test_reconstruct_names_the_stage_that_has_to_come_first(backbones, tmp_path):
    flags = {"run.workdir": str(tmp_path / "nothing")}
    with pytest.raises(UserError, match="preprocess"):
        reconstruct.run(load_settings(flags, folder=tmp_path, environ={}))


def test_fuse_joins_neighbors_and_regenerates_only_later_links(settings):
    source = reconstruct.run(settings)
    folder = fuse.run(settings)
    rows = read_csv(folder / "chains.csv")
    assert [int(row["clip"]) for row in rows] == list(range(TEST))
    assert max(int(row["position"]) for row in rows) <= 2
    films, clips = read_array(folder / "clips.npy"), read_array(source / "clips.npy")
    assert films.shape == (int(rows[-1]["chain"]) + 1, 12, SIZE, SIZE, 3)
    replaced = [row for row in rows if row["replaced_keyframe"] == "1"]
    assert replaced  # the threshold joins neighbors here
    for row in rows:
        place, frames = int(row["position"]), int(row["frames"])
        made = films[int(row["chain"]), place * frames : (place + 1) * frames]
        kept = np.array_equal(made, clips[int(row["clip"])])
        assert kept == (row["replaced_keyframe"] == "0")
        assert (row["match_probability"] == "") == (place == 0)
    assert not list(folder.glob(".link*"))
    facts = read_json(folder / "manifest.json")["facts"]
    assert 0 <= facts["matcher"]["accuracy_held_out"] <= 1
    assert len(list((folder / "videos").iterdir())) == len(films)
    alone = read_csv(fuse.run(settings, clips="3") / "chains.csv")
    assert [row["clip"] for row in alone] == ["3"]


def test_without_scene_names_the_classifier_decides_what_is_the_same_class(settings, tmp_path):
    tiny.save_image_classifier(tmp_path / "evaluator")
    reconstruct.run(settings)
    path = Path(settings.run.workdir) / "sub-01" / "preprocess" / "clips.csv"
    rows = [{**row, "scene": ""} for row in read_csv(path)]
    table = [row for row in rows if row["split"] == "train"]
    work = object.__new__(fuse._Fusion)
    work.settings, work.device, work.classifier = settings, "cpu", str(tmp_path / "evaluator")
    middle = read_array(path.parent / "frames_train.npy")[:, 3]
    groups = work.groups(table, np.array(middle))
    assert len(groups) == TRAIN and {int(name) for name in groups} <= set(range(tiny.CLASSES))


def add_films(settings: Settings) -> np.ndarray:
    """Leave the test films that the practice fixture has no need of."""
    frames = np.random.default_rng(1).integers(0, 256, (TEST, 6, SIZE, SIZE, 3), dtype=np.uint8)
    np.save(Path(settings.run.workdir) / "sub-01" / "preprocess" / "frames_test.npy", frames)
    return frames


def test_the_film_itself_guides_the_generator_to_its_ceiling(settings):
    frames = add_films(settings)
    folder = reconstruct.run(
        settings, variant=Variant("film-guided", recipe=GroundTruthGuided), clips="1:4"
    )
    assert folder.name == "reconstruct-control-film-guided"
    assert np.array_equal(read_array(folder / "keyframes.npy"), frames[1:4, 0])
    assert read_array(folder / "clips.npy").shape[0] == 3
    # through an untrained VAE pictures do not come back, but different films stay different
    blurry = read_array(folder / "blurry.npy")
    assert blurry.shape == (3, 6, SIZE, SIZE, 3)
    assert not np.array_equal(blurry[0], blurry[1])
    assert not (folder / "tokens_brain.npy").exists()


def test_the_prior_alone_sees_no_scan(settings, monkeypatch):
    def look(*_given: object) -> None:
        raise AssertionError("it looked at a scan")

    monkeypatch.setattr(reconstruct.Reconstruction, "_scans", look)
    folder = reconstruct.run(settings, variant=Variant("prior-only", recipe=Unconditional))
    assert not (folder / "blurry.npy").exists()
    tokens = read_array(folder / "tokens_unguided.npy")
    assert not np.array_equal(tokens[0], tokens[1])
    assert read_array(folder / "clips.npy").shape[0] == TEST
