"""AutoAttack on a small trained network, and the order certified <= robust <= clean."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lipscale import config as configs
from lipscale.attacks import autoattack as attack
from lipscale.certification import export
from lipscale.certification.certificate import certify
from lipscale.data.dataset import Dataset
from lipscale.errors import LipscaleError
from lipscale.evaluation.logits import exact_logits, predict
from lipscale.store import files
from lipscale.tables import join as tables
from lipscale.training import loop as training

OPTIONS = attack.Options(epsilons=(36, 108), images=40, audit=8, batch_size=40, seed=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits):
    """A trained and attacked run."""
    from conftest import TINY

    folder = tmp_path_factory.mktemp("run")
    dataset = Dataset(digits)
    settings = [run for run in configs.runs(configs.check(TINY)) if run["run"] == "fixed-20-seed0"]
    training.train(settings[0], dataset, folder)
    predict(folder, dataset, "cpu")
    certify(folder)
    attack.attack(folder, dataset, OPTIONS, "cpu", 1)
    return folder


def test_rows_of_the_attack(run):
    rows = pd.read_csv(run / "attack.csv")
    assert list(rows) == ["index", "robust_36", "attacked_36", "robust_108", "attacked_108"]
    assert rows["index"].tolist() == attack.choose(np.arange(300), 40, seed=0).tolist()
    assert set(rows["robust_36"]) | set(rows["robust_108"]) <= {0, 1}
    assert (rows["robust_108"] <= rows["robust_36"]).all()
    assert rows["robust_108"].sum() < rows["robust_36"].sum()  # the attack breaks something, and eps matters


def test_who_is_attacked(run):
    """All that are right, not broken before and not certified; of the certified ones, the audit."""
    images = tables.join_images(run)
    images = images[images["robust_36"].notna()]
    alive = images["label"] == images["prediction"]
    for epsilon in (36, 108):
        certified = alive & (images["radius"] >= epsilon / 255)
        attacked = images[f"attacked_{epsilon}"] == 1
        assert attacked[alive & ~certified].all()
        assert not attacked[~alive].any()
        assert attacked[certified].sum() == min(8, certified.sum())
        assert (images[f"robust_{epsilon}"][certified] == 1).all()
        alive = images[f"robust_{epsilon}"] == 1


def test_order_holds_image_by_image(run):
    images = tables.join_images(run)
    tables.check_order(images, [36, 108], "run")
    certified = images["radius"] >= 36 / 255
    right = images["label"] == images["prediction"]
    evaluated = images["robust_36"].notna()
    assert evaluated.sum() == 40
    robust = images["robust_36"] == 1
    assert (certified[evaluated] <= robust[evaluated]).all()
    assert (robust[evaluated] <= right[evaluated]).all()
    assert 0 < certified.mean() < right.mean()


@pytest.mark.parametrize(
    ("radius", "pair_radius", "prediction", "robust", "message"),
    [
        (0.2, 0.2, 0, 0, "test images 1 are certified, yet broken"),
        (0.1, 0.2, 0, 0, "test images 1 are certified, yet broken"),
        (0.0, 0.0, 1, 1, "test images 1 are called robust, yet misclassified"),
    ],
)
def test_a_broken_order_names_the_images(radius, pair_radius, prediction, robust, message):
    images = pd.DataFrame(
        {
            "index": [0, 1],
            "label": [0, 0],
            "prediction": [0, prediction],
            "radius": [0.0, radius],
            "pair_radius": [0.0, pair_radius],
            "robust_36": [1, robust],
        }
    )
    with pytest.raises(LipscaleError, match=message):
        tables.check_order(images, [36], "fixed-1-seed0")


def test_attack_that_was_stopped_ends_with_the_same_rows(run, digits, tmp_path, monkeypatch):
    """Stopped after the first batch, then run again: only the second batch is attacked, and the rows are the same."""
    monkeypatch.setattr(attack, "STAGES", ("apgd-ce",))
    folders = [tmp_path / "unbroken", tmp_path / "stopped"]
    for folder in folders:
        shutil.copytree(run, folder)
        (folder / "attack.csv").unlink()
    attacked, calls = attack._attacked, []

    def stopping(*arguments):
        calls.append(arguments)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return attacked(*arguments)

    monkeypatch.setattr(attack, "_attacked", stopping)
    options, stop = replace(OPTIONS, batch_size=8), None
    attack.attack(folders[0], Dataset(digits), options, "cpu", 1)
    batches, calls[:], stop = len(calls), [], 3
    with pytest.raises(KeyboardInterrupt):
        attack.attack(folders[1], Dataset(digits), options, "cpu", 1)
    assert not (folders[1] / "attack.csv").exists()
    attack.attack(folders[1], Dataset(digits), options, "cpu", 1)
    assert len(calls) == batches + 1
    assert (folders[0] / "attack.csv").read_bytes() == (folders[1] / "attack.csv").read_bytes()


def test_partial_verdicts_of_another_model_are_not_used(tmp_path):
    task = {"model_sha256": "a"}
    state = {"task": task, "verdicts": {"36": [True]}}
    files.write_json(tmp_path / attack.PARTIAL, state | {"digest": configs.digest(state)})
    assert attack._finished_verdicts(tmp_path / attack.PARTIAL, task) == {"36": [True]}
    assert attack._finished_verdicts(tmp_path / attack.PARTIAL, {"model_sha256": "b"}) == {}


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_are_attacked_too(classes):
    """The targeted DLR loss needs four classes; the other stages find the border of a linear classifier on their own."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, classes)
    model = torch.nn.Sequential(torch.nn.Flatten(), layer).requires_grad_(False)
    images = 0.3 + 0.4 * torch.rand(6, 1, 8, 8)
    labels = model(images).argmax(1)
    logits = model(images)
    weights = layer.weight
    distances = torch.stack(
        [
            (logits[:, [c]] - logits).div((weights[c] - weights).norm(dim=1).clamp(min=1e-9)).where(
                torch.arange(classes) != c, torch.inf
            ).amin(1)
            for c in range(classes)
        ],
        dim=1,
    ).gather(1, labels[:, None])[:, 0]  # fmt: skip
    stages = tuple(stage for stage in attack.STAGES if stage != "apgd-t")
    epsilon = distances.median().item()
    with attack.bar(name="test", total=10, unit="stage") as progress:
        _, survivors = attack._attacked(model, images, labels, epsilon, stages, 0, progress)
    assert survivors[distances > epsilon].all()
    assert not survivors[distances < 0.8 * epsilon].any()  # closer ones may be out of reach within the pixel range
    assert 0 < survivors.sum() < 6


