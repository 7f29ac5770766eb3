"""The check of a config in a new process: what it imports, and parts in files outside the package."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from small_configs import CONFIG


def in_new_process(code: str, stdin: str = "", **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], input=stdin, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_needs_neither_torch_nor_numpy():
    code = f"""
import sys
from lipscale import config
config.runs(config.check({CONFIG}))
print(sorted({{"torch", "numpy", "pandas", "scipy", "matplotlib"}} & set(sys.modules)))
"""
    assert in_new_process(code).strip() == "[]"


SOURCE = """
from typing import Literal
from lipscale.settings import Count, SourceSettings

class Settings(SourceSettings):
    name: Literal["noise"]
    side: Count = 9

    def image_shape(self):
        return (1, self.side, self.side)
"""
OBJECTIVE = """
from typing import Literal
from lipscale.settings import Positive
from lipscale.training.objectives.base import ObjectiveSettings

class Settings(ObjectiveSettings):
    name: Literal["power"]
    gamma: Positive = 3
"""
METHOD = """
from lipscale.method.methods.base import Method
from lipscale.settings import PositiveList

METHOD = Method(
    name="power", title="power", label="power", key="power_lipschitz", annotation=PositiveList | None, default=None,
    description="L of the runs with that objective", constrained=True, feedback=False,
    expand=lambda values: [(value, {"objective": "power"}) for value in values or []],
)
"""
CHECK = """
import json, sys
from lipscale import config
from lipscale.errors import LipscaleError

whole, refused = json.load(sys.stdin)
*_, last = config.runs(config.check(whole))
print(last.run, last.training.objective, last.dataset, last.network.family)
assert config.check_run(last.model_dump(mode="json")) == last
for changed in refused:
    try:
        config.check(whole | changed)
    except LipscaleError as error:
        print(error)
"""


@pytest.fixture
def parts(tmp_path) -> Path:
    """A folder of extensions: a data set, an objective, a method and a layer family, each one file."""
    texts = {
        "sources/noise": SOURCE,
        "objectives/power": OBJECTIVE,
        "methods/power": METHOD,
        "families/layers": "CONSTRAINED = True",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def test_parts_are_found_by_their_files(parts):
    """Outside the package: their settings are read, and checked as those inside it."""
    config = copy.deepcopy(CONFIG) | {"dataset": {"name": "noise", "validation_images": 5}}
    config["network"]["family"] = "layers"
    config["runs"]["power_lipschitz"] = [5]
    objectives = ("hinge", {"name": "power", "gamma": 0}, {"name": "power", "x": 0})
    refused = [{"training": config["training"] | {"objective": objective}} for objective in objectives]
    refused += [{"dataset": config["dataset"] | {"side": 0}}]
    extensions = os.pathsep.join(filter(None, [str(parts), os.environ.get("LIPSCALE_EXTENSIONS")]))
    found, *said = in_new_process(CHECK, json.dumps([config, refused]), LIPSCALE_EXTENSIONS=extensions).splitlines()
    assert found == (
        "power-5-power-seed1 name='power' gamma=3.0 name='noise' path=None validation_images=5 split_seed=0 side=9 layers"
    )
    for sentence, beginning in zip(
        said,
        [
            "training.objective.name is 'hinge'; allowed: one of",
            "training.objective.gamma is 0; ",
            "unknown key 'x' in training.obj",
            "dataset.side is 0; ",
        ],
        strict=True,
    ):
        assert sentence.startswith(f"config: {beginning}")
