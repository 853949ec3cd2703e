"""Which protocol and judges are in force: what films are, settings, and what contradicts them."""

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
    is_practice_world,
    shows_practice_world,
)


def decided(*, practice_world: bool = False, scans: bool = True, **flags) -> EvaluationConfig:
    changes = {f"evaluate.{key}": value for key, value in flags.items()}
    return evaluation_config(
        load_settings(changes, environ={}), practice_world=practice_world, scans=scans
    )


@pytest.mark.parametrize("profile", ["tiny", "paper", "compact"])
def test_the_films_decide_not_the_profile(profile):
    chosen = load_settings({"run.profile": profile}, environ={})
    real = evaluation_config(chosen, practice_world=False, scans=True)
    assert (real.protocol.name, real.fps, real.size) == ("standard", 3, 256)
    assert real.judges.image_classifier == "google/vit-base-patch16-224"
    assert real.judges.video_classifier == "MCG-NJU/videomae-base-finetuned-kinetics"
    assert real.label == "" and real.judged_by == "published judges"
    drawn = evaluation_config(chosen, practice_world=True, scans=True)
    assert (drawn.protocol.name, drawn.size) == ("practice-world", 64)
    assert drawn.label == drawn.judged_by == "practice-world judges"


def test_what_is_asked_for_stands_in_the_standards_place_only():
    assert decided(size=128, fps=2).size == 128
    assert decided(practice_world=True, protocol="standard").label == ""
    for name in protocols.NAMES[2:]:
        fixed = protocols.load(name)
        assert decided(protocol=name, size=fixed.size).fps == fixed.fps
        with pytest.raises(UserError, match=f"{name} measures at size {fixed.size}.*asks for 64"):
            decided(protocol=name, size=64)
    other = decided(clip="owner/clip")
    assert other.judges.clip == "owner/clip" and other.chosen_judges == ("clip",)
    assert other.judged_by == "judges named in the settings"
    assert decided(scans=False).control == "shuffled_pairs"
    assert decided().control == "shuffled_fmri"


@pytest.mark.parametrize("judge", ["image_classifier", "video_classifier", "clip"])
@pytest.mark.parametrize("by", ["name", "folder"])
def test_an_embedded_network_never_judges_other_films(judge, by):
    folder = Path(neuroclips_cli.__file__).parent / "assets" / "tiny" / judge
    reference = f"assets:tiny/{judge}" if by == "name" else str(folder)
    with pytest.raises(UserError, match=f"evaluate.{judge} is .*drawn objects only"):
        decided(**{judge: reference})
    assert decided(practice_world=True, **{judge: reference}).label == "practice-world judges"
    with pytest.raises(UserError, match="practice-world judges only runs on films"):
        decided(protocol="practice-world")


def test_films_of_the_practice_world_are_known_by_their_content(tmp_path):
    from neuroclips_cli.io.atomic import write_json

    films = [tmp_path / "stimuli" / f"seg{number}.mp4" for number in (1, 2)]
    films[0].parent.mkdir()
    for film in films:
        film.write_bytes(film.name.encode())
    assert not is_practice_world(tmp_path) and not is_practice_world("")
    assert not shows_practice_world(tmp_path, films)
    write_json(tmp_path / RECORD, {"settings": {"stimuli": "/films"}, FILMS: []})
    assert not is_practice_world(tmp_path) and not shows_practice_world(tmp_path, films)
    write_json(tmp_path / RECORD, {FILMS: film_digests(films)})
    assert is_practice_world(tmp_path) and shows_practice_world(tmp_path, films)
    films[1].write_bytes(b"a film of one's own under the same name")
    assert not shows_practice_world(tmp_path, films)
    (tmp_path / RECORD).write_text("{")
    assert not is_practice_world(tmp_path)
