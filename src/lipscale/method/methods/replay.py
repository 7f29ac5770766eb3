"""Replay: the L of another seed's LiST run, step by step, without feedback.

A control: if LiST is better than a network trained at its final L, is that the feedback, or only that L moves during training?
"""

from lipscale.method.methods.base import Method
from lipscale.settings import PositiveList

METHOD = Method(
    name="replay",
    title="replay",
    label="replayed $L$ of LiST",
    key="replay_initial_lipschitz",
    annotation=PositiveList | None,
    default=None,
    description="L0 of the LiST runs whose L is replayed without feedback: each run trains with the L that the LiST run of the "
    "next seed had, step by step; these LiST runs must be in the config with the same offset, objective and calibration_data; "
    "null: no such runs",
    expand=lambda values: [(value, {}) for value in values or []],
    constrained=True,
    feedback=False,
    replays="list",
    start="L_0",
    marker="v",
    slanted=True,
    order=3,
)
