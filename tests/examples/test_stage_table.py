"""The table of stages: its readers find what is there, and nothing where nothing is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import stage_table

from neuroclips_cli.settings.load import load_settings
from neuroclips_cli.simulation import synthetic_world

CLIPS, FRAMES = 200, 6
TIMES = np.arange(FRAMES) / 3


def scenes_drawn(seed: int) -> SimpleNamespace:
    """Stand in for Shown: scenes of their own instead of a data set's."""
    rng = np.random.default_rng(seed)
    scenes = [synthetic_world.draw_scene(rng, 10.0) for _ in range(CLIPS)]
    places = np.array([synthetic_world.object_path(scene, 4.0 + TIMES) for scene in scenes])
    colors = np.eye(len(synthetic_world.COLORS))[[scene.color for scene in scenes]]
    headings = np.array([stage_table.HEADINGS.get(scene.motion, (0, 0)) for scene in scenes], float)
    return SimpleNamespace(
        scenes=scenes,
        places=places,
        colors=colors,
        headings=headings,
    )


def rendered(shown: SimpleNamespace) -> np.ndarray:
    """Draw the clips of drawn scenes."""
    return np.stack([synthetic_world.render_scene(scene, 4.0 + TIMES) for scene in shown.scenes])


def percent(cell: str) -> float:
    return float(cell.removesuffix(" %"))


def test_regression_finds_a_linear_map():
    rng = np.random.default_rng(0)
    rows, new, true = rng.normal(size=(120, 8)), rng.normal(size=(30, 8)), rng.normal(size=(8, 2))
    said = stage_table.predict(stage_table.fit(rows, rows @ true + 3.0), new)
    assert np.abs(said - (new @ true + 3.0)).max() < 0.1


def test_films_are_read_and_noise_is_not():
    shown, others = scenes_drawn(2), scenes_drawn(5)
    clips, reader = rendered(shown), stage_table.Reader(rendered(others), others)
    noise = np.random.default_rng(3).integers(0, 256, clips.shape, dtype=np.uint8)
    moving = int(shown.headings.any(axis=1).sum())
    guess, heading = 1 / len(synthetic_world.COLORS), 1 / len(stage_table.HEADINGS)
    # standard errors of a share and of a correlation that are at chance
    spread = [np.sqrt(guess * (1 - guess) / CLIPS), np.sqrt(0.5 / CLIPS)]
    spread.append(np.sqrt(heading * (1 - heading) / moving))
    for pictures, lowest, highest in ((clips, 4.0, np.inf), (noise, -4.0, 4.0)):
        color, place, direction = reader.read(pictures, shown)
        found = [percent(color) / 100 - guess, float(place), percent(direction) / 100 - heading]
        assert all(lowest < f / s < highest for f, s in zip(found, spread, strict=True))


def test_tokens_and_pictures_of_the_film_have_its_classes():
    shown, settings = scenes_drawn(4), load_settings({"run.profile": "tiny"})
    clips = np.stack(
        [synthetic_world.render_scene(scene, 4.0 + TIMES) for scene in shown.scenes[:40]]
    )
    shown.scenes = shown.scenes[:40]
    tokens = stage_table.load_clip(settings.backbones.clip).tokens(clips[:, 0])
    assert percent(stage_table.token_class(tokens, shown, settings)) > 85
    evaluated = stage_table.Evaluators(shown, settings).classes(clips)
    assert all(percent(cell) > 85 for cell in evaluated)
    mixed = np.roll(clips, 7, axis=0)
    assert all(
        percent(cell) < 30 for cell in stage_table.Evaluators(shown, settings).classes(mixed)
    )
