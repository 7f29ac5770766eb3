"""Wrong verdicts on claims are at most 5 %, in simulated experiments whose truth is known (fixed seed)."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from lipscale.tables.claims.quantities import Largest, Sampled, Smallest

ROOT = Path(__file__).resolve().parents[2]
LARGEST_ERROR = 0.05
SIMULATIONS = 1500


def most(simulations: int, error: float = LARGEST_ERROR) -> int:
    """Wrong verdicts that an error rate of 5 % exceeds in less than one of 10,000 experiments."""
    return int(binom.ppf(1 - 1e-4, simulations, error))


def draws(generator: np.random.Generator, seeds: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Values of each seed in each simulation, whose truth is 0, and replicates, whose variance is that of the test images.

    Images contribute a variance of 1 that seeds share and 1 that they do not; `spread` is the standard deviation over seeds.
    """
    shared = generator.standard_normal((SIMULATIONS, 1))
    own = np.hypot(spread, 1) * generator.standard_normal((SIMULATIONS, seeds))
    return shared + own, generator.standard_normal((1, 200)) + generator.standard_normal((seeds, 200))


@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_bounds_of_few_seeds_are_wrong_in_5_percent_at_most(seeds, spread):
    values, replicates = draws(np.random.default_rng(seeds), seeds, spread)
    sampled = [Sampled(tuple(range(seeds)), one, replicates, 100) for one in values]
    assert sum(part.low(LARGEST_ERROR) > 0 for part in sampled) <= most(SIMULATIONS)
    assert sum(part.high(LARGEST_ERROR) < 0 for part in sampled) <= most(SIMULATIONS)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_bounds_of_combined_numbers_are_wrong_in_5_percent_at_most(seeds):
    """Where all four parts are equal, which is when the largest of the estimates misleads most."""
    generator, wrong = np.random.default_rng(seeds), np.zeros(4, dtype=int)
    parts = [draws(generator, seeds, 1.0) for _ in range(4)]
    for index in range(0, SIMULATIONS, 3):
        some = [Sampled(tuple(range(seeds)), values[index], replicates, 100) for values, replicates in parts]
        for place, combined in enumerate((Largest(some), Smallest(some))):
            wrong[2 * place] += combined.low(LARGEST_ERROR) > 0
            wrong[2 * place + 1] += combined.high(LARGEST_ERROR) < 0
    assert (wrong <= most(SIMULATIONS // 3)).all()


@pytest.mark.parametrize(("scenario", "seeds"), [("equal", 2), ("edge-one", 3), ("worse", 3)])
def test_verdicts_on_simulated_tables(scenario, seeds):
    """The whole way from tables to verdicts; `benchmarks/claim_error_rates.py` does more of it."""
    specification = importlib.util.spec_from_file_location("claim_error_rates", ROOT / "benchmarks" / "claim_error_rates.py")
    benchmark = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(benchmark)
    for row in benchmark.error_rates(scenario, seeds, simulations=4):
        assert row["wrong"] * 4 <= most(4), row


def test_published_error_rates_are_small():
    with (ROOT / "results" / "published" / "benchmarks" / "claim_error_rates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["seeds"] for row in rows} == {"2", "3", "5"}
    for row in rows:
        simulations = int(row["simulations"])
        assert float(row["wrong"]) * simulations <= most(simulations), row
