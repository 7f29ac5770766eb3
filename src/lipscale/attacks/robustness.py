"""Robust accuracy: AutoAttack at fixed epsilons on a sample of a split, resumable after each batch."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from lipscale.attacks.autoattack import Calibrated, attack_batch, broken, single_pixels, stages_for, without_tf32
from lipscale.attacks.sample import Options, Robustness, Sample
from lipscale.evaluation.logits import check_labels, check_shape
from lipscale.progress import bar
from lipscale.units import distance

if TYPE_CHECKING:
    from lipscale.certification.plain_layers import PlainNetwork
    from lipscale.data.dataset import Split

Verdicts = dict[str, list[bool]]  # per epsilon, as text: which of the first attacked images survived


def evaluate_robustness(
    network: "PlainNetwork",
    split: "Split",
    logits: np.ndarray,
    radii: np.ndarray,
    pair_radii: np.ndarray,
    temperature: float,
    options: Options,
    device: torch.device | str = "cpu",
    state: Verdicts | None = None,
    save: Callable[[Verdicts], None] = lambda state: None,
    name: str = "network",
) -> Robustness:
    """Attack a sample of a split, at each epsilon the images that `select` returns.

    AutoAttack works in float32, which no certificate covers: a certified image counts as broken only if it is in float64 too.

    Each batch has its own seed, so that an attack resumed from a saved state gives the same result.

    Args:
        network: with float32 weights; it is copied.
        split: `images` (images, channels, height, width), uint8, and `labels` (images,).
        logits: (images, classes) of the split, from `exact_logits`.
        radii, pair_radii: (images,) of the split, from `certified_radii`.
        temperature: T*, see `Calibrated`.
        state: what `save` got last in an attack with the same network, split and `task`.
        save: called with the state after each batch; the state changes afterwards, so write or copy it.
        name: of the network, for the progress bar.

    Raises:
        LipscaleError: labels that the network has no logits for, or images of another shape than it was made for.
    """
    start, classes = time.perf_counter(), logits.shape[1]
    check_shape(split.images, network)
    check_labels(split.labels, logits)
    verdicts = {epsilon: list(survived) for epsilon, survived in (state or {}).items()}
    sample = Sample(split.labels, logits, radii, pair_radii, options)
    with bar(name=f"{name} attack", total=len(options.epsilons) * len(stages_for(classes)), unit="stage") as progress:
        attack = _Attack(network, split, sample, temperature, device, progress)
        for epsilon in options.epsilons:
            survived = verdicts.setdefault(str(epsilon), [])
            for batch in attack.batches(sample.targets(epsilon), done=len(survived)):
                survived += attack.survivors(batch, epsilon)
                save(verdicts)
            sample.add(epsilon, survived)
    return sample.found(temperature, time.perf_counter() - start)


def attack_shard(
    network: "PlainNetwork",
    split: "Split",
    sample: Sample,
    epsilon: int,
    targets: np.ndarray,
    temperature: float,
    device: torch.device | str = "cpu",
    state: Sequence[bool] | None = None,
    save: Callable[[list[bool]], None] = lambda state: None,
    name: str = "network",
) -> list[bool]:
    """Attack a part of a sample at one epsilon: which of the targets, `Sample.shard`, survive.

    The parts joined are the verdicts of `evaluate_robustness`, as batches and seeds are the same. The other arguments are too.
    """
    check_shape(split.images, network)
    survived = list(state or ())
    with bar(name=f"{name} attack", total=len(stages_for(sample.classes)), unit="stage") as progress:
        attack = _Attack(network, split, sample, temperature, device, progress)
        for batch in attack.batches(targets, done=len(survived)):
            survived += attack.survivors(batch, epsilon)
            save(survived)
    return survived


class _Attack:
    """One network under attack on one split."""

    def __init__(self, network, split, sample: Sample, temperature, device, progress):
        network = copy.deepcopy(network).to(device).eval()
        self.exact = copy.deepcopy(network).double()
        self.model = Calibrated(network.float(), temperature).eval()
        self.split, self.radii, self.stages = split, sample.radii, stages_for(sample.classes)
        self.options, self.device, self.progress = sample.options, device, progress

    def batches(self, targets: np.ndarray, done: int) -> Iterator[np.ndarray]:
        """The targets that are not done, in batches; the bar gets the number of stages."""
        size, stages = self.options.batch_size, len(self.stages)
        self.progress.total += stages * (-(-len(targets) // size) - 1)
        self.progress.update(stages * -(-done // size))
        yield from (targets[first : first + size] for first in range(done, len(targets), size))

    def survivors(self, batch: np.ndarray, epsilon: int) -> list[bool]:
        """Which images of a batch, given by indices, keep their class; certified ones lose it only as `broken` says."""
        images, labels, radii = self.split.images[batch], self.split.labels[batch], self.radii[batch]
        pixels, truth = single_pixels(torch.from_numpy(images).to(self.device)), torch.from_numpy(labels).to(self.device)
        with without_tf32():
            found, survived = attack_batch(self.model, pixels, truth, epsilon, self.stages, self.options.seed, self.progress)
        fallen = broken(self.exact, images, labels, radii, found)
        return torch.where(torch.from_numpy(radii >= distance(epsilon)), ~fallen, survived.cpu()).tolist()
