"""Certified radii.

For an L-Lipschitz f and classes i != j the functional f_i - f_j is sqrt(2) L-Lipschitz, as e_i - e_j has norm sqrt(2). So no
perturbation of l2 norm below margin / (sqrt(2) L) changes the class of an image x that is classified as y
(Tsuzuku, Sato and Sugiyama, NeurIPS 2018).
"""

from pathlib import Path

import numpy as np

from lipscale import files
from lipscale.run_folder import final_lipschitz, read_logits

COLUMNS = ("index", "label", "prediction", "margin", "radius")


def certified_radii(logits: np.ndarray, labels: np.ndarray, lipschitz: float) -> tuple[np.ndarray, np.ndarray]:
    """Margins f_y - max_{j != y} f_j and radii R(x) = max(0, margin) / (sqrt(2) L), in pixel units, shapes (images,)."""
    rows = np.arange(len(labels))
    others = np.array(logits, dtype=np.float64)
    others[rows, labels] = -np.inf
    margins = logits[rows, labels] - others.max(axis=1)
    return margins, np.maximum(margins, 0.0) / (np.sqrt(2.0) * lipschitz)


def certify(folder: Path) -> None:
    """Write `folder`/radii.csv, a row per test image, from its logits and the L that its last epoch set."""
    arrays = read_logits(folder)
    logits, labels = arrays["test_logits"], arrays["test_labels"]
    margins, radii = certified_radii(logits, labels, final_lipschitz(folder))
    rows = zip(
        range(len(labels)),
        labels.tolist(),
        logits.argmax(axis=1).tolist(),
        margins.tolist(),
        radii.tolist(),
        strict=True,
    )
    files.write_rows(folder / "radii.csv", COLUMNS, (dict(zip(COLUMNS, row, strict=True)) for row in rows))
