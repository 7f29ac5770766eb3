"""The README and docs/: their programs run, and the commands, settings, names and numbers that they give exist."""

import ast
import csv
import json
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import lipscale
from lipscale import cli
from lipscale.tables.claims import all_claims
from lipscale.tables.claims.measures.rivals import FAMILIES
from lipscale.text import short

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
ids = {"ids": lambda path: path.name}
PUBLISHED = ROOT / "results" / "published"
ONE_VALUE = {"--cores", "--configfile", "--report", "--forcerun", "--workflow-profile", "--conda-prefix"}  # of snakemake
SEVERAL_VALUES = {"--config", "--group-components", "--rerun-triggers", "--resources"}

CHECK_EXTENSIONS = """
import torch, yaml
from lipscale import config, discovery
from lipscale.data.prepare import prepare

base = yaml.safe_load(open({base!r}))
base["runs"].pop("variants", None)  # their offsets are for cross-entropy only
for changed in map(yaml.safe_load, {configs!r}):
    sections = {{**base, **changed}}
    if "runs" in changed:
        sections.pop("figures")
    experiment = config.check(sections)
    assert config.runs(experiment)
    if "dataset" in changed:
        prepare(experiment.dataset)
    if "training" in changed:
        objective = experiment.training.objective
        loss = discovery.load("lipscale.training.objectives", objective.name).loss
        assert loss(lambda images: images, torch.ones(2, 3), torch.tensor([0, 1]), objective, 1.0) > 1
    if "network" in changed:
        family = discovery.load("lipscale.networks.families", experiment.network.family)
        assert family.plain(family.dense(4, 2, bias=False)).weight.shape == (2, 4)
        assert family.plain(family.conv(4, 2, 3, padding=1)).bias is not None
figure = discovery.load("lipscale.report.figures", "final")
assert figure.draw and figure.TABLES == ["runs"]
"""


def code(path: Path) -> list[str]:
    """Pieces of code in a page: lines of indented blocks without their comments, and what is between backticks."""
    text = path.read_text(encoding="utf-8")
    lines = [re.sub(r"\s+# .*", "", line).strip() for line in re.findall(r"^ {4}(\S.*)", text.replace("\\\n", ""), re.M)]
    return lines + re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


def commands(path: Path, name: str) -> list[list[str]]:
    """The words after `name` in each command of a page that begins with it."""
    pieces = [piece for line in code(path) for piece in line.split("&&")]
    pieces = [re.sub(r"^(\S+=\S+ )*(python -m lipscale\b)?", lambda m: "lipscale" if m[2] else "", p.strip()) for p in pieces]
    return [shlex.split(piece)[1:] for piece in pieces if piece == name or piece.startswith(f"{name} ")]


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_commands_are_found():
    """So that none of the tests below passes for having found nothing."""
    found = {name: [words for path in PAGES for words in commands(path, name)] for name in ("lipscale", "make", "snakemake")}
    assert {*cli.COMMANDS} <= {words[0] for words in found["lipscale"] if words}
    assert ["figures"] in found["make"]
    assert ["unlock"] in found["make"]
    assert ["--cores", "all", "falsify"] in found["snakemake"]


def test_the_program_in_the_readme_runs(tmp_path):
    (program,) = python_blocks(ROOT / "README.md")
    (tmp_path / "program.py").write_text(program)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    lipschitz = float(re.findall(r"L = ([\d.]+)", result.stdout)[-1])
    clean, certified = map(float, re.search(r"clean accuracy ([\d.]+)%, certified at 72/255 ([\d.]+)%", result.stdout).groups())
    assert 9 < lipschitz < 18
    assert clean > 95
    assert 70 < certified < clean


@pytest.mark.parametrize("path", PAGES, **ids)
def test_python_blocks_use_names_that_exist(path):
    for block in python_blocks(path):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] in ("lipscale", "orthogonium", "torch"):
                module = import_module(node.module)
                missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not missing or all(import_module(f"{node.module}.{name}") for name in missing)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lipscale":
                assert hasattr(lipscale, node.attr), f"lipscale.{node.attr}"


