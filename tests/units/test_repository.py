"""The repository itself: versions that agree, sources that are formatted, documents whose links work."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = [Requirement(line.split("#")[0]) for line in LOCK.splitlines() if not line.startswith("#")]
ENVIRONMENTS = {path.name: path for path in (ROOT / "envs").glob("*.yaml")}
LAUNCHER = ROOT / "environment.yml"
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "results/published/**/*.md") for path in ROOT.glob(pattern)
)
RULES = [path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]]


def assert_succeeds(*arguments: str) -> None:
    """Of python with these arguments, run in the repository."""
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


def requirements(path) -> list[Requirement]:
    """The `pip:` section of a conda environment."""
    dependencies = yaml.safe_load(path.read_text())["dependencies"]
    return [Requirement(line) for entry in dependencies if isinstance(entry, dict) for line in entry["pip"]]


def asked_for(path) -> set[str]:
    """What a conda environment asks for itself, without what that needs."""
    return set(re.findall(r"- ([a-z0-9-]+)==", path.read_text().split("# what these need")[0]))


def names(lines: list[str]) -> set[str]:
    """Of these requirements, without the project's own extras, which one extra may ask for."""
    return {Requirement(line).name for line in lines} - {PROJECT["name"]}


def test_the_lock_is_what_the_project_asks_for():
    wanted = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
    for requirement in map(Requirement, wanted):
        if requirement.name == PROJECT["name"]:
            assert requirement.extras <= EXTRAS.keys()
            continue
        versions = [next(iter(pin.specifier)).version for pin in PINS if pin.name == requirement.name]
        assert versions, f"{requirement} is not in the lock"
        assert all(version in requirement.specifier for version in versions), f"{requirement} has {versions} in the lock"


def test_environments_and_hooks_pin_what_the_lock_pins():
    assert_succeeds("envs/pin.py", "--check")


@pytest.mark.parametrize("path", [LAUNCHER, *ENVIRONMENTS.values()], ids=lambda path: path.name)
def test_environments_hold_exact_pins_from_the_lock_alone(path):
    """No range, option or `-r file`, which Snakemake would lose as it moves environments; each version as in the lock."""
    locked = {(pin.name, str(pin.specifier)) for pin in PINS}
    assert {(requirement.name, str(requirement.specifier)) for requirement in requirements(path)} <= locked


def test_environments_have_every_dependency():
    own = next(requirement for requirement in map(Requirement, EXTRAS["workflow"]) if requirement.name == PROJECT["name"])
    steps = [*PROJECT["dependencies"], *(line for extra in own.extras for line in EXTRAS[extra])]
    assert set().union(*map(asked_for, ENVIRONMENTS.values())) == names(steps)
    # What the Snakefile imports to check the config, and what snakemake --report needs.
    config, reports = {"filelock", "pydantic", "pyyaml"}, {"pygments"}
    assert asked_for(LAUNCHER) == names(EXTRAS["workflow"]) | config | reports


def test_hooks_are_the_tools_of_the_test_extra():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    tools = {Requirement(line).name for hook in hooks for line in hook["additional_dependencies"][:1]}
    assert tools == {"ruff", "snakefmt"}
    assert tools <= names(EXTRAS["test"])


def test_one_version_of_python():
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert f"--python-version {oldest} " in LOCK
    for path in (LAUNCHER, *ENVIRONMENTS.values()):
        assert f"python ={oldest}" in yaml.safe_load(path.read_text())["dependencies"]


def test_nothing_overrides_an_environment():
    """Beside an environment, Snakemake would take NAME.*.pin.txt in its place, without its `pip:` section."""
    assert {path.name for path in (ROOT / "envs").iterdir()} - {"__pycache__"} == {*ENVIRONMENTS, "pin.py", "wheelhouse.py"}


def test_rules_run_in_an_environment():
    """Each rule with a command names one; none runs in the process of Snakemake, or with its packages, as `script:` would."""
    used = set()
    for text in RULES:
        assert not re.search(r"^\s+(run|script|notebook|wrapper|cwl|template_engine):", text, re.MULTILINE)
        for block in re.split(r"\n(?=\S)", text):
            environment = re.search(r'conda:\s+"../../envs/([^"]+)"', block)
            assert not block.startswith("rule ") or bool(environment) == ("shell:" in block), block
            used |= {environment[1]} if environment else set()
    assert used == set(ENVIRONMENTS)


@pytest.mark.parametrize(
    "command", ["ruff check .", "ruff format --check .", "snakefmt --check Snakefile workflow", "snakemake --lint"]
)
def test_sources_are_formatted(command):
    assert_succeeds("-m", *command.split())


def prose(path: Path) -> str:
    """A Markdown document without its code, in which brackets are no links."""
    text = re.sub(r"^( *)(```|~~~).*?^\1\2`*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+).+?\1", "code", text, flags=re.DOTALL)


def links(path: Path) -> Iterator[str]:
    """Targets of a document's links and pictures, in Markdown or HTML, without those on the web."""
    text = prose(path)
    targets = re.findall(r"\]\(<?([^)\s>]+)", text) + re.findall(r"^\[[^]]+\]: *(\S+)", text, re.MULTILINE)
    targets += re.findall(r"""(?:src|href)=["']([^"']+)""", text)
    yield from (target for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:", target))


def has_anchor(path: Path, anchor: str) -> bool:
    """Whether a document has a heading that is linked to like this, as GitHub makes anchors, or an explicit one.

    Anchors of the API reference come from docstrings; `mkdocs build --strict` checks those.
    """
    text = re.sub(r"^( *)(```|~~~).*?^\1\2`*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ +(.+?) *#*$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    explicit = re.findall(r"""(?:\{ ?#|id=["'])([\w.-]+)""", text)
    return anchor in slugs.union(explicit) or re.search(r"^::: ", text, re.MULTILINE) is not None


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_point_to_what_is_there(path):
    broken = []
    for target in links(path):
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if not file.exists() or (anchor and file.suffix == ".md" and not has_anchor(file, anchor)):
            broken.append(target)
    assert not broken


def test_documentation_builds_without_warnings(tmp_path):
    assert_succeeds("-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site"))
    assert (tmp_path / "site" / "index.html").exists()
