"""When L has converged: within 5 % over a fifth of the epochs, and at least 3."""

import math

import pytest

from lipscale.method.convergence import converged, window


@pytest.mark.parametrize(("epochs", "expected"), [(1, 3), (15, 3), (16, 4), (24, 5), (25, 5), (100, 20)])
def test_window_is_a_fifth_and_at_least_three(epochs, expected):
    assert window(epochs) == expected


@pytest.mark.parametrize("lipschitz", [1e-4, 1.0, 1e5, math.inf])
def test_fixed_lipschitz_converges_as_soon_as_the_window_is_full(lipschitz):
    assert [converged([lipschitz] * done, 24) for done in range(1, 8)] == [False] * 4 + [True] * 3


def test_only_the_last_epochs_count():
    assert converged([0.1, 100.0, 4.0, 4.1, 4.2], 15)
    assert not converged([4.0, 4.0, 4.0, 4.0, 4.3], 15)


def test_spread_is_largest_over_smallest_and_not_last_over_first():
    assert not converged([4.0, 4.3, 4.0], 15)
    assert converged([4.0, 4.19, 4.0], 15)
    assert converged([1.0, 1.05, 1.0], 15)


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e4])
def test_unit_of_the_lipschitz_constant_does_not_matter(factor):
    for values in ([3.0, 3.1, 3.05], [3.0, 3.2, 3.1], [1.0, 10.0, 1.0]):
        assert converged([factor * value for value in values], 9) == converged(values, 9)


def test_order_of_the_last_epochs_does_not_matter():
    assert converged([1.0, 1.04, 1.02], 3) == converged([1.04, 1.02, 1.0], 3) is True


def test_slow_drift_does_not_converge():
    """2 % an epoch is 8 % over the five epochs that are looked at."""
    values = [1.02**epoch for epoch in range(24)]
    assert not any(converged(values[:done], 24) for done in range(1, 25))
