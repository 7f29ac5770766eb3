"""Speed of a training step: lipscale's, the same network unconstrained, plainly with orthogonium, and with deel-torchlip.

    python benchmarks/training_step.py --config config/cifar10-cpu.yaml

All four have the layers that the config describes and are trained on random images with the same loss and optimiser. Rounds are
interleaved, the order within a round is random, and each variant's fastest round counts, since others may use the machine.
deel-torchlip is no dependency of lipscale: `pip install deel-torchlip==1.0.5`; without it the variant is left out.
"""

import argparse
import itertools
import random
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
import yaml
from orthogonium.layers import AdaptiveOrthoConv2d, MaxMin, OrthoLinear
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from lipscale import config as configs
from lipscale.config import IMAGE_SIDE
from lipscale.networks.network import build_network, conv_layers, dense_layers
from lipscale.training.precision import fast_logits

CLASSES = 10


def plain(settings: Mapping, shape: tuple[int, int, int], conv: Callable, dense: Callable, activation: nn.Module) -> nn.Module:
    """The config's layers as somebody would write them down with another library."""
    channels, side, _ = shape
    layers: list[nn.Module] = []
    if settings["architecture"] == "convnet":
        layers = conv_layers(settings["channels"], settings["depth"], settings["patch"], channels, settings["bias"], conv)
        side //= settings["patch"] * 2 ** len(settings["channels"])
        channels = settings["channels"][-1]
    head = dense_layers(channels * side * side, settings["widths"], CLASSES, settings["bias"], dense)
    layers = [*layers, nn.Flatten(), *head]
    with_activations = itertools.chain.from_iterable(
        (layer,) if isinstance(layer, nn.Flatten) or layer is head[-1] else (layer, activation) for layer in layers
    )
    return nn.Sequential(*with_activations)


def variants(settings: Mapping, shape: tuple[int, int, int]) -> dict[str, nn.Module]:
    ours = partial(build_network, settings, shape, CLASSES, [0.5] * shape[0])
    made = {
        "lipscale": ours(10.0),
        "unconstrained": ours(None),
        "orthogonium, plainly": plain(settings, shape, AdaptiveOrthoConv2d, OrthoLinear, MaxMin()),
    }
    try:
        from deel import torchlip
    except ImportError:
        print("deel-torchlip is not installed; left out")
    else:
        made["deel-torchlip"] = plain(settings, shape, torchlip.SpectralConv2d, torchlip.SpectralLinear, torchlip.GroupSort2())
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config", default="config/cifar10-cpu.yaml", help="network, batch size and precision; default: %(default)s"
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: as found, %(default)s"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, default: 1")
    parser.add_argument("--rounds", type=int, default=10, help="default: 10")
    parser.add_argument("--steps", type=int, default=5, help="of each variant in a round, default: 5")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with open(options.config, encoding="utf-8") as file:
        config = configs.check(yaml.safe_load(file))
    dataset, batch_size = config["dataset"], config["training"]["batch_size"]
    side = dataset.get("image_size") or IMAGE_SIDE[dataset["name"]]
    shape = (1 if dataset["name"] == "digits" else dataset.get("channels", 3), side, side)
    images = torch.rand(batch_size, *shape, device=options.device)
    labels = torch.randint(CLASSES, (batch_size,), device=options.device)

    steps = {}
    for name, network in variants(config["network"], shape).items():
        network = network.to(options.device).train()
        steps[name] = partial(
            step, network, torch.optim.Adam(network.parameters(), lr=1e-4), images, labels, config["compute"]["precision"]
        )
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in tqdm(range(-1, options.rounds), desc="rounds"):  # the first warms up and does not count
        for name in random.sample(list(steps), len(steps)):
            start = time.perf_counter()
            for _ in range(options.steps):
                steps[name]()
            if options.device != "cpu":
                torch.cuda.synchronize()
            if round_ >= 0:
                seconds[name].append((time.perf_counter() - start) / options.steps)

    device = torch.cuda.get_device_name() if options.device != "cpu" else f"cpu, {options.threads} threads"
    print(f"{options.config}, batch {batch_size}, {device}, torch {torch.__version__}")
    print(f"{'':22}{'images/s':>10}{'ms a step':>11}{'over unconstrained: fastest':>30}{'median of rounds':>18}")
    free = seconds["unconstrained"]
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, free, strict=True))
        print(f"{name:22}{batch_size / min(times):10.0f}{1e3 * min(times):11.1f}{min(times) / min(free):30.2f}{ratio:18.2f}")


def step(
    network: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor, precision: str
) -> None:
    optimizer.zero_grad()
    cross_entropy(fast_logits(network, images, precision), labels).backward()
    optimizer.step()


if __name__ == "__main__":
    main()
