"""AutoAttack (Croce and Hein, ICML 2020), standard version, l2, through pyautoattack.

The attacked logits are divided by the run's T*: at large L cross-entropy saturates, and FAB passes over gradients below
1e-8, so that an attack on raw logits would report robustness that is not there. Predictions do not depend on it.
"""

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from pyautoattack import AutoAttack
from torch import nn
from tqdm import tqdm

from lipscale import export, files, provenance
from lipscale.data.dataset import Dataset
from lipscale.progress import bar, describe
from lipscale.run_folder import read_logits
from lipscale.temperature import finite_temperature, fit_temperature
from lipscale.training import select_device

STAGES = ("apgd-ce", "apgd-t", "fab-t", "square")  # the standard version
FEWEST_CLASSES = 4  # of the targeted DLR loss in apgd-t; with fewer it is left out
PARTIAL = "attack-partial.json"


class Calibrated(nn.Module):
    """The logits of a network divided by a temperature."""

    def __init__(self, network: nn.Module, temperature: float):
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images) / self.temperature


def choose_images(count: int, available: int, seed: int) -> np.ndarray:
    """The test images to attack: at most `count` of `available`, drawn without replacement, sorted."""
    return np.sort(np.random.default_rng(seed).permutation(available)[:count])


def attack(
    folder: Path,
    dataset: Dataset,
    epsilons: Sequence[int],
    count: int,
    batch_size: int,
    seed: int,
    device: str,
    threads: int,
) -> None:
    """Write `folder`/attack.csv (index, robust_EPS ...) and attack.json for a run.

    A misclassified image is not robust at any epsilon and needs no attack; an image broken at a smaller epsilon is broken at
    a larger one, whose ball contains the adversarial image. Finished batches are kept in a partial file, so that an attack
    that was stopped goes on from there; each batch is seeded by itself, so the result is the same.

    Args:
        folder: of a run with model and logits.
        dataset: the prepared data set.
        epsilons: l2 budgets in 1/255 of the pixel range.
        count, batch_size: test images to attack, and how many at once.
        seed: of the choice of images and of the attack.
    """
    start = time.perf_counter()
    torch.set_num_threads(threads)
    place = select_device(device)
    epsilons = sorted(epsilons)
    labels = dataset.labels("test")
    logits = {name: torch.from_numpy(array) for name, array in read_logits(folder).items()}
    correct = logits["test_logits"].argmax(1).numpy() == labels
    temperature = finite_temperature(fit_temperature(logits["validation_logits"], logits["validation_labels"]))
    model = Calibrated(export.load(folder / "model.safetensors", device), temperature).eval()
    stages = STAGES if dataset.classes >= FEWEST_CLASSES else tuple(stage for stage in STAGES if stage != "apgd-t")
    chosen = choose_images(count, len(labels), seed)
    batches = np.array_split(chosen, range(batch_size, len(chosen), batch_size))
    task = {
        "attack": "AutoAttack l2: " + ", ".join(stages),
        "images": len(chosen),
        "batch_size": batch_size,
        "seed": seed,
        "epsilons": epsilons,
        "temperature": temperature,
        "model_sha256": files.sha256(folder / "model.safetensors"),
    }
    rows = _finished_rows(folder / PARTIAL, task)

    steps = len(epsilons) * len(stages)
    finished = -(-len(rows) // batch_size)
    name = f"{folder.name} attack"
    with bar(name=name, total=len(batches) * steps, initial=finished * steps, unit="stage") as progress:
        for batch in batches[finished:]:
            images = torch.from_numpy(dataset.images("test")[batch]).to(place).float() / 255
            targets = torch.from_numpy(labels[batch]).to(place)
            robust = torch.from_numpy(correct[batch]).to(place)
            flags = {"index": batch.tolist()}
            for epsilon in epsilons:
                robust = robust.clone()
                robust[robust.clone()] = _survivors(
                    model, images[robust], targets[robust], epsilon / 255, stages, seed, progress
                )
                flags[f"robust_{epsilon}"] = robust.int().tolist()
            rows += [dict(zip(flags, values, strict=True)) for values in zip(*flags.values(), strict=True)]
            files.write_json(folder / PARTIAL, {"task": task, "rows": rows})

    seconds = time.perf_counter() - start
    files.write_json(folder / "attack.json", task | {"seconds": seconds, "versions": provenance.versions()})
    files.write_rows(folder / "attack.csv", list(rows[0]), rows)


def _finished_rows(path: Path, task: dict) -> list[dict]:
    """The rows of an attack that was stopped, if it was the same attack on the same model."""
    if not path.exists():
        return []
    partial = files.read_json(path)
    return partial["rows"] if partial["task"] == task else []


def _survivors(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float,
    stages: Sequence[str],
    seed: int,
    progress: tqdm,
) -> torch.Tensor:
    """Which of the images (B, C, H, W) keep their label under every stage, a mask (B,)."""
    end = progress.n + len(stages)
    if len(labels):
        attack = AutoAttack(model, norm="L2", eps=epsilon, seed=seed, device=images.device, version="standard")
        attack.attacks_to_run = list(stages)
        targets = min(9, model(images[:1]).shape[1] - 1)
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
        attack.square.perturb = torch.inference_mode()(attack.square.perturb)  # needs no gradients; a sixth less time
        with _shown_stages(progress, epsilon):
            _, predictions = attack.run_standard_evaluation(images, labels, batch_size=len(labels))
        survivors = predictions == labels
    else:
        survivors = labels == labels
    progress.update(end - progress.n)
    return survivors


@contextmanager
def _shown_stages(progress: tqdm, epsilon: float) -> Iterator[None]:
    """Advance the bar with each stage that AutoAttack reports to its logger, and pass its warnings on."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if message.startswith("running "):
                describe(progress, f"eps={epsilon * 255:.0f}/255, {message.removeprefix('running ')}")
            elif message.startswith("robust accuracy after"):
                progress.update()
            elif record.levelno >= logging.WARNING:
                progress.write(f"AutoAttack: {message}", file=sys.stderr)

    logger, handler = logging.getLogger("auto-attack"), Handler()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
