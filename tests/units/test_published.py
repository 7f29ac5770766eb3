"""Published networks: copied with what describes them, found by name, and refused where they would be too large."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import lipscale
from lipscale import cli
from lipscale.errors import LipscaleError
from lipscale.report import published_models
from lipscale.store import checksums
from lipscale.store.published import VARIABLE, find, folder
from made_experiment import COMMIT, make

SHAPE = (1, 8, 8)
RUNS = ["list-0.1-seed0", "list-100-seed1"]


@pytest.fixture
def experiment(tmp_path):
    """A made experiment whose two runs `RUNS` have networks."""
    made = make(tmp_path / "made")
    for seed, run in enumerate(RUNS):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2), lipscale.Scale(0.5))
        path = made.path / "runs" / run / "model.safetensors"
        lipscale.save(lipscale.export(network, SHAPE), path)
        checksums.record(path)
    return made


@pytest.fixture
def publish(experiment, tmp_path, monkeypatch):
    """`publish(runs)` publishes networks as the experiment `toy`."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "published"))

    def write(runs, name="toy", add=False):
        target = tmp_path / "published" / name
        known = [run.name for run in experiment.runs]
        models = published_models.model_files(experiment.path, target, runs, known, add)
        published_models.write_models(experiment.path, target, models, add)
        return target / "networks"

    return write


def test_a_published_network_is_opened_by_its_name(experiment, publish):
    publish(RUNS)
    for run in RUNS:
        network, original = lipscale.load(f"toy/{run}"), lipscale.load(experiment.path / "runs" / run / "model.safetensors")
        images = torch.rand(3, *SHAPE)
        assert torch.equal(network(images), original(images))
        assert network.image_shape == SHAPE
    assert network.lipschitz != lipscale.load("toy/list-0.1-seed0").lipschitz


def test_networks_are_described(experiment, publish):
    described = json.loads((publish(RUNS[:1]) / "networks.json").read_text())
    assert described["data"]["arrays_sha256"] == "d" * 64
    assert described["data"]["image_shape"] == list(SHAPE)
    assert described["data"]["settings"]["split_seed"] == 0
    network = described["networks"]["list-0.1-seed0"]
    assert (network["commit"], network["data_sha256"], network["temperature"]) == (COMMIT, "d" * 64, 1.0)
    assert (network["lipschitz"], network["lipschitz_certified"]) == (9.0, 8.991)


def test_networks_of_an_earlier_publication_are_removed(publish):
    publish(RUNS)
    assert sorted(path.name for path in publish(RUNS[:1]).iterdir()) == ["list-0.1-seed0.safetensors", "networks.json"]
    assert not publish([]).exists()


def test_networks_are_added_to_those_that_are_published(publish, monkeypatch):
    publish(RUNS[:1])
    size = (folder() / "toy" / "networks" / f"{RUNS[0]}.safetensors").stat().st_size
    monkeypatch.setattr(published_models, "LARGEST_TOTAL", size)
    with pytest.raises(LipscaleError, match="the 1 networks of --models take"):
        publish(RUNS[1:], add=True)
    monkeypatch.setattr(published_models, "LARGEST_TOTAL", 3 * size)
    assert list(json.loads((publish(RUNS[1:], add=True) / "networks.json").read_text())["networks"]) == RUNS
    assert all(lipscale.load(f"toy/{run}").image_shape == SHAPE for run in RUNS)
    publish([], add=True)
    assert all(lipscale.load(f"toy/{run}").image_shape == SHAPE for run in RUNS)


def test_networks_that_cannot_be_published_are_refused(experiment, publish, monkeypatch):
    with pytest.raises(LipscaleError, match=r"--models names 'list-7-seed0'; allowed: list-0\.1-seed0, "):
        publish(["list-7-seed0"])
    with pytest.raises(LipscaleError, match=r"fixed-1-seed0/model\.safetensors is missing"):
        publish(["fixed-1-seed0"])
    path = experiment.path / "runs" / RUNS[0] / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(LipscaleError, match=r"model\.safetensors was altered"):
        publish(RUNS)


def test_networks_of_all_experiments_share_the_limit(experiment, publish, monkeypatch):
    size = sum((experiment.path / "runs" / run / "model.safetensors").stat().st_size for run in RUNS)
    monkeypatch.setattr(published_models, "LARGEST_TOTAL", size)
    publish(RUNS)
    publish(RUNS)  # what it replaces does not count
    with pytest.raises(LipscaleError, match=r"the 1 networks of --models take .* MB and those that stay published .* MB; a"):
        publish(RUNS[:1], "other")
    publish([])
    publish(RUNS[:1], "other")


def test_an_unknown_name_is_answered_with_those_there_are(publish, tmp_path):
    with pytest.raises(LipscaleError, match=rf"no network 'toy/x'; allowed: .*published has none, {VARIABLE} names another"):
        lipscale.load("toy/x")
    publish(RUNS)
    there = r"one of toy/list-0\.1-seed0, toy/list-100-seed1"
    for name in ("toy/x", "x", "toy/../toy/list-0.1-seed0", f"{tmp_path}/toy/list-0.1-seed0", "toy", "x" * 5000):
        with pytest.raises(LipscaleError, match=rf"there is no network .*; allowed: a \.safetensors file, or {there}"):
            lipscale.load(name)
    with pytest.raises(LipscaleError, match=r"the model absent\.safetensors cannot be read"):
        lipscale.load("absent.safetensors")


def test_a_path_that_exists_comes_first(publish, tmp_path, monkeypatch):
    publish(RUNS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / RUNS[0]).write_text("no network")
    with pytest.raises(LipscaleError, match=rf"the model toy/{RUNS[0]} cannot be read"):
        lipscale.load(f"toy/{RUNS[0]}")


def test_networks_are_looked_for_in_this_repository(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert (folder() / "digits" / "runs.csv").exists()
    assert find("model.safetensors").name == "model.safetensors"


@pytest.fixture
def images(tmp_path):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (30, *SHAPE), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(30) % 2)
    return tmp_path / "images.npz"


def test_certify_and_falsify_take_the_name(publish, images, tmp_path, monkeypatch, capsys):
    networks = publish(RUNS)
    before = sorted(networks.iterdir())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli.main(["certify", "toy/list-0.1-seed0", str(images), "--output", "radii.csv"]) == 0
    assert "clean_accuracy," in capsys.readouterr().out
    assert cli.main(["falsify", "toy/list-0.1-seed0", "--data", str(images), "--images", "3"]) == 0
    files = {path.name for path in (tmp_path / "elsewhere").iterdir() if not path.name.startswith(".")}
    assert files == {"radii.csv", "list-0.1-seed0-falsification.csv", "list-0.1-seed0-falsification.json"}
    assert sorted(networks.iterdir()) == before
    assert cli.main(["certify", "toy/list-1-seed0", str(images)]) == 1
    assert "lipscale: there is no network 'toy/list-1-seed0'; allowed: " in capsys.readouterr().err
