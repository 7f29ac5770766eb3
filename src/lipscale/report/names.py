"""Names for people of objectives, of the use of calibration data, and of offsets. Needs no package."""

import re

from lipscale.text import short

OBJECTIVES = {  # the letters of an objective's tag -> its name; a number after them is shown in brackets
    "label_smoothing": "label smoothing",
    "focal": "focal",
    "flsd": "FLSD-53",
    "brier": "Brier",
    "pgd": "PGD-AT",
    "trades": "TRADES",
    "caat": "CAAT",
}
CALIBRATION_DATA = {"continue": "+ calibration data", "restart": "+ calibration data (restart)"}
STANDARD = "standard"  # the variant with cross-entropy that does not return calibration data


def objective_title(tag: str) -> str:
    """Name of an objective, from its tag: `pgd36` is PGD-AT (36), `focal2p5` is focal (2.5)."""
    if tag in OBJECTIVES:
        return OBJECTIVES[tag]
    name, value = re.fullmatch(r"(.*?)([0-9]+(?:p[0-9]+)?)?", tag).groups()
    title = OBJECTIVES.get(name)
    if title is None or value is None:
        return tag.replace("_", " ")
    return title if title.endswith(value) else f"{title} ({value.replace('p', '.')})"


def variant_parts(variant: str) -> tuple[str, str]:
    """Names of the objective and of the use of calibration data, each empty where it is the usual one."""
    parts = [] if variant == STANDARD else variant.split("-")
    objective = [objective_title(part) for part in parts if part not in CALIBRATION_DATA]
    return ", ".join(objective), " ".join(CALIBRATION_DATA[part] for part in parts if part in CALIBRATION_DATA)


def in_logits(setting: str) -> bool:
    """Whether the offset of a setting is in logits, as its name says; else it is in 1/255 of the pixel range."""
    return re.search(r"-xi[0-9.e+-]+logit(-|$)", setting) is not None


def offset_title(setting: str, offset: float) -> str:
    """The offset with its unit, such as `36/255`."""
    return f"{short(offset)} logits" if in_logits(setting) else f"{short(offset)}/255" if offset else "0"
