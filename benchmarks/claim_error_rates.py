"""How often the rule for claims is wrong: verdicts on simulated experiments whose truth is known.

    python benchmarks/claim_error_rates.py --output results/published/benchmarks/claim_error_rates.csv

Each experiment has LiST from two L0 and at two offsets, four fixed L, a replay, and a LiST run with returned calibration data.
Every network answers the same test images, whose difficulty networks share; seeds differ in accuracy and calibration as those
of the published experiments do. In the scenario

    equal       all networks are equally good
    better      LiST is ahead of all others by 3 points of each accuracy, and the others are over-confident
    worse       the other way round
    edge        all differences in accuracy are exactly the thresholds of their claims
    edge-one    the same, with one fixed L, and the others 10 points behind

At an edge either verdict may be the wrong one, since the truth may be on either side; the more frequent one is counted.
"""

import argparse
import csv
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit, ndtr, ndtri
from tqdm import tqdm

from lipscale.store import files
from lipscale.tables.claims import FAILS, HOLDS, UNDECIDED, all_claims, decide
from lipscale.tables.claims.evidence import Evidence
from lipscale.tables.reader import Tables
from lipscale.units import distance

EPSILON = 36
IMAGES, EVALUATED, VALIDATION = 2000, 512, 500
REPLICATES = 200
CORRELATION = 0.8  # of what a network sees of an image with whether it is right
SHARED = 0.93, 0.72  # share of that, and of the rest, that all networks have in common: two disagree on 17 % of the images
SEED_SPREAD = {"accuracy": 0.004, "confidence": 0.03}  # standard deviations over seeds
CLAIMS = ("5", "6a", "6b", "9a", "9b", "10a", "10b", "12a")
COLUMNS = ("scenario", "claim", "seeds", "simulations", HOLDS, FAILS, UNDECIDED, "wrong")
SCENARIOS = ("equal", "better", "worse", "edge", "edge-one")
FRONT = ("list-1", "list-1-xi36", "list-100")
FIXED = ("fixed-1", "fixed-2", "fixed-4", "fixed-8")
TRUE = {  # of each scenario: the claims that hold
    "equal": {"5", "6a", "6b", "9a", "10b"},
    "better": {"5", "6a", "6b", "9a", "9b", "10b", "12a"},
    "worse": {"10a", "10b"},
    "edge": {"6a", "6b", "10b"},
    "edge-one": {"6a", "6b", "10b"},
}
AT_EDGE = {"5", "9a", "10a", "12a"}  # in the last two scenarios


@dataclass(frozen=True)
class Quality:
    """What is true of a setting: its accuracies, and by how much it is over-confident (factor on log-odds, minus 1)."""

    clean: float = 0.62
    certified: float = 0.38
    robust: float = 0.42
    excess: float = 0.0

    def shifted(self, accuracy: float, excess: float = 0.0) -> "Quality":
        return Quality(self.clean + accuracy, self.certified + accuracy, self.robust + accuracy, self.excess + excess)


def qualities(scenario: str) -> dict[str, Quality]:
    """Of each setting."""
    usual = Quality()
    good, bad = usual.shifted(0.03), usual.shifted(0.0, 0.6)
    front, rivals, replay, returned = {
        "equal": (usual, [usual] * 4, usual, usual),
        "better": (good, [bad] * 4, bad, good),
        "worse": (bad, [good] * 4, good, good.shifted(0.0, 0.6)),
        "edge": (usual, [usual.shifted(0.01)] * 4, usual.shifted(-0.005), usual),
        "edge-one": (usual, [usual.shifted(-0.1)] * 3 + [usual.shifted(0.01)], usual.shifted(-0.005), usual),
    }[scenario]
    found = dict.fromkeys(FRONT, front) | dict(zip(FIXED, rivals, strict=True))
    if scenario.startswith("edge"):  # half a point for claim 9a, which looks at certified accuracy
        found = {
            name: Quality(q.clean, q.certified - 0.005 * (q.clean > 0.62), q.robust, q.excess) for name, q in found.items()
        }
    return found | {"replay-1": replay, "list-1-continue": returned}


