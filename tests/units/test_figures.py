"""Figures from tables alone: without torch, the same every time, with the right numbers in them, and readable."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from lipscale import discovery
from lipscale.errors import LipscaleError
from lipscale.report import draw, labels, style, summaries
from lipscale.report.figures import certified, figure1, figure2, figure3, reliability
from lipscale.store.checksums import record
from lipscale.tables.reader import Tables

WIDTHS = {  # inches, one column or two
    "figure1": 3.35, "figure2": 3.35, "figure3": 3.35, "figure4": 6.9, "figure5": 6.9, "figure6": 6.9, "reliability": 3.35,
    "reliability_under_attack": 3.35, "certified": 6.9, "choosing_offset": 3.35,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Tables of an imaginary experiment: three seeds, fixed L 1 and 10, L0 0.1 and 100."""
    folder = tmp_path_factory.mktemp("tables")
    generator = np.random.default_rng(0)
    runs, feedback, sweep, history, bins, curves = [], [], [], [], [], []
    for method, start in (("fixed", 1.0), ("fixed", 10.0), ("list", 0.1), ("list", 100.0)):
        for seed in range(3):
            setting = f"{method}-{start:g}"
            key = {"run": f"{setting}-seed{seed}", "setting": setting, "method": method, "variant": "standard"}
            key |= {"initial_lipschitz": start, "offset": 0, "seed": seed}
            end = start if method == "fixed" else 12.0 + seed
            values = generator.uniform(0.5, 0.9, 4)
            names = ("evaluated_clean_accuracy", "ece", "robust_36", "certified_36")
            rest = {"lipschitz": end, "temperature": 1.0, "clean_accuracy": values[0], "ece_scaled": 0.0, "nll": 1.0}
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
    band = pd.DataFrame(bins).query("scaled == 0").assign(gap=0.1, smallest_gap=-0.1, largest_gap=0.2)
    parts = {
        "runs": runs, "feedback": feedback, "sweep": sweep, "history": history, "reliability": bins, "certified": curves,
        "reliability_band": pd.concat([band.assign(epsilon=epsilon) for epsilon in (0, 36)]),
        "intervals": [{"setting": "list-0.1", "measure": "ece", "low": 0.1, "high": 0.95}],
    }  # fmt: skip
    for name, rows in parts.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
        record(folder / f"{name}.csv")
    (folder / "config.yaml").write_text("figures: {posthoc_lipschitz: 10}")
    record(folder / "config.yaml")
    return folder


@pytest.fixture
def tables(folder) -> Tables:
    return Tables(folder)


def test_every_figure_has_a_title_its_tables_and_a_caption():
    assert set(draw.names()) >= set(WIDTHS)
    for name in draw.names():
        path = discovery.path(draw.FIGURES, name)
        constants = discovery.constants(path)
        assert isinstance(constants["TITLE"], str)
        assert set(constants["TABLES"]) <= {
            "runs", "history", "feedback", "sweep", "reliability", "reliability_band", "certified", "robustness",
            "intervals",
        }  # fmt: skip
        assert path.with_suffix(".rst").read_text().startswith("**")


@pytest.fixture(scope="module")
def drawn(folder, tmp_path_factory) -> Path:
    """All figures, drawn without torch by two processes, in the folders `first` and, in another order, `second`."""
    drawn = tmp_path_factory.mktemp("drawn")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from lipscale.report.draw import draw\n"
        "for name in sys.argv[3:]:\n"
        "    draw(name, Path(sys.argv[1]), Path(sys.argv[2]) / name)\n"
        "assert 'torch' not in sys.modules\n"
    )
    for name, figures in (("first", WIDTHS), ("second", reversed(WIDTHS))):
        subprocess.run([sys.executable, "-c", code, folder, drawn / name, *figures], check=True)
    return drawn


@pytest.mark.parametrize("figure", WIDTHS)
def test_figure_is_drawn_without_torch_and_again_the_same(figure, drawn):
    for suffix in draw.SUFFIXES:
        first = (drawn / "first" / f"{figure}.{suffix}").read_bytes()
        assert first == (drawn / "second" / f"{figure}.{suffix}").read_bytes()
    image = Image.open(drawn / "first" / f"{figure}.png")
    assert image.width == pytest.approx(WIDTHS[figure] * 300, abs=2)  # 300 dots per inch


TOY = """
from matplotlib import pyplot as plt

TITLE = "toy"
TABLES = ("runs",)


def draw(tables):
    figure, axes = plt.subplots()
    axes.plot(tables.runs["ece"])
    return figure, tables.runs[["run", "ece"]]
"""


