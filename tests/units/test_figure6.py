"""Figure 6: calibration under attack, on an imaginary experiment."""

import pytest
from matplotlib import pyplot as plt

import synthetic
from lipscale.report import style
from lipscale.report.figures import figure6
from lipscale.tables.reader import Tables

BUDGETS = (36, 72)


@pytest.fixture
def tables() -> Tables:
    """A network's NLL, Brier score and ECE double with 36/255 where it is LiST's; those at fixed L grow with L."""
    frames = synthetic.front_tables(synthetic.FEW)
    runs = frames["runs"].assign(brier=0.2, brier_scaled=0.15, nll_scaled=0.4)
    for name in [f"{measure}{suffix}" for measure in figure6.MEASURES for suffix in ("", "_scaled")]:
        runs[f"evaluated_{name}"] = runs[name]
    for suffix in ("", "_scaled"):
        for epsilon in BUDGETS:
            growth = (1 + epsilon / 36) * (1 + runs["lipschitz"] / 100)
            for measure, bound in figure6.BOUNDS.items():
                runs[f"{bound}{suffix}_{epsilon}"] = runs[f"{measure}{suffix}"] * growth
                runs[f"attacked_{measure}{suffix}_{epsilon}"] = 0.8 * runs[f"{measure}{suffix}"] * growth
    return Tables.in_memory({"runs": runs, "intervals": frames["intervals"]})


def test_points_are_proven_and_attacked_values_of_both_kinds(tables):
    numbers = figure6.points(tables)
    assert set(numbers["kind"]) == {"front", "fixed"}
    assert sorted(numbers["epsilon"].unique()) == [0, *BUDGETS]
    assert (numbers["attacked"] <= numbers["certified"]).all()
    clean = numbers[numbers["epsilon"] == 0]
    assert (clean["attacked"] == clean["certified"]).all()
    scaled = clean.loc[(clean["kind"] == "fixed") & (clean["measure"] == "nll") & (clean["scaled"] == 1), "certified"]
    assert scaled.to_numpy() == pytest.approx(0.4)
    assert sorted(numbers.loc[numbers["kind"] == "front", "offset"].unique()) == [0, 36, 72, 144]


def test_the_lowest_fixed_l_is_drawn_at_each_budget(tables):
    figure, numbers = figure6.draw(tables)
    assert set(numbers.loc[numbers["kind"] == "fixed", "scaled"]) == {0, 1}
    fixed = numbers[(numbers["kind"] == "fixed") & (numbers["measure"] == "nll") & (numbers["epsilon"] == 72)]
    drawn = figure.axes[0].lines[-2].get_ydata()
    assert drawn[-1] == pytest.approx(fixed["certified"].min())
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [label for label in labels if "LiST" in label] == [
        rf"LiST, $\xi$ = {xi}" for xi in ("0", "36/255", "72/255", "144/255")
    ]
    assert "lowest of 8" in labels[4]
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert all(axes.get_tightbbox().x1 <= legend.x0 + 1 for axes in figure.axes)
    assert figure.get_size_inches()[0] == style.PAGE_WIDTH
    plt.close(figure)


def test_without_bounds_the_figure_says_so():
    frames = synthetic.front_tables([("unconstrained", "standard", float("inf"), 0)])
    figure, numbers = figure6.draw(Tables.in_memory(frames))
    assert numbers.empty
    assert figure.legends[0].get_texts()[0].get_text() == "no network\nwith a constraint"
    plt.close(figure)
