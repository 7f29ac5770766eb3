"""Model files: read back as they were, and nothing else."""

import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from lipscale.certification.export import export
from lipscale.certification.model_file import load, save, to_bytes
from lipscale.certification.plain_layers import Centre, GroupSort2, PlainNetwork, Residual, Scale
from lipscale.errors import LipscaleError

SHAPE = (2, 8, 8)


@pytest.fixture
def plain() -> PlainNetwork:
    torch.manual_seed(0)
    branch = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), GroupSort2())
    return export(
        nn.Sequential(Centre(2), Residual(branch), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32, 5), Scale(0.1)), SHAPE
    )


@pytest.fixture
def path(plain, tmp_path) -> Path:
    save(plain, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def metadata(path: Path) -> dict:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["network"], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def rewrite(path: Path, text: str) -> None:
    save_file(load_file(path), path, {"network": text})


def test_a_network_is_read_back(plain, path):
    again = load(path)
    images = torch.rand(4, *SHAPE)
    assert torch.equal(again(images), plain(images))
    assert again.lipschitz == plain.lipschitz
    assert again.image_shape == SHAPE
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert path.read_bytes() == to_bytes(plain) == to_bytes(again)


def test_the_device_may_be_a_torch_device(path):
    assert load(path, torch.device("cpu")).lipschitz > 0


def test_without_constraint_the_metadata_is_strict_json(plain, path):
    plain.lipschitz = math.inf
    save(plain, path)
    assert metadata(path)["lipschitz"] == "inf"
    assert load(path).lipschitz == math.inf


@pytest.mark.parametrize("old", ["Infinity", "null"])
def test_old_files_without_constraint_are_read(path, old):
    description = json.dumps(metadata(path) | {"lipschitz": 12345.0})
    rewrite(path, description.replace("12345.0", old))
    assert load(path).lipschitz == math.inf


def test_old_files_whose_convolutions_name_no_padding_mode_are_read(path):
    description = metadata(path)
    del description["specification"][1]["branch"][0]["padding_mode"]
    rewrite(path, json.dumps(description))
    assert load(path)[1].branch[0].padding_mode == "circular"


def test_scales_that_are_not_finite_are_not_written(tmp_path):
    network = PlainNetwork([{"layer": "flatten"}, {"layer": "scale", "scale": math.nan}], 1, SHAPE)
    with pytest.raises(LipscaleError, match="scales that are not finite"):
        save(network, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_whoever_may_read_other_files_may_read_a_model(path):
    (path.parent / "other").touch()
    assert path.stat().st_mode == (path.parent / "other").stat().st_mode
    assert len(list(path.parent.iterdir())) == 2


def test_a_model_that_cannot_be_written_leaves_what_was_there(plain, path):
    before = path.read_bytes()
    with pytest.raises(LipscaleError, match=r"model\.safetensors/x cannot be written"):
        save(plain, path / "x")
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["truncated", "empty", "no metadata", "missing"])
def test_a_damaged_model_is_refused(path, damage):
    if damage == "no metadata":
        save_file({"weight": torch.zeros(3)}, path)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 1000 if damage == "truncated" else 0])
    with pytest.raises(LipscaleError, match=r"model\.safetensors cannot be read"):
        load(path)


@pytest.mark.parametrize("lipschitz", ["-1.0", "NaN", '"much"', "[1]"])
def test_an_impossible_lipschitz_is_refused(path, lipschitz):
    rewrite(path, json.dumps(metadata(path) | {"lipschitz": 12345.0}).replace("12345.0", lipschitz))
    with pytest.raises(LipscaleError, match="cannot be read"):
        load(path)


class Malicious:
    """Writes the file `marker` when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (self.marker, "pwned")


def pickled(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize("write", [torch.save, pickled])
def test_a_model_cannot_run_code(tmp_path, write):
    marker, path = tmp_path / "marker", tmp_path / "model.safetensors"
    pickle.loads(pickle.dumps(Malicious(marker)))
    assert marker.exists()
    marker.unlink()
    write(Malicious(marker), path)
    with pytest.raises(LipscaleError, match="cannot be read"):
        load(path)
    assert not marker.exists()


def test_only_an_exported_network_is_written_and_only_to_a_file(plain, tmp_path):
    with pytest.raises(LipscaleError, match=r"the network is Sequential; allowed: what lipscale\.export"):
        save(nn.Sequential(nn.Flatten()), tmp_path / "model.safetensors")
    with pytest.raises(LipscaleError, match=r"'\.' names no file"):
        save(plain, ".")
