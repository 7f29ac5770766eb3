"""Networks of other libraries and of plain torch: the exported copy is the same function, or the layer is refused by name."""

import copy
import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from orthogonium.layers import AdaptiveOrthoConv2d, BatchCentering2D, MaxMin, OrthoLinear, UnitNormLinear
from orthogonium.layers.conv.AOL import AOLConv2D
from orthogonium.reparametrizers import CHOLESKY_STABLE_ORTHO_PARAMS
from torch import nn
from torch.nn.utils import parametrizations

from lipscale.certification.certificate import certificate
from lipscale.certification.export import export
from lipscale.certification.freezing import freeze
from lipscale.certification.model_file import load, save
from lipscale.certification.own import from_modules
from lipscale.certification.plain_layers import Centre, GroupSort2, PlainNetwork, Residual, Scale
from lipscale.errors import LipscaleError
from lipscale.method.budget import LipschitzBudget
from lipscale.networks.network import LipschitzNetwork

torchlip = pytest.importorskip("deel.torchlip")

SHAPE = (2, 8, 8)
IMAGES = torch.rand(32, *SHAPE, generator=torch.Generator().manual_seed(1))


def dense(features: int = 128) -> nn.Module:
    return nn.Linear(features, 10)


def orthogonium_convnet(**arguments) -> nn.Module:
    """All three kinds of AdaptiveOrthoConv2d: stride 1 with padding "same", kernel = stride, and a composed kernel."""
    return nn.Sequential(
        AdaptiveOrthoConv2d(2, 8, 3, **arguments), MaxMin(), AdaptiveOrthoConv2d(8, 8, 2, stride=2, padding=0, **arguments),
        MaxMin(), AdaptiveOrthoConv2d(8, 16, 4, stride=2, padding=1, **arguments), MaxMin(), nn.Flatten(), OrthoLinear(64, 10),
    )  # fmt: skip


def torchlip_convnet() -> nn.Module:
    return torchlip.Sequential(
        torchlip.SpectralConv2d(2, 8, 3, padding=1), torchlip.GroupSort2(), torchlip.ScaledAvgPool2d(2),
        torchlip.FrobeniusConv2d(8, 4, 3, padding="same", padding_mode="circular"), nn.ReLU(inplace=True), nn.Flatten(),
        torchlip.SpectralLinear(64, 16), torchlip.GroupSort2(), torchlip.FrobeniusLinear(16, 10), k_coef_lip=3.0,
    )  # fmt: skip


NETWORKS = {
    "orthogonium": orthogonium_convnet,
    "orthogonium, Cholesky": lambda: orthogonium_convnet(ortho_params=CHOLESKY_STABLE_ORTHO_PARAMS),
    "orthogonium, unit norm": lambda: nn.Sequential(nn.Flatten(), UnitNormLinear(128, 10)),
    "AOL": lambda: nn.Sequential(
        AOLConv2D(2, 8, 3, padding=1), MaxMin(), AOLConv2D(8, 4, 3, padding=1, niter=2), nn.Flatten(), dense(256)
    ),
    "torchlip": torchlip_convnet,
    "torchlip, exported": lambda: torchlip_convnet().vanilla_export(),
    "torch, orthogonal": lambda: nn.Sequential(
        nn.Flatten(),
        parametrizations.orthogonal(dense(), orthogonal_map="cayley"),
        MaxMin(),
        parametrizations.orthogonal(dense(10)),
    ),
    "torch, spectral_norm": lambda: nn.Sequential(
        parametrizations.spectral_norm(nn.Conv2d(2, 4, 3)), nn.ReLU(), nn.Flatten(), parametrizations.spectral_norm(dense(144))
    ),
    "torch, weight_norm": lambda: nn.Sequential(nn.Flatten(), parametrizations.weight_norm(dense())),
    "nested": lambda: nn.Sequential(
        OrderedDict(
            first=nn.Sequential(nn.Conv2d(2, 4, 3, padding="valid"), nn.Sequential(nn.ReLU(), nn.Identity())),
            dropout=nn.Dropout(0.5),
            flatten=nn.Flatten(),
            last=dense(144),
        )
    ),
    "names out of order": lambda: nn.Sequential(
        OrderedDict([("3", nn.Flatten()), ("1", nn.Linear(128, 128)), ("2", nn.ReLU()), ("0", nn.Linear(128, 128))])
    ),
    "one activation used twice": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(128, 64), sorting := MaxMin(), nn.Linear(64, 64), sorting, nn.Linear(64, 10)
    ),
    "a subclass of Sequential": lambda: type("Mine", (nn.Sequential,), {})(nn.Flatten(), dense()),
    "residual": lambda: nn.Sequential(
        Centre(2),
        Residual(nn.Sequential(nn.Sequential(AdaptiveOrthoConv2d(2, 2, 3)), nn.Dropout(), nn.ReLU(True))),
        nn.MaxPool2d(2),
        nn.Flatten(),
        dense(32),
        Scale(3.0),
    ),
    "in float64": lambda: nn.Sequential(nn.Flatten(), parametrizations.orthogonal(dense().double())),
    "first layer in place": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), dense()),
    "in float32 only": lambda: nn.Sequential(InFloat32(), nn.Flatten(), dense()),
}