def test_figure_outside_the_package_is_found_and_drawn(folder, tables, tmp_path, monkeypatch):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "toy_outside.py").write_text(TOY)
    monkeypatch.setenv(discovery.VARIABLE, str(tmp_path))
    monkeypatch.setattr(sys.modules[draw.FIGURES], "__path__", list(sys.modules[draw.FIGURES].__path__))
    assert "toy_outside" in draw.names()
    draw.draw("toy_outside", folder, tmp_path / "out" / "toy_outside")
    numbers = pd.read_csv(tmp_path / "out" / "toy_outside.csv")
    assert numbers["ece"].tolist() == tables.runs["ece"].tolist()
    assert Image.open(tmp_path / "out" / "toy_outside.png").width > 300


def test_figure_that_does_not_exist_is_named(folder, tmp_path):
    with pytest.raises(LipscaleError, match=r"there is no 'figure9'; allowed: certified, choosing_offset, figure1, figure2"):
        draw.draw("figure9", folder, tmp_path / "figure9")


def test_figure1_numbers(tables):
    _, numbers = figure1.draw(tables)
    trained = numbers[numbers["curve"] == "trained"].set_index("lipschitz")
    for lipschitz in (1.0, 10.0):
        seeds = tables.runs[(tables.runs["method"] == "fixed") & (tables.runs["lipschitz"] == lipschitz)]["ece"]
        assert trained.loc[lipschitz, "mean"] == pytest.approx(seeds.mean())
        assert trained.loc[lipschitz, ["low", "high"]].tolist() == pytest.approx([seeds.min(), seeds.max()])
    posthoc = numbers[numbers["curve"] == "post-hoc"]
    assert posthoc["lipschitz"].agg(["min", "max"]).tolist() == pytest.approx([1.0, 10.0])
    assert posthoc["mean"].to_numpy() == pytest.approx(np.log(10 / posthoc["lipschitz"]).abs().to_numpy() / 10, abs=1e-9)


def test_figure1_refuses_a_sweep_that_is_too_short_or_of_no_run(tables):
    sweep, config = tables["sweep"], tables.config
    short = Tables.in_memory({"runs": tables.runs, "sweep": sweep[sweep["temperature"] < 2]}, config)
    with pytest.raises(LipscaleError, match=r"the sweep of fixed-10-seed0 covers L/T = .*; allowed: at least 1 to 10"):
        figure1.draw(short)
    with pytest.raises(LipscaleError, match=r"no fixed-L run at figures\.posthoc_lipschitz"):
        figure1.draw(Tables.in_memory({"runs": tables.runs, "sweep": sweep}, {"figures": {"posthoc_lipschitz": 3}}))


def test_figure2_numbers(tables):
    _, numbers = figure2.draw(tables)
    assert set(numbers["method"]) == {"list"}
    last = numbers[(numbers["quantity"] == "lipschitz") & (numbers["epochs"] == 4) & (numbers["initial_lipschitz"] == 0.1)]
    assert last[["mean", "low", "high"]].iloc[0].tolist() == pytest.approx([(12 * 13 * 14) ** (1 / 3), 12, 14])
    first = numbers[(numbers["quantity"] == "lipschitz") & (numbers["epochs"] == 0)]
    assert first["mean"].tolist() == pytest.approx([0.1, 100.0])


def test_figure2_draws_the_step_where_there_is_no_finite_temperature():
    row = {"run": "list-1-seed0", "method": "list", "initial_lipschitz": 1.0, "epochs": 1}
    row |= {"lipschitz": 1.0, "next_lipschitz": 10.0, "bounded": 1}
    for temperature in (0.0, np.inf):
        numbers = figure2.over_epochs(pd.DataFrame([row | {"temperature": temperature}]))
        assert numbers[numbers["quantity"] == "temperature"]["mean"].tolist() == pytest.approx([0.1])


def test_figure2_shows_the_warm_up(tables):
    feedback = tables["feedback"].assign(epochs=tables["feedback"]["epochs"] - 1.5)
    figure, numbers = figure2.draw(Tables.in_memory({"feedback": feedback}))
    assert numbers["epochs"].min() == -1
    assert "warm-up" in [text.get_text() for text in figure.axes[0].texts]


def test_figure3_front():
    clean, robust = np.array([0.9, 0.8, 0.7, 0.7, 0.6]), np.array([0.1, 0.5, 0.4, 0.6, 0.6])
    assert figure3.pareto(clean, robust).tolist() == [True, True, False, True, False]


