"""Where published networks lie: results/published/EXPERIMENT/networks/RUN.safetensors.

They are named EXPERIMENT/RUN. The folder results/published is that of this source tree, or the one that the environment
variable LIPSCALE_PUBLISHED names.
"""

import os
from pathlib import Path

from lipscale.errors import LipscaleError

VARIABLE = "LIPSCALE_PUBLISHED"
NETWORKS = "networks"  # the folder beside the tables of a published experiment
SUFFIX = ".safetensors"


def folder() -> Path:
    """The folder that holds a folder for each published experiment; it need not exist."""
    source_tree = Path(__file__).resolve().parents[3]
    return Path(os.environ.get(VARIABLE) or source_tree / "results" / "published")


def published(within: Path) -> dict[str, Path]:
    """The files of the networks below a folder such as results/published, by their names EXPERIMENT/RUN."""
    paths = sorted(within.glob(f"*/{NETWORKS}/*{SUFFIX}"))
    return {f"{path.parent.parent.name}/{path.stem}": path for path in paths}


def find(model: str | Path) -> Path:
    """The file of a network: `model` itself where it exists or ends in .safetensors, or a published network of that name.

    Raises:
        LipscaleError: it is neither; the message lists the published networks.
    """
    path = Path(model)
    if os.path.exists(path) or path.suffix == SUFFIX:  # Path.exists raises on a name that is too long
        return path
    known = published(folder())
    if str(model) not in known:
        there = f"one of {', '.join(known)}" if known else f"a published network; {folder()} has none, {VARIABLE} names another"
        raise LipscaleError(f"there is no network {str(model)!r}; allowed: a {SUFFIX} file, or {there}")
    return known[str(model)]
