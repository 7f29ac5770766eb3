"""The cost of attacks, from measured times."""

import math
from collections.abc import Sequence


def attack_costs(seconds: Sequence[float], attacked: Sequence[Sequence[int]], batch_size: int) -> tuple[float, float]:
    """Seconds for each batch, and seconds for each image in it: the least squares fit in which neither is negative.

    Args:
        seconds: of the attack on each run.
        attacked: number of attacked images at each epsilon, for each run.
        batch_size: images attacked at once, at most.
    """
    import numpy as np  # both here: the environment that launches the workflow has no scipy, and plans too
    from scipy.optimize import nnls

    counts = [[sum(math.ceil(count / batch_size) for count in of_run), sum(of_run)] for of_run in attacked]
    batch_seconds, image_seconds = nnls(np.array(counts, dtype=float), np.array(seconds))[0]
    return float(batch_seconds), float(image_seconds)
