"""Speed of a training step: lipscale's, the same network unconstrained, plainly with orthogonium, and with deel-torchlip.

    python benchmarks/training_step.py --config config/cifar10-cpu.yaml
    python benchmarks/training_step.py --config config/cifar10-jpeg.yaml --size large --precision bf16 --compile

All four have the layers that the config describes and are trained on random images with its objective and the same optimiser.
The unconstrained network has lipscale's MaxMin and convolutions too; the other two have the activations of their libraries.
Rounds are interleaved, the order within a round is random, and the fastest round of each counts, as others may use the machine.
With --families, lipscale's layer families are compared instead:

    python benchmarks/training_step.py --families orthogonal cayley bro aol sll

and with --modes the ways to train one network: float32 or bf16, each of them with and without torch.compile.

deel-torchlip is in the extra `examples`: `pip install -e .[examples]`. Without it that variant is left out.
"""

import argparse
import copy
import itertools
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from orthogonium.layers import AdaptiveOrthoConv2d, MaxMin, OrthoLinear
from torch import nn
from tqdm import tqdm

from lipscale import config, discovery
from lipscale.config.networks import Network
from lipscale.errors import LipscaleError
from lipscale.networks.network import FAMILIES, build_network, conv_layers, dense_layers
from lipscale.store import files
from lipscale.training.precision import fast_logits

CLASSES = 10
LIPSCHITZ = 10.0
MODES = tuple(itertools.product((False, True), ("float32", "bf16")))  # compiled or not, precision


def plain(settings: Network, shape: tuple[int, int, int], conv: Callable, dense: Callable, activation: nn.Module) -> nn.Module:
    """The layers of the config, written with another library."""
    channels, side, _ = shape
    layers: list[nn.Module] = []
    if settings.architecture == "convnet":
        layers = conv_layers(settings.channels, settings.depth, settings.patch, channels, settings.bias, conv)
        side //= settings.patch * 2 ** len(settings.channels)
        channels = settings.channels[-1]
    head = dense_layers(channels * side * side, settings.widths, CLASSES, settings.bias, dense)
    layers = [*layers, nn.Flatten(), *head]
    with_activations = itertools.chain.from_iterable(
        (layer,) if isinstance(layer, nn.Flatten) or layer is head[-1] else (layer, activation) for layer in layers
    )
    return nn.Sequential(*with_activations)


def variants(settings: Network, shape: tuple[int, int, int], families: Sequence[str]) -> dict[str, nn.Module]:
    build = partial(build_network, settings, shape, CLASSES, [0.5] * shape[0])
    if families:
        build_family = partial(build_network, image_shape=shape, classes=CLASSES, mean=[0.5] * shape[0], lipschitz=LIPSCHITZ)
        of_family = {name: build_family(settings.model_copy(update={"family": name})) for name in families}
        return of_family | {"unconstrained": build(math.inf)}
    networks = {
        "lipscale": build(LIPSCHITZ),
        "unconstrained": build(math.inf),
        "orthogonium, plainly": plain(settings, shape, AdaptiveOrthoConv2d, OrthoLinear, MaxMin()),
    }
    try:
        from deel import torchlip
    except ImportError:
        print("deel-torchlip is not installed; left out")
    else:
        layers = torchlip.SpectralConv2d, torchlip.SpectralLinear, torchlip.GroupSort2()
        networks["deel-torchlip"] = plain(settings, shape, *layers)
    return networks


def step(
    experiment: config.Experiment,
    precision: str,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
) -> None:
    settings = experiment.training.objective
    forward = partial(fast_logits, network, precision=precision)
    loss = discovery.load("lipscale.training.objectives", settings.name).loss(forward, images, labels, settings, LIPSCHITZ)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config", default="config/cifar10-cpu.yaml", help="network, batch size and precision; default: %(default)s"
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: as found, %(default)s"
    )
    parser.add_argument("--size", help="of the network, instead of that of the config: small, medium or large")
    parser.add_argument("--precision", help="instead of that of the config: float32 or bf16")
    parser.add_argument("--compile", action="store_true", help="lipscale's networks by torch.compile, also unconstrained")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, default: 1")
    parser.add_argument("--rounds", type=int, default=10, help="default: 10")
    parser.add_argument("--steps", type=int, default=5, help="of each variant in a round, default: 5")
    families = [name for name in discovery.names(FAMILIES) if discovery.load(FAMILIES, name).CONSTRAINED]
    parser.add_argument("--modes", action="store_true", help="compare float32, bf16 and torch.compile, not libraries")
    parser.add_argument(
        "--families", nargs="+", default=[], choices=families, help="compare layer families of lipscale, not libraries"
    )
    return parser.parse_args()


def checked(options: argparse.Namespace) -> config.Experiment:
    sections = files.read_yaml(options.config)
    for section, key in (("network", "size"), ("compute", "precision")):
        if value := getattr(options, key):
            sections = config.overridden(sections, [f"{section}={{{key}: {value}}}"])
    return config.check(sections)


def prepared(options: argparse.Namespace, experiment: config.Experiment) -> dict[str, Callable[[], None]]:
    """A function for each variant that makes a training step with it."""
    shape, batch_size = config.image_shape(experiment.dataset), experiment.training.batch_size
    images = torch.rand(batch_size, *shape, device=options.device)
    labels = torch.randint(CLASSES, (batch_size,), device=options.device)
    given = (experiment.compute.precision, options.compile)
    modes = {f"{precision}{', compiled' if compiled else ''}": (precision, compiled) for compiled, precision in MODES}
    if options.modes:
        network = build_network(experiment.network, shape, CLASSES, [0.5] * shape[0], LIPSCHITZ)
        networks = {name: copy.deepcopy(network) for name in modes}
    else:
        networks = variants(experiment.network, shape, options.families)
    steps = {}
    for name, network in networks.items():
        network = network.to(options.device).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
        precision, compiled = modes.get(name, given)
        if compiled and name in ("lipscale", "unconstrained", *options.families, *modes):
            network = torch.compile(network)
        steps[name] = partial(step, experiment, precision, network, optimizer, images, labels)
    return steps


def measured(options: argparse.Namespace, steps: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Seconds of a step in each round."""
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
    return seconds


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    try:
        experiment = checked(options)
    except LipscaleError as error:
        raise SystemExit(f"training_step: {error}") from None
    seconds = measured(options, prepared(options, experiment))

    batch_size, precision = experiment.training.batch_size, experiment.compute.precision
    device = torch.cuda.get_device_name() if options.device != "cpu" else f"cpu, {options.threads} threads"
    mode = "" if options.modes else f"{precision}{', compiled' if options.compile else ''}, "
    size, reference = options.size or "size of the config", "float32" if options.modes else "unconstrained"
    print(f"{options.config}, {size}, {mode}batch {batch_size}, {device}, torch {torch.__version__}")
    print(f"{'':22}{'images/s':>10}{'ms a step':>11}{f'over {reference}: fastest':>30}{'median of rounds':>18}")
    base = seconds[reference]
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, base, strict=True))
        print(f"{name:22}{batch_size / min(times):10.0f}{1e3 * min(times):11.1f}{min(times) / min(base):30.2f}{ratio:18.2f}")


if __name__ == "__main__":
    main()
