"""What an attack on calibration has reached: the worst values of each image, among all points that were visited."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipscale.attacks.calibration_directions import log_odds
from lipscale.certification.certified_calibration import ImageBounds
from lipscale.evaluation.metrics import BINS

Arrays = dict[str, np.ndarray]
FIELDS = ("nll", "brier", "brier_logits", "excess", "extreme_logits", "ends")


@dataclass
class Reached:
    """Of a batch of images, on one device; logits are those of the network, all else is of logits / temperature.

    Attributes:
        labels: (images,).
        temperature: that logits are divided by.
        nll, brier: the largest of each image, (images,).
        brier_logits: (images, classes), of the point with the largest Brier score.
        excess: how far log-odds came beyond their bounds, in nats, negative within them; the largest over classes, (images,).
        extreme_logits: (images, classes), of that point.
        ends: lowest and highest top confidence in each bin, wrong (0) or right (1), (images, 2, bins, 2); inf and -inf where
            no point was.
    """

    labels: Tensor
    temperature: float
    nll: Tensor
    brier: Tensor
    brier_logits: Tensor
    excess: Tensor
    extreme_logits: Tensor
    ends: Tensor

    @classmethod
    def nothing(cls, labels: Tensor, classes: int, temperature: float) -> "Reached":
        never = torch.full((len(labels),), -torch.inf, dtype=torch.float64, device=labels.device)
        logits = never.new_zeros(len(labels), classes)
        ends = never.new_empty(len(labels), 2, BINS, 2)
        ends[..., 0], ends[..., 1] = torch.inf, -torch.inf
        return cls(labels, temperature, never, never, logits, never, logits, ends)

    def arrays(self) -> Arrays:
        return {name: getattr(self, name).cpu().numpy().copy() for name in FIELDS}

    def visit(self, logits: Tensor, inside: Tensor, bounds: "Ends") -> None:
        """Count the points with these logits (images, classes), float64, where `inside` (images,) is true."""
        z = logits / self.temperature
        labels, predictions = self.labels[:, None], logits.argmax(1)
        logs = z.log_softmax(1)
        table = logs.exp()
        of_label = table.gather(1, labels)[:, 0]
        brier = table.square().sum(1) - 2 * of_label + 1
        better = inside & (brier > self.brier)
        self.brier = torch.where(better, brier, self.brier)
        self.brier_logits = torch.where(better[:, None], logits, self.brier_logits)
        self.nll = torch.where(inside, torch.maximum(self.nll, -logs.gather(1, labels)[:, 0]), self.nll)
        excess = bounds.excess(z, logs, predictions)
        beyond = inside & (excess > self.excess)
        self.excess = torch.where(beyond, excess, self.excess)
        self.extreme_logits = torch.where(beyond[:, None], logits, self.extreme_logits)
        self._bin(table.gather(1, predictions[:, None])[:, 0], predictions == self.labels, inside)

    def _bin(self, confidence: Tensor, right: Tensor, inside: Tensor) -> None:
        rows = inside.nonzero()[:, 0]
        confidence, right = confidence[rows], right[rows].long()
        index = (confidence * BINS).ceil().long().sub(1).clamp(0, BINS - 1)  # as `bin_of`
        found = self.ends[rows, right, index]
        ends = torch.stack([torch.minimum(found[:, 0], confidence), torch.maximum(found[:, 1], confidence)], dim=1)
        self.ends[rows, right, index] = ends


@dataclass(frozen=True)
class Ends:
    """The bounds on the log-odds of all classes, (images, classes), and which can be predicted, on a device."""

    low: Tensor
    high: Tensor
    possible: Tensor

    @classmethod
    def of(cls, bounds: ImageBounds, rows: np.ndarray, device: torch.device) -> "Ends":
        found = bounds.of(rows).intervals
        arrays = (found.log_odds_low, found.log_odds_high, found.possible)
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))

    def excess(self, logits: Tensor, logs: Tensor, predictions: Tensor) -> Tensor:
        """How far the log-odds are beyond the bounds, the largest over classes, (images,); up to rounding.

        Args:
            logits, logs: divided by the temperature, and their logarithmic softmax, (images, classes).
            predictions: (images,).
        """
        odds = logs - torch.log1p(-logs.exp())
        top = predictions[:, None]
        odds = odds.scatter(1, top, log_odds(logits, predictions)[:, None])  # 1 - p has no digits left near p = 1
        beyond = torch.maximum(self.low - odds, odds - self.high).nan_to_num(nan=-torch.inf).amax(1)
        return torch.where(self.possible.gather(1, top)[:, 0], beyond, torch.inf)


def choose(ends: np.ndarray, starts: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The confidence of each image, and whether it is right, that make the ECE large; and the signs of the bins.

    For given signs, each image is best on its own, see `lipscale.certification.worst_case_ece`. Signs are changed one by one,
    from each start, as long as that helps.

    Args:
        ends: of all images, see `Reached`.
        starts: sign vectors, (bins,) each.

    Returns:
        Confidences (images,), masks (images,) and signs (bins,).
    """
    plus = np.maximum(ends[:, 0, :, 1], ends[:, 1, :, 1] - 1)
    minus = np.maximum(-ends[:, 0, :, 0], 1 - ends[:, 1, :, 0])
    signs = max((_climb(plus, minus, start) for start in starts), key=lambda signs: _sum(plus, minus, signs))
    index, rows = np.where(signs > 0, plus, minus).argmax(axis=1), np.arange(len(ends))
    up, found = signs[index] > 0, ends[rows, :, index]
    right = np.where(up, found[:, 1, 1] - 1 > found[:, 0, 1], 1 - found[:, 1, 0] >= -found[:, 0, 0])
    return found[rows, right.astype(int), up.astype(int)], right, signs


def _climb(plus: np.ndarray, minus: np.ndarray, signs: np.ndarray) -> np.ndarray:
    best, improved = _sum(plus, minus, signs), True
    while improved:
        improved = False
        for k in range(len(signs)):
            other = np.where(np.arange(len(signs)) == k, -signs, signs)
            if (value := _sum(plus, minus, other)) > best:
                best, signs, improved = value, other, True
    return signs


def _sum(plus: np.ndarray, minus: np.ndarray, signs: np.ndarray) -> float:
    return float(np.where(signs > 0, plus, minus).max(axis=1).sum())
