"""The wheel as a user gets it: built, installed in an empty environment outside the repository, and used there."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IN_WHEEL = ("pyproject.toml", "README.md", "LICENSE", "src")
OWN_NETWORK = '''
"""LiST on a network of one's own, through what `import lipscale` offers."""

import json
import sys

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrizations import orthogonal

import lipscale

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
images = torch.from_numpy(images.reshape(-1, 1, 8, 8) / 16).float()
labels = torch.from_numpy(labels)
train, validation, test = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).split((997, 400, 400))

network = nn.Sequential(nn.Flatten(), orthogonal(nn.Linear(64, 64)), nn.ReLU(), orthogonal(nn.Linear(64, 10)))
lipschitz, feedback, history = 1.0, lipscale.LipschitzFeedback(), []
optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
for epoch in range(15):
    for batch in train[torch.randperm(len(train))].split(100):
        loss = cross_entropy(lipschitz * network(images[batch]), labels[batch]) / lipschitz
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        update = feedback.update(lipschitz, lipschitz * network(images[validation]), labels[validation])
    lipschitz = update.next_lipschitz
    history.append(update.temperature)

plain = lipscale.export(nn.Sequential(*network, lipscale.Scale(lipschitz)), (1, 8, 8), lipschitz=lipschitz)
lipscale.save(plain, "model.safetensors")
np.savez("images.npz", images=images[test].numpy(), labels=labels[test].numpy())
found = lipscale.certify(lipscale.load("model.safetensors"), images[test].numpy(), labels[test].numpy())
print(json.dumps({
    "file": lipscale.__file__,
    "prefix": sys.prefix,
    "lipschitz": lipschitz,
    "temperature": history[-1],
    "clean": float(found.accuracy()),
    "certified": float(found.accuracy(36)),
}))
'''
pytestmark = pytest.mark.slow


class Installation:
    """An environment with the wheel, which finds the dependencies where this process has them, but not this checkout."""

    def __init__(self, folder: Path):
        self.folder = folder
        source = folder / "source"  # a copy, as building leaves files beside the sources
        source.mkdir()
        for name in IN_WHEEL:
            path = ROOT / name
            if path.is_dir():
                shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(path, source)
        self.run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
        self.wheel = next(folder.glob("lipscale-*.whl"))
        shutil.rmtree(source)

        environment = folder / "environment"
        venv.create(environment, symlinks=True)
        self.bin = environment / "bin"
        self.site = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)}))
        # Python adds a folder named in a .pth file, and does not look for further .pth files in it: the editable installation
        # of this checkout is one of those.
        (self.site / "dependencies.pth").write_text("\n".join({sysconfig.get_path(name) for name in ("purelib", "platlib")}))
        pip = [sys.executable, "-m", "pip", "--python", self.bin / "python"]
        self.run(*pip, "install", "--no-deps", "--no-index", "--ignore-installed", self.wheel)

    def run(self, *command: object) -> str:
        """What a command says, run outside the repository by somebody without settings for Python."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
        result = subprocess.run(
            [*map(str, command)], cwd=self.folder, env=variables, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout


@pytest.fixture(scope="module")
def installation(tmp_path_factory) -> Installation:
    return Installation(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def own_network(installation) -> dict:
    """What the script of a user prints; leaves model.safetensors and images.npz."""
    (installation.folder / "own_network.py").write_text(OWN_NETWORK)
    return json.loads(installation.run(installation.bin / "python", "own_network.py"))


def test_the_installed_package_is_the_one_in_use(installation, own_network):
    assert Path(own_network["file"]).parent == installation.site / "lipscale"


def test_own_network_is_trained_exported_and_certified(own_network):
    assert own_network["lipschitz"] > 1
    assert own_network["temperature"] == pytest.approx(1, abs=0.2)
    assert 0.85 < own_network["clean"] <= 1
    assert 0.3 < own_network["certified"] < own_network["clean"]


def test_command(installation, own_network):
    assert "certify" in installation.run(installation.bin / "lipscale", "--help")
    said = installation.run(
        installation.bin / "lipscale", "certify", "model.safetensors", "images.npz", "--output", "radii.csv"
    )
    values = dict(line.split(",") for line in said.splitlines())
    assert float(values["clean_accuracy"]) == pytest.approx(own_network["clean"])
    assert float(values["certified_36"]) == pytest.approx(own_network["certified"])
    assert len((installation.folder / "radii.csv").read_text().splitlines()) == 1 + 400


def test_files_beside_the_modules_are_in_the_wheel(installation):
    """Type information, captions and the page of the report, parts that are found by their file."""
    installed = {path.relative_to(installation.site).as_posix() for path in (installation.site / "lipscale").rglob("*")}
    wanted = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "lipscale").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert wanted - installed == set()
