"""What a model file says of its images, and where that is checked."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import lipscale
import synthetic
from conftest import TINY
from lipscale import cli
from lipscale.attacks.falsification import Options, falsify_dataset
from lipscale.certification.binding import ARITHMETIC, NOT_STATED, PIXELS, Binding, check_fits
from lipscale.certification.export import bound
from lipscale.certification.model_file import load, save, to_bytes
from lipscale.config import check
from lipscale.data.dataset import Dataset
from lipscale.data.prepare import preparation_sha256, prepare
from lipscale.data.source import Source, Split
from lipscale.errors import LipscaleError
from lipscale.store.dataset import write_dataset
from lipscale.store.published import folder, published

NAMES = list("abcdef")


def dataset(classes=NAMES, preparation: str = "p" * 64) -> Dataset:
    split = Split(synthetic.images(6), np.arange(6))
    return Dataset(
        dict.fromkeys(("train", "validation", "test"), split), list(classes), [0.5], (1, 8, 8), "", preparation, "here"
    )


def test_a_model_file_keeps_what_is_known(tmp_path):
    network = bound(synthetic.network(), NAMES, "p" * 64)
    save(network, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        description = json.loads(file.metadata()["network"])
    assert {key: description[key] for key in ("image_shape", "classes", "pixels", "arithmetic", "preparation_sha256")} == {
        "image_shape": [1, 8, 8], "classes": NAMES, "pixels": PIXELS, "arithmetic": ARITHMETIC, "preparation_sha256": "p" * 64,
    }  # fmt: skip
    assert load(tmp_path / "model.safetensors").binding == network.binding == Binding(tuple(NAMES), "p" * 64)


def test_a_network_of_your_own_may_name_its_classes(tmp_path):
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    assert lipscale.export(own, (1, 8, 8)).binding == Binding()
    assert lipscale.export(own, (1, 8, 8), classes=["cat", "dog"]).binding.classes == ("cat", "dog")
    for wrong in (["cat"], ["cat", "cat"], "ab", [1, 2]):
        with pytest.raises(LipscaleError, match=r"the classes are .*; allowed: 2 different names, one for each logit"):
            lipscale.export(own, (1, 8, 8), classes=wrong)


@pytest.mark.parametrize("path", published(folder()).values(), ids=str)
def test_published_files_open(path):
    network = load(path)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["network"]).items() >= network.binding.stated().items()
    assert set(network.binding.described()) == {"classes", "pixels", "arithmetic", "preparation_sha256"}


def test_files_that_state_nothing_are_read_and_stay_so(tmp_path):
    path = tmp_path / "model.safetensors"
    save(synthetic.network(), path)
    with safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["network"])
    for key in ("pixels", "arithmetic"):
        del description[key]
    save_file(load_file(path), path, {"network": json.dumps(description)})
    network = load(path)
    assert set(network.binding.described().values()) == {NOT_STATED}
    assert path.read_bytes() == to_bytes(network)
    check_fits(network.binding, dataset())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixels": "from 0 to 255"}, "pixels is 'from 0 to 255'; allowed: 'floats from 0 to 1"),
        ({"arithmetic": "float16"}, "arithmetic is 'float16'; allowed: 'float64'"),
        ({"classes": ["a"]}, "allowed: 6 different names"),
        ({"classes": "abcdef"}, "allowed: a list of names"),
        ({"preparation_sha256": 3}, "preparation_sha256 is 3; allowed: a checksum"),
        ({"unknown": 3}, "unknown"),
    ],
)
def test_files_that_state_something_else_are_refused(tmp_path, change, message):
    path = tmp_path / "model.safetensors"
    save(synthetic.network(), path)
    with safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["network"])
    save_file(load_file(path), path, {"network": json.dumps(description | change)})
    with pytest.raises(LipscaleError, match=message):
        load(path)


def test_data_that_do_not_fit_are_refused():
    binding = Binding(tuple(NAMES), "p" * 64)
    check_fits(binding, dataset())
    check_fits(binding, dataset(preparation=""))  # prepared by an earlier version
    with pytest.raises(LipscaleError, match=r"here has the classes b a c d e f; allowed: those of the model, a b c d e f"):
        check_fits(binding, dataset(classes="bacdef"))
    with pytest.raises(LipscaleError, match=r"here was prepared from another source .* preparation_sha256 pppppppppppp"):
        check_fits(binding, dataset(preparation="q" * 64))


def test_falsification_refuses_data_that_do_not_fit():
    network = bound(synthetic.network(), NAMES, "p" * 64)
    with pytest.raises(LipscaleError, match="was prepared from another source"):
        falsify_dataset(network, dataset(preparation="q" * 64), Options(1))


def of(images: np.ndarray, **origin) -> Source:
    return Source(NAMES, Split(images, np.arange(6)), None, origin)


def test_the_checksum_of_a_preparation():
    images = synthetic.images(6)
    plain = preparation_sha256(of(images, package="p 1.0", path="here.zip"), "noise")
    assert plain == preparation_sha256(of(images, package="p 1.1", path="there"), "noise")
    changed = [
        preparation_sha256(of(images[::-1]), "noise"),
        preparation_sha256(of(images), "other"),
        preparation_sha256(of(images, sha256="1"), "noise"),
        preparation_sha256(of(images, sha256="1", resampling="bilinear"), "noise"),
        preparation_sha256(of(images[:, :, :4], sha256="1"), "noise"),
    ]
    assert len({plain, *changed}) == 6
    archive = preparation_sha256(of(images, sha256="1"), "noise")  # its content is known by its checksum
    assert archive == preparation_sha256(of(images[::-1], sha256="1"), "noise")


def test_the_command_prints_and_checks_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays, manifest = prepare(check(TINY).dataset)
    write_dataset(tmp_path / "data", arrays, manifest)
    torch.manual_seed(0)
    network = lipscale.export(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (1, 8, 8))
    save(bound(network, manifest["classes"], manifest["preparation_sha256"]), "model.safetensors")
    assert cli.main(["certify", "model.safetensors", "data"]) == 0
    printed = dict(line.split(",") for line in capsys.readouterr().out.splitlines())
    assert printed["image_shape"] == "1 8 8"
    assert printed["classes"] == "0 1 2 3 4 5 6 7 8 9"
    assert printed["pixels"] == PIXELS
    assert printed["preparation_sha256"] == manifest["preparation_sha256"]
    save(bound(network, [f"digit {i}" for i in range(10)]), "model.safetensors")
    assert cli.main(["certify", "model.safetensors", "data"]) == 1
    assert "data has the classes 0 1 2 3 4 5 6 7 8 9; allowed: those of the model, digit 0" in capsys.readouterr().err
