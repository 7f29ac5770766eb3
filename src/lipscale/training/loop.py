"""One training loop for LiST and for fixed L, which is the same loop without the feedback.

After each epoch the whole state is saved, so that a run killed at any moment goes on from its last epoch and ends with the
same numbers. Randomness is a function of (seed, epoch) alone; there is no generator whose state would have to be saved.
"""

import copy
import hashlib
import io
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import nn
from torch.nn.functional import cross_entropy, pad
from torch.nn.utils import parametrize

from lipscale import config
from lipscale.certification import export
from lipscale.data.dataset import Dataset
from lipscale.errors import LipscaleError
from lipscale.evaluation.metrics import accuracy, expected_calibration_error, probabilities
from lipscale.method.feedback import LipschitzFeedback, Update
from lipscale.method.temperature import fit_temperature, nll
from lipscale.networks.network import LipschitzNetwork, build_network
from lipscale.progress import bar, describe
from lipscale.store import files, provenance
from lipscale.store.checksums import seal

CHECKPOINT = "checkpoint.pt"
HISTORY = (
    "epoch", "lipschitz", "temperature", "next_lipschitz", "bounded", "train_loss", "validation_nll",
    "validation_accuracy", "validation_ece",
)  # fmt: skip
EVALUATION_BATCH = 1000
REHEARSAL_STEPS = (8, 16, 32, 64)  # after which a rehearsal updates L


