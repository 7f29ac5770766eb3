"""Small frozen networks with random orthogonal weights, and images for them: no training, no files."""

from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from pyautoattack import AutoAttack

from lipscale.attacks import at_own_radius, autoattack
from lipscale.certification.plain_layers import PlainNetwork

SHAPE = (1, 8, 8)


def network(classes: int = 6, lipschitz: float = 4.0, seed: int = 0) -> PlainNetwork:
    """64 pixels, dense layer of 32, MaxMin, logits: orthogonal rows of norms 0.5 to 1, so that pair radii are nearly tight."""
    generator = torch.Generator().manual_seed(seed)
    specification = [
        {"layer": "flatten"},
        {"layer": "dense", "in_features": 64, "out_features": 32, "bias": True},
        {"layer": "maxmin"},
        {"layer": "dense", "in_features": 32, "out_features": classes, "bias": False},
        {"layer": "scale", "scale": lipschitz},
    ]
    plain = PlainNetwork(specification, lipschitz, SHAPE)
    for layer in (plain[1], plain[3]):
        torch.nn.init.orthogonal_(layer.weight, generator=generator)
    plain[3].weight.mul_(torch.linspace(0.5, 1, classes)[:, None])
    torch.nn.init.normal_(plain[1].bias, std=0.1, generator=generator)
    return plain.eval()


def images(count: int, seed: int = 0) -> np.ndarray:
    """uint8 noise, (count, 1, 8, 8), away from the ends of the pixel range."""
    return np.random.default_rng(seed).integers(64, 192, (count, *SHAPE), dtype=np.uint8)


