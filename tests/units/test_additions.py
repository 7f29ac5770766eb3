"""Modules that run more than their layers: no certificate covers them, so they are refused.

What is added here acts only on values above 1.5, which the comparison on random images may not meet.
"""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module

import synthetic
from lipscale.certification.bounds import bounds
from lipscale.certification.certificate import certificate, certified_radii
from lipscale.certification.certify import certify
from lipscale.certification.export import export
from lipscale.certification.model_file import save
from lipscale.certification.plain_layers import Centre, Residual, Scale
from lipscale.errors import LipscaleError
from lipscale.method.budget import LipschitzBudget
from lipscale.networks.network import LipschitzNetwork

SHAPE = (2, 8, 8)


def rarely(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values > 1.5, 2 * values, values)


def convnet() -> nn.Sequential:
    branch = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU())
    return nn.Sequential(Residual(branch), nn.Sequential(nn.Flatten(), nn.Linear(128, 10)))


def own_method(module: nn.Module, name: str) -> None:
    method = getattr(module, name)
    setattr(module, name, lambda *arguments: rarely(method(*arguments)))


ADDITIONS = {
    "hook": lambda module: module.register_forward_hook(lambda module, inputs, output: rarely(output)),
    "hook before": lambda module: module.register_forward_pre_hook(lambda module, inputs: (rarely(inputs[0]),)),
    "hook with keywords": lambda module: module.register_forward_hook(
        lambda module, inputs, keywords, output: rarely(output), with_kwargs=True
    ),
    "hook before with keywords": lambda module: module.register_forward_pre_hook(
        lambda module, inputs, keywords: ((rarely(inputs[0]),), keywords), with_kwargs=True
    ),
    "forward": lambda module: own_method(module, "forward"),
    "_call_impl": lambda module: own_method(module, "_call_impl"),
}
PLACES = {
    "network": "",
    "residual": "0",
    "branch": "0.branch",
    "layer of a branch": "0.branch.0",
    "container": "1",
    "layer": "1.1",
}


@pytest.mark.parametrize("addition", ADDITIONS)
@pytest.mark.parametrize("place", PLACES)
def test_export_refuses_additions(place, addition):
    network = convnet()
    ADDITIONS[addition](network.get_submodule(PLACES[place]))
    where = f"layer {PLACES[place]}" if PLACES[place] else "the network"
    with pytest.raises(LipscaleError, match=rf"{where} .* has a (hook|\w+ of its own), which a copy would not have"):
        export(network, SHAPE)


@pytest.mark.parametrize("addition", ADDITIONS)
@pytest.mark.parametrize("place", ["", "0", "0.branch", "0.branch.0", "2"])
def test_exported_networks_with_additions_have_no_certificate(place, addition):
    network = export(convnet(), SHAPE)
    ADDITIONS[addition](network.get_submodule(place))
    for refused in (
        certificate,
        lambda network: bounds(network, SHAPE),
        lambda network: certify(network, torch.rand(2, *SHAPE)),
    ):
        with pytest.raises(LipscaleError, match=r"has a (hook|\w+ of its own); allowed"):
            refused(network)


def test_a_convolution_with_its_own_conv_forward_is_refused():
    network = convnet()
    own_method(network[0].branch[0], "_conv_forward")
    with pytest.raises(LipscaleError, match=r"layer 0\.branch\.0 \(Conv2d\) has a _conv_forward of its own"):
        export(network, SHAPE)


@pytest.mark.parametrize("register", ["register_module_forward_hook", "register_module_forward_pre_hook"])
def test_hooks_for_all_modules_are_refused(register):
    """They act on a copy as well, so that no comparison finds them."""
    plain = export(convnet(), SHAPE)
    handle = getattr(torch_module, register)(lambda *arguments: None)
    try:
        for refused in (lambda: export(convnet(), SHAPE), lambda: certificate(plain)):
            with pytest.raises(LipscaleError, match="has a hook for all modules"):
                refused()
    finally:
        handle.remove()


