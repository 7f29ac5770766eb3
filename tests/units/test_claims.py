"""Verdicts from intervals, and each claim from tables that were made to meet it and to break it."""

import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lipscale.cli import main
from lipscale.errors import LipscaleError
from lipscale.store import files
from lipscale.tables import claims
from lipscale.tables.claims import FAILS, HOLDS, UNDECIDED, Claim, decide
from lipscale.tables.claims.evidence import Evidence, NoRuns
from lipscale.tables.claims.quantities import Largest, Sampled, ShareUpTo, Smallest, Undecided, ratio
from lipscale.tables.claims.selection import highest, lowest, matched
from lipscale.tables.reader import Tables
from lipscale.units import distance

IMAGES = 2000
SEEDS = (0, 1, 2)
CLAIMS = {claim.number: claim for claim in claims.all_claims()}


def run(name: str, seed: int, **facts: float) -> tuple[dict, pd.DataFrame]:
    """A run whose first images are right, the first of these certified and robust; the same images for every run.

    facts: clean, robust, certified (shares), ece, scaled (confidence is that much above accuracy), others: columns of runs.csv.
    """
    start, *tags = name.split("-")[1:] or ["inf"]
    offset = next((float(tag[2:]) for tag in tags if tag.startswith("xi")), 0.0)
    variant = "-".join(tag for tag in tags if not tag.startswith("xi")) or "standard"
    method = name.split("-")[0]
    if not start[0].isdigit() and start != "inf":
        start, variant = "inf", start
    key = {"run": f"{name}-seed{seed}", "setting": name, "method": method, "variant": variant, "offset": offset, "seed": seed}
    facts = {"clean": 0.6, "robust": 0.4, "certified": 0.4, "ece": 0.01, "scaled": 0.01} | facts
    clean, robust, certified = (facts.pop(name) + seed * 0.001 for name in ("clean", "robust", "certified"))
    ece, scaled = (facts.pop(name) for name in ("ece", "scaled"))
    index = np.arange(IMAGES)
    rank = (index * 7 % IMAGES) / IMAGES
    right = rank < clean
    images = pd.DataFrame({"run": key["run"], "image": index, "right": right.astype(int)})
    images["confidence"], images["scaled_confidence"] = right.mean() + ece, right.mean() + scaled
    images["radius"] = np.where(rank < certified, 2, 0.5) * distance(36)
    images["robust_36"] = np.where(index % 2 == 0, rank < robust, np.nan)
    row = {"lipschitz": 8.0, "train_seconds": 10.0, "validation_accuracy": clean, "evaluated_images": 1000, "robust_36": robust}
    row |= {"validation_ece": ece, "validation_ece_scaled": scaled}
    return key | {"initial_lipschitz": float(start)} | row | facts, images


def evidence(settings: dict[str, dict], seeds: tuple[int, ...] = SEEDS, **frames: pd.DataFrame) -> Evidence:
    made = [run(name, seed, **facts) for name, facts in settings.items() for seed in seeds]
    tables = {"runs": pd.DataFrame([row for row, _ in made]), "images": pd.concat(table for _, table in made)}
    return Evidence(Tables.in_memory(tables | frames, {"figures": {"posthoc_lipschitz": 100.0}}), replicates=100)


def verdict(number: str, settings: dict[str, dict], **more) -> str:
    return decide(CLAIMS[number], evidence(settings, **more))["verdict"]


@pytest.mark.parametrize(
    ("low", "high", "at_most", "above"),
    [(0.1, 0.9, HOLDS, FAILS), (1.1, 1.9, FAILS, HOLDS), (0.5, 1.5, UNDECIDED, UNDECIDED), (0.5, 1.0, HOLDS, FAILS)],
)
def test_an_interval_decides(low, high, at_most, above):
    fixed = SimpleNamespace(estimate=0.5, seeds=3, images=7, low=lambda error: low, high=lambda error: high)
    for threshold, expected in (({"at_most": 1.0}, at_most), ({"above": 1.0}, above)):
        row = decide(Claim("0", "statement", "measure", lambda _: fixed, **threshold), None)
        assert tuple(row) == claims.COLUMNS
        assert (row["verdict"], row["seeds"], row["images"], row["reason"]) == (expected, 3, 7, "")


