"""Which scenes the films of the synthetic dataset show."""

from __future__ import annotations

from itertools import combinations

import pytest

from neuroclips_cli.simulation.films import film_names, world_plans


@pytest.mark.parametrize("seed", range(3))
def test_test_films_show_new_combinations_of_known_parts(seed):
    plans = world_plans(dict.fromkeys(film_names(18, 5), 480.0), seed)
    shown = {
        split: {
            (scene.kind, scene.color, scene.setting)
            for plan in plans
            if plan.name.startswith(split)
            for scene in plan.film.scenes
        }
        for split in ("seg", "test")
    }
    assert not shown["seg"] & shown["test"]
    assert len(shown["seg"]) > 200
    for parts in combinations(range(3), 2):
        pairs = {
            split: {tuple(scene[part] for part in parts) for scene in scenes}
            for split, scenes in shown.items()
        }
        assert pairs["test"] <= pairs["seg"]
