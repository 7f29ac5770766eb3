"""Names for people of objectives, of the use of calibration data, and of offsets. Needs no package."""

import re

from lipscale.tables.key import in_logits
from lipscale.text import short

OBJECTIVES = {  # the letters of an objective's tag -> its name; numbers after them are shown in brackets
    "label_smoothing": "label smoothing",
    "focal": "focal",
    "flsd": "FLSD-53",
    "brier": "Brier",
    "pgd": "PGD-AT",
    "trades": "TRADES",
    "caat": "CAAT",
}
NUMBER = "m?[0-9]+(?:p[0-9]+)?(?:em?[0-9]+)?"  # in a tag: p is the point, m a minus
CALIBRATION_DATA = {"continue": "+ calibration data", "restart": "+ calibration data (restart)"}
STANDARD = "standard"  # the variant with cross-entropy that does not return calibration data


def objective_title(tag: str) -> str:
    """Name of an objective, from its tag: `pgd36_steps20` is PGD-AT (36, steps 20), `focal2p5` is focal (2.5)."""
    for name, title in OBJECTIVES.items():
        if match := re.fullmatch(rf"{name}({NUMBER})?((?:_[a-z_]+{NUMBER})*)", tag):
            values = [_number(match[1])] if match[1] and not title.endswith(match[1]) else []
            others = re.findall(rf"_([a-z_]+?)({NUMBER})", match[2])
            values += [f"{key.replace('_', ' ')} {_number(value)}" for key, value in others]
            return f"{title} ({', '.join(values)})" if values else title
    return tag.replace("_", " ")


def _number(text: str) -> str:
    return text.replace("p", ".").replace("m", "-")


def variant_parts(variant: str) -> tuple[str, str]:
    """Names of the objective and of the use of calibration data, each empty where it is the usual one."""
    parts = [] if variant == STANDARD else variant.split("-")
    objective = [objective_title(part) for part in parts if part not in CALIBRATION_DATA]
    return ", ".join(objective), " ".join(CALIBRATION_DATA[part] for part in parts if part in CALIBRATION_DATA)


def offset_title(setting: str, offset: float) -> str:
    """The offset with its unit, such as `36/255`."""
    return f"{short(offset)} logits" if in_logits(setting) else f"{short(offset)}/255" if offset else "0"
