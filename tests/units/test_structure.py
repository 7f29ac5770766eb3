"""The structure of the code: which package imports which, sizes of files and functions, one place for 1/255, the words."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "lipscale").rglob("*.py"))
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

LONGEST_FILE, LONGEST_FUNCTION = 230, 50  # lines
LONGER = {}  # name of a file, or FILE:FUNCTION -> why it may be longer

# Words that the project has replaced, and by what. A letter before or after makes it another word, an underscore does not.
REPLACED = {
    r"rehears\w*": "warm-up",
    r"seal(s|ed|ing)?": "checksum",
    r"judge(s|d|ment)?|judging": "claims",
    r"sheets?": "run summary",
    r"audit\w*": "falsify, falsification; at a fixed epsilon: spot check",
    r"foretell\w*|foretold": "estimate",
    r"likeness(es)?": "comparable",
    r"valleys?": "ECE curve, its minimum",
    r"anew": "again; made anew: rerun",
    r"by hand": "directly",
    r"speaks? of": "describes",
    r"goes on": "continues, resumes",
    r"sits": "is",
}
READS_OLD_FILES = {  # file -> old words that it has to know, as it reads, or names in a message, what version 0.1 wrote
    "src/lipscale/config/messages.py": ["rehearsals", "audit_images"],
    "src/lipscale/planning/comparable.py": ["rehearsals"],
    "src/lipscale/planning/benchmark_files.py": ["audit", "audits"],
}


def run_python(*arguments: str) -> subprocess.CompletedProcess:
    """Python with the sources of this checkout, started in the repository."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("contract", [contract["id"] for contract in CONTRACTS])
def test_imports(contract):
    """The contracts of import-linter in pyproject.toml."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    result = run_python("-c", code, "pyproject.toml", "--contract", contract, "--no-cache", "--no-logo")
    assert result.returncode == 0, result.stdout


def test_checking_a_config_loads_neither_torch_nor_numpy():
    """With all methods, data sets and objectives, which are loaded by their names and so escape the contracts."""
    code = """
import sys
from pathlib import Path

import yaml

from lipscale import config

for path in Path("config").glob("*.yaml"):
    settings = yaml.safe_load(path.read_text())
    if "experiment" in settings:
        assert list(config.runs(config.check(settings)))
print(*sorted({"torch", "numpy"} & set(sys.modules)))
"""
    result = run_python("-c", code)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stdout


def test_tables_figures_and_plans_load_only_what_their_environment_has():
    """With all figures, which are loaded by their names. envs/figures.yaml has neither torch nor tqdm."""
    code = """
import importlib
import pkgutil
import sys

for name in ("lipscale.tables", "lipscale.report", "lipscale.planning"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(module.name)
print(*sorted({"torch", "tqdm"} & set(sys.modules)))
"""
    result = run_python("-c", code)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stdout


def test_importing_lipscale_is_light():
    """`lipscale --help`, Snakemake and figures import it."""
    result = run_python("-c", "import sys, lipscale; print(*sorted({'torch', 'numpy', 'pandas'} & set(sys.modules)))")
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stdout


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Name and number of lines of each function, with those inside other functions and classes."""
    for node in ast.iter_child_nodes(tree):
        name = f"{prefix}.{node.name}" if prefix and hasattr(node, "name") else getattr(node, "name", prefix)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, node.end_lineno - node.lineno + 1
        yield from functions(node, name)


def test_files_and_functions_are_short():
    sizes = {}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        sizes[relative(path)] = (len(text.splitlines()), LONGEST_FILE)
        sizes |= {f"{relative(path)}:{name}": (lines, LONGEST_FUNCTION) for name, lines in functions(ast.parse(text))}
    too_long = {name: lines for name, (lines, most) in sizes.items() if lines > most}
    excess = [f"{name}: {lines} lines" for name, lines in too_long.items() if name not in LONGER]
    assert not excess, "\n".join(excess)
    assert set(LONGER) <= set(too_long), "LONGER names what is not too long"


def test_one_file_divides_by_255():
    dividing = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            by = node.right if isinstance(node, ast.BinOp) else node.value if isinstance(node, ast.AugAssign) else None
            if by is not None and isinstance(node.op, ast.Div) and isinstance(by, ast.Constant) and by.value == 255:
                dividing.append(f"{relative(path)}:{node.lineno}")
    elsewhere = [where for where in dividing if not where.startswith("src/lipscale/units.py:")]
    assert not elsewhere, "\n".join(elsewhere)


def texts() -> Iterator[tuple[str, str]]:
    """Path and text of each file that a reader of the project meets; CHANGELOG.md names what was replaced."""
    paths = [ROOT / "Snakefile", ROOT / "Makefile", *ROOT.glob("*.md"), *ROOT.glob("*.yml")]
    for folder in ("src/lipscale", "workflow", "docs", "config", "examples", "benchmarks", "checker", "profiles"):
        paths += sorted((ROOT / folder).rglob("*"))
    for path in paths:
        if path.is_file() and "__pycache__" not in path.parts and path.name != "CHANGELOG.md":
            try:
                yield relative(path), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:  # pictures
                yield relative(path), ""


@pytest.mark.parametrize("word", REPLACED)
def test_replaced_words_are_gone(word):
    pattern = re.compile(rf"(?<![A-Za-z])({word})(?![A-Za-z])", re.IGNORECASE)
    found = []
    for path, text in texts():
        for where, line in [(path, path), *((f"{path}:{number}", line) for number, line in enumerate(text.splitlines(), 1))]:
            words = [match[1] for match in pattern.finditer(line)]
            found += [f"{where}: {word}" for word in words if word.lower() not in READS_OLD_FILES.get(path, [])]
    assert not found, "\n".join([f"use {REPLACED[word]!r} instead:", *found])
