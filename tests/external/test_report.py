"""The report, as somebody sees it who has nothing but the file: opened in a browser, without a network."""

import base64
import json
import math
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from conftest import TINY, snakemake
from lipscale.store import files

pytestmark = pytest.mark.slow

FIGURES = [
    "figure1",
    "figure2",
    "figure3",
    "figure4",
    "figure5",
    "figure6",
    "certified",
    "choosing_offset",
    "reliability",
    "reliability_under_attack",
]  # in the order of their labels
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
in_a_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not there: apt-get install chromium chromium-driver"
)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1600,900",
]  # fmt: skip


@pytest.fixture(scope="module")
def experiment(tiny_experiment) -> Path:
    """The folder of a finished experiment: two seeds, which the report shows as a switch, and runs without constraint."""
    return tiny_experiment / "kept"


@pytest.fixture(scope="module")
def results(experiment) -> Path:
    return experiment / "results" / "tiny"


@pytest.fixture(scope="module")
def report(experiment) -> Path:
    """The report, alone in a folder."""
    path = experiment / "sent" / "report.html"
    path.parent.mkdir()
    snakemake(experiment, TINY, "--report", path)
    return path


class Page:
    """The report in a browser, and what somebody does with it."""

    def __init__(self, browser, screenshots: Path):
        self.browser, self.screenshots = browser, screenshots

    def find(self, path: str) -> list:
        return self.browser.find_elements("xpath", path)

    def press(self, path: str) -> None:
        self.until(lambda: self.find(path))
        self.find(path)[0].click()

    def until(self, true: Callable[[], object]) -> None:
        end = time.monotonic() + 20
        while not true():
            assert time.monotonic() < end, self.browser.page_source[-2000:]
            time.sleep(0.05)

    def category(self, *names: str) -> None:
        """Open a category, and a subcategory in it."""
        self.browser.execute_script("app.setView({navbarMode: 'menu'})")
        for name in names:
            self.press(f"//nav//li/a[span[text()='{name}']]")

    def rows(self) -> list[str]:
        """The labels of the results that are listed."""
        return [row.text.replace("\u2007", "") for row in self.find("//nav//tbody/tr")]

    def show(self, row: int) -> None:
        """Press the eye of a result."""
        self.find(f"//nav//tbody/tr[{row + 1}]//a")[0].click()

    def picture(self) -> bytes:
        """The picture that is shown, once it is there, and as wide as its file says."""
        (image,) = self.find("//img[starts-with(@src, 'data:image/png')]")
        self.until(lambda: image.get_property("complete"))
        assert image.get_property("naturalWidth") > 0
        return base64.b64decode(image.get_attribute("src").partition("base64,")[2])

    def frame(self) -> None:
        """Go into the page that is shown."""
        self.until(lambda: self.find("//iframe"))
        self.browser.switch_to.frame(self.find("//iframe")[0])
        self.until(lambda: self.find("//h1"))

    def column(self, name: str) -> list[str]:
        """The values of a column of the last table in this page, as they stand."""
        return self.browser.execute_script(
            "const table = [...document.querySelectorAll('table')].at(-1);"
            "const headers = [...table.querySelectorAll('thead th')];"
            "const column = headers.findIndex(header => header.textContent.trim() === arguments[0]);"
            "return [...table.querySelectorAll('tbody tr')].map(row => row.cells[column].dataset.value);",
            name,
        )

    def shot(self, name: str) -> None:
        self.browser.save_screenshot(str(self.screenshots / f"{name}.png"))


