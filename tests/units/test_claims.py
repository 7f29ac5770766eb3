"""Verdicts from values, and values from tables that were made to have them."""

import numpy as np
import pandas as pd
import pytest

from lipscale.tables import claims
from lipscale.tables.claims import FAILS, HOLDS, UNDECIDED
from lipscale.tables.reader import Tables

CLAIM = claims.Claim("0", "statement", "measure", 1.0, lambda tables: None)


def values(*rows: tuple[float, int, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["start", "seed", "value"])


@pytest.mark.parametrize(
    ("rows", "decision"),
    [
        ([(1, 0, 0.5), (1, 1, 1.0), (9, 0, 0.9), (9, 1, 0.2)], HOLDS),
        ([(1, 0, 0.5), (1, 1, 0.5), (9, 0, 1.1), (9, 1, 1.2)], FAILS),
        ([(1, 0, 0.5), (1, 1, 1.5), (9, 0, 1.1), (9, 1, 0.2)], UNDECIDED),
        ([(1, 0, 0.5), (9, 0, 0.5)], UNDECIDED),
        ([], UNDECIDED),
    ],
)
def test_verdict(rows, decision):
    assert claims.verdict(CLAIM, values(*rows))["verdict"] == decision


@pytest.fixture
def tables() -> Tables:
    """Two seeds, fixed L 1, 10 and 100, LiST from 0.1 and 1000, with numbers that are easy to check."""
    runs, history, sweep = [], [], []
    for seed in (0, 1):
        for method, start, end, clean, robust, ece in (
            ("fixed", 1.0, 1.0, 0.90, 0.80, 0.30),
            ("fixed", 10.0, 10.0, 0.95, 0.70, 0.02),
            ("fixed", 100.0, 100.0, 0.94, 0.50, 0.04),
            ("list", 0.1, 8.0, 0.96, 0.75, 0.01),
            ("list", 1000.0, 16.0, 0.93, 0.60, 0.03),
        ):
            key = {"run": f"{method}-{start:g}-seed{seed}", "method": method, "initial_lipschitz": start, "seed": seed}
            seconds = 1.0 if method == "fixed" else 1.5
            accuracy = {"evaluated_clean_accuracy": clean, "robust_72": 0.0, "robust_36": robust}
            runs.append(key | accuracy | {"lipschitz": end, "ece": ece, "ece_scaled": 0.015, "train_seconds": seconds})
            for epoch in range(1, 11):
                after = end * 2 if epoch == 5 else end
                history.append(key | {"epoch": epoch, "temperature": 1.01 if epoch == 10 else 2.0, "next_lipschitz": after})
            for ratio in np.geomspace(0.1, 1000, 41):
                ece = abs(np.log10(ratio / 10)) / 10 + 0.02
                sweep.append(key | {"lipschitz": end, "temperature": end / ratio, "ece": ece})
    frames = {"runs": pd.DataFrame(runs), "history": pd.DataFrame(history), "sweep": pd.DataFrame(sweep)}
    return Tables.in_memory(frames, {"figures": {"posthoc_lipschitz": 100.0}})


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("1a", [0.0] * 2),  # both curves have their minimum at L' = 10
        ("1b", [0.18] * 2),  # at L = 1: 0.30 trained, 0.12 post-hoc
        ("2", [0.01] * 4),
        ("3", [2.0] * 2),
        ("4", [0.5] * 2),  # from 0.1 only: L rises to 16, ends at 8
        ("5", [-5.0, 2.0] * 2),  # L = 10 is behind by 1 and 5 points; it is ahead by 2 and 10
        ("6a", [-0.01, 0.01] * 2),
        ("6b", [-0.005, 0.015] * 2),
        ("7", [0.5] * 4),
    ],
)
def test_values(tables, number, expected):
    claim = next(claim for claim in claims.CLAIMS if claim.number == number)
    found = claim.values(tables)
    assert sorted(found["value"]) == pytest.approx(sorted(expected), abs=1e-9)
    assert {"start", "seed", "value"} <= set(found)