class InFloat32(nn.Identity):
    pass


@pytest.fixture(autouse=True)
def float32_only(monkeypatch):
    """A module that refuses float64, so that only float32 can be compared; otherwise the identity."""

    def forward(self, images):
        if images.dtype != torch.float32:
            raise RuntimeError("expected Float")
        return images

    monkeypatch.setattr(InFloat32, "forward", forward)
    monkeypatch.setattr("lipscale.certification.own.DO_NOTHING", (InFloat32, nn.Identity, nn.Dropout))


def trained(network: nn.Module, steps: int = 3) -> nn.Module:
    """The network after some steps that move every weight."""
    dtype = next(network.parameters()).dtype
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(IMAGES.to(dtype)), torch.arange(32) % 10).backward()
        optimizer.step()
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_the_copy_is_the_same_function(name):
    torch.manual_seed(0)
    network = trained(NETWORKS[name]()) if "exported" not in name else NETWORKS["torchlip"]()
    if "exported" in name:
        network = trained(network).eval().vanilla_export()
    plain = export(network, SHAPE)
    assert isinstance(plain, PlainNetwork)
    with torch.no_grad():
        expected = copy.deepcopy(network).eval()(IMAGES.to(next(network.parameters()).dtype).clone()).float()
    # sums of up to 256 terms in float32, in another order, in up to 8 layers
    assert (plain(IMAGES) - expected).abs().max() <= 8 * 256 * 2.0**-24 * expected.abs().max()
    assert plain.lipschitz == certificate(plain).lipschitz_certified
    assert not any(parameter.requires_grad for parameter in plain.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_exporting_leaves_the_network_as_it_is(name):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    before = copy.deepcopy(network.state_dict())
    state = torch.get_rng_state()
    export(network, SHAPE)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network.training
    assert torch.equal(state, torch.get_rng_state())


def test_an_aol_network_is_not_scaled_up():
    """Its layers have norms below 1. Dividing each by its norm once changed logits by 44.9 and T* from 0.995 to 3.48."""
    torch.manual_seed(0)
    network = trained(nn.Sequential(*(AOLConv2D(2, 2, 3, padding=1) for _ in range(4)), nn.Flatten(), dense(), Scale(50.0)))
    for layer in network[:4]:
        layer.parametrizations.weight[0].q.data.normal_()
    plain = export(network, SHAPE)
    for layer, copied in zip(network[:4], plain, strict=False):
        assert torch.equal(layer.weight, copied.weight)
    assert plain.lipschitz < 0.9 * 50 * torch.linalg.matrix_norm(network[-2].weight, 2)


def small_layers(norm: float) -> LipschitzNetwork:
    layers = [nn.Linear(128, 16), nn.Linear(16, 10)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=norm)
    return LipschitzNetwork(layers, [0.5, 0.5], LipschitzBudget(2, 3.0), family="unconstrained")


@pytest.mark.parametrize("norm", [0.5, 0.99999])
def test_freezing_does_not_scale_up(norm):
    network = small_layers(norm)
    kept = [layer.weight for layer in freeze(network, SHAPE) if isinstance(layer, nn.Linear)]
    assert all(torch.equal(layer.weight, weight) for layer, weight in zip(network.layers, kept, strict=True))


def test_freezing_brings_orthogonal_layers_back_to_norm_1():
    network = small_layers(0.999)
    network.family = "orthogonal"
    kept = [layer.weight for layer in freeze(network, SHAPE) if isinstance(layer, nn.Linear)]
    assert all(0.99999 < torch.linalg.matrix_norm(weight.double(), 2) <= 1 for weight in kept)
    network = small_layers(0.5)
    network.family = "orthogonal"
    assert torch.equal(freeze(network, SHAPE)[2].weight, network.layers[0].weight)


def test_freezing_scales_down():
    kept = [layer.weight for layer in freeze(small_layers(1.1), SHAPE) if isinstance(layer, nn.Linear)]
    assert all(0.99999 < torch.linalg.matrix_norm(weight.double(), 2) <= 1 for weight in kept)


def test_groupsort2_pairs_neighbours_and_maxmin_halves():
    values = torch.tensor([[4.0, 3.0, 1.0, 2.0]])
    assert GroupSort2()(values).tolist() == [[3, 4, 1, 2]]
    assert MaxMin()(values).tolist() == [[4, 3, 1, 2]]
    images = torch.randn(3, 6, 4, 5)
    assert torch.equal(GroupSort2()(images), torchlip.GroupSort2()(images))
    assert not torch.equal(GroupSort2()(images), MaxMin()(images))


def test_same_padding_becomes_numbers():
    network = nn.Sequential(nn.Conv2d(2, 2, (3, 5), padding="same", padding_mode="circular"), nn.Flatten())
    plain = export(network, SHAPE)
    assert plain[0].padding == (1, 2)
    torch.testing.assert_close(plain(IMAGES), network(IMAGES))


def test_the_factor_of_a_torchlip_layer_is_kept():
    network = nn.Sequential(nn.Flatten(), torchlip.SpectralLinear(128, 10, k_coef_lip=5.0), torchlip.GroupSort2(k_coef_lip=2.0))
    plain = export(network, SHAPE)
    assert plain.lipschitz == pytest.approx(10, rel=1e-2)
    assert [entry["layer"] for entry in plain.specification] == ["flatten", "dense", "groupsort2", "scale"]


@pytest.mark.parametrize("enforced", [None, 0.001, 7000.0, math.inf])
def test_lipschitz_is_the_larger_of_enforced_and_certified(enforced):
    plain = from_modules(nn.Sequential(nn.Flatten(), dense()), SHAPE, enforced)
    assert plain.lipschitz == max(enforced or 0, certificate(plain).lipschitz_certified)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), dense())

    def forward(self, images):
        return 2 * self.layers(images)