@pytest.fixture
def page(report, tmp_path):
    """The report, opened; in the end, nothing must have gone wrong in it, and nothing been asked of a network."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        browser.get(report.as_uri())
        yield Page(browser, tmp_path)
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
        events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        assert report.as_uri() in asked
        assert [address for address in asked if address.startswith(("http", "ws"))] == []
    finally:
        browser.quit()


@in_a_browser
def test_start_page_shows_figure_3(page, results):
    page.until(lambda: page.find("//img[contains(@alt, 'Figure 3')]"))
    page.shot("start")
    assert page.picture() == (results / "figures" / "figure3.png").read_bytes()


@in_a_browser
def test_every_figure_is_shown_with_its_caption(page, results):
    page.category("Figures")
    assert len(page.rows()) == len(FIGURES)
    for row, name in enumerate(FIGURES):
        page.show(row)
        assert page.picture() == (results / "figures" / f"{name}.png").read_bytes()
        page.shot(name)
    page.find("//nav//tbody/tr[1]//a")[1].click()
    page.until(lambda: "Expected calibration error" in page.browser.page_source)
    page.shot("caption")


@in_a_browser
def test_every_run_is_found_by_its_labels(page, results):
    found = 0
    for category, method, starts in (
        ("LiST from L0", "list-{}-", ["0.1", "100"]),
        ("fixed L", "fixed-{}-", ["20"]),
        ("no constraint", "unconstrained-", [""]),
    ):
        page.category("Runs", category)
        for seed in TINY["runs"]["seeds"]:
            if starts != [""]:
                page.press(f"//nav//label[normalize-space()='{seed}']")
                assert page.rows() == starts
            for row, start in enumerate(starts):
                page.show(row if start else seed)
                summary = results / "figures" / "summaries" / f"{method.format(start)}seed{seed}.png"
                page.until(lambda summary=summary: page.picture() == summary.read_bytes())
                page.shot(summary.stem)
                found += 1
    assert found == 8


@in_a_browser
def test_a_run_is_found_by_its_name(page, results):
    page.find("//nav//input[@placeholder]")[0].send_keys("list-100-seed1\n")
    page.until(lambda: len(page.rows()) == 1)
    page.show(0)
    assert page.picture() == (results / "figures" / "summaries" / "list-100-seed1.png").read_bytes()
    page.shot("search")


@in_a_browser
def test_the_table_of_runs_is_sorted_by_a_click(page, results):
    runs = pd.read_csv(results / "tables" / "runs.csv")
    page.category("Tables")
    assert page.rows() == ["claims", "runs"]
    page.show(1)
    page.frame()
    assert page.column("run") == runs["run"].tolist()
    assert page.find("//caption")[0].text == "Settings: mean over seeds"
    header = "(//table)[last()]//th[normalize-space()='clean accuracy']"
    for order, ascending in (("ascending", True), ("descending", False)):
        page.press(f"{header}//button")
        assert page.find(header)[0].get_attribute("aria-sort") == order
        values = [float(value) for value in page.column("clean accuracy")]
        assert values == sorted(runs["clean_accuracy"], reverse=not ascending)
        names = runs.set_index("run")["clean_accuracy"]
        assert names[page.column("run")].tolist() == values  # whole rows have moved
        page.shot(order)
    for ascending in (True, False):
        page.press("(//table)[last()]//th[normalize-space()='lipschitz']//button")
        values = [float(value) for value in page.column("lipschitz")]
        finite = sorted(runs["lipschitz"][runs["method"] != "unconstrained"], reverse=not ascending)
        assert values == [*finite, math.inf, math.inf]  # what has no L comes last, both ways
    page.press("(//table)[last()]//th[normalize-space()='run']//button")
    assert page.column("run")[:3] == ["fixed-20-seed0", "fixed-20-seed1", "list-0.1-seed0"]
    assert page.find(header)[0].get_attribute("aria-sort") == "none"


@in_a_browser
def test_claims_and_provenance_are_there(page, results):
    page.category("Tables")
    page.show(0)
    page.frame()
    claims = pd.read_csv(results / "tables" / "claims.csv", dtype={"claim": str})
    assert page.column("claim") == claims["claim"].tolist()
    page.shot("claims")
    page.browser.switch_to.default_content()
    page.category("Provenance")
    page.show(0)
    page.until(lambda: "provenance.html" in page.find("//iframe")[0].get_attribute("src"))
    page.frame()
    text = page.find("//main")[0].text
    page.shot("provenance")
    run = files.read_json(results / "runs" / "list-0.1-seed0" / "provenance.json")
    assert run["commit"] in text
    assert run["config_hash"] in text
    assert f"torch={run['versions']['torch']}" in text
    assert run["data_sha256"] in text
    assert "--cores 2" in text  # the command that made it, not the one that made the report
    assert "learning_rate: 0.02" in text


def categories(report: Path) -> dict[str, dict[str, list[str]]]:
    """Paths of the results in a report, by category and subcategory."""
    return json.loads(re.search(r"var categories = (.*);", report.read_text())[1])


def test_report_of_an_unfinished_experiment_shows_what_is_there(experiment, tmp_path):
    for name in ("results", ".snakemake"):
        shutil.copytree(experiment / name, tmp_path / name)
    results = tmp_path / "results" / "tiny"
    (results / "pages" / "claims.html").unlink()
    (results / "tables" / "claims.csv").unlink()
    shutil.rmtree(results / "figures" / "summaries")
    snakemake(tmp_path, TINY, "--report", tmp_path / "report.html")
    shown = categories(tmp_path / "report.html")
    assert set(shown) == {"Figures", "Tables", "Provenance"}
    assert len(shown["Figures"]["Other"]) == len(FIGURES)
    assert shown["Tables"]["Other"] == ["results/tiny/pages/runs.html"]


def test_report_of_nothing_is_empty(tmp_path, tiny):
    """Also where each run has jobs of its own; their run summaries are one job all the same."""
    tiny["compute"]["pack"] = False
    snakemake(tmp_path, tiny, "--report", tmp_path / "report.html")
    assert categories(tmp_path / "report.html") == {}
    said = snakemake(tmp_path, tiny, "--dry-run").stdout
    assert len(re.findall(r"^ *rule summarise:", said, flags=re.MULTILINE)) == 1


def test_tables_of_an_older_version_are_named(experiment, tmp_path):
    shutil.copytree(experiment / "results" / "tiny" / "tables", tmp_path / "results" / "tiny" / "tables")
    (tmp_path / "results" / "tiny" / "tables" / "reliability.csv").unlink()
    said = snakemake(tmp_path, TINY, "--cores", 1, "figures", check=False)
    assert said.returncode != 0
    assert "lipscale: results/tiny/tables/reliability.csv is missing; run the workflow to create it" in said.stdout
    assert "Traceback" not in said.stdout
