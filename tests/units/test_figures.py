"""Figures from tables alone: without torch, the same every time, and with the right numbers in them."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conftest import lipscale
from lipscale.report.figures import certified, figure1, figure2, figure3, reliability
from lipscale.store.checksums import seal

WIDTHS = {"figure1": 3.35, "figure2": 3.35, "figure3": 3.35, "reliability": 3.35, "certified": 6.9}  # inches, one column or two


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """Tables of an imaginary experiment: three seeds, fixed L 1 and 10, L0 0.1 and 100."""
    folder = tmp_path_factory.mktemp("tables")
    generator = np.random.default_rng(0)
    runs, feedback, sweep, history, bins, curves = [], [], [], [], [], []
    for method, start in (("fixed", 1.0), ("fixed", 10.0), ("list", 0.1), ("list", 100.0)):
        for seed in range(3):
            key = {"run": f"{method}-{start:g}-seed{seed}", "method": method, "initial_lipschitz": start, "seed": seed}
            end = start if method == "fixed" else 12.0 + seed
            values = generator.uniform(0.5, 0.9, 4)
            names = ("evaluated_clean_accuracy", "ece", "robust_36", "certified_36")
            rest = {"lipschitz": end, "temperature": 1.0, "clean_accuracy": values[0], "ece_scaled": 0.0}
            runs.append(key | rest | dict(zip(names, values, strict=True)))
            path = np.geomspace(start, end, 5)
            feedback += [
                key | {"epochs": i + 1.0, "lipschitz": a, "temperature": a / b, "next_lipschitz": b, "bounded": 0}
                for i, (a, b) in enumerate(pairwise(path))
            ]
            sweep += [
                key | {"lipschitz": end, "temperature": t, "ece": abs(np.log(t)) / 10} for t in np.geomspace(1e-3, 1e3, 61)
            ]
            history += [
                key | {"epoch": i, "lipschitz": end, "temperature": 1.0, "train_loss": 1 / i, "validation_nll": 1 / i}
                | {"validation_accuracy": 0.5}
                for i in (1, 2, 3)
            ]  # fmt: skip
            # seed 0 has 10 images in a bin, seed 1 has 20, seed 2 has 30; the other bin is empty
            full = {"low": 0.5, "high": 1.0, "images": 10 * (seed + 1), "confidence": 0.7, "accuracy": 0.6 + seed / 10}
            empty = {"low": 0.0, "high": 0.5, "images": 0, "confidence": np.nan, "accuracy": np.nan}
            bins += [key | {"scaled": scaled} | row for scaled in (0, 1) for row in (empty, full)]
            # ends where nothing is certified: after 1, 2 and 3 steps
            curves += [key | {"epsilon": e, "certified_accuracy": 0.8 * (e <= seed)} for e in range(seed + 2)]
    parts = {
        "runs": runs, "feedback": feedback, "sweep": sweep, "history": history, "reliability": bins, "certified": curves,
    }  # fmt: skip
    for name, rows in parts.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
        seal(folder / f"{name}.csv")
    return folder


@pytest.mark.parametrize("figure", WIDTHS)
def test_figure_is_drawn_without_torch_and_again_the_same(figure, tables, tmp_path):
    code = (
        "import sys\n"
        "from lipscale.cli import main\n"
        "code = main(['draw', *sys.argv[1:]])\n"
        "assert 'torch' not in sys.modules\n"
        "sys.exit(code)"
    )
    for folder in ("first", "second"):
        options = ["--tables", tables, "--folder", tmp_path / folder, "--posthoc-lipschitz", "10"]
        subprocess.run([sys.executable, "-c", code, figure, *map(str, options)], check=True)
    for suffix in ("pdf", "png", "csv"):
        first = (tmp_path / "first" / f"{figure}.{suffix}").read_bytes()
        assert first == (tmp_path / "second" / f"{figure}.{suffix}").read_bytes()
    image = Image.open(tmp_path / "first" / f"{figure}.png")
    assert image.width == pytest.approx(WIDTHS[figure] * 300, abs=2)  # 300 dots per inch


def test_figure1_numbers(tables, tmp_path):
    figure1.draw(tables, tmp_path / "figure1", posthoc_lipschitz=10.0)
    numbers = pd.read_csv(tmp_path / "figure1.csv")
    runs = pd.read_csv(tables / "runs.csv")
    trained = numbers[numbers["curve"] == "trained"].set_index("lipschitz")
    for lipschitz in (1.0, 10.0):
        seeds = runs[(runs["method"] == "fixed") & (runs["lipschitz"] == lipschitz)]["ece"]
        assert trained.loc[lipschitz, "mean"] == pytest.approx(seeds.mean())
        assert trained.loc[lipschitz, ["low", "high"]].tolist() == pytest.approx([seeds.min(), seeds.max()])
    posthoc = numbers[numbers["curve"] == "post-hoc"]
    assert posthoc["lipschitz"].agg(["min", "max"]).tolist() == pytest.approx([1.0, 10.0])
    assert posthoc["mean"].to_numpy() == pytest.approx(np.log(10 / posthoc["lipschitz"]).abs().to_numpy() / 10, abs=1e-9)


def test_figure1_refuses_a_sweep_that_is_too_short(tables, tmp_path):
    for name in ("runs", "sweep"):
        table = pd.read_csv(tables / f"{name}.csv")
        (table[table["temperature"] < 2] if name == "sweep" else table).to_csv(tmp_path / f"{name}.csv", index=False)
        seal(tmp_path / f"{name}.csv")
    result = lipscale(
        "draw", "figure1", "--tables", tmp_path, "--folder", tmp_path, "--posthoc-lipschitz", 10, check=False
    )  # fmt: skip
    assert result.returncode == 1
    assert "sweep" in result.stderr


def test_figure2_numbers(tables):
    feedback = pd.read_csv(tables / "feedback.csv")
    numbers = figure2.over_epochs(feedback[feedback["method"] == "list"])
    last = numbers[(numbers["quantity"] == "lipschitz") & (numbers["epochs"] == 4) & (numbers["initial_lipschitz"] == 0.1)]
    assert last[["mean", "low", "high"]].iloc[0].tolist() == pytest.approx([(12 * 13 * 14) ** (1 / 3), 12, 14])
    first = numbers[(numbers["quantity"] == "lipschitz") & (numbers["epochs"] == 0)]
    assert first["mean"].tolist() == pytest.approx([0.1, 100.0])


def test_figure2_draws_the_step_where_there_is_no_finite_temperature():
    row = {"run": "list-1-seed0", "initial_lipschitz": 1.0, "epochs": 1, "lipschitz": 1.0, "next_lipschitz": 10.0, "bounded": 1}
    for temperature in (0.0, np.inf):
        numbers = figure2.over_epochs(pd.DataFrame([row | {"temperature": temperature}]))
        assert numbers[numbers["quantity"] == "temperature"]["mean"].tolist() == pytest.approx([0.1])


def test_figure3_front():
    clean, robust = np.array([0.9, 0.8, 0.7, 0.7, 0.6]), np.array([0.1, 0.5, 0.4, 0.6, 0.6])
    assert figure3.pareto(clean, robust).tolist() == [True, True, False, True, False]


def test_reliability_takes_the_images_of_all_seeds_together(tables, tmp_path):
    reliability.draw(tables, tmp_path / "reliability")
    numbers = pd.read_csv(tmp_path / "reliability.csv")
    assert len(numbers) == 4 * 2 * 2  # settings, before and after, bins
    full, empty = numbers[numbers["low"] == 0.5], numbers[numbers["low"] == 0.0]
    assert (full["images"] == 60).all()
    assert full["accuracy"].tolist() == pytest.approx([(10 * 0.6 + 20 * 0.7 + 30 * 0.8) / 60] * 8)
    assert full["confidence"].tolist() == pytest.approx([0.7] * 8)
    assert full["ece"].tolist() == pytest.approx([(0.1 + 0.0 + 0.1) / 3] * 8)  # of each seed by itself
    assert (empty["images"] == 0).all()
    assert empty["accuracy"].isna().all()


def test_certified_accuracy_counts_as_0_where_the_rows_of_a_run_have_ended(tables, tmp_path):
    certified.draw(tables, tmp_path / "certified")
    numbers = pd.read_csv(tmp_path / "certified.csv")
    line = numbers[(numbers["method"] == "list") & (numbers["initial_lipschitz"] == 100)]
    assert line["radius"].tolist() == pytest.approx([0, 1 / 255, 2 / 255, 3 / 255])
    assert line["mean"].tolist() == pytest.approx([0.8, 0.8 * 2 / 3, 0.8 / 3, 0])
    assert line["low"].tolist() == pytest.approx([0.8, 0, 0, 0])
    assert line["high"].tolist() == pytest.approx([0.8, 0.8, 0.8, 0])
    assert (numbers["seeds"] == 3).all()


def test_every_run_has_a_sheet(tables, tmp_path):
    lipscale("draw", "sheets", "--tables", tables, "--folder", tmp_path)
    runs = pd.read_csv(tables / "runs.csv")["run"]
    pictures = {path.stem: Image.open(path).convert("RGB").tobytes() for path in (tmp_path / "sheets").iterdir()}
    assert set(pictures) == set(runs)
    assert len(set(pictures.values())) == len(runs)  # titles, at least, differ
    lipscale("draw", "sheets", "--tables", tables, "--folder", tmp_path / "again")
    for path in (tmp_path / "sheets").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / "sheets" / path.name).read_bytes()


def test_a_run_that_is_named_like_a_path_has_no_sheet(tables, tmp_path):
    for name in ("runs", "history", "reliability"):
        table = pd.read_csv(tables / f"{name}.csv")
        table.assign(run=table["run"].replace("list-0.1-seed0", "../../outside")).to_csv(tmp_path / f"{name}.csv", index=False)
        seal(tmp_path / f"{name}.csv")
    said = lipscale("draw", "sheets", "--tables", tmp_path, "--folder", tmp_path / "a" / "b", check=False)
    assert said.returncode == 1
    assert "has a run '../../outside'; allowed: the name of a folder" in said.stderr
    assert not list(tmp_path.rglob("outside*"))
