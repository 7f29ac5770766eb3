"""The whole workflow once, small, among the tests that take no minutes: from images to verdicts and a figure."""

import pandas as pd
import pytest
from PIL import Image

from conftest import SMALL
from lipscale import config as configs
from lipscale.tables.claims import all_claims


@pytest.fixture
def results(small_experiment):
    return small_experiment / "results" / "small"


def test_every_run_is_trained_certified_and_attacked(results):
    runs = pd.read_csv(results / "tables" / "runs.csv")
    assert runs["run"].tolist() == [settings.run for settings in configs.runs(configs.check(SMALL))]
    assert (runs["evaluated_certified_72"] <= runs["robust_72"]).all()
    assert (runs["robust_72"] <= runs["evaluated_clean_accuracy"]).all()
    trained = runs.set_index("method")["lipschitz"]
    assert trained["fixed"] == 20
    assert trained["list"] != 1  # the feedback has moved it from L0


def test_verdicts_and_a_figure_are_made(results):
    verdicts = pd.read_csv(results / "tables" / "claims.csv")
    assert set(verdicts["claim"].astype(str)) <= {claim.number for claim in all_claims()}
    assert len(verdicts)
    with Image.open(results / "figures" / "figure1.png") as figure:
        assert min(figure.size) > 300
