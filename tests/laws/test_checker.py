"""checker/check.py proves what lipscale certifies, without any package, and refuses every planted mistake."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import synthetic
from conftest import ROOT, lipscale
from lipscale.certification import model_file
from lipscale.certification.certificate_file import certificate_file
from lipscale.certification.certify import certify
from lipscale.certification.plain_layers import PlainNetwork


def conv(inputs: int, outputs: int, kernel: object, stride: object = 1, padding: object = 0, mode: str = "circular") -> dict:
    return {
        "layer": "conv", "in_channels": inputs, "out_channels": outputs, "kernel_size": kernel, "stride": stride,
        "padding": padding, "padding_mode": mode, "bias": True,
    }  # fmt: skip


def dense(inputs: int, outputs: int) -> dict:
    return {"layer": "dense", "in_features": inputs, "out_features": outputs, "bias": False}


CENTRE, FLATTEN, MAXMIN = {"layer": "centre", "channels": 2}, {"layer": "flatten"}, {"layer": "maxmin"}
SHAPE = (2, 6, 8)
NETWORKS = {  # of images of SHAPE
    "dense": [
        FLATTEN, dense(96, 12), MAXMIN, dense(12, 12), {"layer": "groupsort2"}, dense(12, 3), {"layer": "scale", "scale": -2.5},
    ],
    "circular": [
        CENTRE, conv(2, 8, 2, stride=2), MAXMIN, conv(8, 6, (3, 1), padding=(1, 0)), {"layer": "relu"},
        conv(6, 4, 3, (1, 2), 1), FLATTEN, dense(24, 3),
    ],
    "circular, some outputs left out": [conv(2, 4, 3), {"layer": "average_pool", "kernel_size": 2}, FLATTEN, dense(24, 3)],
    "zeros": [
        conv(2, 4, 3, padding=1, mode="zeros"), {"layer": "max_pool", "kernel_size": 2}, conv(4, 4, (3, 2), (2, 1), 1, "zeros"),
        FLATTEN, dense(40, 3),
    ],
    "sll": [FLATTEN, dense(96, 12), {"layer": "sll", "features": 12, "bias": True}, {"layer": "maxmin"}, dense(12, 3)],
    "sll_conv": [{"layer": "sll_conv", "channels": 2, "kernel_size": 5, "bias": True}, MAXMIN, FLATTEN, dense(96, 3)],
    "residual": [
        {"layer": "residual", "branch": [conv(2, 2, 3, padding=1), MAXMIN, {"layer": "scale", "scale": 0.5}]},
        FLATTEN, dense(96, 3),
    ],
}  # fmt: skip


class Files:
    """A network, its images and their certificate in a folder; the certificate is a dictionary until it is checked."""

    def __init__(self, folder: Path, network: PlainNetwork, images: np.ndarray, labels: np.ndarray | None, epsilons=()):
        self.model, self.images, self.certificate = (
            folder / "model.safetensors",
            folder / "images.npz",
            folder / "certificate.json",
        )
        self.network, self.arrays = network, {"images": images} | ({} if labels is None else {"labels": labels})
        self.save()
        self.content = certificate_file(network, certify(network, images, labels), *self.checksums(), epsilons)

    def save(self) -> None:
        """As `lipscale.save` does, but also what that refuses."""
        names = ("specification", "lipschitz", "image_shape")
        description = {name: getattr(self.network, name) for name in names}
        save_file(self.network.state_dict(), self.model, {"network": json.dumps(description)})
        np.savez(self.images, **self.arrays)

    def checksums(self) -> list[str]:
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in (self.model, self.images)]

    def sign(self) -> None:
        """Have the certificate name the files as they are now."""
        self.content["model_sha256"], self.content["images_sha256"] = self.checksums()

    def check(self, *options: object) -> subprocess.CompletedProcess:
        self.certificate.write_text(json.dumps(self.content))
        return check(self.certificate, self.model, self.images, *options)

    def refused(self, *words: str) -> None:
        """With one sentence on stderr that holds these words."""
        result = self.check()
        assert result.returncode == 1, result.stdout
        assert result.stderr.startswith("refused: ")
        assert result.stderr.count("\n") == 1
        assert not [word for word in words if word not in result.stderr], result.stderr


def check(*arguments: object) -> subprocess.CompletedProcess:
    """By Python without any package."""
    command = [sys.executable, "-S", "-E", ROOT / "checker" / "check.py", *arguments]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)


def made(name: str, folder: Path, dtype: type = np.uint8) -> Files:
    torch.manual_seed(0)
    network = PlainNetwork(NETWORKS[name], 0.0, SHAPE)
    images = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)
    return Files(folder, network, images if dtype is np.uint8 else (images / 255).astype(dtype), None)


@pytest.fixture
def files(tmp_path) -> Files:
    """Of a network of nearly orthogonal dense layers with L = 4, and images of which only number 3 has a wrong label."""
    network, images = synthetic.network(), synthetic.images(12)
    labels = certify(network, images).predictions
    labels[3] = (labels[3] + 1) % 6
    return Files(tmp_path, network, images, labels)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_kind_of_layer_is_proven(name, tmp_path):
    files = made(name, tmp_path)
    result = files.check()
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"accepted: {len(NETWORKS[name])} layers, L = ")
    assert result.stdout.endswith("the radii of 5 of 5 images\n")
    assert min(image["radius"] for image in files.content["images"]) > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_images_of_floats_are_read_exactly(dtype, tmp_path):
    assert made("dense", tmp_path, dtype).check().returncode == 0


ONCE = {}  # kind of layer -> network and position; of dense layers and convolutions, all
for name, layers in NETWORKS.items():
    for position, layer in enumerate(layers):
        ONCE[layer["layer"], (name, position) if layer["layer"] in ("conv", "dense") else ()] = name, position


@pytest.mark.parametrize(("name", "position"), ONCE.values())
def test_a_constant_lowered_by_a_thousandth(name, position, tmp_path):
    files = made(name, tmp_path)
    files.content["layers"][position]["lipschitz"] *= 1 - 1e-3
    files.refused(f"layer {position} ({NETWORKS[name][position]['layer']})", "is not proven")


def test_a_constant_in_a_branch_lowered_by_a_thousandth(tmp_path):
    files = made("residual", tmp_path)
    files.content["layers"][0]["branch"][0]["lipschitz"] *= 1 - 1e-3
    files.refused("layer 0.0 (conv)", "is not proven")


@pytest.mark.parametrize("name", ["sll", "sll_conv"])
def test_a_block_whose_norm_is_above_1(name, tmp_path):
    files = made(name, tmp_path)
    position = [layer["layer"] for layer in NETWORKS[name]].index(name)
    files.network[position].weight += 0.1 * torch.randn_like(files.network[position].weight)
    files.save()
    files.content = certificate_file(files.network, certify(files.network, files.arrays["images"]), *files.checksums())
    assert files.check().returncode == 0
    constant = files.content["layers"][position]["lipschitz"]
    for claimed in (1.0, constant * (1 - 1e-9)):
        assert constant > 1.1 * claimed or claimed > 1.1
        files.content["layers"][position]["lipschitz"] = claimed
        files.refused(f"layer {position} ({name})", "is not proven")


def test_a_large_convolution_with_zero_padding_is_proven_on_a_torus(tmp_path):
    torch.manual_seed(0)
    layers = [conv(1, 2, 3, padding=1, mode="zeros"), {"layer": "average_pool", "kernel_size": 28}, FLATTEN, dense(2, 2)]
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 28, 28), dtype=np.uint8)
    files = Files(tmp_path, PlainNetwork(layers, 0.0, (1, 28, 28)), images, None)
    assert files.check().returncode == 0
    files.content["layers"][0]["lipschitz"] *= 1 - 1e-6
    files.refused("layer 0 (conv)")


def test_a_sample_of_images(files):
    files.content["images"][1]["radius"] *= 2
    result = files.check("--images", 3)
    assert result.stdout.endswith("the radii of 3 of 12 images\n"), result.stderr


def change(files: Files, *path: object, by: Callable) -> None:
    *parents, key = path
    target = files.content
    for parent in parents:
        target = target[parent]
    target[key] = by(target[key])


CLAIMS = {  # a mistake in the certificate, and words of the refusal
    "a radius raised by one percent": (("images", 5, "radius"), lambda radius: 1.01 * radius, ["radius", "image 5"]),
    "the square root of 2 forgotten": (("images", 5, "radius"), lambda radius: 2**0.5 * radius, ["radius", "image 5"]),
    "a pair radius raised by one percent": (
        ("images", 5, "pair_radius"),
        lambda radius: 1.01 * radius,
        ["pair radius", "image 5"],
    ),
    "a negative pair radius": (("images", 5, "pair_radius"), lambda radius: -radius, ["pair radius", "image 5"]),
    "a pair radius for a wrong class": (("images", 3, "pair_radius"), lambda _: 0.01, ["pair radius", "image 3"]),
    "a negative radius": (("images", 5, "radius"), lambda radius: -radius, ["radius", "image 5"]),
    "a radius that is not a number": (("images", 5, "radius"), lambda _: float("nan"), ["radius of image 5", "nan"]),
    "a radius for a wrong class": (("images", 3, "radius"), lambda _: 0.01, ["radius", "image 3"]),
    "a margin raised": (("images", 5, "margin"), lambda margin: 1.0001 * margin, ["margin", "image 5"]),
    "a wrong label": (("images", 5, "label"), lambda label: (label + 1) % 6, ["labels"]),
    "a constant that is not a number": (("layers", 1, "lipschitz"), lambda _: float("nan"), ["layer 1 (dense)", "nan"]),
    "an infinite constant": (("layers", 1, "lipschitz"), lambda _: float("inf"), ["layer 1 (dense)", "inf"]),
    "a constant in words": (("layers", 1, "lipschitz"), lambda _: "1", ["layer 1 (dense)", "'1'"]),
    "a negative constant": (("layers", 1, "lipschitz"), lambda constant: -constant, ["layer 1 (dense)", "negative"]),
    "a forgotten scale": (("layers", 4, "lipschitz"), lambda _: 1.0, ["layer 4 (scale)", "not proven"]),
    "an L below the product": (("lipschitz",), lambda lipschitz: 0.999 * lipschitz, ["below the product"]),
    "a layer left out": (("layers",), lambda layers: layers[:1] + layers[2:], ["4 layers", "5"]),
    "two layers exchanged": (("layers",), lambda layers: [layers[1], layers[0], *layers[2:]], ["layer 0 (flatten)"]),
    "an output of another shape": (("layers", 1, "output_shape"), lambda _: [31], ["layer 1 (dense)", "[31]"]),
    "other images": (("image_shape",), lambda _: [1, 4, 16], ["[1, 4, 16]"]),
    "an image left out": (("images",), lambda images: images[:-1], ["number of images"]),
    "another format": (("format",), lambda _: "lipscale certificate 2", ["format"]),
    "no layers": (("layers",), lambda _: None, ["TypeError"]),
}


@pytest.mark.parametrize("mistake", CLAIMS)
def test_a_mistake_in_the_certificate(mistake, files):
    path, by, words = CLAIMS[mistake]
    change(files, *path, by=by)
    files.refused(*words)


def larger_weight(files: Files) -> None:
    files.network[1].weight[0] *= 1.01


def other_bias(files: Files) -> None:
    files.network[1].bias[:] = torch.linspace(-1, 1, 32)


def infinite_weight(files: Files) -> None:
    files.network[1].weight[0, 0] = float("inf")


def larger_scale(files: Files) -> None:
    files.network[4].scale = files.network.specification[4]["scale"] = 4.01


def another_activation(files: Files) -> None:
    files.network.specification[2] = {"layer": "relu"}


def a_setting_that_is_not_known(files: Files) -> None:
    files.network.specification[0] = {"layer": "flatten", "start_dim": 2}


def swapped_images(files: Files) -> None:
    files.arrays["images"][[1, 2]] = files.arrays["images"][[2, 1]]
    del files.arrays["labels"]


def other_labels(files: Files) -> None:
    files.arrays["labels"][5] = (files.arrays["labels"][5] + 1) % 6


def images_of_another_shape(files: Files) -> None:
    files.arrays["images"] = files.arrays["images"].reshape(-1, 1, 4, 16)


MISTAKES = {  # in a file that the certificate is of: and words of the refusal where the checksum does not give it away
    larger_weight: ["layer 1 (dense)", "not proven"],
    other_bias: ["the margin", "of image"],
    infinite_weight: ["infinity"],
    larger_scale: ["layer 4 (scale)", "not proven"],
    another_activation: ["layer 2 (relu)"],
    a_setting_that_is_not_known: ["layer 0", "nothing is proven"],
    swapped_images: ["the margin", "of image"],
    other_labels: ["labels"],
    images_of_another_shape: ["[1, 4, 16]"],
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
@pytest.mark.parametrize("signed", [False, True])
def test_a_mistake_in_a_file(mistake, signed, files):
    mistake(files)
    files.save()
    if signed:
        files.sign()
    files.refused(*MISTAKES[mistake] if signed else ["the certificate is of another file"])


@pytest.mark.parametrize("file", ["model", "images"])
def test_a_file_that_was_cut_off(file, files):
    path = getattr(files, file)
    path.write_bytes(path.read_bytes()[:-100])
    files.sign()
    files.refused()


def test_the_command_writes_what_the_checker_proves(files, digits, tmp_path):
    """For the test split of a prepared data set, of which the checker reads the file or the folder."""
    certificate = tmp_path / "written.json"
    model_file.save(synthetic.network(classes=10), files.model)
    lipscale("certify", files.model, digits, "--certificate", certificate)
    for images in (digits, digits / "test_images.npy"):
        result = check(certificate, files.model, images, "--images", 20)
        proven = "the radii of 20 of 300 images, confidences at 36, 72 and 108, not the calibration of all images\n"
        assert result.stdout.endswith(proven), result.stderr
