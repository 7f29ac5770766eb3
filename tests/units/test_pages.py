"""Pages of the report, its start page, and what is published."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import jinja2
import numpy as np
import pandas as pd
import pytest
from docutils.core import publish_parts

from lipscale import discovery
from lipscale.errors import LipscaleError
from lipscale.report import draw, page_tables, pages, publish
from lipscale.store import checksums, files
from lipscale.tables import claims, falsifications, join
from lipscale.tables.reader import Tables
from made_experiment import EPSILONS, make, runs

CAPTIONS = Path(__file__).resolve().parents[2] / "workflow" / "report"


@pytest.fixture
def experiment(tmp_path):
    """An experiment with tables and claims."""
    made = make(tmp_path / "made")
    join.write_tables(made, runs(made.config))
    claims.write_claims(made.tables)
    return made


def cells(html: str) -> list[list[list[str]]]:
    """The text of the cells of each table, row by row."""
    tables = re.findall(r"<table.*?</table>", html, flags=re.DOTALL)
    rows = [re.findall(r"<tr>.*?</tr>", table, flags=re.DOTALL) for table in tables]
    clean = re.compile(r"<[^>]+>")
    return [
        [[clean.sub("", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row, flags=re.DOTALL)] for row in table]
        for table in rows
    ]


def test_page_of_runs_begins_with_means_and_shows_accuracies_first(experiment, tmp_path):
    pages.write("runs", experiment.tables, None, None, tmp_path / "runs.html")
    html = (tmp_path / "runs.html").read_text()
    settings, each = cells(html)
    assert settings[0][:8] == [
        "setting", "seeds", "lipschitz", "clean accuracy", "certified 36", "certified 72", "robust 36", "robust 72"
    ]  # fmt: skip
    assert [row[0] for row in settings[1:]] == [
        "LiST, L0 = 0.1", "LiST, L0 = 100", "fixed L = 1", "fixed L = 20", "no constraint"
    ]  # fmt: skip
    assert settings[1][1:4] == ["2", "9", "0.75"]
    assert each[0][:13] == [
        "run", "method", "variant", "initial lipschitz", "offset", "seed", "lipschitz", "clean accuracy", "certified 36",
        "certified 72", "robust 36", "robust 72", "ece",
    ]  # fmt: skip
    assert len(each) == 1 + len(experiment.runs)
    assert each[-1][3] == "∞"
    assert "Click a column header to sort" in html
    assert "config hash" not in html
    assert {"brier", "validation ece", "evaluated certified 36"} <= set(each[0])
    assert not [name for name in each[0] if name.endswith(("low", "high"))]


def test_numbers_of_a_column_have_the_same_digits():
    columns = {
        "ece": [0.0224, 0.05, 0.12345],
        "initial_lipschitz": [0.01, 100.0, np.inf],
        "lipschitz": [1.0, 2.0, 200.0],
        "train_seconds": [1.23, 100.0, 7.77],
        "empty": [0.5, np.nan, 0.25],
    }
    shown = [{name: text for name, (_, text) in row.items()} for row in page_tables.Table("", pd.DataFrame(columns)).rows]
    table = pd.DataFrame(shown)
    assert table["ece"].tolist() == ["0.0224", "0.0500", "0.1235"]
    assert table["initial_lipschitz"].tolist() == ["0.01", "100.00", "∞"]
    assert table["lipschitz"].tolist() == ["1", "2", "200"]
    assert table["train_seconds"].tolist() == ["1.2", "100.0", "7.8"]
    assert table["empty"].tolist() == ["0.50", "", "0.25"]


def test_page_of_claims(experiment, tmp_path):
    pages.write("claims", experiment.tables, None, None, tmp_path / "claims.html")
    (table,) = cells((tmp_path / "claims.html").read_text())
    assert [row[0] for row in table[1:]] == [
        "1a",
        "1b",
        "2",
        "3",
        "4",
        "5",
        "6a",
        "6b",
        "7a",
        "7b",
        "11a-ece",
        "11a-robust",
        "11a-certified",
        "13",
    ]


def test_names_are_not_taken_for_html(experiment, tmp_path):
    """Classes of an image folder are named by whoever made it."""
    manifest = experiment.data / "manifest.json"
    content = files.read_json(manifest)
    content["classes"][0] = "<script>alert(1)</script>"
    content["source"] = {"path": '"><img src=x onerror=alert(1)>'}
    files.write_json(manifest, content)
    checksums.record(manifest)
    pages.write("provenance", experiment.tables, experiment.data, "</pre>", tmp_path / "provenance.html")
    html = (tmp_path / "provenance.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<img" not in html
    assert html.count("</pre>") == 1
    assert "learning_rate: 0.1" in html


def test_pages_refuse_what_they_cannot_show(experiment, tmp_path):
    (experiment.tables / "claims.csv").write_text("claim\n")
    (experiment.tables / "config.yaml").unlink()
    for name, data, launched, sentence in (
        ("claims", None, None, r"claims\.csv"),
        ("provenance", None, None, "the page provenance needs"),
        ("provenance", experiment.data, "snakemake", r"config\.yaml is missing"),
        ("nothing", None, None, "there is no page 'nothing'; allowed: runs, claims, provenance"),
    ):
        with pytest.raises(LipscaleError, match=sentence):
            pages.write(name, experiment.tables, data, launched, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_every_result_has_a_caption():
    assert {path.stem for path in CAPTIONS.glob("*.rst")} == {"summary", "runs", "claims", "provenance", "workflow"}
    for number in (1, 2, 3):
        caption = discovery.path(draw.FIGURES, f"figure{number}").with_suffix(".rst").read_text()
        assert caption.startswith(f"**Figure {number}.**")


@pytest.mark.parametrize("picture", ["", "data:image/png;base64," + "ABCD" * 10_000], ids=["none", "picture"])
def test_start_page_shows_figure_3_where_there_is_one(picture):
    """As Snakemake renders it: Jinja first, then reStructuredText."""
    config = {"dataset": {"name": "digits"}} | ({"start_figure": picture} if picture else {})
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string((CAPTIONS / "workflow.rst").read_text())
    text = template.render(snakemake=SimpleNamespace(config=config))
    html = publish_parts(text, writer="html", settings_overrides={"halt_level": 2})["html_body"]
    assert re.findall('<img[^>]* src="([^"]*)"', html) == ([picture] if picture else [])
    assert "on digits" in html


def test_publish_takes_all_figures_there_are(experiment, tmp_path, monkeypatch):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "toy_published.py").write_text("TITLE = 'toy'\nTABLES = ()\n")
    monkeypatch.setenv(discovery.VARIABLE, str(tmp_path))
    monkeypatch.setattr(sys.modules[draw.FIGURES], "__path__", list(sys.modules[draw.FIGURES].__path__))
    record = SimpleNamespace(model_dump=lambda mode: {"experiment": "made"})
    monkeypatch.setattr(publish.records, "measure", lambda results: record)
    assert "toy_published" in draw.names()
    experiment.figures.mkdir()
    for name in draw.names():
        for suffix in draw.SUFFIXES:
            (experiment.figures / f"{name}.{suffix}").write_text(name)
    (experiment.path / "benchmarks").mkdir()
    (experiment.path / "benchmarks" / "prepare.tsv").write_text("s\tmax_rss\n12.4\t1\n")

    publish.publish(experiment.path, tmp_path / "published", "make figures")
    page = (tmp_path / "published" / "README.md").read_text()
    assert (tmp_path / "published" / "toy_published.png").read_text() == "toy_published"
    assert "| command | `make figures` |" in page
    assert (
        "| spot checks | certified images that were attacked, all runs: 16 at 36/255, 16 at 72/255; none was broken |" in page
    )
    assert "| falsification | not run |" in page
    assert "| fixed L = 20 | 20 |" in page
    assert "| LiST, L0 = 0.1 | 9 | 8.99 | 1 | 75 % | 50 % | 66.7 % | 25 % | 50 % |" in page.replace(
        "50 % | 66.7", "50 % | 66.7"
    )
    images = pd.read_csv(tmp_path / "published" / "images.csv.gz")
    assert len(images) == 8 * len(experiment.runs)
    assert list(images)[:3] == ["run", "image", "right"]
    assert (tmp_path / "published" / "intervals.csv").read_bytes() == (experiment.tables / "intervals.csv").read_bytes()

    falsifications.write_falsifications(experiment)
    publish.publish(experiment.path, tmp_path / "published", "make figures")
    assert "40 images of 8 networks, 5 or more of each" in (tmp_path / "published" / "README.md").read_text()
    assert (tmp_path / "published" / "falsification.csv").exists()


def test_publish_refuses_what_is_unfinished_or_of_uncommitted_changes(experiment, tmp_path):
    with pytest.raises(LipscaleError, match=r"certified\.pdf is missing; allowed: a finished experiment"):
        publish.publish(experiment.path, tmp_path / "published", "make")
    experiment.figures.mkdir()
    for name in draw.names():
        for suffix in draw.SUFFIXES:
            (experiment.figures / f"{name}.{suffix}").touch()
    runs = Tables(experiment.tables).runs.copy()
    runs.loc[0, "commit"] = "b" * 40 + "-dirty"
    files.write_table(runs, experiment.tables / "runs.csv")
    checksums.record(experiment.tables / "runs.csv")
    with pytest.raises(LipscaleError, match=r"come from b{40}-dirty; allowed: commits, without"):
        publish.publish(experiment.path, tmp_path / "published", "make")
    assert not (tmp_path / "published").exists()


def test_summary_of_the_published_page_has_all_epsilons(experiment):
    header = publish.summary(Tables(experiment.tables)).splitlines()[0]
    assert [f"certified_{epsilon}" in header and f"robust_{epsilon}" in header for epsilon in EPSILONS] == [True, True]