def test_extensions_in_the_documentation_are_complete(tmp_path):
    """Each example of extensions.md lies in a folder of its own, and configs with them are accepted."""
    text = (ROOT / "docs" / "extensions.md").read_text(encoding="utf-8")
    for name, block in re.findall(r"^`(\w+/\w+\.py)`.*?^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(block)
    configs = re.findall(r"^```yaml$(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "check.py").write_text(CHECK_EXTENSIONS.format(base=str(ROOT / "config" / "config.yaml"), configs=configs))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "LIPSCALE_EXTENSIONS": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, tmp_path / "check.py"], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("path", PAGES, **ids)
def test_commands_of_lipscale_exist(path, capsys):
    for command, *words in filter(None, commands(path, "lipscale")):
        if command.startswith("-"):
            continue
        assert command in {**cli.COMMANDS, **cli.STEPS}, f"lipscale {command}"
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        assert {word for word in words if word.startswith("--")} <= known, f"lipscale {command} {' '.join(words)}"


@pytest.mark.parametrize("path", PAGES, **ids)
def test_targets_of_make_exist(path):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for words in commands(path, "make"):
        assert {word for word in words if "=" not in word} <= targets, f"make {' '.join(words)}"


@pytest.mark.parametrize("path", PAGES, **ids)
def test_targets_of_snakemake_exist(path):
    files = [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]
    rules = {name for file in files for name in re.findall(r"^rule (\w+):", file.read_text(encoding="utf-8"), re.MULTILINE)}
    for words in commands(path, "snakemake"):
        option = ""
        for word in words:
            if word.startswith("-"):
                option = word
            elif option in ONE_VALUE:
                assert option != "--forcerun" or word in rules, f"rule {word}"
                assert option != "--configfile" or word == "my.yaml" or (ROOT / word).exists(), word
                option = ""
            elif option not in SEVERAL_VALUES:
                assert word in rules, f"snakemake {' '.join(words)}"


@pytest.mark.parametrize("path", PAGES, **ids)
def test_settings_exist(path):
    schema = json.loads((ROOT / "config" / "schema.json").read_text(encoding="utf-8"))
    sections = "|".join(schema["properties"])
    keys = {key for model in [schema, *schema["$defs"].values()] for key in model.get("properties", {})}
    used = [re.match(rf"(?:{sections})\.(\w+)", piece) for piece in code(path)]
    assert {match[1] for match in used if match} - {"csv", "yaml"} <= keys


@pytest.mark.parametrize("path", PAGES, **ids)
def test_paths_exist(path):
    """Paths in the repository; NAME in a path is one that a reader chooses."""
    folders = "src|tests|docs|config|envs|benchmarks|checker|workflow"
    named = [piece for piece in code(path) if re.fullmatch(rf"({folders})/[\w./-]+", piece)]
    assert not [name for name in named if "NAME" not in name and not (ROOT / name).exists()]


@pytest.mark.parametrize("page", ["SECURITY.md", "docs/certificates.md"])
def test_radii_are_said_to_be_distances_in_the_prepared_image(page):
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert "in the *prepared* image, after resizing and cropping" in text


def test_public_names_are_documented():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    documented = {name.rpartition(".")[2] for name in re.findall(r"^::: (\S+)", text, re.MULTILINE)}
    assert {name for name in lipscale.__all__ if not name.startswith("__")} <= documented


def test_all_packages_are_in_the_reference():
    text = (ROOT / "docs" / "modules.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^::: lipscale\.(\w+)$", text, re.MULTILINE))
    there = {path.stem for path in (ROOT / "src" / "lipscale").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert listed == {name for name in there if not name.startswith("__")}


def test_claims_in_the_documentation_are_the_published_ones():
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    experiments = ("digits", "mnist5k", "cifar10-cpu")  # a column each
    rows = re.findall(r"^\| (\d+[a-z]?(?:-\w+)?) \| (.*) \|$", text, re.MULTILINE)
    found = {number: cells.split(" | ") for number, cells in rows}
    expected = {claim.number: [""] * len(experiments) for claim in all_claims()}
    for column, experiment in enumerate(experiments):
        with (PUBLISHED / experiment / "claims.csv").open(encoding="utf-8") as file:
            for claim in csv.DictReader(file):
                estimate, low, high = (short(float(claim[name])) for name in ("estimate", "low", "high"))
                expected[claim["claim"]][column] = f"{estimate} ({low} to {high}): {claim['verdict']}"
    assert found == {number: cells for number, cells in expected.items() if any(cells)}


def test_columns_of_published_tables_are_documented():
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    with (PUBLISHED / "digits" / "runs.csv").open(encoding="utf-8") as file:
        columns = {re.sub(r"_(low|high)$", "", name) for name in next(csv.reader(file))}  # `NAME_low`, `NAME_high`
    columns = {re.sub(r"_\d+$", "_EPS", name) for name in columns}
    assert not {name for name in columns | {"NAME_low", "NAME_high"} if f"`{name}`" not in text}


def test_all_claims_are_in_the_documentation():
    """Of claim 11, the first rival; all rivals are named."""
    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    for claim in all_claims():
        row = f"| {claim.number} | {claim.statement} | {claim.measure} | {claim.threshold} |"
        assert row in text or re.match("11[b-z]", claim.number), row
    for letter, name in zip("abcdefgh", FAMILIES.values(), strict=True):
        assert f"{letter} {name}" in " ".join(text.split())
