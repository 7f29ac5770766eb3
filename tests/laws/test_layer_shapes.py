"""The formulas for output shapes say what torch does, and refuse what it refuses."""

import itertools
import subprocess
import sys

import pytest
import torch
from torch import nn

from lipscale.certification.model_file import save
from lipscale.certification.plain_layers import Centre, GroupSort2, PlainNetwork, Residual, output_shape
from lipscale.errors import LipscaleError
from lipscale.networks.maxmin import MaxMin

SHAPES = [(2, 5, 8), (3, 4, 4), (2, 1, 1), (8,), (3,)]
CONVOLUTIONS = [
    nn.Conv2d(2, 3, (kernel, 2), stride=stride, padding=(padding, 0), dilation=dilation, padding_mode=mode)
    for kernel, stride, padding, dilation, mode in itertools.product(
        (1, 3, 4), (1, 2), (0, 2, 6), (1, 2), ("zeros", "circular")
    )
]
POOLS = [pool(size) for pool in (nn.AvgPool2d, nn.MaxPool2d) for size in (1, 2, 3)]
OTHERS = [nn.Flatten(), nn.ReLU(), MaxMin(), GroupSort2(), Centre(2), Residual(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1)))]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layer", [*CONVOLUTIONS, *POOLS, *OTHERS], ids=repr)
def test_shapes_are_those_that_torch_computes(layer, shape):
    try:
        expected = tuple(layer(torch.zeros(1, *shape)).shape[1:])
    except (RuntimeError, ValueError, IndexError):
        expected = None
    if isinstance(layer, (nn.AvgPool2d, nn.MaxPool2d, nn.Conv2d, Centre)) and len(shape) == 1:
        expected = None  # torch takes the batch for channels, or broadcasts
    try:
        found = output_shape(layer, shape)
    except (ValueError, LipscaleError):
        found = None
    assert found == expected


@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.Linear(8, 2), (2, 8)), (nn.Linear(8, 2), (7,)), (Centre(1), (2, 4, 4))], ids=str
)
def test_inputs_that_a_proof_does_not_cover_are_refused(layer, shape):
    with pytest.raises(ValueError, match="allowed"):
        output_shape(layer, shape)


def test_reading_a_model_does_not_import_the_compiler(tmp_path):
    """torch imports it for the first operation on its meta device, which takes seconds."""
    network = PlainNetwork(
        [
            {"layer": "centre", "channels": 1},
            {"layer": "flatten"},
            {"layer": "dense", "in_features": 4, "out_features": 2},
            {"layer": "maxmin"},
        ],
        1.0,
        (1, 2, 2),
    )
    save(network, tmp_path / "model.safetensors")
    program = "import sys, lipscale; lipscale.load(sys.argv[1]); sys.exit('torch._dynamo' in sys.modules)"
    subprocess.run([sys.executable, "-c", program, tmp_path / "model.safetensors"], check=True)
