"""Claims 14 to 16, on tables of an imaginary experiment whose numbers are chosen."""

import numpy as np
import pandas as pd
import pytest

from lipscale.tables.claims.evidence import Evidence, NoRuns
from lipscale.tables.claims.measures import certified_calibration as claims
from lipscale.tables.claims.rule import FAILS, HOLDS, decide
from lipscale.tables.reader import Tables

NLL = {  # certified NLL at 36/255 and 72/255 of LiST by offset; of fixed L, as they are and after scaling
    0.0: (1.0, 2.0),
    36.0: (0.8, 1.4),
    72.0: (0.9, 1.2),
}
FIXED = {1.0: (0.85, 1.3, 0.84, 1.25), 4.0: (1.2, 3.0, 0.7, 2.0)}


def evidence() -> Evidence:
    rows = []
    for offset, values in NLL.items():
        rows.append(row("list", 1.0, offset, values, values))
    for start, values in FIXED.items():
        rows.append(row("fixed", start, 0.0, values[:2], values[2:]))
    runs = pd.concat([pd.DataFrame(rows).assign(seed=seed) for seed in range(3)])
    noise = 1 + 1e-4 * np.random.default_rng(0).standard_normal(len(runs))
    numbers = [name for name in runs if name.endswith(("_36", "_72"))]
    runs[numbers] = runs[numbers].mul(noise, axis=0)
    runs["run"] = runs["setting"] + "-seed" + runs["seed"].astype(str)
    return Evidence(Tables.in_memory({"runs": runs.reset_index(drop=True)}))


def row(method: str, start: float, offset: float, plain, scaled) -> dict:
    name = f"{method}-{start:g}" + (f"-xi{offset:g}" if offset else "")
    found = {"setting": name, "method": method, "variant": "standard", "initial_lipschitz": start, "offset": offset}
    for epsilon, value, other in zip((36, 72), plain, scaled, strict=True):
        found |= {f"certified_nll_{epsilon}": value, f"certified_nll_scaled_{epsilon}": other}
        found |= {f"worst_case_ece_{epsilon}": 0.1 + offset / 1000, f"evaluated_worst_case_ece_{epsilon}": 0.2}
        found |= {f"evaluated_certified_nll_{epsilon}": value, f"attacked_nll_{epsilon}": value / (1.1 + offset / 1000)}
        found |= {f"attacked_ece_{epsilon}": 0.1}
    return found


def test_each_claim():
    verdicts = {claim.number: decide(claim, evidence()) for claim in claims.CLAIMS}
    estimates = {number: found["estimate"] for number, found in verdicts.items()}
    assert estimates == pytest.approx(
        {"14a": -0.2, "14b": 0.036, "14c": -0.1, "15a": -0.05, "15b": 0.1, "16a": 1.172, "16b": 2.0}, abs=2e-3
    )
    found = {number: row["verdict"] for number, row in verdicts.items()}
    assert found == {
        "14a": HOLDS, "14b": FAILS, "14c": HOLDS, "15a": HOLDS, "15b": FAILS, "16a": HOLDS, "16b": FAILS
    }  # fmt: skip
    assert verdicts["14c"]["reason"] == "at 36/255 lowest at xi = 36; at 72/255 lowest at xi = 72"
    assert verdicts["15b"]["reason"] == "closest: list-1-xi36 and fixed-4 at 36/255"
    assert verdicts["16a"]["reason"] == "largest: list-1-xi72"


def test_tables_without_bounds_or_offsets_give_no_rows():
    runs = evidence().tables.runs
    bare = runs.drop(columns=[name for name in runs if name.startswith("certified_nll")])
    assert [decide(claim, Evidence(Tables.in_memory({"runs": bare}))) for claim in claims.CLAIMS] == [None] * 7
    few = Evidence(Tables.in_memory({"runs": runs[runs["offset"] == 0].reset_index(drop=True)}))
    with pytest.raises(NoRuns):
        claims.growth(few, "certified_nll")


@pytest.mark.parametrize("unit", ["logit", "logit-label_smoothing0.1"])
def test_offsets_in_logits_are_no_budgets(unit):
    """An offset of 36 logits is not one of 36/255, also where the name of the setting goes on."""
    runs = evidence().tables.runs
    for column in ("setting", "run"):
        runs[column] = runs[column].str.replace(r"(xi\d+)", rf"\1{unit}", regex=True)
    with pytest.raises(NoRuns):
        claims._front(Evidence(Tables.in_memory({"runs": runs})))
