"""Which images are attacked."""

import numpy as np
import pytest

from lipscale.attacks.selection import choose, select


def test_a_choice_is_a_seeded_sorted_sample():
    assert choose(np.arange(100), 5, 3).tolist() == choose(np.arange(100), 5, 3).tolist()
    assert choose(np.arange(100), 5, 3).tolist() != choose(np.arange(100), 5, 4).tolist()
    assert (np.diff(choose(np.arange(100), 50, 0)) > 0).all()
    assert choose(np.arange(300), 500, 0).tolist() == list(range(300))
    assert choose(np.arange(300), 0, 0).tolist() == []


@pytest.mark.parametrize("spot_checks", [0, 3, 1000])
def test_who_is_attacked(spot_checks):
    """All that are right, not broken before and not certified; of the certified ones, the spot checks."""
    generator = np.random.default_rng(0)
    robust, radii = generator.random(200) < 0.7, generator.random(200)
    radii[~robust] = 0
    chosen = choose(np.arange(200), 80, 0)
    selection = select(chosen, robust, radii, epsilon=0.6 * 255, spot_checks=spot_checks, seed=0)
    certified = [i for i in chosen if radii[i] >= 0.6]
    assert selection.certified.tolist() == certified
    assert len(selection.spot_checks) == min(spot_checks, len(certified))
    assert set(selection.spot_checks) <= set(certified)
    unsettled = {i for i in chosen if robust[i] and radii[i] < 0.6}
    assert selection.attacked.tolist() == sorted(unsettled | set(selection.spot_checks))


def test_an_epsilon_equal_to_the_radius_is_certified():
    everyone = np.arange(2)
    selection = select(everyone, np.ones(2, bool), np.array([36 / 255, 35.9 / 255]), epsilon=36, spot_checks=0, seed=0)
    assert selection.certified.tolist() == [0]
    assert selection.attacked.tolist() == [1]