def simulate(generator: np.random.Generator, settings: Mapping[str, Quality], seeds: int) -> Tables:
    """The tables of an experiment with those settings."""
    shared = generator.standard_normal((2, IMAGES + VALIDATION))
    runs, images = [], []
    for (name, quality), seed in itertools.product(settings.items(), range(seeds)):
        row, table = network(generator, quality, shared)
        method, _, rest = name.partition("-")
        start, _, tag = rest.partition("-")
        key = {"run": f"{name}-seed{seed}", "setting": name, "method": method, "initial_lipschitz": float(start), "seed": seed}
        key |= {"variant": "continue" if tag == "continue" else "standard", "offset": 36.0 if tag == "xi36" else 0.0}
        runs.append(key | row)
        images.append({"run": np.full(IMAGES, key["run"])} | table)
    frames = {
        "runs": pd.DataFrame(runs),
        "images": pd.DataFrame({name: np.concatenate([part[name] for part in images]) for name in images[0]}),
    }
    return Tables.in_memory(frames, {"figures": {"posthoc_lipschitz": math.nan}})


def network(generator: np.random.Generator, quality: Quality, shared: np.ndarray) -> tuple[dict, dict[str, np.ndarray]]:
    """A row of runs.csv and the columns of images.csv.gz of a trained network.

    An image is right where `hardness` is below a threshold; the network sees a part of that hardness, and is confident
    accordingly: calibrated where `quality.excess` is 0.
    """
    own = generator.standard_normal(shared.shape)
    seen, rest = (
        np.sqrt(share) * common + np.sqrt(1 - share) * mine for share, common, mine in zip(SHARED, shared, own, strict=True)
    )
    hardness = CORRELATION * seen + np.sqrt(1 - CORRELATION**2) * rest
    drift = SEED_SPREAD["accuracy"] * generator.standard_normal()
    clean, certified, robust = (ndtri(share + drift) for share in (quality.clean, quality.certified, quality.robust))
    true = ndtr((clean - CORRELATION * seen) / np.sqrt(1 - CORRELATION**2))
    factor = 1 + quality.excess + SEED_SPREAD["confidence"] * generator.standard_normal()
    confidence, right = np.maximum(expit(factor * logit(np.clip(true, 1e-6, 1 - 1e-6))), 0.1), hardness < clean
    test, validation = slice(IMAGES), slice(IMAGES, None)
    table = {"image": np.arange(IMAGES), "right": right[test].astype(int)}
    table["confidence"] = table["scaled_confidence"] = confidence[test]
    table["radius"] = distance(EPSILON) * np.exp(np.minimum(certified - hardness[test], 5))
    table[f"robust_{EPSILON}"] = np.where(np.arange(IMAGES) < EVALUATED, hardness[test] < max(robust, certified), np.nan)
    gap = ece(confidence[validation], right[validation])
    row = {f"robust_{EPSILON}": 0.0, "validation_accuracy": right[validation].mean(), "validation_ece": gap}
    return row | {"validation_ece_scaled": gap}, table


def ece(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(index, weights=right - confidence, minlength=bins)).sum() / len(right))


def error_rates(scenario: str, seeds: int, simulations: int, numbers: Sequence[str] = CLAIMS, seed: int = 0) -> list[dict]:
    """A row per claim: how often each verdict was given, and how often a wrong one."""
    claims = [claim for claim in all_claims() if claim.number in numbers]
    counts = {claim.number: Counter() for claim in claims}
    for simulation in range(simulations):
        generator = np.random.default_rng((seed, SCENARIOS.index(scenario), seeds, simulation))
        evidence = Evidence(simulate(generator, qualities(scenario), seeds), REPLICATES)
        for claim in claims:
            counts[claim.number][decide(claim, evidence)["verdict"]] += 1
    rows = []
    for number, count in counts.items():
        shares = {verdict: count[verdict] / simulations for verdict in (HOLDS, FAILS, UNDECIDED)}
        wrong = shares[FAILS if number in TRUE[scenario] else HOLDS]
        if scenario.startswith("edge") and number in AT_EDGE:
            wrong = max(shares[HOLDS], shares[FAILS])
        rows.append(
            {"scenario": scenario, "claim": number, "seeds": seeds, "simulations": simulations, **shares, "wrong": wrong}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="a CSV file; cells that it has are kept")
    parser.add_argument(
        "--simulations", type=int, default=100, help="of each scenario and number of seeds; default: %(default)s"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5])
    options = parser.parse_args()
    rows = []
    if options.output.exists():
        with options.output.open(newline="") as file:
            rows = list(csv.DictReader(file))
    done = {(row["scenario"], int(row["seeds"])) for row in rows if int(row["simulations"]) == options.simulations}
    rows = [row for row in rows if (row["scenario"], int(row["seeds"])) in done]
    for cell in tqdm(sorted(set(itertools.product(SCENARIOS, options.seeds)) - done)):
        rows += error_rates(*cell, options.simulations)
        files.write_rows(options.output, COLUMNS, rows)


if __name__ == "__main__":
    main()
