"""Logits, temperature, calibration and certified radii of trained runs.

Each run's folder gets logits.npz, calibration.json, reliability.csv, sweep.csv, radii.csv and certificate.json. T* is measured
on the validation split, everything else on the test split. Where the validation split was returned to training, there is no T*.
If compute.shards is more than 1, `evaluate-shard` has computed the logits, and this step joins them.
"""

import argparse
from pathlib import Path

import numpy as np

from lipscale.certification.binding import check_fits
from lipscale.certification.certificate import RADII_COLUMNS, certificate, description, radii_rows
from lipscale.certification.model_file import load
from lipscale.data.dataset import Dataset
from lipscale.errors import LipscaleError
from lipscale.evaluation.calibration import RELIABILITY_COLUMNS, SWEEP_COLUMNS, calibrate
from lipscale.evaluation.logits import exact_logits, whole_batches
from lipscale.progress import bar
from lipscale.steps.common import add_runs, run_folders
from lipscale.steps.train import CHECKPOINT
from lipscale.store import files, locks
from lipscale.store.checksums import checked, record
from lipscale.store.dataset import read_dataset
from lipscale.store.run_folder import RunFolder
from lipscale.training.devices import select_device

SPLITS = ("validation", "test")


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)


def run(options: argparse.Namespace) -> None:
    experiment, folders = run_folders(options.runs)
    with locks.writing("evaluate", [folder.path for folder in folders]):
        dataset = read_dataset(experiment.data, SPLITS)
        for folder in bar(folders, name="evaluate", unit="run"):
            folder.check_data()
            _write_logits(folder, dataset)
            _write_calibration(folder)
            _write_certificate(folder)
            # the outputs of training have been read, so that Snakemake will not remove them any more
            (folder / CHECKPOINT).unlink(missing_ok=True)


def logits_of(folder: RunFolder, dataset: Dataset, number: int = 1, shards: int = 1) -> dict[str, np.ndarray]:
    """validation_logits and test_logits, float64 (images, classes), of part `number` of `shards` of both splits."""
    device = select_device(folder.settings.compute.device)
    network = load(checked(folder / "model.safetensors"), device).double()
    check_fits(network.binding, dataset)
    logits = {}
    for split in SPLITS:
        images = dataset.images(split)
        part = whole_batches(len(images), network.image_shape, number, shards)
        logits[f"{split}_logits"] = exact_logits(network, images[part], device).numpy()
    return logits


def write_logits(path: Path, arrays: dict[str, np.ndarray], model: Path) -> None:
    with files.atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    record(path, made_from=[model])


def _write_logits(folder: RunFolder, dataset: Dataset) -> None:
    split = folder.settings.compute.shards > 1
    arrays = _of_shards(folder, dataset) if split else logits_of(folder, dataset)
    labels = {f"{name}_labels": dataset.labels(name) for name in SPLITS}
    write_logits(folder / "logits.npz", {**arrays, **labels}, folder / "model.safetensors")


def _of_shards(folder: RunFolder, dataset: Dataset) -> dict[str, np.ndarray]:
    """The logits of all shards, in tables of their final size: to have all parts twice may take gigabytes.

    Raises:
        LipscaleError: the result of a shard is missing, altered, of another network or of other images.
    """
    logits, paths = {}, folder.logits_shards()
    for number, path in enumerate(paths, start=1):
        part = files.read_arrays(checked(path))
        for split in SPLITS:
            name, (count, *image_shape) = f"{split}_logits", dataset.images(split).shape
            rows, found = whole_batches(count, image_shape, number, len(paths)), part[name]
            if len(found) != rows.stop - rows.start:  # of a version with other batches
                raise LipscaleError(f"{path} has logits of other {split} images; delete it and rerun the workflow")
            if name not in logits:
                logits[name] = np.empty((count, found.shape[1]))
            logits[name][rows] = found
    return logits


def _write_calibration(folder: RunFolder) -> None:
    calibration = calibrate(**folder.logits(), lipschitz=folder.final_lipschitz(), name=folder.name, held_out=folder.held_out)
    files.write_json(folder / "calibration.json", calibration.summary())
    files.write_rows(folder / "sweep.csv", SWEEP_COLUMNS, calibration.sweep)
    files.write_rows(folder / "reliability.csv", RELIABILITY_COLUMNS, calibration.reliability)
    for name in ("calibration.json", "sweep.csv", "reliability.csv"):
        record(folder / name, made_from=[folder / "logits.npz", folder / "history.csv"])


def _write_certificate(folder: RunFolder) -> None:
    network, logits = load(checked(folder / "model.safetensors")), folder.logits()
    found = certificate(network)
    files.write_rows(folder / "radii.csv", RADII_COLUMNS, radii_rows(logits["test_logits"], logits["test_labels"], found))
    files.write_json(folder / "certificate.json", description(network, found))
    for name in ("radii.csv", "certificate.json"):
        record(folder / name, made_from=[folder / "model.safetensors", folder / "logits.npz"])