def test_attacked_images_do_not_depend_on_the_run():
    assert attack.choose(np.arange(100), 5, 3).tolist() == attack.choose(np.arange(100), 5, 3).tolist()
    assert attack.choose(np.arange(300), 500, 0).tolist() == list(range(300))


def test_what_refutes_a_certificate(run, digits):
    """Another class in float64 at a distance below the radius: neither a float32 flip nor one beyond the radius counts."""
    network, dataset = export.load(run / "model.safetensors").double(), Dataset(digits)
    images, labels = dataset.images("test")[:60], dataset.labels("test")[:60]
    pixels = torch.from_numpy(images).double() / 255
    other = torch.from_numpy(images[np.roll(np.arange(60), 1)]).double() / 255
    distances = (other - pixels).flatten(1).norm(dim=1).numpy()
    flips = exact_logits(network, other, torch.device("cpu")).argmax(1).numpy() != labels
    assert attack.broken(network, images, labels, distances * (1 + 1e-12), other).numpy().tolist() == flips.tolist()
    assert not attack.broken(network, images, labels, distances, other).any()
    assert not attack.broken(network, images, labels, distances * 2, pixels).numpy()[flips].all()


def test_damaged_partial_verdicts_are_not_used(tmp_path, capsys):
    state = {"task": {}, "verdicts": {"36": [True]}}
    for content in ('{"task": {}, "verd', "[]", "null", files.json.dumps(state), files.json.dumps(state | {"digest": "x"})):
        (tmp_path / attack.PARTIAL).write_text(content)
        assert attack._finished_verdicts(tmp_path / attack.PARTIAL, {}) == {}
        assert "the attack starts anew" in capsys.readouterr().out
