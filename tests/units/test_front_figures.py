"""Figures 4 and 5, and the names of settings in them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from lipscale.report import names, series, style
from lipscale.report.figures import certified, figure3, figure4, figure5, reliability
from lipscale.tables.reader import Tables
from synthetic import CAMPAIGN, FEW, OBJECTIVES, front_curves, front_tables, setting_name

RESTARTED = r"LiST, $\xi$ = 0.5 logits + calibration data (restart)"
WITHOUT = [key for key in FEW if key[3] == 0]  # neither offsets nor variants


@pytest.fixture(scope="module")
def campaign() -> Tables:
    return Tables.in_memory(front_tables())


@pytest.fixture(scope="module")
def drawn(campaign):
    style.apply()
    figure, numbers = figure4.draw(campaign)
    yield figure, numbers
    plt.close(figure)


def setting(method: str, variant: str = "standard", start: float = np.inf, offset: float = 0, name: str = ""):
    return SimpleNamespace(method=method, variant=variant, initial_lipschitz=start, offset=offset, setting=name)


@pytest.mark.parametrize(
    ("tag", "title"),
    [
        ("label_smoothing", "label smoothing"),
        ("focal", "focal"),
        ("focal3", "focal (3)"),
        ("focal2p5", "focal (2.5)"),
        ("flsd", "FLSD-53"),
        ("flsd53", "FLSD-53"),
        ("pgd36", "PGD-AT (36)"),
        ("trades128", "TRADES (128)"),
        ("pgd36_steps20_relative_step1p5", "PGD-AT (36, steps 20, relative step 1.5)"),
        ("label_smoothing_alpha0p1", "label smoothing (alpha 0.1)"),
        ("my_loss2", "my loss2"),
    ],
)
def test_objectives_have_names_for_people(tag, title):
    assert names.objective_title(tag) == title


@pytest.mark.parametrize(
    ("row", "title"),
    [
        (setting("list", start=1.0, offset=36, name="list-1-xi36"), r"LiST, $\xi$ = 36/255"),
        (setting("list", start=1.0), r"LiST, $\xi$ = 0"),
        (setting("list", "continue", 1.0, 36), r"LiST, $\xi$ = 36/255 + calibration data"),
        (setting("list", "restart", 1.0, 0.5, "list-1-xi0.5logit-restart"), RESTARTED),
        (setting("fixed", start=4.0), "fixed $L = 4$"),
        (setting("fixed", "pgd36-continue", 4.0), "fixed $L = 4$, PGD-AT (36) + calibration data"),
        (setting("unconstrained"), "no constraint"),
        (setting("unconstrained", "label_smoothing"), "label smoothing"),
    ],
)  # fmt: skip
def test_settings_have_names_for_people(row, title):
    assert series.title(row, several_starts=False) == title


def test_estimates_are_means_over_seeds_with_the_intervals_of_the_setting(campaign):
    table = series.estimates(campaign, ["ece", "robust_36", "not_measured"]).set_index("setting")
    assert list(table.index) == list(campaign.runs["setting"].unique())
    runs, intervals = campaign.runs, campaign["intervals"]
    for name in ("list-1-xi36", "unconstrained-pgd36"):
        assert table.loc[name, "robust_36"] == pytest.approx(runs[runs["setting"] == name]["robust_36"].mean())
        row = intervals[(intervals["setting"] == name) & (intervals["measure"] == "robust_36")].iloc[0]
        assert table.loc[name, ["robust_36_low", "robust_36_high"]].tolist() == [row["low"], row["high"]]
        assert np.isnan(table.loc[name, "not_measured"])
    assert (series.reach(table, "not_measured") == 0).all()


def test_front_starts_from_the_initial_l_with_most_offsets(campaign):
    table = series.estimates(campaign, ["ece"])
    assert series.front_start(table) == 1.0
    counts = series.kinds(table).value_counts().to_dict()
    assert counts == {"front": 5, "start": 4, "fixed": 8, "fixed_offset": 3, "free": 9, "other": 2}
    assert series.front_start(table[table["method"] == "fixed"]) is None


def test_comparison_has_a_row_for_each_method_variant_and_offset_with_the_best_l(campaign):
    numbers = figure5.rows(campaign)
    assert len(numbers) == 5 + 1 + 2 + 1 + 1 + len(OBJECTIVES)
    assert numbers["title"].is_unique
    assert numbers["setting"].tolist()[:9] == [
        "list-1", "list-1-xi18", "list-1-xi36", "list-1-xi72", "list-1-xi108", "list-1-xi36-continue", "fixed-8",
        "fixed-4-xi36", "fixed-4-pgd36",
    ]  # fmt: skip
    free = numbers["method"] == "unconstrained"
    assert numbers.loc[free, "certified_36"].isna().all()
    assert numbers.loc[~free, "certified_36"].notna().all()


def test_certified_accuracy_is_over_the_attacked_images_where_that_is_known(campaign):
    runs = campaign.runs.assign(evaluated_certified_36=0.25)
    numbers = figure5.rows(Tables.in_memory({"runs": runs, "intervals": campaign["intervals"]}))
    assert set(numbers["certified_36"].dropna()) == {0.25}


def test_figure4_numbers(drawn, campaign):
    _, numbers = drawn
    assert set(numbers["epsilon"]) == {36, 72, 108}
    certified = numbers[numbers["accuracy"] == "certified"]
    assert "free" not in set(certified["kind"])
    row = certified[(certified["setting"] == "list-1-xi36") & (certified["epsilon"] == 72)].iloc[0]
    runs = campaign.runs[campaign.runs["setting"] == "list-1-xi36"]
    assert row[["clean", "value"]].tolist() == pytest.approx(runs[["clean_accuracy", "certified_72"]].mean().tolist())
    robust = numbers[(numbers["accuracy"] == "robust") & (numbers["epsilon"] == 36)]
    row = robust[robust["setting"] == "list-1-xi36"].iloc[0]
    assert row["clean"] == pytest.approx(runs["evaluated_clean_accuracy"].mean())


def test_figure4_leaves_out_only_fixed_l_that_others_beat(drawn):
    _, numbers = drawn
    hidden = numbers[numbers["shown"] == 0]
    assert set(hidden["kind"]) == {"fixed"}
    for row in hidden.itertuples():
        others = numbers[(numbers["epsilon"] == row.epsilon) & (numbers["accuracy"] == row.accuracy)]
        assert ((others["clean"] > row.clean) & (others["value"] > row.value)).any()


def test_figure4_labels_keep_clear_of_each_other_and_of_markers(drawn):
    """In all panels of the campaign, about 25 labels each: none overlap, none covers a marker, no leader runs through one."""
    figure, _ = drawn
    panels = [axes for axes in figure.axes if axes.get_ylabel() in figure4.YLABELS.values()]
    assert len(panels) == 6
    for axes in panels:
        texts = [text for text in axes.texts if text.get_text()]
        boxes = [text.get_window_extent() for text in texts]
        leaders = [line for line in axes.lines if line.get_zorder() == 3.5]
        markers = [line for line in axes.lines if line.get_zorder() == 3]
        assert len(texts) >= 13
        for i, box in enumerate(boxes):
            name = texts[i].get_text()
            assert axes.bbox.padded(1).contains(*box.min), name
            assert axes.bbox.padded(1).contains(*box.max), name
            assert not [texts[j].get_text() for j in range(i) if box.overlaps(boxes[j])], name
            assert not any(box.contains(*axes.transData.transform(line.get_xydata()[0])) for line in markers), name
            for line in leaders:
                start, end = axes.transData.transform(line.get_xydata())
                along = start + np.linspace(0, 0.97, 60)[:, None] * (end - start)
                assert not any(box.contains(*pixel) for pixel in along), name


@pytest.mark.parametrize("settings", [FEW, WITHOUT, WITHOUT[1:], WITHOUT[:1]], ids=["few", "without", "fixed", "one"])
@pytest.mark.parametrize("module", [figure4, figure5])
def test_figures_of_small_experiments_are_drawn(module, settings):
    figure, numbers = module.draw(Tables.in_memory(front_tables(settings, epsilons=(72,), seeds=1)))
    figure.draw_without_rendering()
    assert len(numbers)
    plt.close(figure)


def test_figures_say_that_there_are_neither_offsets_nor_rivals():
    tables = Tables.in_memory(front_tables(WITHOUT, epsilons=(72,)))
    figure, _ = figure4.draw(tables)
    assert "no runs with an offset" in " ".join(text.get_text() for text in figure.legends[0].get_texts())
    figure, _ = figure5.draw(tables)
    assert "no runs with an offset" in figure._supxlabel.get_text()


def test_figures_are_drawn_without_intervals(campaign):
    few = campaign.runs[campaign.runs["method"] != "unconstrained"]
    empty = pd.DataFrame(columns=["setting", "measure", "low", "high"])
    for module in (figure4, figure5):
        figure, _ = module.draw(Tables.in_memory({"runs": few[few["seed"] == 0], "intervals": empty}))
        plt.close(figure)


def test_every_setting_of_the_campaign_has_its_own_name(campaign):
    titles = [series.title(row) for row in campaign.runs.drop_duplicates("setting").itertuples()]
    assert len(set(titles)) == len(CAMPAIGN)


def test_certified_and_reliability_show_the_front_and_the_rivals_apart_from_the_poster():
    tables = Tables.in_memory(front_curves())
    figure, numbers = certified.draw(tables)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["fixed $L$", "LiST from $L_0$; grey: fixed $L$"]
    lines = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert lines == [
        ["1", "2", "4", "8", "16", "32", "64", "128"],
        ["0.1", "1", "10", "100", "1000"],
        ["0", "18", "36", "72", "108"],
    ]
    assert set(numbers["setting"]) == {setting_name(*key) for key in CAMPAIGN if key[0] != "unconstrained"}
    figure, _ = reliability.draw(tables)
    titles = [axes.get_title().partition("\n")[0] for axes in figure.axes]
    assert titles[4:6] == ["LiST, $L_0 = 1000$", r"LiST, $\xi$ = 18/255"]
    assert titles[-len(OBJECTIVES) :][0] == "label smoothing"
    assert len(titles) == 5 + 4 + 8 + 1 + len(OBJECTIVES)
    plt.close("all")


def test_figures_1_to_3_show_runs_without_offset_and_variant(campaign):
    _, numbers = figure3.draw(campaign)
    assert len(numbers) == 3 * (5 + 8 + 1)