def train(settings: Mapping, dataset: Dataset, folder: Path) -> None:
    """Train one run to the end, or from where it was stopped, and write its folder.

    Args:
        settings: one of `config.runs`.
        dataset: the prepared data set.
        folder: gets config.yaml, history.csv, feedback.csv, model.safetensors and provenance.json; and checkpoint.pt, the
            state after the last epoch.

    Raises:
        LipscaleError: loss or logits are no longer finite, the device is missing, or a file cannot be written.
    """
    device = select_device(settings["device"])
    torch.set_num_threads(settings["threads"])
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / "config.yaml", yaml.safe_dump(dict(settings), sort_keys=False))

    training = Training(settings, dataset, device)
    training.resume(folder / CHECKPOINT)
    epochs, steps = settings["training"]["epochs"], training.steps_per_epoch
    name, done = settings["run"], len(training.history) * steps
    if not training.history:
        training.rehearse()
    with bar(name=name, total=epochs * steps, initial=done, unit="step") as progress:
        while len(training.history) < epochs:
            row = training.epoch(after_step=progress.update)
            training.save(folder / CHECKPOINT)
            values = f"loss={row['train_loss']:.3f}, L={row['next_lipschitz']:.3g}, T={row['temperature']:.3f}"
            describe(progress, f"epoch {row['epoch']}/{epochs}, {values}")

    files.write_rows(folder / "history.csv", list(training.history[0]), training.history)
    files.write_rows(folder / "feedback.csv", list(training.measurements[0]), training.measurements)
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
            "seconds": training.rehearsal_seconds + sum(row["seconds"] for row in training.history),
            "feedback_seconds": sum(row["seconds"] for row in training.measurements),
            "parameters": sum(parameter.numel() for parameter in training.network.parameters()),
            "machine": provenance.machine(),
            "versions": provenance.versions(),
        },
    )
    for name in ("config.yaml", "history.csv", "feedback.csv", "model.safetensors", "provenance.json"):
        seal(folder / name)


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
        self.forward = torch.compile(self.network) if settings["compile"] else self.network
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings["training"]["learning_rate"])
        bounds = {key: value for key, value in settings["feedback"].items() if key not in ("rehearsals", "updates_per_epoch")}
        self.feedback = LipschitzFeedback(**bounds)
        self.history: list[dict] = []  # a row per epoch
        self.measurements: list[dict] = []  # a row per measurement of T*
        self.rehearsal_seconds = 0.0

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.labels) / self.settings["training"]["batch_size"])

    def epoch(self, after_step: Callable[[], object] = lambda: None) -> dict:
        """Train for one epoch, measure T*, set the next L (LiST only); returns the new row of the history."""
        start = time.perf_counter()
        done, steps = len(self.history), self.steps_per_epoch
        loss = self._train_steps(steps, self._update_steps(), lambda step: done + step / steps, after_step)
        lipschitz, exponents = self.network.lipschitz, self.network.budget.exponents().tolist()
        logits, update = self.measure(epochs=done + 1)
        numbers, labels = logits.cpu().numpy(), self.validation_labels.cpu().numpy()
        values = (
            done + 1, lipschitz, update.temperature, update.next_lipschitz, int(update.bounded), loss,
            nll(logits, self.validation_labels), accuracy(numbers, labels),
            expected_calibration_error(probabilities(numbers), labels),
        )  # fmt: skip
        row = dict(zip(HISTORY, values, strict=True))
        row |= {f"exponent_{layer}": exponent for layer, exponent in enumerate(exponents, 1)}
        self.history.append(row | {"seconds": time.perf_counter() - start})
        return self.history[-1]

    def measure(self, epochs: float) -> tuple[torch.Tensor, Update]:
        """Validation logits and their T* after so many epochs; LiST then sets the next L.

        Raises:
            LipscaleError: the logits are not finite, as the last step's weights, whose loss nobody has seen, are not.
        """
        start = time.perf_counter()
        try:
            logits, lipschitz = self.validation_logits(), self.network.lipschitz
        except torch.linalg.LinAlgError:
            raise self._diverged("weights are no longer finite") from None
        if not logits.isfinite().all():
            raise self._diverged("validation logits are no longer finite")
        if self.settings["method"] == "list":
            update = self.feedback.update(lipschitz, logits, self.validation_labels)
            self.network.lipschitz = update.next_lipschitz
        else:
            update = Update(fit_temperature(logits, self.validation_labels), lipschitz, bounded=False)
        row = {"epochs": epochs, "lipschitz": lipschitz, **asdict(update)} | {"bounded": int(update.bounded)}
        self.measurements.append(row | {"seconds": time.perf_counter() - start})
        return logits, update

    def rehearse(self) -> None:
        """Move from L0 to an L that fits the initial weights, if so configured, so that L0 does not shape the weights.

        A rehearsal trains the first 64 steps with an update after 8, 16, 32 and 64 of them (earlier, a network has learned
        nothing that T* could measure), and then goes back to the initial weights with the L that it has found. The L after a
        rehearsal depends much less on the L before it.
        """
        start = time.perf_counter()
        steps = min(REHEARSAL_STEPS[-1], self.steps_per_epoch)
        count = self.settings["feedback"]["rehearsals"] if self.settings["method"] == "list" else 0
        network, optimizer = copy.deepcopy((self.network.state_dict(), self.optimizer.state_dict()))
        for number in range(count):
            self._train_steps(steps, REHEARSAL_STEPS, lambda step, first=number - count: first + step / steps)
            lipschitz = self.network.lipschitz
            self.network.load_state_dict(network)
            self.optimizer.load_state_dict(copy.deepcopy(optimizer))
            self.network.lipschitz = lipschitz
        self.rehearsal_seconds = time.perf_counter() - start

    def _update_steps(self) -> set[int]:
        """The steps of an epoch after which LiST updates L, besides the end of the epoch."""
        number = self.settings["feedback"]["updates_per_epoch"] if self.settings["method"] == "list" else 1
        return {round(self.steps_per_epoch * part / number) for part in range(1, number)} - {0, self.steps_per_epoch}

    def _train_steps(
        self,
        steps: int,
        update_after: Collection[int],
        epochs: Callable[[int], float],
        after_step: Callable[[], object] = lambda: None,
    ) -> float:
        """The first steps of an epoch, with updates of L after some of them; returns the mean loss.

        Args:
            epochs: the time after so many steps, for the record of updates.

        Raises:
            LipscaleError: the loss or the logits are no longer finite.
        """
        divide = self.settings["training"]["divide_loss"] and self.settings["method"] != "unconstrained"
        generator = torch.Generator().manual_seed(_mix(self.settings["seed"], len(self.history)))
        batches = torch.randperm(len(self.labels), generator=generator).to(self.device)
        batches = batches.split(self.settings["training"]["batch_size"])[:steps]
        total = torch.zeros((), device=self.device)
        try:
            for step, batch in enumerate(batches):
                images = self.images[batch].float() / 255
                if self.settings["training"]["augmentation"] == "crop-flip":
                    images = crop_flip(images, generator)
                self._set_learning_rate((len(self.history) + step / self.steps_per_epoch) / self.settings["training"]["epochs"])
                self.network.train()
                loss = cross_entropy(fast_logits(self.forward, images, self.settings["precision"]), self.labels[batch])
                self.optimizer.zero_grad()
                (loss / self.network.lipschitz if divide else loss).backward()
                self.optimizer.step()
                total += loss.detach() * len(batch)
                if step + 1 in update_after:
                    if not loss.isfinite():
                        break
                    self.measure(epochs(step + 1))
                after_step()
            mean = total.item() / sum(map(len, batches))
        except torch.linalg.LinAlgError:  # what orthogonalisation makes of weights that are no longer finite
            mean = math.nan
        if not math.isfinite(mean):
            raise self._diverged(f"training loss became {mean}")
        return mean

    def _diverged(self, what: str) -> LipscaleError:
        return LipscaleError(
            f"run {self.settings['run']}: the {what} in epoch {len(self.history) + 1} at L = {self.network.lipschitz:g}; "
            "a smaller training.learning_rate may help"
        )

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
        """Write a checkpoint: the SHA-256 of what follows, then what torch.save makes of the state."""
        payload = io.BytesIO()
        torch.save(
            {
                "config_hash": config.digest(self.settings),
                "data_sha256": self.dataset.sha256,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "history": self.history,
                "measurements": self.measurements,
                "rehearsal_seconds": self.rehearsal_seconds,
            },
            payload,
        )
        with files.atomic(path) as temporary, temporary.open("wb") as file:
            file.write(hashlib.sha256(payload.getbuffer()).digest())
            file.write(payload.getbuffer())

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same settings and data, if there is one; say so where one is passed over.

        Raises:
            OSError, MemoryError, torch.OutOfMemoryError: it could not be looked at, and is left for the next attempt.
        """
        if not path.exists():
            return
        before = copy.deepcopy((self.network.state_dict(), self.optimizer.state_dict()))
        try:
            state = read_checkpoint(path, self.device)
            expected = {"config_hash": config.digest(self.settings), "data_sha256": self.dataset.sha256}
            if any(state[key] != value for key, value in expected.items()):
                print(f"{path} is from other settings or data; training starts anew", flush=True)
                return
            history, measurements, seconds = (state[key] for key in ("history", "measurements", "rehearsal_seconds"))
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (OSError, MemoryError, torch.OutOfMemoryError):  # which say nothing of the checkpoint; it may be whole
            raise
        except Exception as error:  # whatever is in it, for example what another version wrote
            print(f"{path} cannot be read ({' '.join(str(error).split())}); training starts anew", flush=True)
            self.network.load_state_dict(before[0])
            self.optimizer.load_state_dict(before[1])
            return
        self.history, self.measurements, self.rehearsal_seconds = history, measurements, seconds


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict:
    """The state in a checkpoint. Raises ValueError where a byte is not what was written."""
    content = memoryview(path.read_bytes())
    size = hashlib.sha256().digest_size
    if hashlib.sha256(content[size:]).digest() != content[:size]:
        raise ValueError("its checksum differs")
    return torch.load(io.BytesIO(content[size:]), map_location=device, weights_only=True)


def fast_logits(network: nn.Module, images: torch.Tensor, precision: str) -> torch.Tensor:
    """Logits for training, float32. Weights are always made orthogonal in float32, as Cholesky factors fail in bf16.

    Args:
        network: its modules may have parametrized weights.
        images: (B, C, H, W).
        precision: of the passes through the layers, float32 or bf16.
    """
    if precision == "float32":
        return network(images)
    with parametrize.cached():
        for module in network.modules():
            if parametrize.is_parametrized(module):
                module.weight  # noqa: B018 (computed here, outside autocast, and kept until the end of the block)
        with torch.autocast(images.device.type, torch.bfloat16):
            return network(images).float()


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
