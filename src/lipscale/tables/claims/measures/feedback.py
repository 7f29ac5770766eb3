"""Claims 2, 3, 4 and 13: what the feedback does to T and L."""

from math import ceil

import numpy as np
import pandas as pd

from lipscale.tables.claims.evidence import Evidence, Setting
from lipscale.tables.claims.quantities import Largest, Quantity, Sampled, Undecided, ratio
from lipscale.tables.claims.rule import Claim
from lipscale.tables.reader import LIST

MIDDLE = (0.4, 0.6)  # of the epochs: the learning rate is 65 to 35 % of its first value (a half cosine)
LEARNING = 0.98  # training loss at the end over that in the middle, at most: a frozen network has 1


def middle_temperatures(evidence: Evidence) -> tuple[Largest, str]:
    """|log T*| in the middle of training, of networks that still learn there.

    At the end it says little: the learning rate goes to 0, and T* = 1 for any network that no longer moves.
    """
    parts, learnt = [], []
    for setting in evidence.standard(LIST):
        history = _history(evidence, setting)
        epochs = history["epoch"].max()
        first, last = min(ceil(MIDDLE[0] * epochs), ceil(epochs / 2)), max(int(MIDDLE[1] * epochs), ceil(epochs / 2))
        middle = history[history["epoch"].between(first, last)]
        distance = np.log(middle["temperature"]).abs().groupby(middle["seed"]).max()
        parts.append(Sampled(tuple(distance.index), distance.to_numpy()))
        losses = history.groupby("epoch")["train_loss"].mean()
        learnt.append(losses[epochs] / losses[last])
    if max(learnt) > LEARNING:
        raise Undecided(
            f"from some L0 the training loss falls by less than {100 * (1 - LEARNING):.0f} % after the middle of training: "
            "T* = 1 for any network that is frozen"
        )
    return Largest(parts), f"training loss falls by {100 * (1 - max(learnt)):.0f} % or more after that"


def final_ratio(evidence: Evidence) -> Quantity:
    """Largest over smallest final L at a seed, for each offset with several L0."""
    parts = []
    for offset in dict.fromkeys(setting.offset for setting in evidence.of(LIST)):
        settings = evidence.of(LIST, offset)
        if len(settings) > 1:
            finals = [setting.column("lipschitz", np.log) for setting in settings]
            seeds = sorted(set(finals[0].numbers).intersection(*(part.numbers for part in finals)))
            if not seeds:
                raise Undecided("no seed has all L0")
            values = np.array([part.over(seeds).values for part in finals])
            parts.append(Sampled(tuple(seeds), values.max(axis=0) - values.min(axis=0)))
    if not parts:
        raise Undecided("one L0; two or more are needed")
    return ratio(Largest(parts))


def contraction(evidence: Evidence) -> Quantity:
    """Final L over largest L on the way, from each L0 that is below the final L at every seed."""
    parts = []
    for setting in evidence.standard(LIST):
        runs = _history(evidence, setting).sort_values("epoch").groupby("seed")["next_lipschitz"].agg(["last", "max"])
        if (runs["last"] > setting.initial_lipschitz).all():
            parts.append(Sampled(tuple(runs.index), np.log(runs["last"] / runs["max"]).to_numpy()))
    if not parts:
        raise Undecided("no L0 is below the final L, so L cannot rise first")
    return ratio(Largest(parts))


def _history(evidence: Evidence, setting: Setting) -> pd.DataFrame:
    history = evidence.tables["history"]
    return history[history["run"].isin(setting.runs["run"])]


SAME_END = "L ends at the same value from every L0"
CLAIMS = (
    Claim(
        "2",
        "T goes to 1",
        "largest abs(log T*) in the middle fifth of training, where the network still learns",
        middle_temperatures,
        at_most=0.05,
    ),
    Claim("3", SAME_END, "largest over smallest final L at one seed", final_ratio, at_most=1.25),
    Claim(
        "4",
        "Relaxation, then contraction: L rises, peaks, falls",
        "final L over largest L, from L0 below the final L",
        contraction,
        at_most=0.9,
    ),
    Claim("13", f"{SAME_END}, within 5 %", "largest over smallest final L at one seed", final_ratio, at_most=1.05),
)
