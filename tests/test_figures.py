"""Figures from tables alone: without torch, the same every time, and with the right numbers in them."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conftest import ROOT, lipscale
from lipscale.figures import figure1, figure2, figure3
from lipscale.seals import seal

FIGURES = ["figure1", "figure2", "figure3"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """Tables of an imaginary experiment: three seeds, fixed L 1 and 10, L0 0.1 and 100."""
    folder = tmp_path_factory.mktemp("tables")
    generator = np.random.default_rng(0)
    runs, feedback, sweep = [], [], []
    for method, start in (("fixed", 1.0), ("fixed", 10.0), ("list", 0.1), ("list", 100.0)):
        for seed in range(3):
            key = {"run": f"{method}-{start:g}-seed{seed}", "method": method, "initial_lipschitz": start, "seed": seed}
            end = start if method == "fixed" else 12.0 + seed
            values = generator.uniform(0.5, 0.9, 4)
            names = ("evaluated_clean_accuracy", "ece", "robust_36", "certified_36")
            runs.append(key | {"lipschitz": end} | dict(zip(names, values, strict=True)))
            path = np.geomspace(start, end, 5)
            feedback += [
                key | {"epochs": i + 1.0, "lipschitz": a, "temperature": a / b, "next_lipschitz": b, "bounded": 0}
                for i, (a, b) in enumerate(pairwise(path))
            ]
            sweep += [
                key | {"lipschitz": end, "temperature": t, "ece": abs(np.log(t)) / 10} for t in np.geomspace(1e-3, 1e3, 61)
            ]
    for name, rows in (("runs", runs), ("feedback", feedback), ("sweep", sweep)):
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
        seal(folder / f"{name}.csv")
    return folder


@pytest.mark.parametrize("figure", FIGURES)
def test_figure_is_drawn_without_torch_and_again_the_same(figure, tables, tmp_path):
    code = (
        "import sys\n"
        "from lipscale.__main__ import main\n"
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
    assert image.width == pytest.approx(3.35 * 300, abs=2)  # one column of a paper at 300 dots per inch


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


def test_every_figure_has_a_caption():
    for figure in FIGURES:
        assert (ROOT / "workflow" / "report" / f"{figure}.rst").read_text().startswith(f"**Figure {figure[-1]}.**")
