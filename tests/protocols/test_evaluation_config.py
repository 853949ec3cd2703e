"""Which protocol and evaluators are in force: the films, settings, and what contradicts them."""

from __future__ import annotations

from pathlib import Path

import pytest

import neuroclips_cli
from neuroclips_cli import protocols
from neuroclips_cli.errors import UserError
from neuroclips_cli.protocols.evaluation_config import EvaluationConfig, evaluation_config
from neuroclips_cli.settings.load import load_settings
from neuroclips_cli.simulation.provenance import (
    FILMS,
    RECORD,
    film_digests,
    is_synthetic,
    shows_synthetic_films,
)


def decided(*, synthetic: bool = False, scans: bool = True, **flags) -> EvaluationConfig:
    changes = {f"evaluate.{key}": value for key, value in flags.items()}
    return evaluation_config(load_settings(changes, environ={}), synthetic=synthetic, scans=scans)


@pytest.mark.parametrize("profile", ["tiny", "paper", "compact"])
def test_the_films_decide_not_the_profile(profile):
    chosen = load_settings({"run.profile": profile}, environ={})
    real = evaluation_config(chosen, synthetic=False, scans=True)
    assert (real.protocol.name, real.fps, real.size) == ("standard", 3, 256)
    assert real.evaluators.image_classifier == "google/vit-base-patch16-224"
    assert real.evaluators.video_classifier == "MCG-NJU/videomae-base-finetuned-kinetics"
    assert real.label == "" and real.evaluated_by == "published evaluators"
    drawn = evaluation_config(chosen, synthetic=True, scans=True)
    assert (drawn.protocol.name, drawn.size) == ("synthetic", 64)
    assert drawn.label == drawn.evaluated_by == "synthetic-dataset evaluators"


def test_what_is_asked_for_stands_in_the_standards_place_only():
    assert decided(size=128, fps=2).size == 128
    assert decided(synthetic=True, protocol="standard").label == ""
    for name in protocols.NAMES[2:]:
        fixed = protocols.load(name)
        assert decided(protocol=name, size=fixed.size).fps == fixed.fps
        with pytest.raises(UserError, match=f"{name} measures at size {fixed.size}.*asks for 64"):
            decided(protocol=name, size=64)
    other = decided(clip="owner/clip")
    assert other.evaluators.clip == "owner/clip" and other.chosen_evaluators == ("clip",)
    assert other.evaluated_by == "evaluators named in the settings"
    assert decided(scans=False).control == "shuffled_pairs"
    assert decided().control == "shuffled_fmri"


@pytest.mark.parametrize("evaluator", ["image_classifier", "video_classifier", "clip"])
@pytest.mark.parametrize("by", ["name", "folder"])
def test_an_embedded_network_never_judges_other_films(evaluator, by):
    folder = Path(neuroclips_cli.__file__).parent / "assets" / "tiny" / evaluator
    reference = f"assets:tiny/{evaluator}" if by == "name" else str(folder)
    with pytest.raises(UserError, match=f"evaluate.{evaluator} is .*drawn objects only"):
        decided(**{evaluator: reference})
    assert decided(synthetic=True, **{evaluator: reference}).label == "synthetic-dataset evaluators"
    with pytest.raises(UserError, match="synthetic evaluates only runs on films"):
        decided(protocol="synthetic")


def test_films_of_the_practice_world_are_known_by_their_content(tmp_path):
    from neuroclips_cli.io.atomic import write_json

    films = [tmp_path / "stimuli" / f"seg{number}.mp4" for number in (1, 2)]
    films[0].parent.mkdir()
    for film in films:
        film.write_bytes(film.name.encode())
    assert not is_synthetic(tmp_path) and not is_synthetic("")
    assert not shows_synthetic_films(tmp_path, films)
    write_json(tmp_path / RECORD, {"settings": {"stimuli": "/films"}, FILMS: []})
    assert not is_synthetic(tmp_path) and not shows_synthetic_films(tmp_path, films)
    write_json(tmp_path / RECORD, {FILMS: film_digests(films)})
    assert is_synthetic(tmp_path) and shows_synthetic_films(tmp_path, films)
    films[1].write_bytes(b"a film of one's own under the same name")
    assert not shows_synthetic_films(tmp_path, films)
    (tmp_path / RECORD).write_text("{")
    assert not is_synthetic(tmp_path)


def test_a_record_of_an_older_version_is_refused_and_not_taken_for_real_films(tmp_path):
    (tmp_path / RECORD).write_text('{"state": "done", "settings": {}}')
    with pytest.raises(UserError, match="older version.*simulate --overwrite"):
        is_synthetic(tmp_path)
    (tmp_path / RECORD).write_text('{"state": "running"}')
    assert not is_synthetic(tmp_path)
