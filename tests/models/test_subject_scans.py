"""One network for several subjects: every subject's rows go through its own first layers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import model_sizes
from helpers.model_sizes import PR
from torch import nn

from neuroclips_cli.errors import UserError
from neuroclips_cli.models.backbone import RidgeRegression, WindowLinear
from neuroclips_cli.models.checkpoint import subject_weights
from neuroclips_cli.models.perception import Perception
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.models.subject_place import AVERAGE, place_of
from neuroclips_cli.models.subject_scans import SubjectScans

SR = replace(model_sizes.SR, token_pca_rank=0)


def _perception(voxels: int | list[int], window: int = 1, *, average: bool = False) -> Perception:
    return Perception(voxels, 3, PR, (4, 4, 4), window=window, average=average).eval()


def _semantics(voxels: int | list[int], window: int = 1, *, average: bool = False) -> Semantics:
    return Semantics(voxels, SR, 2, 8, window=window, average=average).eval()


def _decoded(model: nn.Module, scans: object) -> torch.Tensor:
    found = model(scans)
    return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize("make", [_perception, _semantics])
@pytest.mark.parametrize("window", [1, 3])
def test_a_subjects_part_of_a_pool_is_a_network_of_one_subject(make, window):
    torch.manual_seed(0)
    voxels = [20, 12, 17]
    pool = make(voxels, window)
    shape = (window,) if window > 1 else ()
    parts = tuple(torch.randn(n, *shape, v) for n, v in zip((2, 0, 3), voxels, strict=True))
    together = _decoded(pool, SubjectScans(parts))
    assert len(together) == 5
    for place, rows in ((0, slice(0, 2)), (2, slice(2, 5))):
        alone = make(voxels[place], window)
        alone.load_state_dict(subject_weights(pool.state_dict(), place))
        torch.testing.assert_close(together[rows], _decoded(alone, parts[place]))


@pytest.mark.parametrize("make", [_perception, _semantics])
def test_marked_rows_go_through_the_average_subjects_layers(make):
    torch.manual_seed(0)
    pool = make([9, 9], average=True)
    parts = (torch.randn(3, 9), torch.randn(2, 9))
    marked = torch.tensor([False, True, False, True, False])
    together = _decoded(pool, SubjectScans(parts, marked))
    places = [AVERAGE if one else place for one, place in zip(marked, (0, 0, 0, 1, 1), strict=True)]
    for row, place in enumerate(places):
        alone = make(9)
        alone.load_state_dict(subject_weights(pool.state_dict(), place))
        wanted = _decoded(alone, torch.cat(parts)[row : row + 1])[0]
        torch.testing.assert_close(together[row], wanted, rtol=1e-4, atol=1e-5)


def test_a_window_is_a_weighted_sum_of_one_layer_per_volume():
    layer = WindowLinear(4, 3, window=2)
    layer.sum.data = torch.tensor([0.25, 2.0])
    volumes = torch.randn(5, 2, 4)
    first, second = layer.volumes
    wanted = 0.25 * first(volumes[:, 0]) + 2.0 * second(volumes[:, 1])
    torch.testing.assert_close(layer(volumes), wanted)


@pytest.mark.parametrize(("start", "stop"), [(0, 2), (1, 6), (2, 4), (4, 7), (0, 7)])
def test_rows_of_a_batch_are_counted_through_all_parts(start, stop):
    parts = (torch.arange(3.0)[:, None], torch.zeros(0, 1), torch.arange(3.0, 7.0)[:, None])
    marked = torch.arange(7) % 2 == 0
    some = SubjectScans(parts, marked)[start:stop]
    assert some.joined()[:, 0].tolist() == list(range(start, stop))
    assert some.averaged is not None and some.averaged.tolist() == marked[start:stop].tolist()
    assert len(some.parts) == 3


def test_one_subjects_layer_has_the_names_and_numbers_that_it_always_had():
    torch.manual_seed(3)
    layer = RidgeRegression(5, 3)
    torch.manual_seed(3)
    linear = nn.Linear(5, 3)
    assert torch.equal(layer.state_dict()["linears.0.weight"], linear.weight)
    assert list(RidgeRegression([5, 6], 3).state_dict()) == [
        f"linears.{place}.{name}" for place in (0, 1) for name in ("weight", "bias")
    ]


def test_a_subject_without_first_layers_is_refused_unless_there_is_an_average(tmp_path):
    sizes = {"subjects": [1, 3], "voxels": [5, 5]}
    assert place_of(sizes, 3, tmp_path) == 1
    assert place_of({"voxels": 5}, 3, tmp_path) is None
    assert place_of({**sizes, "average": True}, 2, tmp_path) == AVERAGE
    with pytest.raises(UserError, match="subjects 1, 3 and has no first layer for subject 2"):
        place_of(sizes, 2, tmp_path)
    with pytest.raises(UserError, match="say which one"):
        place_of(sizes, None, tmp_path)
