"""What a method is: how its runs follow from the config, and how figures show it. Needs no torch."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """A way to train networks, a module of `lipscale.method.methods` with the constant METHOD.

    Attributes:
        name: identifier in `runs.csv` and in the names of runs; the name of the module.
        title: name for people, as in a table.
        label: entry in the legend of Figure 3.
        key: key of the section `runs` of a config that lists this method's runs.
        annotation: type of that key, as pydantic understands it.
        default: value of the key where it is not given; `...` where it must be given.
        description: of the key, for the JSON schema.
        expand: makes (initial Lipschitz constant, settings that replace those of the section `training`) for each run of a
            seed from the key's value; the constant is infinite where there is no constraint.
        constrained: whether the Lipschitz constant is enforced, so that certificates exist.
        feedback: whether L <- L / T* is applied during training.
        schedule: the L of a run from its initial constant and the share of training that is done, in [0, 1]; None where L is
            not a function of both.
        replays: name of the method whose run of the next seed gives the L of each step; empty: none.
        start: symbol of the initial constant beside which its value is shown, such as `L_0`; empty if there is none.
        marker: of matplotlib, in Figure 3.
        slanted: whether labels in Figure 3 are italic.
        order: position in tables and legends.
    """

    name: str
    title: str
    label: str
    key: str
    annotation: object
    default: object
    description: str
    expand: Callable[[object], Iterable[tuple[float, Mapping[str, object]]]]
    constrained: bool
    feedback: bool
    schedule: Callable[[float, float], float] | None = None
    replays: str = ""
    start: str = ""
    marker: str = "o"
    slanted: bool = False
    order: int = 100

    def setting_title(self, initial_lipschitz: float, number: Callable[[float], str]) -> str:
        """Title of a setting in a figure, such as `LiST, $L_0 = 0.1$`."""
        if not self.start:
            return self.title
        separator = " " if self.start == "L" else ", "
        return f"{self.title}{separator}${self.start} = {number(initial_lipschitz)}$"