class Doubling(nn.Sequential):
    def forward(self, images):
        return 2 * super().forward(images)


class TwoInputs(nn.Linear):
    def forward(self, images):
        return super().forward(images) + 1


def with_hook(network: nn.Module, module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda module, inputs, output: 2 * output)
    return network


def with_own_forward(module: nn.Module) -> nn.Module:
    module.forward = lambda images: images
    return module


def with_scale(scale) -> nn.Sequential:
    network = nn.Sequential(nn.Flatten(), dense(), Scale(1.0))
    network[2].scale = scale
    return network


REFUSED = [
    (Branching(), "the network is Branching; allowed: torch.nn.Sequential. Pass the Sequential inside"),
    (nn.Linear(3, 3), "the network is Linear of torch"),
    (Doubling(nn.Flatten(), dense()), "the network is Doubling, with a forward of its own"),
    (nn.Sequential(nn.Sequential(Doubling(nn.Flatten())), dense()), r"layer 0\.0 is Doubling, with a forward of its own"),
    (nn.Sequential(nn.Flatten(), TwoInputs(128, 10)), "layer 1 is TwoInputs; allowed: Linear and Conv2d"),
    (nn.Sequential(OrderedDict(head=nn.Sequential(nn.Tanh()))), r"layer head\.0 is Tanh of torch; allowed: Linear and Conv2d"),
    (nn.Sequential(nn.BatchNorm2d(2)), "layer 0 is BatchNorm2d of torch, a normalisation"),
    (nn.Sequential(nn.LayerNorm(8)), "layer 0 is LayerNorm of torch, a normalisation"),
    (nn.Sequential(BatchCentering2D(2)), "layer 0 is BatchCentering2D of orthogonium; allowed"),
    (nn.Sequential(torchlip.BatchLipNorm(2)), "layer 0 is BatchLipNorm of deel-torchlip, a normalisation"),
    (nn.Sequential(torchlip.MaxMin()), "layer 0 is MaxMin of deel-torchlip, which has twice as many outputs"),
    (nn.Sequential(torchlip.GroupSort(4)), "layer 0 is GroupSort of deel-torchlip"),
    (
        nn.Sequential(torchlip.SpectralConv2d(2, 2, 5, padding=2, padding_mode="symmetric")),
        "is SpectralConv2d of deel-torchlip",
    ),
    (nn.Sequential(nn.ConvTranspose2d(2, 2, 3)), "layer 0 is ConvTranspose2d of torch"),
    (nn.Sequential(nn.Conv2d(2, 2, 2, padding="same")), r"padding 'same' and a kernel of \[2, 2\]; allowed: odd ones"),
    (nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")), "padding_mode 'reflect'; allowed: zeros, circular"),
    (nn.Sequential(nn.Conv2d(2, 2, 3, groups=2)), r"layer 0 \(conv\) has groups 2; allowed: 1"),
    (nn.Sequential(nn.Flatten(), nn.Linear(128, 10, dtype=torch.complex64)), "has torch.complex64 weights; allowed: float32"),
    (nn.Sequential(nn.Flatten(), dense().half()), "has torch.float16 weights"),
    (nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(2, 2, 3))), "layer 0 has the weights of torch.nn.utils.spectral_norm"),
    (with_hook(network := nn.Sequential(nn.Flatten(), dense()), network), r"the network \(Sequential\) has a hook"),
    (with_hook(network := nn.Sequential(nn.Flatten(), dense()), network[1]), r"layer 1 \(Linear\) has a hook"),
    (nn.Sequential(nn.Flatten(), with_own_forward(dense())), "has a forward of its own, which a copy would not have"),
    (nn.Sequential(nn.Flatten(), nn.Linear(127, 3)), r"layer 1 does not fit an input of shape \[128\]"),
    (nn.Sequential(nn.Conv2d(2, 3, 8)), r"logits of shape \[3, 1, 1\]; allowed"),
    (nn.Sequential(nn.Flatten(), nn.Linear(128, 1)), r"logits of shape \[1\]"),
    (nn.Sequential(Residual(nn.Linear(8, 8)), nn.Flatten()), "the branch of layer 0 is Linear of torch"),
    (nn.Sequential(nn.Flatten(), MaxMin(axis=2)), "has axis 2; allowed: 1"),
    (
        nn.Sequential(Residual(nn.Sequential(nn.Identity(), nn.Sequential(nn.ReLU(inplace=True)), nn.Conv2d(2, 2, 1)))),
        "the branch of layer 0 begins with an activation in place, which changes the sum too; allowed: inplace=False",
    ),
    (with_scale(torch.ones(10)), r"layer 2 \(scale\) has the scale tensor"),
]