def test_a_claim_without_runs_is_left_out_and_one_that_cannot_be_measured_says_why():
    def without(_):
        raise NoRuns

    def unmeasured(_):
        raise Undecided("too few")

    assert decide(Claim("0", "", "", without, at_most=1.0), None) is None
    row = decide(Claim("0", "", "", unmeasured, at_most=1.0), None)
    assert (row["verdict"], row["reason"], row["estimate"]) == (UNDECIDED, "too few", "")
    with pytest.raises(ValueError, match="one threshold"):
        Claim("0", "", "", without)


def test_interval_of_few_seeds_is_that_of_student():
    """The 90 % interval of 1, 2, 3: t(2) = 2.92, standard error 1 / sqrt(3)."""
    half = 2.91999 / math.sqrt(3)
    sampled = Sampled(SEEDS, np.array([1.0, 2.0, 3.0]))
    assert (sampled.low(0.05), sampled.high(0.05)) == pytest.approx((2 - half, 2 + half), abs=1e-4)
    wider = Sampled(SEEDS, sampled.values, np.tile(np.arange(-50, 51) / 50, (3, 1)), 10, slack=0.5)
    over_images = 1.644854 * np.std(np.arange(-50, 51) / 50, ddof=1)
    assert wider.high(0.05) == pytest.approx(2.5 + math.hypot(half, over_images), abs=1e-4)
    with pytest.raises(Undecided, match="one seed"):
        sampled.over([1]).low(0.05)


def test_differences_are_paired_by_seed_and_image():
    replicates = np.random.default_rng(0).normal(size=(3, 50))
    first = Sampled((0, 1, 2), np.array([1.0, 2.0, 3.0]), replicates, 10)
    second = Sampled((2, 1), np.array([2.5, 1.5]), replicates[[2, 1]], 10)
    difference = first - second
    assert difference.numbers == (1, 2)
    assert (difference.low(0.01), difference.high(0.01)) == pytest.approx((0.5, 0.5))
    with pytest.raises(Undecided, match="no seed in common"):
        first.over([0]) - second


def test_combined_bounds_share_the_error_where_any_part_could_exceed_them():
    parts = [Sampled(SEEDS, np.array([0.0, 1.0, 2.0]) + shift) for shift in (0, 1)]
    largest, smallest = Largest(parts), Smallest(parts)
    assert (largest.estimate, smallest.estimate) == (2, 1)
    assert (largest.low(0.05), largest.high(0.05)) == (parts[1].low(0.025), parts[1].high(0.05))
    assert (smallest.low(0.05), smallest.high(0.05)) == (parts[0].low(0.05), parts[0].high(0.025))
    share = ShareUpTo(parts, 1.5)
    assert (share.low(0.05), share.estimate, share.high(0.05)) == (0, 0.5, 1)
    assert ratio(parts[0]).estimate == pytest.approx(math.e)


def test_accuracies_and_ece_are_those_of_the_images():
    found = evidence({"list-1": {"ece": 0.03}})
    (setting,) = found.settings
    expected = {"clean_accuracy": 0.6, "certified_36": 0.4, "robust_36": 0.4, "evaluated_clean_accuracy": 0.6, "ece": 0.03}
    for name, value in expected.items():
        measured = found.measure(setting, name)
        assert measured.values[0] == pytest.approx(value, abs=1e-6)
        assert measured.images == (1000 if name.startswith(("robust", "evaluated")) else IMAGES)
    replicates = found.measure(setting, "clean_accuracy").replicates
    assert replicates.std() == pytest.approx(math.sqrt(0.24 / IMAGES), rel=0.25)


