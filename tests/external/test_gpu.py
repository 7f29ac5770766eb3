"""What has to hold on a GPU as on a CPU. Those of a CPU are tested too, so that the tests themselves are."""

import math

import pytest
import torch

from conftest import snakemake
from lipscale import config as configs
from lipscale.certification.certificate import certificate
from lipscale.certification.export import export
from lipscale.evaluation.logits import exact_logits
from lipscale.networks.network import build_network
from lipscale.training.precision import fast_logits

GPU = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")])
DEVICES = ["cpu", GPU]
CONVNET = {"architecture": "convnet", "channels": [6], "depth": 1, "patch": 2, "widths": [8]}
SHAPE, CLASSES = (1, 8, 8), 10  # as the digits


@pytest.fixture
def network(tiny) -> torch.nn.Module:
    torch.manual_seed(0)
    tiny["network"] = CONVNET
    settings = configs.check(tiny).network
    return build_network(settings, SHAPE, CLASSES, [0.5] * SHAPE[0], 2.0)


@pytest.mark.parametrize("device", DEVICES)
def test_float64_logits_of_two_machines_differ_by_their_rounding_at_most(network, device):
    """By twice E, as each is within E of the exact ones."""
    plain = export(network, image_shape=SHAPE).double()
    images = torch.randint(256, (64, *SHAPE), dtype=torch.uint8)
    reference = exact_logits(plain, images, torch.device("cpu"))
    found = exact_logits(plain.to(device), images, torch.device(device))
    assert (found - reference).norm(dim=1).max() <= 2 * certificate(plain.cpu()).rounding


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("lipschitz", [2.0, math.inf])
def test_training_steps_lower_the_loss(tiny, device, precision, lipschitz):
    torch.manual_seed(0)
    tiny["network"] = CONVNET
    network = build_network(configs.check(tiny).network, SHAPE, CLASSES, [0.5] * SHAPE[0], lipschitz).to(device)
    images, labels = torch.rand(32, *SHAPE, device=device), torch.arange(32, device=device) % CLASSES
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(fast_logits(network, images, precision), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("options", [{}, {"precision": "bf16"}, {"compile": True}], ids=str)
def test_experiment_with_falsification(tiny, tmp_path, options):
    """From images to figures: radii, AutoAttack and the falsification agree, or the workflow would stop."""
    tiny["network"] = CONVNET
    tiny["runs"] = {"seeds": [0], "list_initial_lipschitz": [1], "fixed_lipschitz": [2]}
    tiny["compute"] = {"device": "cuda", **options}
    snakemake(tmp_path, tiny, "--cores", 2, "--resources", "gpu_share=100", "--", "all", "falsify")
    run = tmp_path / "results" / "tiny" / "runs" / "list-1-seed0"
    assert (run / "falsification.json").exists()
