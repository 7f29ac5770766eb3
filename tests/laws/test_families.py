"""Families of layers beside orthogonal and AOL ones: their norms, what they compute, exporting, and the certificate."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from orthogonium.layers.conv.SLL.sll_layer import SDPBasedLipschitzDense
from torch import nn
from torch.func import jacrev, vmap

from lipscale.attacks import at_own_radius, falsification
from lipscale.attacks.falsification import falsify
from lipscale.certification.certificate import certificate
from lipscale.certification.export import export
from lipscale.certification.model_file import load, save
from lipscale.errors import LipscaleError
from lipscale.networks.families import bro, cayley
from lipscale.networks.families import sll as family
from lipscale.networks.network import build_network
from lipscale.networks.sll import SLL, SLLConv

SHAPE = (1, 8, 8)
ARCHITECTURES = {"mlp": {"widths": [64, 32]}, "convnet": {"channels": [4, 8], "depth": 2, "patch": 1, "widths": [32, 32]}}


@pytest.fixture(params=[(name, architecture) for name in ("cayley", "bro", "sll") for architecture in ARCHITECTURES], ids=str)
def trained(request):
    """A network whose parameters have moved, and random images and labels, which it was trained on."""
    name, architecture = request.param
    settings = SimpleNamespace(
        architecture=architecture, **ARCHITECTURES[architecture], bias=True, allocation="softmax", family=name
    )
    torch.manual_seed(0)
    network = build_network(settings, SHAPE, 10, [0.3], 5.0)
    images, labels = torch.rand(64, *SHAPE), torch.randint(10, (64,))
    optimizer, losses = torch.optim.Adam(network.parameters(), lr=0.02), []
    for _ in range(20):
        optimizer.zero_grad()
        losses.append(nn.functional.cross_entropy(network(images), labels))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    return network.eval(), images, labels


def test_a_trained_network_is_exported_as_it_is_and_certified(trained, tmp_path):
    network, images, labels = trained
    plain = export(network, SHAPE)
    torch.testing.assert_close(plain(images), network(images), rtol=1e-4, atol=1e-4)
    save(plain, tmp_path / "model.safetensors")
    assert torch.equal(load(tmp_path / "model.safetensors")(images), plain(images))
    promise = certificate(plain)
    assert promise.lipschitz_certified <= 5.0 * (1 + 1e-12)
    exact = plain.double()
    jacobians = vmap(jacrev(lambda image: exact(image[None])[0]))(images.double()).flatten(2)
    assert torch.linalg.matrix_norm(jacobians, 2).max() <= promise.lipschitz_certified
    assert (network(images).argmax(1) == labels).float().mean() > 0.2


def test_networks_of_sll_have_blocks_of_both_kinds():
    arguments = {"bias": True, "allocation": "softmax", "family": "sll", **ARCHITECTURES["convnet"]}
    settings = SimpleNamespace(architecture="convnet", **arguments)
    plain = export(build_network(settings, SHAPE, 10, [0.3], 5.0), SHAPE)
    assert [type(layer) for layer in plain].count(SLLConv) == 2
    assert [type(layer) for layer in plain].count(SLL) == 2


def test_no_certificate_is_broken(trained, monkeypatch):
    """By the first attack of `falsify`; all of them take minutes."""
    monkeypatch.setattr(falsification, "attacks", lambda classes: {"apgd-ce": at_own_radius.attacks(classes)["apgd-ce"]})
    network, images, labels = trained
    falsify(export(network, SHAPE), images.numpy(), labels.numpy(), images_at_most=20).check()


@pytest.mark.parametrize("spread", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (8, 8), (7, 7), (1, 4), (4, 1), (3, 6, 4), (2, 4, 6)])
@pytest.mark.parametrize("matrices", [cayley.Cayley, bro.BlockReflector])
def test_matrices_have_orthonormal_columns_or_rows(matrices, shape, spread):
    torch.manual_seed(0)
    found = matrices(shape)(spread * torch.randn(shape, dtype=torch.float64))
    assert found.shape == shape
    values = torch.linalg.svdvals(found)
    assert values.max() <= 1 + 1e-9
    if matrices is cayley.Cayley or spread >= 1:  # the ridge of block reflectors counts where free numbers are tiny
        assert values.min() >= 1 - 1e-2


def test_a_block_is_that_of_orthogonium():
    """T taken into W and b: T^(1/2) ReLU(v) = ReLU(T^(1/2) v)."""
    torch.manual_seed(0)
    theirs = SDPBasedLipschitzDense(16, 16, 16)
    root, ours = theirs.compute_t().sqrt(), SLL(16)
    ours.weight.data, ours.bias.data = (root[:, None] * theirs.weight).detach(), (root * theirs.bias[0]).detach()
    inputs = torch.randn(32, 16)
    torch.testing.assert_close(ours(inputs), theirs(inputs))


def test_only_square_layers_are_blocks():
    assert isinstance(family.dense(8, 8), family.Block)
    assert isinstance(family.plain(family.dense(8, 8, bias=False)), SLL)
    assert type(family.plain(family.dense(8, 4))) is nn.Linear


def test_only_circular_convolutions_that_keep_the_shape_are_blocks():
    conv = partial(family.conv, padding_mode="circular")
    assert isinstance(conv(4, 4, 3, padding=1), family.ConvBlock)
    assert isinstance(family.plain(conv(4, 4, 5, padding=2, bias=False)), SLLConv)
    others = conv(4, 8, 3, padding=1), conv(4, 4, 2, stride=2), conv(4, 4, 3), family.conv(4, 4, 3, padding=1)
    assert {type(family.plain(layer)) for layer in others} == {nn.Conv2d}


def test_the_last_layer_may_be_a_block():
    """Its pairs of classes are not those of a dense layer."""
    torch.manual_seed(0)
    plain = export(nn.Sequential(nn.Flatten(), nn.Linear(64, 4), SLL(4)), SHAPE)
    promise = certificate(plain)
    assert np.all(promise.pairs == promise.pairs[0, 1])


@pytest.mark.parametrize("norm", [1.0, 0.97])
def test_a_layer_that_does_more_than_its_weight_is_refused(norm):
    """Also where freezing changes the weight, so that the logits of the network and of its copy differ in any case."""

    class More(nn.Linear):
        def forward(self, hidden):
            return super().forward(hidden) + 0.3 * torch.relu(hidden.sum(1, keepdim=True) - 7)

    settings = SimpleNamespace(architecture="mlp", widths=[32, 32], bias=True, allocation="softmax", family="orthogonal")
    network = build_network(settings, (1, 4, 4), 4, [0.5], 5.0)
    network.layers[0] = nn.Linear(16, 32)
    nn.init.orthogonal_(network.layers[0].weight, norm)
    export(network, (1, 4, 4))
    network.layers[0].__class__ = More
    with pytest.raises(LipscaleError, match="does something besides calling its layers in order"):
        export(network, (1, 4, 4))
