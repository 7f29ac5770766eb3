"""The commit that is recorded with results is that of the code that made them."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from lipscale.store import provenance


@pytest.fixture
def repository(tmp_path):
    """A git repository with a package of one module, which is a copy of `provenance`."""
    (tmp_path / "package" / "store").mkdir(parents=True)
    shutil.copyfile(provenance.__file__, tmp_path / "package" / "store" / "provenance.py")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "package")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "first")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def commit(repository: Path, package: str = "package") -> str:
    path = repository / package / "store" / "provenance.py"
    specification = importlib.util.spec_from_file_location("copied", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.commit()


def test_the_commit_is_recorded_and_what_differs_from_it(repository):
    head = git(repository, "rev-parse", "HEAD")
    (repository / "results.txt").write_text("beside the package")
    assert commit(repository) == head
    path = repository / "package" / "store" / "provenance.py"
    path.write_text(path.read_text() + "\n")
    assert commit(repository) == f"{head}-dirty"


def test_a_new_file_in_the_package_differs_from_the_commit(repository):
    (repository / "package" / "family.py").write_text("")
    assert commit(repository).endswith("-dirty")


def test_a_package_that_only_lies_inside_a_repository_has_no_commit(repository):
    shutil.copytree(repository / "package", repository / "venv")
    assert commit(repository, "venv") == "unknown"
