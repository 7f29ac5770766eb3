"""Where a result comes from: commit, package versions, device."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "torchvision", "orthogonium", "netcal", "pyautoattack", "numpy", "scipy", "scikit-learn")


def commit() -> str:
    """The git commit of this source tree; `unknown` without git, or where the package only lies inside another repository.

    `-dirty` stands behind it where a file differs from it, or the package has a file that git does not know.
    """
    folder = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "store/provenance.py")
        changed = git("status", "--porcelain", "--untracked-files=no") or git("ls-files", "--others", "--exclude-standard")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of python and of packages, by default those that numbers depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, object]:
    """Operating system and C library, processor, and number of cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = " ".join(filter(None, (platform.system(), *platform.libc_ver())))
    return {"system": system, "processor": platform.machine(), "cores": cores}


def in_words(machine: Mapping[str, object]) -> str:
    """What `machine` returned, in a line."""
    return f"{machine['system']} {machine['processor']}, {machine['cores']} cores"


def listed(versions: Mapping[str, str]) -> str:
    """What `versions` returned, in a line."""
    return " ".join(f"{name}={version}" for name, version in versions.items())
