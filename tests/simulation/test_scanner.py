"""The simulated brain: features, haemodynamics, noise and how strongly vertices respond."""

from __future__ import annotations

import check_selection as check
import numpy as np
import pytest
from helpers.simulation_world import GRAYORDINATES, settings_for

from neuroclips_cli.signal.detrend import detrend
from neuroclips_cli.simulation import noise
from neuroclips_cli.simulation.attributes import KIND_ATTRIBUTES, scene_attributes
from neuroclips_cli.simulation.features import CHANNELS, MOTION, feature_maps, shrink
from neuroclips_cli.simulation.geometry import brain_models
from neuroclips_cli.simulation.hemodynamics import double_gamma, response_matrix
from neuroclips_cli.simulation.synthetic_world import KINDS, MOTIONS, Film, Scene, render_scene


@pytest.mark.parametrize(
    ("motion", "channel"),
    [("moving left", 0), ("moving right", 1), ("rising", 2), ("falling", 3)],
)
def test_motion_energy_tells_the_direction(motion, channel):
    scene = Scene(0, 0, MOTIONS.index(motion), 1, 4.0, 5)
    frames = render_scene(scene, np.arange(40) / 10, 64)
    energy = feature_maps(shrink(frames))[:, MOTION].mean(axis=(0, 2))[:4]
    assert energy.argmax() == channel
    assert energy[channel] > 3 * np.delete(energy, channel).max()


def test_features_do_not_depend_on_how_long_the_film_goes_on():
    frames = render_scene(Scene(3, 2, 5, 0, 60.0, 1), np.arange(550) / 10, 32)
    whole, part = feature_maps(shrink(frames)), feature_maps(shrink(frames[:300]))
    assert whole.shape == (110, len(CHANNELS), 256)
    assert np.allclose(whole[:60], part, atol=1e-5)


def test_every_kind_has_attributes_of_its_own():
    assert set(KIND_ATTRIBUTES) == set(KINDS)
    table = np.array(list(KIND_ATTRIBUTES.values()))
    distance = np.linalg.norm(table[:, None] - table[None], axis=-1) + 9 * np.eye(len(table))
    assert distance.min() > 0.9


def test_attributes_follow_the_scene_on_screen():
    scenes = (Scene(0, 0, 0, 0, 3.0, 1), Scene(5, 3, 2, 4, 5.0, 2))
    drive = scene_attributes(Film(scenes, (0.0, 3.0), 8.0))
    assert drive.values.shape[0] == 16
    assert (drive.values[:6] == drive.values[0]).all()
    assert (drive.values[6:] == drive.values[6]).all()
    assert (drive.values[0] != drive.values[6]).any()


def test_the_response_peaks_at_five_seconds_and_undershoots():
    time = np.arange(0, 32, 0.1)
    response = double_gamma(time)
    assert abs(time[response.argmax()] - 5) < 0.2
    assert 12 < time[response.argmin()] < 18
    assert abs(response.sum() * 0.1 - 1) < 0.02


def test_leading_volumes_are_silent_and_trailing_ones_hold_the_tail():
    matrix = response_matrix(bins=80, bin_s=0.5, volumes=26, leading=2, tr_s=2.0)
    response = matrix @ np.ones(80)
    assert not response[:2].any()
    assert (response[22:24] > 0.1).all()


def test_noise_keeps_the_expected_variance_through_detrending():
    rng = np.random.default_rng(0)
    phi = np.repeat([0.0, 0.3, 0.6], 4000)
    left = detrend(noise.autocorrelated(rng, 40, phi), 4).var(axis=0, ddof=1)
    expected = noise.left_after_detrending(phi, 40, 4)
    for part in (slice(0, 4000), slice(4000, 8000), slice(8000, None)):
        assert abs(left[part].mean() / expected[part][0] - 1) < 0.03


def test_drift_is_several_times_the_noise_and_vanishes_by_detrending():
    for volumes, order in ((45, 1), (246, 4)):
        slow = noise.drift(np.random.default_rng(0), volumes, 500, tr_s=2.0)
        assert 2 < np.median(slow.std(axis=0)) < 10
        assert np.abs(detrend(slow[1:-5], order)).max() < 1e-3
        assert np.abs(detrend(slow[1:-5], order - 1)).max() > 1


def test_geometry_has_hcp_numbers_and_a_small_sample_of_them():
    full, small = brain_models("91k"), brain_models("small")
    assert len(full) == 91282
    names = np.asarray(full.name, str)
    assert (names == "CIFTI_STRUCTURE_CORTEX_LEFT").sum() == 29696
    assert (names == "CIFTI_STRUCTURE_CORTEX_RIGHT").sum() == 29716
    assert set(small.nvertices.values()) == {32492}
    assert len(small) == GRAYORDINATES and set(np.asarray(small.name, str)) == set(names)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """Subjects of a data set with many short segments, with and without a signal."""
    folder = tmp_path_factory.mktemp("brain")
    sizes = {
        "simulate__train_segments": 12,
        "simulate__clips_per_segment": 30,
        "data__selection_p": 0.05,
    }
    settings = settings_for(folder, folder, **sizes, simulate__reliability=0.25)
    features = check.training_features(settings)
    models = brain_models("small")
    cortex = np.char.startswith(np.asarray(models.name, str), "CIFTI_STRUCTURE_CORTEX_")

    def scan(number: int, **scales: float):
        chosen = settings_for(
            folder,
            folder,
            **sizes,
            simulate__reliability=0.25,
            **{f"simulate__{k}": v for k, v in scales.items()},
        )
        subject = check.Subject(
            number, 0, cortex, features, check.scale_of(features), chosen.simulate, chosen.data
        )
        mean_z, selected = check.test_subject(subject, chosen, list(features))
        return subject.ground_truth(), np.tanh(mean_z), selected

    return scan


def test_repetitions_correlate_as_the_noise_ceiling_says(scanned):
    truth, r, _ = scanned(1)
    ceiling, responding = truth["noise_ceiling"], truth["responding"]
    assert responding.mean() == pytest.approx(0.4, abs=0.01)
    assert set(truth["area"][responding]) == {"early", "higher"}
    assert ceiling[responding].min() > 0.09 and ceiling[responding].max() < 0.61
    assert np.median(ceiling[responding]) == pytest.approx(0.25, abs=0.03)
    assert np.median(r[responding]) == pytest.approx(0.25, abs=0.04)
    assert abs((r - ceiling)[responding].mean()) < 0.03
    assert np.corrcoef(r[responding], ceiling[responding])[0, 1] > 0.85
    assert abs(r[~responding].mean()) < 0.01


def test_a_silent_brain_gives_at_most_one_false_voxel_in_four_subjects(scanned):
    found = 0
    for number in range(1, 5):
        truth, _, selected = scanned(number, signal_scale=0.0)
        assert not truth["responding"].any() and not truth["noise_ceiling"].any()
        found += int(selected.sum())
    assert found <= 1


def test_twice_the_noise_lowers_the_ceiling_but_not_the_brain(scanned):
    calm, loud = scanned(1)[0], scanned(1, noise_scale=2.0)[0]
    assert np.array_equal(calm["responding"], loud["responding"])
    responding = calm["responding"]
    assert (loud["noise_ceiling"][responding] < calm["noise_ceiling"][responding]).all()