def test_other_images_in_a_run_are_refused():
    found = evidence({"list-1": {}})
    found.tables["images"].loc[lambda table: table["run"] == "list-1-seed1", "image"] += 1
    with pytest.raises(LipscaleError, match="list-1-seed1 has other test images"):
        found.measure(found.settings[0], "ece")


def test_rivals_are_chosen_on_the_validation_split():
    settings = {f"list-1-xi{xi}": {"clean": clean} for xi, clean in ((0, 0.62), (18, 0.60), (36, 0.595), (72, 0.55))}
    settings |= {
        "fixed-1": {"ece": 0.02, "validation_ece": 0.3},
        "fixed-2": {"ece": 0.2},
        "unconstrained-brier": {"clean": 0.7},
    }
    found = evidence(settings)
    by_name = {setting.name: setting for setting in found.settings}
    fixed = found.of("fixed")
    assert lowest(fixed, "validation_ece").name == "fixed-2"
    assert highest(found.of("list"), "validation_accuracy").name == "list-1-xi0"
    assert matched(found.of("list"), by_name["fixed-1"]).name == "list-1-xi36"
    assert matched(found.of("list"), by_name["unconstrained-brier"]).name == "list-1-xi0"
    with pytest.raises(ValueError, match="not of the validation split"):
        lowest(fixed, "ece")


def ends(*lipschitz: float) -> dict:
    """LiST from several L0."""
    return {f"list-{start}": {"lipschitz": end} for start, end in enumerate(lipschitz, 1)}


LISTS = {"list-1": {}, "list-100": {}}
FRONT = {
    f"list-1-xi{xi}": {"clean": 0.6 - xi / 1000, "certified": 0.4 + xi / 1000, "lipschitz": 8 - xi / 20} for xi in (0, 36, 72)
}
BAD = {"list-9-xi36": {"ece": 0.1}, "list-9": {}}
CASES = [  # claim, settings that meet it, settings that break it
    ("3", ends(8, 8.8), ends(8, 12.0)),
    ("13", ends(8, 8.2), ends(8, 8.8)),
    ("5", LISTS | {"fixed-1": {"robust": 0.3}, "fixed-2": {"clean": 0.5}}, LISTS | {"fixed-1": {"clean": 0.7, "robust": 0.5}}),
    ("6a", LISTS | {"fixed-1": {"ece": 0.1}}, {"list-1": {"ece": 0.1}, "fixed-1": {}}),
    ("6b", LISTS | {"fixed-1": {"ece": 0.1, "scaled": 0.05}}, {"list-1": {"ece": 0.1}, "fixed-1": {"ece": 0.3}}),
    ("7a", LISTS | {f"fixed-{L}": {"ece": 0.1} for L in (1, 2, 4)}, LISTS | {f"fixed-{L}": {} for L in (1, 2, 4)}),
    ("7b", LISTS | {f"fixed-{L}": {"clean": 0.5} for L in (1, 2, 4)}, LISTS | {f"fixed-{L}": {"ece": 0.3} for L in (1, 2, 4)}),
    ("8a", {"list-1": {"ece": 0.0}, "list-1-xi36": {"ece": 0.0}}, {"list-1": {}, "list-1-xi36": {"ece": 0.1}}),
    ("8b", FRONT, FRONT | {"list-1-xi72": {"lipschitz": 9.0}}),
    ("9a", FRONT | {"fixed-1": {"clean": 0.5}}, FRONT | BAD | {"fixed-1": {"clean": 0.7, "certified": 0.6}}),
    ("9b", FRONT | {"fixed-1": {"clean": 0.5}}, FRONT | {"fixed-1": {"clean": 0.7}}),
    ("10a", {"list-1": {}, "list-1-continue": {"clean": 0.65}}, {"list-1": {}, "list-1-continue": {"clean": 0.55}}),
    ("10b", {"list-1": {}, "list-1-continue": {}}, {"list-1": {}, "list-1-continue": {"ece": 0.1}}),
    ("10c", {"list-1": {}, "list-1-restart": {"clean": 0.65}}, {"list-1": {}, "list-1-restart": {"clean": 0.55}}),
    ("11a-ece", LISTS | {"unconstrained": {"scaled": 0.05}}, {"list-1": {"ece": 0.1}, "unconstrained": {"ece": 0.3}}),
    ("11c-robust", LISTS | {"unconstrained-focal3": {"robust": 0.2}}, LISTS | {"unconstrained-focal3": {"robust": 0.5}}),
    ("11f-certified", LISTS | {"unconstrained-pgd36": {"robust": 0.3}}, LISTS | {"unconstrained-pgd36": {"robust": 0.5}}),
    ("12a", {"list-1": {"clean": 0.7, "certified": 0.5}, "replay-1": {}}, {"list-1": {}, "replay-1": {}}),
    ("12b", {"list-1": {"clean": 0.7, "certified": 0.5}, "ramp-4": {}}, {"list-1": {}, "ramp-4": {"clean": 0.7}}),
]  # fmt: skip