def test_hooks_on_gradients_change_no_function():
    network = convnet()
    network[0].register_full_backward_hook(lambda module, inputs, outputs: None)
    assert export(network, SHAPE).lipschitz > 0


def test_a_layer_whose_class_calls_it_otherwise_is_refused():
    class Calling(nn.Linear):
        def _call_impl(self, images):
            return rarely(super()._call_impl(images))

    with pytest.raises(LipscaleError, match="layer 1 is Calling; allowed: Linear"):
        export(nn.Sequential(nn.Flatten(), Calling(128, 10)), SHAPE)


def test_children_in_another_order_than_their_names_keep_their_weights():
    layers = [("1", nn.Conv2d(2, 2, 3, padding=1)), ("0", nn.Conv2d(2, 2, 3, padding=1))]
    network = nn.Sequential(Residual(nn.Sequential(OrderedDict(layers))), nn.Flatten(), nn.Linear(128, 10))
    images = torch.rand(8, *SHAPE)
    torch.testing.assert_close(export(network, SHAPE)(images), network(images))


@pytest.mark.parametrize(
    ("mean", "message"),
    [
        (torch.zeros(2, 1, 1, dtype=torch.complex64), "has torch.complex64 weights; allowed: float32 and float64"),
        (torch.full((2, 1, 1), torch.nan), "has weights that are not finite"),
        (torch.zeros(2, 8, 8), r"has a mean of shape \[2, 8, 8\]; allowed: \[2, 1, 1\]"),
    ],
)
def test_means_that_a_copy_would_not_keep_are_refused(mean, message):
    centre = Centre(2)
    centre.mean = mean
    with pytest.raises(LipscaleError, match=message):
        export(nn.Sequential(centre, nn.Flatten(), nn.Linear(128, 10)), SHAPE)


def test_a_complex_bias_is_refused():
    network = convnet()
    network[1][1].bias = nn.Parameter(torch.zeros(10, dtype=torch.complex64))
    with pytest.raises(LipscaleError, match=r"layer 1\.1 \(Linear of torch\) has torch\.complex64 weights"):
        export(network, SHAPE)


def lipschitz_network() -> LipschitzNetwork:
    layers = [nn.Linear(128, 16), nn.Linear(16, 10)]
    return LipschitzNetwork(layers, [0.5, 0.5], LipschitzBudget(2, 3.0), family="unconstrained")


@pytest.mark.parametrize("addition", ADDITIONS)
@pytest.mark.parametrize("place", ["", "layers.1", "activation"])
def test_additions_to_a_lipschitz_network_are_refused(place, addition):
    network = lipschitz_network()
    ADDITIONS[addition](network.get_submodule(place))
    with pytest.raises(LipscaleError, match=r"has a (hook|\w+ of its own), which a copy would not have"):
        export(network, SHAPE)


def test_another_activation_of_a_lipschitz_network_is_refused():
    network = lipschitz_network()
    network.activation = nn.ReLU()
    with pytest.raises(LipscaleError, match="the activation is ReLU; allowed: MaxMin of lipscale"):
        export(network, SHAPE)


def test_a_scale_that_was_changed_after_export_counts_in_logits_and_bounds_alike(tmp_path):
    """Logits of the scale at export, and pair radii of a hundredth of it, were once combined."""
    images = synthetic.images(20)
    network, expected = synthetic.network(), certify(synthetic.network(), images)
    network[-1].scale /= 100
    found = certify(network, images)
    assert found.logits == pytest.approx(expected.logits / 100)
    assert found.pair_radii == pytest.approx(expected.pair_radii, rel=1e-6)
    assert (found.pair_radii == certified_radii(found.logits, found.predictions, certificate(network))[2]).all()
    with pytest.raises(LipscaleError, match="the layers were changed after export"):
        save(network, tmp_path / "model.safetensors")
    network[-1] = Scale(4.0)
    save(network, tmp_path / "model.safetensors")
