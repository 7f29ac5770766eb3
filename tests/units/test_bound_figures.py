"""Figures of bounds under attack: reliability diagrams with their band, and the choice of the offset."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import synthetic
from lipscale.report.figures import choosing_offset, reliability_under_attack
from lipscale.tables.reader import Tables

EPSILONS = (36, 72)
KEY = ["run", "setting", "method", "variant", "initial_lipschitz", "offset", "seed"]
FREE = [("unconstrained", "standard", np.inf, 0)]


@pytest.fixture
def frames() -> dict[str, pd.DataFrame]:
    """LiST's bound is lowest at xi = 2 epsilon; that of fixed L rises with L."""
    frames = synthetic.front_tables(synthetic.FEW)
    runs = frames["runs"]
    for epsilon in EPSILONS:
        value = np.where(runs["method"] == "list", 1 + abs(runs["offset"] - 2 * epsilon) / 100, 1.5 + runs["lipschitz"])
        runs[f"validation_certified_nll_{epsilon}"], runs[f"certified_nll_{epsilon}"] = value, value + 0.1
    bins = pd.DataFrame({"low": [0.0, 0.5], "high": [0.5, 1.0], "images": [0, 6], "confidence": [np.nan, 0.8]})
    bins = bins.assign(accuracy=[np.nan, 0.75], gap=[0, -0.05], smallest_gap=[0, -0.1], largest_gap=[0, 0.2])
    parts = [bins.assign(epsilon=epsilon, scaled=scaled) for epsilon in (0, *EPSILONS) for scaled in (0, 1)]
    frames["reliability_band"] = runs[KEY].merge(pd.concat(parts), how="cross")
    return frames


def test_the_lowest_bound_of_the_validation_split_is_marked(frames):
    figure, numbers = choosing_offset.draw(Tables.in_memory(frames))
    assert set(numbers["kind"]) == {"front", "fixed"}
    marked = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert marked == [72, 144]
    dotted = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert dotted == pytest.approx([1.9, 1.9], abs=0.02)  # L = 0.3, on the test split
    plt.close(figure)


def test_there_is_a_panel_for_each_offset_and_the_best_fixed_l(frames):
    figure, numbers = reliability_under_attack.draw(Tables.in_memory(frames))
    assert [axes.get_title() for axes in figure.axes[:5]] == [
        *(rf"LiST, $\xi$ = {xi}" for xi in ("0", "36/255", "72/255", "144/255")), "fixed $L = 6$"
    ]  # fmt: skip
    assert [axes.get_ylabel() for axes in figure.axes[::5]] == [r"$\epsilon$ = 36/255", r"$\epsilon$ = 72/255"]
    assert numbers.loc[numbers["low"] == 0.5, "gap"].to_numpy() == pytest.approx(-0.05)
    bars = figure.axes[0].patches
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(0, 0.5), (0.5, 0.5)]
    assert (bars[1].get_y(), bars[1].get_height()) == pytest.approx((-0.1, 0.3))
    plt.close(figure)


@pytest.mark.parametrize("module", [choosing_offset, reliability_under_attack])
def test_without_a_constraint_the_figure_says_so(module):
    frames = synthetic.front_tables(FREE) | {"reliability_band": pd.DataFrame(columns=KEY)}
    figure, numbers = module.draw(Tables.in_memory(frames))
    assert numbers.empty
    texts = [text.get_text() for text in (*figure.axes[0].texts, *(t for one in figure.legends for t in one.get_texts()))]
    assert texts in (["no network with a constraint"], ["no LiST network whose validation split is held out"])
    plt.close(figure)