@pytest.mark.parametrize(("number", "meeting", "breaking"), CASES, ids=[case[0] for case in CASES])
def test_a_claim_can_hold_and_fail(number, meeting, breaking):
    assert verdict(number, meeting) == HOLDS
    assert verdict(number, breaking) == FAILS
    assert verdict(number, meeting, seeds=(0,)) == UNDECIDED


@pytest.mark.parametrize("number", ["8a", "8b", "9a", "9b", "10a", "10d", "11a-ece", "11h-robust", "12a", "12b"])
def test_an_experiment_of_the_poster_has_no_runs_for_later_claims(number):
    assert decide(CLAIMS[number], evidence(LISTS | {"fixed-1": {}})) is None


def history(temperature: float, losses: tuple[float, ...], after: tuple[float, ...], start: float = 1.0) -> pd.DataFrame:
    rows = []
    for seed in SEEDS:
        for epoch in range(1, 11):
            share = (epoch - 1) / 9
            loss, end = (np.interp(share, np.linspace(0, 1, len(values)), values) for values in (losses, after))
            row = {"run": f"list-{start:g}-seed{seed}", "seed": seed, "epoch": epoch, "train_loss": loss, "next_lipschitz": end}
            rows.append(row | {"temperature": temperature if 4 <= epoch <= 6 else 1.0})
    return pd.DataFrame(rows)


def test_temperature_of_a_frozen_network_decides_nothing():
    """T* = 1 in the middle of training, once of a network that learns until the end and once of one that does not."""
    assert verdict("2", {"list-1": {}}, history=history(1.01, (2.0, 1.0), (8.0,))) == HOLDS
    assert verdict("2", {"list-1": {}}, history=history(1.2, (2.0, 1.0), (8.0,))) == FAILS
    frozen = evidence({"list-1": {}}, history=history(1.0, (2.0, 1.0, 1.0, 1.0, 1.0), (8.0,)))
    row = decide(CLAIMS["2"], frozen)
    assert (row["verdict"], "frozen" in row["reason"]) == (UNDECIDED, True)


def test_contraction():
    assert verdict("4", {"list-1": {}}, history=history(1, (2, 1), (1, 16, 8))) == HOLDS
    assert verdict("4", {"list-1": {}}, history=history(1, (2, 1), (1, 4, 8))) == FAILS
    row = decide(CLAIMS["4"], evidence({"list-9": {}}, history=history(1, (2, 1), (9, 8), start=9)))
    assert row["reason"] == "no L0 is below the final L, so L cannot rise first"


