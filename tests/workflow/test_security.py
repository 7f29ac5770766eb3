"""Nothing that is read runs as code, and nothing in a config or a path reaches a shell as syntax."""

import ast
import io
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from conftest import ROOT, snakemake
from image_folders import write_folder
from imagenet_folders import imagenet_tree, tiny_imagenet_tree
from lipscale import config as configs
from lipscale.certification.model_file import load
from lipscale.cli import main
from lipscale.errors import LipscaleError
from lipscale.steps.images import read_images
from lipscale.steps.train import CHECKPOINT
from lipscale.store import state
from lipscale.store.checksums import record
from lipscale.store.dataset import array_file, read_dataset
from lipscale.store.run_folder import RunFolder
from lipscale.training.checkpoint import UnreadableState, restore
from lipscale.training.loop import Training

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


def written(value: object) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_prepared_data_cannot_run_code(digits, tmp_path, marker):
    shutil.copytree(digits, tmp_path, dirs_exist_ok=True)
    for name, said in (("train_images", "Python objects in dtype"), ("train_labels", "Object arrays cannot be loaded")):
        path, whole = tmp_path / array_file(name), (tmp_path / array_file(name)).read_bytes()
        np.save(path, np.array([Malicious(marker)], dtype=object))
        record(path)
        with pytest.raises(LipscaleError, match=said):
            read_dataset(tmp_path)
        path.write_bytes(pickle.dumps(Malicious(marker)))
        record(path)
        with pytest.raises(LipscaleError, match="cannot be read"):
            read_dataset(tmp_path)
        path.write_bytes(whole)
        record(path)


def test_images_of_a_user_cannot_run_code(tmp_path, marker):
    np.savez(tmp_path / "images.npz", images=np.array([Malicious(marker)], dtype=object))
    with pytest.raises(LipscaleError, match="Object arrays cannot be loaded"):
        read_images(tmp_path / "images.npz")


def test_logits_cannot_run_code(tmp_path, marker):
    np.savez(tmp_path / "logits.npz", test_logits=np.array([Malicious(marker)], dtype=object))
    record(tmp_path / "logits.npz")
    with pytest.raises(LipscaleError, match="Object arrays cannot be loaded"):
        RunFolder(tmp_path).logits()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [written, pickle.dumps])
def test_checkpoint_cannot_run_code(settings, digits, tmp_path, marker, write):
    """Not even one whose checksum and identity are right."""
    state.save(tmp_path / CHECKPOINT, "identity", write({"network": Malicious(marker), "history": Malicious(marker)}))
    training = Training(settings(), read_dataset(digits), torch.device("cpu"))
    with pytest.raises(UnreadableState):
        restore(training, state.load(tmp_path / CHECKPOINT, "identity"))
    assert training.history == []


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[:-1], lambda whole: whole + b"0", lambda whole: whole[1:], pickle.dumps]
)
def test_checkpoint_is_not_parsed_unless_its_checksum_is_right(tmp_path, capsys, damage):
    path = tmp_path / CHECKPOINT
    state.save(path, "identity", b"content")
    path.write_bytes(damage(path.read_bytes()))
    assert state.load(path, "identity") is None
    assert "is damaged (its checksum differs)" in capsys.readouterr().out


@pytest.mark.parametrize("write", [written, pickle.dumps])
def test_model_cannot_run_code(tmp_path, marker, write):
    (tmp_path / "model.safetensors").write_bytes(write(Malicious(marker)))
    with pytest.raises(LipscaleError, match="cannot be read"):
        load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("layer", ["os.system", "torch.nn.Linear", "__class__", "Malicious"])
def test_layers_of_a_model_come_from_one_table(tmp_path, layer):
    """A description can name no other class of Python."""
    layers = [{"layer": layer, "command": "touch pwned"}]
    description = {"specification": layers, "lipschitz": 1.0, "image_shape": [1, 2, 2]}
    save_file({"0.weight": torch.zeros(1)}, tmp_path / "model.safetensors", {"network": json.dumps(description)})
    with pytest.raises(LipscaleError, match=r"layer 0 is .*allowed: centre, dense, "):
        load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("tag", ["object/apply:pathlib.Path.touch", "object/new:pathlib.Path.touch"])
@pytest.mark.parametrize("step", ["prepare", "plan", "configure", "train"])
def test_configs_cannot_run_code(tmp_path, marker, monkeypatch, capsys, tag, step):
    """Neither those of users nor those in the results."""
    text = f"!!python/{tag} [!!python/object/apply:pathlib.Path [{marker}]]"
    path = tmp_path / "config.yaml"
    path.write_text(text)
    record(path)
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    arguments = {"prepare": [path, "--folder", tmp_path / "data"], "plan": [path]}.get(step, [tmp_path])
    assert main([step, *map(str, arguments)]) == 1
    said = capsys.readouterr().err
    assert "could not determine a constructor for the tag" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["../evil", "evil", "/tmp/evil", "os", "base", "_cifar", "cifar10; import os", "évil"])
@pytest.mark.parametrize("section", ["dataset", "network", "objective"])
def test_configs_name_no_file_of_code_but_those_of_lipscale(tiny, tmp_path, monkeypatch, section, name):
    (tmp_path / "evil.py").write_text("raise AssertionError('it ran')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    if section == "dataset":
        tiny["dataset"]["name"] = name
    elif section == "network":
        tiny["network"]["family"] = name
    else:
        tiny["training"]["objective"] = {"name": name}
    with pytest.raises(LipscaleError, match="allowed"):
        configs.check(tiny)


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


RULES = ("claims", "draw_figure3", "summarise", "page_claims", "page_runs", "page_provenance")  # and all that they need
LARGE = {"tiny-imagenet": tiny_imagenet_tree, "imagenet": lambda: imagenet_tree(flat=True)}  # configs, and their images


def smallest(config: dict, data: Path) -> dict:
    """A config with the images in `data`, on the CPU, with two runs of a small network."""
    config["dataset"] |= {"path": str(data), "validation_images": 3}
    config["network"] = {"architecture": "convnet", "patch": 16, "channels": [4], "depth": 1, "widths": [8]}
    config["training"] |= {"epochs": 1, "batch_size": 2}
    config["runs"] = {"seeds": [0], "list_initial_lipschitz": [1], "fixed_lipschitz": [2]}
    config["evaluation"] |= {"epsilons": [20000], "attack_images": 2, "spot_check_images": 0}  # all fall to the first stage
    config["figures"] = {"posthoc_lipschitz": 2}
    config["compute"] |= {"device": "cpu", "threads": 1, "precision": "float32", "pack": True}
    return config


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_names_of_folders_never_reach_a_shell_as_syntax(tmp_path, name):
    """On the way the configs for large data, made small, are run from images to a figure."""
    folder = tmp_path / f"{NAME} {BRACES}"
    folder.mkdir()
    data = write_folder(folder / f"images {NAME} {BRACES}", LARGE[name]())
    config = smallest(yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text()), data)
    snakemake(folder, config, "--cores", 2, "--", *RULES)
    results = folder / "results" / config["experiment"]
    assert (results / "tables" / "claims.csv").exists()
    assert (results / "figures" / "figure3.png").exists()
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