def test_figure3_labels_and_leader_lines_keep_clear_of_each_other():
    """Twelve points in a heap: no two labels overlap, none covers a marker, and no leader line runs through a label."""
    style.apply()
    figure, axes = plt.subplots(figsize=(3.35, 3.2))
    points = np.random.default_rng(0).normal(50, 4, (12, 2))
    axes.set(xlim=(0, 100), ylim=(0, 100))
    figure.draw_without_rendering()
    texts = [axes.text(*point, "0.01", fontsize=6.5) for point in points]
    labels.place(axes, points, texts, points, radius=2.75, lines=[])
    boxes = [text.get_window_extent() for text in texts]
    pixels = axes.transData.transform(points)
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])
    assert not any(box.contains(*pixel) for box in boxes for pixel in pixels)
    assert len(axes.lines) > 6
    for line in axes.lines:
        ends = axes.transData.transform(line.get_xydata())
        along = ends[0] + np.linspace(0, 0.99, 50)[:, None] * (ends[1] - ends[0])
        assert not any(box.contains(*pixel) for box in boxes for pixel in along)
    plt.close(figure)


def test_figure3_labels_settings_that_have_a_start(tables):
    free = tables.runs[tables.runs["run"] == "fixed-1-seed0"].assign(
        run="free", method="unconstrained", initial_lipschitz=np.inf, lipschitz=np.inf
    )
    figure, numbers = figure3.draw(Tables.in_memory({"runs": pd.concat([tables.runs, free])}))
    assert numbers["method"].tolist() == ["fixed", "fixed", "list", "list", "unconstrained"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "10", "0.1", "100"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["LiST from $L_0$", "fixed $L$", "no constraint", "Pareto front of fixed $L$"]


def test_reliability_takes_the_images_of_all_seeds_together(tables):
    _, numbers = reliability.draw(tables)
    assert len(numbers) == 4 * 2 * 2  # settings, before and after, bins
    full, empty = numbers[numbers["low"] == 0.5], numbers[numbers["low"] == 0.0]
    assert (full["images"] == 60).all()
    assert full["accuracy"].tolist() == pytest.approx([(10 * 0.6 + 20 * 0.7 + 30 * 0.8) / 60] * 8)
    assert full["confidence"].tolist() == pytest.approx([0.7] * 8)
    assert full["ece"].tolist() == pytest.approx([(0.1 + 0.0 + 0.1) / 3] * 8)  # of each seed by itself
    assert (empty["images"] == 0).all()
    assert empty["accuracy"].isna().all()


def test_certified_accuracy_counts_as_0_where_the_rows_of_a_run_have_ended(tables):
    figure, numbers = certified.draw(tables)
    assert [axes.get_title() for axes in figure.axes] == ["fixed $L$", "LiST from $L_0$; grey: fixed $L$"]
    line = numbers[(numbers["method"] == "list") & (numbers["initial_lipschitz"] == 100)]
    assert line["radius"].tolist() == pytest.approx([0, 1 / 255, 2 / 255, 3 / 255])
    assert line["mean"].tolist() == pytest.approx([0.8, 0.8 * 2 / 3, 0.8 / 3, 0])
    assert line["low"].tolist() == pytest.approx([0.8, 0, 0, 0])
    assert line["high"].tolist() == pytest.approx([0.8, 0.8, 0.8, 0])
    assert (numbers["seeds"] == 3).all()


def test_every_run_has_a_summary(folder, tables, tmp_path):
    summaries.draw_summaries(folder, tmp_path / "first")
    pictures = {path.stem: Image.open(path).convert("RGB").tobytes() for path in (tmp_path / "first").iterdir()}
    assert set(pictures) == set(tables.runs["run"])
    assert len(set(pictures.values())) == len(tables.runs)  # titles, at least, differ
    summaries.draw_summaries(folder, tmp_path / "second")
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_summary_shows_the_last_update_and_leaves_the_warm_up_out():
    feedback = pd.DataFrame(
        {
            "epochs": [-0.5, 1, 2],
            "lipschitz": [1.0, 4.0, 6.0],
            "temperature": [0.25, 2 / 3, 0.75],
            "next_lipschitz": [4.0, 6.0, 8.0],
        }
    )
    shown = summaries.updates(feedback)
    assert shown["epochs"].tolist() == [0, 1, 2]
    assert shown["lipschitz"].tolist() == [4, 6, 8]
    assert shown["temperature"].iloc[1:].tolist() == [2 / 3, 0.75]


def test_a_run_that_is_named_like_a_path_has_no_summary(folder, tmp_path):
    for name in summaries.TABLES:
        table = pd.read_csv(folder / f"{name}.csv")
        table.assign(run=table["run"].replace("list-0.1-seed0", "../../outside")).to_csv(tmp_path / f"{name}.csv", index=False)
        record(tmp_path / f"{name}.csv")
    with pytest.raises(LipscaleError, match=r"has a run '\.\./\.\./outside'; allowed: the name of a folder"):
        summaries.draw_summaries(tmp_path, tmp_path / "a" / "b")
    assert not list(tmp_path.rglob("outside*"))