def curves(minimum: float, grid=(1.0, 5.0, 10.0, 20.0, 100.0), posthoc: float = 10.0, slope: float = 0.1) -> dict:
    """Fixed L with an ECE curve, and the sweep of the post-hoc one."""
    settings = {f"fixed-{L:g}": {"ece": abs(math.log10(L / minimum)) * 0.1 + 0.02, "lipschitz": L} for L in grid}
    lines = np.geomspace(0.5, 200, 61)
    ece = np.abs(np.log10(lines / posthoc)) * slope + 0.02
    sweep = [
        pd.DataFrame(
            {"run": f"fixed-100-seed{seed}", "method": "fixed", "seed": seed, "lipschitz": 100.0}, index=range(61)
        ).assign(temperature=100 / lines, ece=ece, variant="standard", offset=0.0, initial_lipschitz=100.0)
        for seed in SEEDS
    ]
    return {"settings": settings, "sweep": pd.concat(sweep)}


def test_curves():
    assert verdict("1a", **curves(minimum=10)) == HOLDS
    assert verdict("1a", **curves(minimum=20, posthoc=2)) == FAILS
    assert verdict("1b", **curves(minimum=10)) == HOLDS
    assert verdict("1b", **curves(minimum=10, slope=0.4)) == FAILS


@pytest.mark.parametrize(("minimum", "posthoc", "place"), [(100, 10, "trained L"), (1, 10, "trained L"), (10, 0.6, "L/T")])
def test_a_minimum_at_the_edge_decides_nothing(minimum, posthoc, place):
    made = curves(minimum=minimum, posthoc=posthoc)
    row = decide(CLAIMS["1a"], evidence(made["settings"], sweep=made["sweep"]))
    assert (row["verdict"], row["reason"]) == (UNDECIDED, f"the minimum against {place} is at the edge of the grid")


def test_verdicts_of_published_tables_can_be_recomputed(tmp_path: Path, capsys):
    made = curves(minimum=10)
    past = pd.concat([history(1.01, (2, 1), (1, 16, 8)), history(1.01, (2, 1), (100, 8), start=100)])
    found = evidence(made["settings"] | LISTS, history=past, sweep=made["sweep"])
    fixed = found.tables.runs.loc[found.tables.runs["method"] == "fixed", ["run", "seed"]].assign(epoch=10)
    pd.concat([past, fixed]).to_csv(tmp_path / "history.csv", index=False)
    for name in ("runs", "sweep"):
        found.tables[name].to_csv(tmp_path / f"{name}.csv", index=False)
    assert main(["claims", str(tmp_path)]) == 1
    assert "has no config.yaml" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("figures: {posthoc_lipschitz: 100.0}\ntraining: {epochs: 10}\n")
    assert main(["claims", str(tmp_path), "--output", str(tmp_path / "new")]) == 0
    rows = files.read_rows(tmp_path / "new" / "claims.csv")
    verdicts = {row["claim"]: (row["verdict"], row["reason"]) for row in rows}
    assert list(verdicts) == ["1a", "1b", "2", "3", "4", "5", "6a", "6b", "7a", "7b", "13"]
    assert verdicts["2"][0] == HOLDS
    assert verdicts["6a"] == (UNDECIDED, "images.csv.gz is missing")


@pytest.mark.parametrize("name", ["history.csv", "images.csv.gz"])
def test_published_tables_that_are_cut_are_named(name, tmp_path, capsys):
    published = Path(__file__).parents[2] / "results" / "published" / "digits"
    for file in ("runs.csv", "history.csv", "images.csv.gz", "config.yaml", "sweep.csv"):
        shutil.copy(published / file, tmp_path)
    table = pd.read_csv(tmp_path / name)
    table.head(len(table) - 1).to_csv(tmp_path / name, index=False)
    assert main(["claims", str(tmp_path), "--output", str(tmp_path / "new")]) == 1
    last = table["run"].iloc[-1]
    assert f"{name} is incomplete: it lacks rows of {last}" in capsys.readouterr().err
