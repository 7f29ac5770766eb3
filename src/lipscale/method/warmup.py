"""When a warm-up updates L. Needs no torch, since the plan of an experiment counts its steps too.

A warm-up trains the first steps of an epoch with a few updates of L, and then restores the initial weights with the L that
it found. The L after a warm-up depends much less on the L before it. Earlier than after 8 steps, a network has learned
nothing that T* could measure.
"""

UPDATE_STEPS = (8, 16, 32, 64)  # the training steps of a warm-up after which L is updated


def steps(steps_per_epoch: int) -> int:
    """The number of training steps of one warm-up: 64, or a whole epoch if that is shorter."""
    return min(UPDATE_STEPS[-1], steps_per_epoch)
