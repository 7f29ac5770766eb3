"""One training loop for LiST and for fixed L, which is the same loop without the feedback.

After each epoch the whole state is saved, so that a run killed at any moment goes on from its last epoch and ends with the
same numbers. Randomness is a function of (seed, epoch) alone; there is no generator whose state would have to be saved.
"""

import math
import pickle
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import yaml
from torch.nn.functional import cross_entropy, pad
from torch.nn.utils import parametrize

from lipscale import config, export, files, provenance
from lipscale.data.dataset import Dataset
from lipscale.errors import LipscaleError
from lipscale.feedback import LipschitzFeedback, Update
from lipscale.metrics import accuracy, expected_calibration_error, probabilities
from lipscale.networks import LipschitzNetwork, build_network
from lipscale.progress import bar, describe
from lipscale.temperature import fit_temperature, nll

CHECKPOINT = "checkpoint.pt"
HISTORY = (
    "epoch", "lipschitz", "temperature", "next_lipschitz", "bounded", "train_loss", "validation_nll",
    "validation_accuracy", "validation_ece",
)  # fmt: skip
EVALUATION_BATCH = 1000


def train(settings: Mapping, dataset: Dataset, folder: Path) -> None:
    """Train one run to the end, or from where it was stopped, and write its folder.

    Args:
        settings: one of `config.runs`.
        dataset: the prepared data set.
        folder: gets config.yaml, history.csv, model.safetensors and provenance.json; while training, checkpoint.pt.

    Raises:
        LipscaleError: the loss is no longer finite, or the device is missing.
    """
    device = select_device(settings["device"])
    torch.set_num_threads(settings["threads"])
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / "config.yaml", yaml.safe_dump(dict(settings), sort_keys=False))

    training = Training(settings, dataset, device)
    training.resume(folder / CHECKPOINT)
    epochs, steps = settings["training"]["epochs"], training.steps_per_epoch
    name, done = settings["run"], len(training.history) * steps
    with bar(name=name, total=epochs * steps, initial=done, unit="step") as progress:
        while len(training.history) < epochs:
            row = training.epoch(after_step=progress.update)
            training.save(folder / CHECKPOINT)
            values = f"loss={row['train_loss']:.3f}, L={row['next_lipschitz']:.3g}, T={row['temperature']:.3f}"
            describe(progress, f"epoch {row['epoch']}/{epochs}, {values}")

    files.write_rows(folder / "history.csv", list(training.history[0]), training.history)
    export.save(export.export(training.network, dataset.image_shape), folder / "model.safetensors")
    files.write_json(
        folder / "provenance.json",
        {
            "run": settings["run"],
            "seed": settings["seed"],
            "config_hash": config.digest(settings),
            "data_sha256": dataset.sha256,
            "commit": provenance.commit(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "seconds": sum(row["seconds"] for row in training.history),
            "parameters": sum(parameter.numel() for parameter in training.network.parameters()),
            "machine": provenance.machine(),
            "versions": provenance.versions(),
        },
    )


def select_device(name: str) -> torch.device:
    """The device of that name. Raises LipscaleError where it is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise LipscaleError("compute.device is cuda, but torch finds no GPU here; allowed: a machine with a GPU, or cpu")
    return torch.device(name)


class Training:
    """The state of one run between epochs: network, optimiser, history."""

    def __init__(self, settings: Mapping, dataset: Dataset, device: torch.device):
        self.settings = settings
        self.dataset = dataset
        self.device = device
        self.images, self.labels = dataset.tensors("train", device)
        self.validation_images, self.validation_labels = dataset.tensors("validation", device)
        torch.manual_seed(settings["seed"])
        self.network: LipschitzNetwork = build_network(
            settings["network"], dataset.image_shape, dataset.classes, dataset.mean, settings["initial_lipschitz"]
        ).to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings["training"]["learning_rate"])
        self.feedback = LipschitzFeedback(**settings["feedback"])
        self.history: list[dict] = []

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.labels) / self.settings["training"]["batch_size"])

    def epoch(self, after_step: Callable[[], object] = lambda: None) -> dict:
        """Train for one epoch, measure T*, set the next L (LiST only); returns the new row of the history."""
        start = time.perf_counter()
        try:
            loss = self._train_epoch(after_step)
        except torch.linalg.LinAlgError:  # what orthogonalisation makes of weights that are no longer finite
            loss = math.nan
        if not math.isfinite(loss):
            raise LipscaleError(
                f"run {self.settings['run']}: the training loss became {loss} in epoch {len(self.history) + 1} at "
                f"L = {self.network.lipschitz:g}; a smaller training.learning_rate may help"
            )
        logits = self.validation_logits()
        lipschitz = self.network.lipschitz
        if self.settings["method"] == "list":
            update = self.feedback.update(lipschitz, logits, self.validation_labels)
        else:
            update = Update(fit_temperature(logits, self.validation_labels), lipschitz, bounded=False)
        exponents = self.network.budget.exponents().tolist()
        self.network.lipschitz = update.next_lipschitz

        numbers, labels = logits.cpu().numpy(), self.validation_labels.cpu().numpy()
        values = (
            len(self.history) + 1, lipschitz, update.temperature, update.next_lipschitz, int(update.bounded), loss,
            nll(logits, self.validation_labels), accuracy(numbers, labels),
            expected_calibration_error(probabilities(numbers), labels),
        )  # fmt: skip
        row = dict(zip(HISTORY, values, strict=True))
        row |= {f"exponent_{layer}": exponent for layer, exponent in enumerate(exponents, 1)}
        self.history.append(row | {"seconds": time.perf_counter() - start})
        return self.history[-1]

    def _train_epoch(self, after_step: Callable[[], object]) -> float:
        """One pass over the training split; returns the mean loss."""
        self.network.train()
        generator = torch.Generator().manual_seed(_mix(self.settings["seed"], len(self.history)))
        batches = torch.randperm(len(self.labels), generator=generator).to(self.device)
        batches = batches.split(self.settings["training"]["batch_size"])
        total = torch.zeros((), device=self.device)
        for step, batch in enumerate(batches):
            images = self.images[batch].float() / 255
            if self.settings["training"]["augmentation"] == "crop-flip":
                images = crop_flip(images, generator)
            self._set_learning_rate((len(self.history) + step / len(batches)) / self.settings["training"]["epochs"])
            loss = cross_entropy(self.network(images), self.labels[batch])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(batch)
            after_step()
        return total.item() / len(self.labels)

    def _set_learning_rate(self, progress: float) -> None:
        """A half cosine from the configured rate to 0 (Loshchilov and Hutter, ICLR 2017, without restarts)."""
        rate = self.settings["training"]["learning_rate"] * (1 + math.cos(math.pi * progress)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    @torch.no_grad()
    def validation_logits(self) -> torch.Tensor:
        """Logits of the validation split, (images, classes); each weight is orthogonalised once for the whole pass."""
        self.network.eval()
        with parametrize.cached():
            parts = [self.network(part.float() / 255) for part in self.validation_images.split(EVALUATION_BATCH)]
        return torch.cat(parts)

    def save(self, path: Path) -> None:
        with files.atomic(path) as temporary:
            torch.save(
                {
                    "config_hash": config.digest(self.settings),
                    "data_sha256": self.dataset.sha256,
                    "network": self.network.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "history": self.history,
                },
                temporary,
            )

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same settings and data, if there is one; say so where one is passed over."""
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            print(f"{path} cannot be read ({' '.join(str(error).split())}); training starts anew", flush=True)
            return
        expected = {"config_hash": config.digest(self.settings), "data_sha256": self.dataset.sha256}
        if any(state[key] != value for key, value in expected.items()):
            print(f"{path} is from other settings or data; training starts anew", flush=True)
            return
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = state["history"]


def _mix(seed: int, epoch: int) -> int:
    """A seed for each (seed, epoch); neighbours have nothing in common."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)


def crop_flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image shifted by up to an eighth of its side, zeros moving in, and flipped left to right half of the time.

    Args:
        images: (B, C, H, W), on any device; all are handled at once.
        generator: on the CPU, so that the choices do not depend on the device.
    """
    count, _, height, width = images.shape
    reach = height // 8
    shifts = torch.randint(0, 2 * reach + 1, (2, count), generator=generator)
    flips = torch.rand(count, generator=generator) < 0.5
    rows = shifts[0][:, None] + torch.arange(height)  # (B, H), into the padded image
    columns = shifts[1][:, None] + torch.arange(width)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    padded = pad(images, (reach, reach, reach, reach))
    index = torch.arange(count, device=images.device)[:, None, None]
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
