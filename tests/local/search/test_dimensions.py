"""Vectors in the length of a named model: cosines exact where nothing is cut, nearly kept where it is."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tl_data.local.search.dimensions import resize

OWN = 320


def unit_vectors(count: int, size: int) -> np.ndarray:
    made = np.random.default_rng(7).normal(size=(count, size))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True))


@pytest.mark.parametrize(("own", "wanted"), [(OWN, 512), (OWN, 1024), (512, 512), (OWN, 320)])
def test_lengths_that_hold_a_vector_keep_its_cosines(own: int, wanted: int) -> None:
    given = unit_vectors(20, own)
    found = np.array([resize(vector, wanted) for vector in given])
    assert found.shape == (20, wanted)
    tolerance = 1e-7 if wanted in (512, 1024) else 0.4  # 320 is no power of two: 512 turned, then cut
    assert np.abs(found @ found.T - given @ given.T).max() < tolerance
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-6)


def test_no_number_of_a_padded_vector_is_always_zero() -> None:
    found = np.array([resize(vector, 1024) for vector in unit_vectors(20, OWN)])
    assert (np.abs(found).max(axis=0) > 1e-4).all()


def test_a_shorter_length_keeps_most_neighbours() -> None:
    """The nearest of 200 vectors to a disturbed copy of each; a projection to 256 finds it again."""
    given = unit_vectors(200, OWN)
    asked = given + 0.5 * unit_vectors(200, OWN)[::-1]
    short = np.array([resize(vector, 256) for vector in given])
    short_asked = np.array([resize(vector, 256) for vector in asked])
    right = (np.argmax(short_asked @ short.T, axis=1) == np.arange(200)).mean()
    assert right >= 0.95
    assert np.linalg.norm(short, axis=1) == pytest.approx(1, abs=1e-6)


def test_zeros_stay_zeros_and_the_rotation_never_changes() -> None:
    assert resize([0.0] * OWN, 512) == [0.0] * 512
    numbers = ",".join(f"{value:.6f}" for value in resize([1.0, *[0.0] * (OWN - 1)], 512))
    assert hashlib.sha256(numbers.encode()).hexdigest()[:16] == "30aca19e89fff6f6"
