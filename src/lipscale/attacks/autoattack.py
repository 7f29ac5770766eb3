"""AutoAttack (Croce and Hein, ICML 2020), standard version, l2, through pyautoattack.

The attacked logits are divided by the run's T*: at large L cross-entropy saturates, and FAB passes over gradients below
1e-8, so that an attack on raw logits would report robustness that is not there. Predictions do not depend on it.
"""

import copy
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from pyautoattack import AutoAttack
from torch import nn
from tqdm import tqdm

from lipscale import config
from lipscale.certification import export
from lipscale.certification.layers import PlainNetwork
from lipscale.certification.norms import gamma
from lipscale.data.dataset import Dataset
from lipscale.evaluation.logits import exact_logits
from lipscale.method.temperature import finite_temperature, fit_temperature
from lipscale.progress import bar, describe
from lipscale.store import files, provenance
from lipscale.store.checksums import checked, seal
from lipscale.store.run_folder import PARTIAL, check_data, read_logits, read_radii
from lipscale.training.loop import select_device

STAGES = ("apgd-ce", "apgd-t", "fab-t", "square")  # the standard version
FEWEST_CLASSES = 4  # of the targeted DLR loss in apgd-t; with fewer it is left out


class Calibrated(nn.Module):
    """The logits of a network divided by a temperature."""

    def __init__(self, network: nn.Module, temperature: float):
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images) / self.temperature


@dataclass(frozen=True)
class Options:
    """What is evaluated, and how.

    Attributes:
        epsilons: l2 budgets in 1/255 of the pixel range, rising.
        images: test images to evaluate, at most; a seeded choice, the same for every run.
        audit: certified images to attack all the same at each epsilon, at most; a seeded choice.
        batch_size: images attacked at once.
        seed: of both choices and of the attack.
    """

    epsilons: tuple[int, ...]
    images: int
    audit: int
    batch_size: int
    seed: int


def choose(candidates: np.ndarray, count: int, seed: int) -> np.ndarray:
    """At most `count` of the candidates, drawn without replacement, sorted."""
    return np.sort(np.random.default_rng(seed).permutation(candidates)[:count])


