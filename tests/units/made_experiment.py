"""An experiment in a folder, made of numbers that are easy to check; nothing is trained."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from lipscale import config
from lipscale.store import checksums, files
from lipscale.store.run_folder import ExperimentFolder

EPSILONS = [36, 72]
COMMIT = "a" * 40
MACHINE = {"system": "Linux", "processor": "x86_64", "cores": 2}
INF = float("inf")
RUNS = [  # method, initial L, final L
    ("list", 0.1, 9.0),
    ("list", 100.0, 11.0),
    ("fixed", 1.0, 1.0),
    ("fixed", 20.0, 20.0),
    ("unconstrained", INF, INF),
]


class Section(SimpleNamespace):
    """Settings with attributes, as the checked config has them."""

    def model_dump(self, mode: str) -> dict:
        return {key: value.model_dump(mode) if isinstance(value, Section) else value for key, value in vars(self).items()}


class Run(Section):
    """The settings of a run."""

    variant = "standard"

    @property
    def setting(self) -> str:
        return self.run.rpartition("-seed")[0]

    def identity(self) -> dict:
        return {key: self.model_dump("json")[key] for key in ("method", "initial_lipschitz", "seed", "dataset", "training")}


def settings(**changes: dict) -> Section:
    """The checked config of the experiment, with keys of its sections changed."""
    sections = {
        "experiment": "made",
        "dataset": {"name": "digits", "path": None, "split_seed": 0},
        "network": {"architecture": "mlp", "widths": [4]},
        "training": {"epochs": 3, "learning_rate": 0.1, "offset": 0.0},
        "feedback": {"warmups": 0},
        "runs": {"seeds": [0, 1]},
        "evaluation": {"epsilons": EPSILONS, "attack_images": 6, "spot_check_images": 2, "attack_seed": 0},
        "figures": {"posthoc_lipschitz": 20.0},
    }
    for section, values in changes.items():
        sections[section] |= values
    return Section(**{key: Section(**value) if isinstance(value, dict) else value for key, value in sections.items()})


def runs(experiment: Section) -> list[Run]:
    """The settings of its runs, two seeds of each setting."""
    common = {key: value for key, value in vars(experiment).items() if key not in ("experiment", "runs", "figures")}
    return [
        Run(run=f"{method}-{start:g}-seed{seed}", method=method, initial_lipschitz=start, seed=seed, **common)
        for method, start, _ in RUNS
        for seed in (0, 1)
    ]


def make(folder: Path) -> ExperimentFolder:
    """Write the experiment into `folder`; the returned one has its settings in memory."""
    experiment = ExperimentFolder(folder)
    experiment.config = settings()
    experiment.runs = [_named(experiment.run(run.run), run) for run in runs(experiment.config)]
    manifest = {
        "dataset": "digits",
        "settings": experiment.config.dataset.model_dump("json"),
        "arrays_sha256": "d" * 64,
        "image_shape": [1, 8, 8],
        "mean": [0.3],
        "classes": ["0", "1"],
        "counts": {split: {"images": 10} for split in ("train", "validation", "test")},
        "source": {"package": "scikit-learn"},
    }
    _write(experiment.data / "manifest.json", manifest)
    ends = {(method, start): end for method, start, end in RUNS}
    for number, run in enumerate(experiment.runs):
        _write_run(run.path, run.settings, ends[run.settings.method, run.settings.initial_lipschitz], number)
    return experiment


def _named(folder, run: Run):
    folder.settings = run
    return folder


def _write_run(folder: Path, run: Run, end: float, number: int) -> None:
    key = {"epoch": [1, 2, 3], "lipschitz": [run.initial_lipschitz, end, end], "next_lipschitz": [end] * 3}
    losses = {"train_loss": [3.0, 2.0, 1.0], "validation_nll": [3.0, 2.0, 1.5], "validation_accuracy": [0.5, 0.6, 0.7]}
    history = pd.DataFrame(key | losses | {"temperature": [2.0, 1.5, 1.01], "seconds": 0.5})
    _write(folder / "history.csv", history)
    _write(folder / "feedback.csv", history.rename(columns={"epoch": "epochs"}).drop(columns=list(losses)).assign(bounded=0))
    ratios = np.geomspace(0.01, 1000, 51)
    unit = end if np.isfinite(end) else 1.0
    ece = np.abs(np.log10(ratios / 10)) / 20 + 0.01
    _write(folder / "sweep.csv", pd.DataFrame({"temperature": unit / ratios, "ece": ece}))
    full = {"low": 0.5, "high": 1.0, "images": 8, "confidence": 0.8, "accuracy": 0.75}
    empty = {"low": 0.0, "high": 0.5, "images": 0, "confidence": None, "accuracy": None}
    bins = [{"scaled": scaled, "temperature": 1.0} | row for scaled in (0, 1) for row in (empty, full)]
    _write(folder / "reliability.csv", pd.DataFrame(bins))
    # eight images: 0 to 5 are evaluated, 0 to 5 are right; those of a larger radius are more robust
    radius = np.array([100, 90, 60, 40, 20, 10, 0, 0]) / 255 if np.isfinite(end) else np.zeros(8)
    prediction = [0, 1, 0, 1, 0, 1, 1, 0]
    label = [0, 1, 0, 1, 0, 1, 0, 1]
    radii = {"index": range(8), "label": label, "prediction": prediction, "radius": radius, "pair_radius": radius * 1.2}
    _write(folder / "radii.csv", pd.DataFrame(radii))
    _write_logits(folder, label, prediction)
    attack = {"index": [0, 1, 2, 3, 4, 6], "robust_36": [1, 1, 1, 1, 0, 0], "attacked_36": [1, 1, 0, 0, 1, 0]}
    attack |= {"robust_72": [1, 1, 1, 0, 0, 0], "attacked_72": [1, 1, 0, 1, 0, 0]}
    _write(folder / "attack.csv", pd.DataFrame(attack))
    made = {"device": "cpu", "machine": MACHINE, "versions": {"torch": "2"}, "commit": COMMIT}
    digest = config.digest(run.identity())
    training = {"seconds": 4.0 + number, "feedback_seconds": 0.4, "config_hash": digest, "data_sha256": "d" * 64}
    _write(folder / "provenance.json", made | training)
    options = {"epsilons": EPSILONS, "images": 6, "spot_checks": 2, "seed": 0, "batch_size": 6}
    _write(folder / "attack.json", options | {"attack": "AutoAttack l2", "seconds": 2.0, "temperature": 1.0})
    measured = {
        "ece": 0.05 + number / 100,
        "ece_scaled": 0.02,
        "nll": 0.5,
        "nll_scaled": 0.4,
        "brier": 0.3,
        "brier_scaled": 0.2,
    }
    measured |= {"classwise_ece": 0.03, "classwise_ece_scaled": 0.01, "adaptive_ece": 0.04, "adaptive_ece_scaled": 0.02}
    measured |= {"validation_accuracy": 0.7, "validation_ece": 0.06, "validation_ece_scaled": 0.03, "validation_nll": 0.6}
    _write(folder / "calibration.json", {"temperature": 1.0} | measured)
    lipschitz = end if np.isfinite(end) else "inf"
    _write(folder / "certificate.json", {"lipschitz": lipschitz, "lipschitz_certified": 0.999 * unit})
    left = {"images": 5, "broken": 0, "smallest_margin_left": 0.01, "median_margin_left": 0.1, "seconds": 3.0}
    attacks = {"per_split": {"test": 5, "train": 0}, "share_of_radius": 0.999, "attacks": ["apgd-ce", "square", "pgd"]}
    if np.isfinite(end):
        _write_calibration_attack(folder, label, prediction, number)
    _write(folder / "falsification.json", left | attacks | made)


def _write_calibration_attack(folder: Path, label: list[int], prediction: list[int], number: int) -> None:
    """Six attacked images, whose bounds and attacked values rise with the budget."""
    table, cases, attacked = pd.DataFrame({"index": range(len(label))}), [], [0, 1, 2, 3, 4, 6]
    for epsilon in EPSILONS:
        for suffix in ("", "_scaled"):
            key, bound = f"{suffix}_{epsilon}", 0.5 + epsilon / 100 + number / 1000
            columns = {"certified_nll": bound, "certified_brier": bound / 2, "attacked_nll": bound - 0.1}
            columns |= {"attacked_brier": bound / 2 - 0.1, "attacked_confidence": 0.8}
            columns |= {"attacked_right": pd.Series(np.equal(label, prediction).astype(int))}
            table = table.assign(**{f"{name}{key}": value for name, value in columns.items()})
            table.loc[~table["index"].isin(attacked), [name for name in table if name.startswith("attacked")]] = None
            proven = {"certified_nll": bound, "certified_brier": bound / 2, "worst_case_ece": 0.5}
            reached = {"attacked_nll": bound - 0.1, "attacked_brier": bound / 2 - 0.1, "attacked_ece": abs(0.8 - 5 / 6)}
            cases.append({"epsilon": epsilon, "suffix": suffix, "temperature": 1.0} | proven | reached)
            cases[-1] |= {f"evaluated_{name}": value for name, value in proven.items()} | {"validation_certified_nll": bound}
    bins = [{"epsilon": epsilon, "scaled": scaled} for epsilon in (0, *EPSILONS) for scaled in (0, 1)]
    ends = {"low": 0.0, "high": 1.0, "images": 6, "confidence": 0.8, "accuracy": 5 / 6, "gap": 5 / 6 - 0.8}
    band = {"smallest_gap": -0.3, "largest_gap": 0.4}
    _write(folder / "reliability_band.csv", pd.DataFrame([one | ends | band for one in bins]))
    _write(folder / "calibration_attack.csv", table)
    _write(folder / "calibration_attack.json", {"epsilons": EPSILONS, "cases": cases, "seconds": 1.0})


def _write_logits(folder: Path, label: list[int], prediction: list[int]) -> None:
    """Logits whose largest is that of the prediction, by 1, 2, 3, ..."""
    logits = np.zeros((len(label), 2))
    logits[np.arange(len(label)), prediction] = np.arange(1, len(label) + 1)
    arrays = {f"{split}_logits": logits for split in ("validation", "test")}
    np.savez(folder / "logits.npz", **arrays, validation_labels=np.array(label), test_labels=np.array(label))
    checksums.record(folder / "logits.npz")


def _write(path: Path, content: dict | pd.DataFrame) -> None:
    if isinstance(content, pd.DataFrame):
        files.write_table(content, path)
    else:
        files.write_json(path, content)
    checksums.record(path)
