"""Copies the pins of requirements.lock to where else versions stand: the conda environments and the pre-commit hooks.

An environment names what its rules import. Below the comment NEEDED stand the packages that those need in turn, so that an
environment made next year holds what was tested.

    python envs/pin.py            # after the lock or the first part of an environment has changed
    python envs/pin.py --check    # changes nothing; exit code 1 if a file does not agree with the lock
"""

import re
import sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ("environment.yml", "envs/compute.yaml", "envs/figures.yaml")
HOOKS = ".pre-commit-config.yaml"
PLATFORM = {  # of the environments; a pin that depends on the system keeps the marker that says so
    "python_version": "3.11", "python_full_version": "3.11.0", "sys_platform": "linux", "platform_system": "Linux",
    "platform_machine": "x86_64", "os_name": "posix",
}  # fmt: skip
NEEDED = "      # what these need\n"
PIN = re.compile(r"([a-z0-9-]+)==[^\s\"]+")


def read_lock(text: str) -> tuple[dict[str, str], dict[str, set[str]]]:
    """The pin of each package, and the packages that each is there for."""
    pins, needed_by = {}, {}
    for line in text.splitlines():
        pin, _, reason = line.partition("#")
        if not pin:
            continue
        requirement = Requirement(pin)
        if requirement.marker is None or requirement.marker.evaluate(PLATFORM):
            pins[requirement.name] = pin.strip() if "platform" in pin else f"{requirement.name}{requirement.specifier}"
            needed_by[requirement.name] = set(reason.removeprefix(" via ").split(", "))
    return pins, needed_by


def with_what_they_need(names: set[str], needed_by: dict[str, set[str]]) -> set[str]:
    """These packages, those that they need, those that those need, and so on."""
    found = names | {name for name, reasons in needed_by.items() if reasons & names}
    return found if found == names else with_what_they_need(found, needed_by)


def pin_environment(text: str, pins: dict[str, str], needed_by: dict[str, set[str]]) -> str:
    """A conda environment with the pins of the lock; its `pip:` section comes last."""
    head, section = text.split("  - pip:\n")
    own = {match[1] for match in PIN.finditer(section.split(NEEDED)[0])}
    others = with_what_they_need(own, needed_by) - own

    def lines(names: set[str]) -> str:
        return "".join(f"      - {pins[name]}\n" for name in sorted(names))

    return f"{head}  - pip:\n{lines(own)}{NEEDED}{lines(others)}"


def pinned() -> dict[Path, str]:
    """What each file is to hold."""
    pins, needed_by = read_lock((ROOT / "requirements.lock").read_text())
    files = {ROOT / name: pin_environment((ROOT / name).read_text(), pins, needed_by) for name in ENVIRONMENTS}
    files[ROOT / HOOKS] = PIN.sub(lambda match: pins[match[1]], (ROOT / HOOKS).read_text())
    return files


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    wrong = {path: text for path, text in pinned().items() if path.read_text() != text}
    for path, text in wrong.items():
        print(f"{path.relative_to(ROOT)} {'does not agree' if check else 'now agrees'} with requirements.lock")
        if not check:
            path.write_text(text)
    return int(check and bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
