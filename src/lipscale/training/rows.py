"""The rows that training records: one per epoch (history.csv) and one per measurement of T* (feedback.csv)."""

from dataclasses import asdict, dataclass

HISTORY = (
    "epoch", "lipschitz", "temperature", "next_lipschitz", "bounded", "train_loss", "validation_nll",
    "validation_accuracy", "validation_ece", "returned",
)  # fmt: skip


@dataclass(frozen=True)
class EpochRow:
    """One epoch. After the return of the validation split to training nothing is measured on it: those values are None.

    Attributes:
        epoch: counted from 1, also across a restart.
        lipschitz: L at the end of the epoch, before the update; infinite without constraint.
        temperature: T* of the validation split with that L; 0 where perfectly separated, infinity at chance level.
        next_lipschitz: L after the update.
        bounded: whether a bound of the feedback was hit.
        train_loss: mean of the objective over the epoch's images, not divided by L.
        validation_nll: in nats, without temperature scaling.
        validation_accuracy, validation_ece: in [0, 1], without temperature scaling.
        returned: whether the validation split was trained on.
        exponents: alpha_k of each layer.
        seconds: of training and measuring.
    """

    epoch: int
    lipschitz: float
    temperature: float | None
    next_lipschitz: float
    bounded: bool
    train_loss: float
    validation_nll: float | None
    validation_accuracy: float | None
    validation_ece: float | None
    returned: bool
    exponents: tuple[float, ...]
    seconds: float

    def flat(self) -> dict[str, float | None]:
        """The row of history.csv: HISTORY, exponent_1 ... exponent_n, seconds."""
        row = {name: getattr(self, name) for name in HISTORY}
        row |= {name: int(row[name]) for name in ("bounded", "returned")}
        row |= {f"exponent_{layer}": exponent for layer, exponent in enumerate(self.exponents, 1)}
        return row | {"seconds": self.seconds}


@dataclass(frozen=True)
class Measurement:
    """One measurement of T*.

    Attributes:
        epochs: trained so far, as a fraction; negative during warm-ups, which end at 0.
        lipschitz: the L that was measured.
        temperature: T* of the validation split.
        next_lipschitz: L after the update.
        bounded: whether a bound of the feedback was hit.
        seconds: of the measurement.
    """

    epochs: float
    lipschitz: float
    temperature: float
    next_lipschitz: float
    bounded: bool
    seconds: float

    def flat(self) -> dict[str, float]:
        """The row of feedback.csv."""
        return asdict(self) | {"bounded": int(self.bounded)}
