"""Parts that are found by their file: data sets, objectives, methods, layer families, figures and claims.

A package of such parts has one module for each. Modules of your own can live outside the package: every folder in the
environment variable LIPSCALE_EXTENSIONS (separated by colons) may hold subfolders named as the last part of the package,
`sources`, `objectives`, `methods`, `families`, `figures` or `measures`, whose modules are imported as if they were in the
package.
"""

import ast
import os
from importlib import import_module
from pathlib import Path
from types import ModuleType

from lipscale.errors import LipscaleError

VARIABLE = "LIPSCALE_EXTENSIONS"


def names(package: str) -> list[str]:
    """The parts of a package, sorted. Modules called `base` or with a leading underscore are not parts."""
    return sorted(_files(package))


def path(package: str, name: str) -> Path:
    """The file of a part. Raises LipscaleError where there is none."""
    files = _files(package)
    if name not in files:
        raise LipscaleError(f"{package.rpartition('.')[2]}: there is no {name!r}; allowed: {', '.join(sorted(files))}")
    return files[name]


def load(package: str, name: str) -> ModuleType:
    """The module of a part. Raises LipscaleError where there is none."""
    path(package, name)
    return import_module(f"{package}.{name}")


def constants(file: Path) -> dict[str, object]:
    """The literal constants at the top level of a module, read without importing it.

    The workflow needs the title of a figure where matplotlib is not installed.
    """
    found = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


def _files(package: str) -> dict[str, Path]:
    folders = import_module(package).__path__
    for extension in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        folder = str(Path(extension).resolve() / package.rpartition(".")[2])
        if Path(folder).is_dir() and folder not in folders:
            folders.append(folder)
    files = [file for folder in folders for file in sorted(Path(folder).glob("*.py"))]
    return {file.stem: file for file in reversed(files) if file.stem != "base" and not file.stem.startswith("_")}