@pytest.mark.parametrize(("network", "message"), REFUSED)
def test_anything_else_is_refused_in_words(network, message):
    with pytest.raises(LipscaleError, match=message):
        export(network, SHAPE)


@pytest.mark.parametrize("shape", [(8,), (0, 4, 4), (2, 8, 8, 8), 8, "288", (2, 8, 8.5)])
def test_shapes_of_images_are_checked(shape):
    with pytest.raises(LipscaleError, match=r"(images of shape|image_shape is) .*allowed: \(channels, height, width\)"):
        export(nn.Sequential(nn.Flatten(), nn.Linear(8, 2)), shape)


@pytest.mark.parametrize("scale", [torch.tensor(2.0), np.float32(2)])
def test_a_scale_may_be_a_number_of_torch_or_numpy(scale):
    assert export(with_scale(scale), SHAPE).specification[2] == {"layer": "scale", "scale": 2.0}


def test_the_default_dtype_of_torch_does_not_matter(tmp_path):
    torch.set_default_dtype(torch.float64)
    try:
        plain = export(nn.Sequential(nn.Flatten(), dense()), SHAPE)
    finally:
        torch.set_default_dtype(torch.float32)
    save(plain, tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors")[1].weight.dtype == torch.float32


def test_weights_that_are_not_finite_are_refused():
    network = nn.Sequential(nn.Flatten(), dense())
    network[1].weight.data[0, 0] = math.nan
    with pytest.raises(LipscaleError, match=r"layer 1 \(Linear of torch\) has weights that are not finite"):
        export(network, SHAPE)


@pytest.mark.parametrize("lipschitz", [0.0, -1.0, math.nan])
def test_an_impossible_lipschitz_is_refused(lipschitz):
    with pytest.raises(LipscaleError, match="allowed: a number above 0, or none"):
        export(nn.Sequential(nn.Flatten(), dense()), SHAPE, lipschitz)


def test_the_lipschitz_of_a_lipschitz_network_is_its_own():
    with pytest.raises(LipscaleError, match="a LipschitzNetwork has its own L; allowed: none"):
        export(small_layers(1.0), SHAPE, 3.0)


def test_the_comparison_finds_what_reading_the_layers_does_not(monkeypatch):
    """A hook on a container, planted where nobody looks for hooks."""
    network = with_hook(network := nn.Sequential(nn.Flatten(), dense()), network)
    monkeypatch.setattr("lipscale.certification.own.check_additions", lambda network: None)
    with pytest.raises(LipscaleError, match="logits differ from the network's by up to"):
        export(network, SHAPE)


def test_the_comparison_finds_a_wrong_weight(monkeypatch):
    """0.1 % of one weight of a thousand."""
    from lipscale.certification import own

    right = own.plain

    def wrong(layer):
        copied = right(layer)
        copied.weight[3, 5] *= 1.001
        return copied

    monkeypatch.setattr(own, "plain", wrong)
    with pytest.raises(LipscaleError, match="logits differ"):
        export(nn.Sequential(nn.Flatten(), dense()), SHAPE)


def test_the_comparison_finds_a_wrong_frozen_copy(monkeypatch):
    """Two layers of one size in the wrong order, which no bound would notice."""
    layers = [nn.Linear(128, 16), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 10)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=1.0001)  # which freezing has to bring back to 1
    network = LipschitzNetwork(layers, [0.5, 0.5], LipschitzBudget(4, 3.0), family="unconstrained")
    assert export(network, SHAPE).lipschitz == 3.0

    def swapped(network, image_shape):
        plain = freeze(network, image_shape)
        dense = [layer for layer in plain if isinstance(layer, nn.Linear)]
        dense[1].weight, dense[2].weight = dense[2].weight, dense[1].weight
        return plain

    monkeypatch.setattr("lipscale.certification.export.freeze", swapped)
    with pytest.raises(LipscaleError, match="logits differ from the network's by up to"):
        export(network, SHAPE)


def test_a_bias_that_is_a_property():
    """It is copied where it can be read, also without its parametrizations, and refused in one sentence where not."""

    class WithProperty(nn.Linear):
        def __init__(self):
            super().__init__(128, 3, bias=False)
            self.shift = nn.Parameter(torch.ones(3))

        @property
        def bias(self):
            return self.shift

    class Lost(WithProperty):
        @property
        def bias(self):
            if "built" not in vars(self):
                raise AttributeError
            return {}["bias"]

    layer = WithProperty()
    assert torch.equal(export(nn.Sequential(nn.Flatten(), layer), SHAPE)[1].bias, layer.shift)
    layer = Lost()
    layer.built = True
    with pytest.raises(LipscaleError, match=r"layer 1 \(Lost\) has a weight or bias that cannot be read \(KeyError"):
        export(nn.Sequential(nn.Flatten(), layer), SHAPE)
