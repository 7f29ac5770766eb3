"""Collects a wheel of every package in requirements.lock, for computers without internet.

    make wheelhouse                                        # for this Python, on Linux (x86-64)
    python envs/wheelhouse.py --python 3.12 --folder /media/stick/wheelhouse

Then, on the other computer, `make figures WHEELHOUSE=/media/stick/wheelhouse`. Repeating the command downloads what is missing.
A package without a wheel on the index is built here, and refused if the result runs on this computer only.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from tqdm import tqdm

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
OLDEST_GLIBC = 5  # minor version; that of manylinux1


def marker_environments(python: str, machine: str) -> list[dict[str, str]]:
    """What markers in the lock are evaluated against: the first and the last CPython of a version such as "3.12", on Linux."""
    common = {
        "python_version": python, "implementation_name": "cpython", "platform_python_implementation": "CPython",
        "sys_platform": "linux", "platform_system": "Linux", "platform_machine": machine, "os_name": "posix",
    }  # fmt: skip
    return [{**common, "python_full_version": f"{python}.{patch}"} for patch in (0, 99)]


def pins(lock: str, python: str, machine: str) -> list[str]:
    """The pins `name==version` of a lock that apply to some release of this Python there. pip would ask the running one."""
    environments = marker_environments(python, machine)
    found = [Requirement(line.split("#")[0]) for line in lock.splitlines() if line.split("#")[0].strip()]
    applying = [pin for pin in found if pin.marker is None or any(map(pin.marker.evaluate, environments))]
    return [f"{canonicalize_name(pin.name)}{pin.specifier}" for pin in applying]


def platforms(glibc: int, machine: str) -> list[str]:
    """The tags of wheels that run with glibc 2.`glibc`, the newest first."""
    old = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    tags = [[f"manylinux_2_{minor}", *([old[minor]] if minor in old else [])] for minor in range(glibc, OLDEST_GLIBC - 1, -1)]
    return [f"{tag}_{machine}" for several in [*tags, ["linux"]] for tag in several]


def present(folder: Path) -> set[str]:
    """The pins whose wheels are in a folder."""
    wheels = [parse_wheel_filename(path.name)[:2] for path in folder.glob("*.whl")]
    return {f"{name}=={version}" for name, version in wheels}


def collect(wanted: list[str], folder: Path, python: str, tags: list[str]) -> None:
    """Download the wheels, and build the packages that have none. Raises CalledProcessError where pip fails."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    target = [
        "--only-binary=:all:",
        f"--python-version={python}",
        "--implementation=cp",
        *(f"--platform={tag}" for tag in tags),
    ]
    for pin in tqdm(wanted, desc="wheels", unit="wheel"):
        download = [*pip, "download", "--no-deps", "--quiet", f"--dest={folder}", *target, pin]
        if subprocess.run(download, capture_output=True, check=False).returncode:
            tqdm.write(f"{pin} has no wheel for this Python and platform; building it")
            subprocess.run([*pip, "wheel", "--no-deps", "--quiet", f"--wheel-dir={folder}", pin], check=True)
            refuse_compiled(pin, folder)


def refuse_compiled(pin: str, folder: Path) -> None:
    """Raises SystemExit if the wheel that was built for a pin holds compiled code, and removes it."""
    for path in folder.glob("*.whl"):
        name, version, _, tags = parse_wheel_filename(path.name)
        if f"{name}=={version}" == pin and not any(str(tag).endswith("-none-any") for tag in tags):
            path.unlink()
            raise SystemExit(f"{pin} has no wheel for this Python and platform, and has to be compiled there")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser.add_argument("--python", default=running, help="version of CPython there, default: %(default)s")
    parser.add_argument("--machine", default="x86_64", choices=["x86_64", "aarch64"], help="default: %(default)s")
    parser.add_argument(
        "--glibc", default="2.28", help="version of its C library there (`ldd --version`), default: %(default)s"
    )
    parser.add_argument("--folder", type=Path, default=Path("wheelhouse"), help="default: %(default)s")
    options = parser.parse_args()
    if not re.fullmatch(r"3\.\d+", options.python) or not re.fullmatch(r"2\.\d+", options.glibc):
        parser.error(f"--python {options.python} --glibc {options.glibc}; allowed: such as --python 3.12 --glibc 2.28")

    options.folder.mkdir(parents=True, exist_ok=True)
    wanted = pins(LOCK.read_text(), options.python, options.machine)
    missing = [pin for pin in wanted if pin not in present(options.folder)]
    collect(missing, options.folder, options.python, platforms(int(options.glibc.split(".")[1]), options.machine))
    print(f"{options.folder} has the wheels of all {len(wanted)} packages, for Python {options.python} on {options.machine}")


if __name__ == "__main__":
    main()