class FewQueries(AutoAttack):
    """AutoAttack whose Square asks 250 times, not 5000: it is most of the time that a small network takes."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.square.n_queries = 250


def ask_less(monkeypatch) -> None:
    monkeypatch.setattr(autoattack, "AutoAttack", FewQueries)
    monkeypatch.setattr(at_own_radius, "AutoAttack", FewQueries)


OFFSETS = (18, 36, 72, 108)
OBJECTIVES = ("label_smoothing", "focal3", "flsd", "brier", "pgd36", "pgd128", "trades36", "caat36")
CAMPAIGN = (  # settings: method, variant, L0, offset
    [("list", "standard", 1.0, xi) for xi in (0, *OFFSETS)]
    + [("list", "standard", start, 0) for start in (0.1, 10.0, 100.0, 1000.0)]
    + [("list", "continue", 1.0, 36)]
    + [("fixed", "standard", 2.0**power, 0) for power in range(8)]
    + [("fixed", "standard", value, 36) for value in (2.0, 4.0, 8.0)]
    + [("fixed", "pgd36", 4.0, 0)]
    + [("unconstrained", variant, np.inf, 0) for variant in ("standard", *OBJECTIVES)]
)
FEW = [("list", "standard", 0.1, xi) for xi in (0, 36, 72, 144)] + [
    ("fixed", "standard", value, 0) for value in (0.3, 1.0, 3.0, 6.0, 12.0, 25.0, 50.0, 200.0)
]
RIVALS = {  # clean accuracy, robust accuracy at 36/255, ECE of networks without constraint, about as measured elsewhere
    "standard": (0.690, 0.36, 0.045), "label_smoothing": (0.695, 0.37, 0.060), "focal3": (0.680, 0.38, 0.031),
    "flsd": (0.678, 0.385, 0.028), "brier": (0.688, 0.37, 0.022), "pgd36": (0.645, 0.51, 0.034),
    "pgd128": (0.560, 0.49, 0.052), "trades36": (0.640, 0.515, 0.071), "caat36": (0.672, 0.43, 0.026),
}  # fmt: skip


def setting_name(method: str, variant: str, start: float, offset: float) -> str:
    parts = [method, "" if np.isinf(start) else f"{start:g}", f"xi{offset:g}" if offset else ""]
    return "-".join([part for part in parts if part] + ([variant] if variant != "standard" else []))


def measured(method: str, variant: str, start: float, offset: float, epsilons) -> dict[str, float]:
    """What a network of a setting might measure: accuracies that fall with L and with epsilon, an ECE least near L = 7."""
    lipschitz = 7.0 / (1 + offset / 60) ** 0.8 if method == "list" else start
    if np.isinf(start):
        clean, robust, ece = RIVALS[variant]
        certified = {epsilon: 0.0 for epsilon in epsilons}
        robust = {epsilon: clean * (robust / clean) ** (epsilon / 36) for epsilon in epsilons}
    else:
        away = np.log2(lipschitz / 7)
        clean = 0.635 - (0.012 if away < 0 else 0.009) * away**2 + 0.005 * (method == "list") - 0.01 * (variant == "pgd36")
        clean += 0.007 * (variant == "continue")
        certified = {epsilon: clean * np.exp(-0.09 * lipschitz * (epsilon / 36) ** 1.25 - 0.02) for epsilon in epsilons}
        robust = {epsilon: value + 0.2 * (clean - value) * np.exp(-lipschitz / 20) for epsilon, value in certified.items()}
        ece = 0.014 if method == "list" else 0.014 + 0.07 * abs(away + offset / 72)
    row = {"clean_accuracy": clean, "evaluated_clean_accuracy": clean + 0.01, "ece": ece, "ece_scaled": min(ece, 0.012)}
    row |= {f"certified_{epsilon}": value for epsilon, value in certified.items()}
    row |= {f"robust_{epsilon}": value for epsilon, value in robust.items()}
    return row | {"lipschitz": lipschitz, "temperature": 1.0, "nll": 1 + ece, "validation_nll": 1 + ece}


def front_tables(settings=CAMPAIGN, epsilons=(36, 72, 108), seeds: int = 3) -> dict[str, pd.DataFrame]:
    """runs.csv and intervals.csv of an imaginary experiment with offsets and rivals."""
    generator, runs, intervals = np.random.default_rng(0), [], []
    for key in settings:
        name, values = setting_name(*key), measured(*key, epsilons)
        names = dict(zip(("method", "variant", "initial_lipschitz", "offset"), key, strict=True))
        rows = []
        for seed in range(seeds):
            noise = {measure: value * (1 + 0.005 * generator.standard_normal()) for measure, value in values.items()}
            rows.append({"run": f"{name}-seed{seed}", "setting": name, **names, "seed": seed, **noise})
        runs += rows
        for measure in sorted(values.keys() - {"lipschitz", "temperature"}):
            mean = float(np.mean([row[measure] for row in rows]))
            half = 1.96 * np.sqrt(abs(mean * (1 - mean)) / (512 if measure.startswith(("robust", "evaluated")) else 10000))
            ends = {"mean": mean, "low": max(mean - half, mean / 2), "high": mean + half, "seeds": seeds, "images": 512}
            intervals.append({"setting": name, **names, "measure": measure, **ends})
    return {"runs": pd.DataFrame(runs), "intervals": pd.DataFrame(intervals)}


def front_curves(settings=CAMPAIGN, seeds: int = 2) -> dict[str, pd.DataFrame]:
    """certified.csv and reliability.csv of the same experiment."""
    certified, bins, epsilons = [], [], range(241)
    edges = np.linspace(0, 1, 16)
    for key in settings:
        name, values = setting_name(*key), measured(*key, epsilons)
        names = dict(zip(("method", "variant", "initial_lipschitz", "offset"), key, strict=True))
        for seed in range(seeds):
            run = {"run": f"{name}-seed{seed}", "setting": name, **names, "seed": seed}
            certified += [run | {"epsilon": e, "certified_accuracy": values[f"certified_{e}"]} for e in epsilons]
            for scaled, ece in ((0, values["ece"]), (1, values["ece_scaled"])):
                for low, high in pairwise(edges):
                    middle = (low + high) / 2
                    row = {"scaled": scaled, "low": low, "high": high, "images": int(1000 * high), "confidence": middle}
                    bins.append(run | row | {"accuracy": max(0.0, middle - ece)})
    return {"certified": pd.DataFrame(certified), "reliability": pd.DataFrame(bins)}
