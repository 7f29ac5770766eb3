"""Names of runs, settings and variants."""

import math
import re

from lipscale.config.models import Training

STANDARD = "standard"  # the name of the variant with cross-entropy, and the validation split for T* alone


def run_name(text: str) -> str:
    """A name that a run may have. Raises ValueError for anything else."""
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9.+_-]*", text) or len(text) > 100:
        raise ValueError(
            "allowed: up to 100 letters, digits, dots, plus signs, dashes and underscores, a letter or digit first"
        )
    return text


def setting_name(method: str, initial_lipschitz: float, training: Training) -> str:
    """Short name of a setting, shared by its seeds: `list-0.01`, `fixed-12-xi36`, `unconstrained-label_smoothing`."""
    parts = [method, *_variant_parts(training)]
    if training.offset:
        parts.insert(1, f"xi{training.offset:g}{'logit' if training.offset_unit == 'logit' else ''}")
    if math.isfinite(initial_lipschitz):
        parts.insert(1, f"{initial_lipschitz:g}")
    return "-".join(parts)


def variant_name(training: Training) -> str:
    """The objective and the use of the validation split, such as `focal` or `continue`; `standard` for the usual ones."""
    return "-".join(_variant_parts(training)) or STANDARD


def _variant_parts(training: Training) -> list[str]:
    usual = {"cross_entropy", "none"}
    return [part for part in (training.objective.tag, training.calibration_data) if part not in usual]
