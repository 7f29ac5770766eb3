"""Nothing that is read runs as code, and nothing in a config or a path reaches a shell as syntax."""

import ast
import contextlib
import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import ROOT, lipscale, snakemake
from image_folders import tree, write_folder
from lipscale.certification import export
from lipscale.data.dataset import Dataset
from lipscale.errors import LipscaleError
from lipscale.store import files, run_folder
from lipscale.store.checksums import seal
from lipscale.training import loop as training

# Spaces, quotes, what a shell runs or expands, what Snakemake fills in, what is not ASCII.
NAME = 'q\'s "d"; $(touch pwned) `touch pwned` & | > $HOME * ? # \\n %s é名'
BRACES = "{wildcards} {{x}} {threads}"


class Malicious:
    """Writes the file `marker` when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (self.marker, "pwned")


@pytest.fixture
def marker(tmp_path):
    """A file that unpickling `Malicious` would write: it does so here, and must not have done so at the end of a test."""
    path = tmp_path / "marker"
    pickle.loads(pickle.dumps(Malicious(path)))
    assert path.exists()
    path.unlink()
    yield path
    assert not path.exists()


def test_arrays_cannot_run_code(digits, tmp_path, marker):
    arrays = tmp_path / "arrays.npz"
    np.savez(arrays, train_images=np.array([Malicious(marker)], dtype=object))
    manifest = files.read_json(digits / "manifest.json")
    files.write_json(tmp_path / "manifest.json", manifest)
    for name in ("arrays.npz", "manifest.json"):
        seal(tmp_path / name)
    with pytest.raises(LipscaleError, match="Object arrays cannot be loaded"):
        Dataset(tmp_path).images("train")
    arrays.write_bytes(pickle.dumps(Malicious(marker)))
    seal(arrays)
    with pytest.raises(LipscaleError, match="cannot be read"):
        Dataset(tmp_path).images("train")


def test_logits_cannot_run_code(tmp_path, marker):
    np.savez(tmp_path / "logits.npz", test_logits=np.array([Malicious(marker)], dtype=object))
    seal(tmp_path / "logits.npz")
    with pytest.raises(LipscaleError, match="Object arrays cannot be loaded"):
        run_folder.read_logits(tmp_path)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_checkpoint_cannot_run_code(settings, digits, tmp_path, marker, capsys, write):
    write({"network": Malicious(marker)}, tmp_path / "payload")
    payload = (tmp_path / "payload").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(hashlib.sha256(payload).digest() + payload)
    run = training.Training(settings(), Dataset(digits), torch.device("cpu"))
    with contextlib.suppress(LipscaleError):
        run.resume(tmp_path / "checkpoint.pt")
        assert "cannot be read" in capsys.readouterr().out
    assert run.history == []


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_model_cannot_run_code(tmp_path, marker, write):
    write(Malicious(marker), tmp_path / "model.safetensors")
    with pytest.raises(LipscaleError, match="cannot be read"):
        export.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("tag", ["object/apply:pathlib.Path.touch", "object/new:pathlib.Path.touch"])
@pytest.mark.parametrize("verb", ["train", "prepare"])
def test_settings_cannot_run_code(tmp_path, marker, tag, verb):
    path = tmp_path / "settings.yaml"
    path.write_text(f"!!python/{tag} [!!python/object/apply:pathlib.Path [{marker}]]")
    places = {"train": ["--data", tmp_path, "--runs", tmp_path], "prepare": ["--folder", tmp_path]}
    result = lipscale(verb, "--settings", path, *places[verb], check=False)
    assert result.returncode == 1
    assert "could not determine a constructor for the tag" in result.stderr
    assert result.stderr.count("\n") == 1


def test_settings_of_a_finished_run_cannot_run_code(tmp_path, marker):
    (tmp_path / "config.yaml").write_text(f"!!python/object/apply:pathlib.Path.touch [{json.dumps(str(marker))}]")
    seal(tmp_path / "config.yaml")
    with pytest.raises(LipscaleError, match="could not determine a constructor"):
        run_folder.read_settings(tmp_path)


CALLS = [
    (path.relative_to(ROOT), ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords})
    for path in sorted((ROOT / "src").rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Call)
]


def test_sources_read_nothing_that_could_be_code():
    """As the calls in the sources stand: no unpickling, no evaluation of text, no shell."""
    forbidden = {
        "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler",
        "subprocess.getoutput", "subprocess.getstatusoutput", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
        "joblib.load", "pd.read_pickle", "torch.jit.load",
    }  # fmt: skip
    needed = {"np.load": {"allow_pickle": "False"}, "torch.load": {"weights_only": "True"}}
    assert {name for _, name, _ in CALLS} >= {"yaml.safe_load", *needed}
    for path, name, words in CALLS:
        assert name not in forbidden, f"{path} calls {name}"
        assert words.get("shell", "False") == "False", f"{path} calls {name} with a shell"
        assert needed.get(name, {}).items() <= words.items(), f"{path} calls {name} with {words}"


def small(tiny: dict, data: Path) -> dict:
    """The smallest experiment with every rule of the workflow, on the images in `data`."""
    tiny["dataset"] = {"name": "imagefolder", "path": str(data), "validation_images": 4, "image_size": 8}
    tiny["training"] |= {"epochs": 1, "batch_size": 8}
    tiny["runs"] = {"seeds": [0], "list_initial_lipschitz": [1], "fixed_lipschitz": [2]}
    tiny["evaluation"] |= {"attack_images": 2, "audit_images": 0}
    return tiny


def test_names_of_folders_never_reach_a_shell_as_syntax(tmp_path, tiny):
    folder = tmp_path / f"{NAME} {BRACES}"
    folder.mkdir()
    config = small(tiny, write_folder(folder / f"images {NAME} {BRACES}", tree(8)))
    snakemake(folder, config, "--cores", 2)
    assert (folder / "results" / "tiny" / "tables" / "claims.csv").exists()
    assert (folder / "results" / "tiny" / "figures" / "figure3.png").exists()
    assert not list(tmp_path.rglob("pwned"))
    assert not (ROOT / "pwned").exists()


@pytest.mark.parametrize("characters", ["{x}", "a:b"])
def test_workflow_refuses_a_folder_of_its_own_that_it_could_not_run_from(tmp_path, tiny, characters):
    root = tmp_path / characters
    root.mkdir()
    for name in ("src", "workflow", "envs", "Snakefile"):
        os.symlink(ROOT / name, root / name)
    said = snakemake(tmp_path, tiny, "--dry-run", root=root, check=False)
    assert said.returncode != 0
    assert "allowed: a folder without braces and colons in its path" in said.stdout


def test_a_step_that_fails_without_outputs_fails_its_job(tmp_path, tiny):
    """What a rule pipes into `tee` does not hide that it failed: `figures` has no output whose absence would tell."""
    for name in ("runs", "history", "feedback", "sweep"):
        path = tmp_path / "results" / "tiny" / "tables" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("nothing\n")
    assert snakemake(tmp_path, tiny, "--cores", 1, "figures", check=False).returncode != 0