def attack(folder: Path, dataset: Dataset, options: Options, device: str, threads: int) -> None:
    """Write `folder`/attack.csv (index, robust_EPS, attacked_EPS ...) and attack.json for a run with model, logits and radii.

    Three kinds of images need no attack at an epsilon: misclassified ones are not robust; those broken at a smaller epsilon
    are broken at this one, whose ball holds the adversarial image; those with R(x) >= epsilon are robust by proof. Of the
    last, a sample is attacked all the same. AutoAttack works in float32, of which nothing is promised; what it finds there
    counts against a certified image if it does so in float64, within the radius. One such image refutes the certificate,
    and `tabulate` then stops.

    Finished batches are kept in a partial file, so that an attack that was stopped goes on from there; each batch is seeded
    by itself, so the result is the same.
    """
    start = time.perf_counter()
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False  # its rounding is that of ten bits
    place = select_device(device)
    check_data(folder, dataset.sha256)
    arrays, labels = read_logits(folder), dataset.labels("test")
    temperature = finite_temperature(
        fit_temperature(*(torch.from_numpy(arrays[name]) for name in ("validation_logits", "validation_labels")))
    )
    network = export.load(checked(folder / "model.safetensors"), device)
    exact = copy.deepcopy(network).double()
    radii, pair_radii = read_radii(folder)
    largest = np.maximum(radii, pair_radii)
    model = Calibrated(network, temperature).eval()
    stages = STAGES if dataset.classes >= FEWEST_CLASSES else tuple(stage for stage in STAGES if stage != "apgd-t")
    task = {
        "attack": "AutoAttack l2: " + ", ".join(stages),
        **asdict(options),
        "epsilons": list(options.epsilons),
        "temperature": temperature,
        "model_sha256": files.sha256(folder / "model.safetensors"),
    }
    verdicts = _finished_verdicts(folder / PARTIAL, task)

    chosen = choose(np.arange(len(labels)), options.images, options.seed)
    robust = arrays["test_logits"].argmax(axis=1) == labels
    columns = {"index": chosen}
    with bar(name=f"{folder.name} attack", total=len(options.epsilons) * len(stages), unit="stage") as progress:
        for epsilon in options.epsilons:
            certified = chosen[robust[chosen] & (radii[chosen] >= epsilon / 255)]
            audited = choose(certified, options.audit, options.seed)
            targets = np.setdiff1d(chosen[robust[chosen]], np.setdiff1d(certified, audited))
            finished = verdicts.setdefault(str(epsilon), [])
            progress.total += len(stages) * (-(-len(targets) // options.batch_size) - 1)
            progress.update(len(stages) * -(-len(finished) // options.batch_size))
            for first in range(len(finished), len(targets), options.batch_size):
                batch = targets[first : first + options.batch_size]
                images = torch.from_numpy(dataset.images("test")[batch]).to(place).float() / 255
                truth = torch.from_numpy(labels[batch]).to(place)
                found, survived = _attacked(model, images, truth, epsilon / 255, stages, options.seed, progress)
                held = torch.from_numpy(largest[batch] >= epsilon / 255).to(place)
                fallen = broken(exact, dataset.images("test")[batch], labels[batch], largest[batch], found)
                finished += torch.where(held, ~fallen.to(place), survived).tolist()
                state = {"task": task, "verdicts": verdicts}
                files.write_json(folder / PARTIAL, state | {"digest": config.digest(state)})  # a seal would be a second file
            robust[targets] = finished
            columns[f"robust_{epsilon}"] = robust[chosen].astype(int)
            columns[f"attacked_{epsilon}"] = np.isin(chosen, targets).astype(int)

    seconds = time.perf_counter() - start
    files.write_json(folder / "attack.json", task | {"seconds": seconds, "versions": provenance.versions()})
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    files.write_rows(folder / "attack.csv", list(columns), rows)
    for name in ("attack.csv", "attack.json"):
        seal(folder / name, made_from=[folder / "model.safetensors", folder / "logits.npz", folder / "radii.csv"])


@torch.no_grad()
def broken(
    network: PlainNetwork, images: np.ndarray, labels: np.ndarray, radii: np.ndarray, found: torch.Tensor
) -> torch.Tensor:
    """Which certificates are refuted, a mask (images,): the class is another one at a distance below the radius, in float64.

    A computed norm may be too small by the factor 1 - gamma_{n + 2}, n the number of pixels, so it is raised first.

    Args:
        network: in float64.
        images: uint8, (images, channels, height, width).
        found: perturbed images, float32 or float64.
    """
    found = found.double()
    pixels = torch.from_numpy(images).to(found.device).double() / 255
    norms = (found - pixels).flatten(1).norm(dim=1).cpu() * (1 + gamma(pixels[0].numel() + 3))
    other = exact_logits(network, found, found.device).argmax(1) != torch.from_numpy(labels)
    return other & (norms < torch.from_numpy(radii))


def _finished_verdicts(path: Path, task: dict) -> dict[str, list[bool]]:
    """Per epsilon, which of the first images survived an attack that was stopped, if it was the same one on the same model."""
    if not path.exists():
        return {}
    try:
        partial = files.read_json(path)
        whole = partial.pop("digest") == config.digest(partial)
    except (ValueError, LookupError, AttributeError, TypeError):
        whole = False
    if not whole:
        print(f"{path} is not what was written there; the attack starts anew", flush=True)
        return {}
    return partial["verdicts"] if partial["task"] == task else {}


def _attacked(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float,
    stages: Sequence[str],
    seed: int,
    progress: tqdm,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The images (B, C, H, W), perturbed by the first stage that changed their class, if any did, and which survived all."""
    end = progress.n + len(stages)
    attack = AutoAttack(model, norm="L2", eps=epsilon, seed=seed, device=images.device, version="standard")
    attack.attacks_to_run = list(stages)
    targets = min(9, model(images[:1]).shape[1] - 1)
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
    attack.square.perturb = torch.inference_mode()(attack.square.perturb)  # Square needs no gradients
    with _shown_stages(progress, epsilon):
        found, predictions = attack.run_standard_evaluation(images, labels, batch_size=len(labels))
    progress.update(end - progress.n)
    return found, predictions == labels


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
