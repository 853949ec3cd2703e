"""Shared noise replaces noise of a vertex's own, lies where the signal lies, and averages out."""

import numpy as np
import pytest

from neuroclips_cli.simulation.variability import MOST_SHARED, PATTERNS, shared_noise

VOLUMES, VERTICES, SOURCES = 300, 500, 6


@pytest.fixture(scope="module")
def responses():
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(SOURCES, VERTICES))
    return [rng.normal(size=(VOLUMES, SOURCES)) @ loadings for _ in range(3)], loadings


def _draw(responses, strength, amplitude=0.2):
    series = [part.astype(np.float32) for part in responses]
    return shared_noise(np.random.default_rng(5), series, np.full(VERTICES, amplitude), strength)


@pytest.mark.parametrize("strength", [0.0, 0.5, 50.0])
def test_the_noise_of_no_vertex_grows(responses, strength):
    found = _draw(responses[0], strength)
    shared = np.square(found.patterns).sum(axis=0)
    np.testing.assert_allclose(shared + np.square(found.private), 1, rtol=1e-5)
    assert shared.max() <= MOST_SHARED + 1e-5
    if not strength:
        assert shared.max() == 0


def test_its_variance_is_the_asked_part_of_the_responses(responses):
    found = _draw(responses[0], 0.5, amplitude=0.1)
    signal = np.concatenate(responses[0]).var(axis=0) * 0.1**2
    shared = np.square(found.patterns).sum(axis=0)
    # four deviations of a variance that forty mixtures of six sources have
    tolerance = 4 * np.sqrt(2 / (PATTERNS * SOURCES))
    np.testing.assert_allclose(shared.sum() / signal.sum(), 0.5, rtol=tolerance)


def test_it_lies_in_the_space_of_the_responses(responses):
    patterns = _draw(responses[0], 0.5).patterns
    basis = np.linalg.qr(responses[1].T)[0]
    inside = np.square(patterns @ basis).sum() / np.square(patterns).sum()
    assert inside == pytest.approx(1, abs=1e-4)
    assert len(patterns) == PATTERNS


def test_one_repetition_decodes_worse_than_ten_only_where_noise_is_shared(responses):
    def error(strength: float, repetitions: int) -> float:
        found, rng = _draw(responses[0], strength), np.random.default_rng(1)
        total = np.zeros((VOLUMES, VERTICES))
        for _ in range(repetitions):
            total += rng.normal(size=(VOLUMES, PATTERNS)) @ found.patterns
            total += rng.normal(size=(VOLUMES, VERTICES)) * found.private
        decoder = np.linalg.pinv(0.2 * responses[1])
        return float(np.square(total / repetitions @ decoder).mean())

    # the sources have unit variance: of their variance, the error of a decoder that knows all
    assert error(0.0, 1) < 0.1
    assert error(0.5, 1) > 0.3
    assert error(0.5, 10) < 0.06
