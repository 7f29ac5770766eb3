"""Train runs, or resume them from their last epoch.

Each run's folder holds its config.yaml and gets history.csv, feedback.csv, model.safetensors and provenance.json. After each
epoch the whole state is saved in checkpoint.pt.
"""

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

from lipscale import config, launch
from lipscale.certification.export import bound, export
from lipscale.certification.model_file import to_bytes
from lipscale.data.dataset import Dataset
from lipscale.errors import LipscaleError, enough_memory
from lipscale.steps.common import add_runs, run_folders
from lipscale.store import files, locks, provenance, state
from lipscale.store.checksums import record
from lipscale.store.dataset import read_dataset
from lipscale.store.run_folder import ExperimentFolder, RunFolder
from lipscale.training.checkpoint import UnreadableState
from lipscale.training.devices import select_device
from lipscale.training.loop import Trained, train
from lipscale.training.processes import ALONE, Processes, joined

CHECKPOINT = "checkpoint.pt"
OUTPUTS = ("history.csv", "feedback.csv", "model.safetensors", "provenance.json")


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)


def run(options: argparse.Namespace) -> None:
    experiment, folders = run_folders(options.runs)
    counts = {folder.settings.compute.gpus for folder in folders}
    if len(counts) > 1:
        raise LipscaleError(f"runs with compute.gpus {sorted(counts)}; allowed: runs with the same number")
    (count,) = counts
    if count == 1:
        with _writing(folders):
            _train_all(experiment, folders, ALONE)
    elif launch.is_member():
        rank = launch.rank()
        with launch.member(), _writing(folders) if rank == 0 else nullcontext():  # the first process alone writes
            device = select_device(folders[0].settings.compute.device, count, rank)
            with joined(device) as processes:
                _train_all(experiment, folders, processes)
    else:
        compute = folders[0].settings.compute
        select_device(compute.device, count)
        launch.start(count, ["train", *map(str, options.runs)], compute.threads)


def _writing(folders: Sequence[RunFolder]) -> AbstractContextManager:
    return locks.writing("train", [folder.path for folder in folders])


def _train_all(experiment: ExperimentFolder, folders: Sequence[RunFolder], processes: Processes) -> None:
    for folder in folders:  # before any work starts
        if folder.settings.compute.gpus != processes.count:
            raise LipscaleError(f"compute.gpus is {folder.settings.compute.gpus}, but there are {processes.count} processes")
        select_device(folder.settings.compute.device, processes.count, processes.rank)
    dataset = read_dataset(experiment.data)
    for folder in folders:
        _train(folder, dataset, processes)


def _train(folder: RunFolder, dataset: Dataset, processes: Processes) -> None:
    settings = folder.settings
    config.check_image_side(settings.network, dataset.image_shape[1])
    replayed = folder.experiment.run(settings.replays) if settings.replays else None
    recorded = _recorded(replayed) if replayed else []
    identity = {"config_hash": config.digest(settings.identity()), "data_sha256": dataset.sha256}
    if replayed:
        of_replayed = replayed.json("provenance.json")["config_hash"]
        identity["replays"] = {"run": replayed.name, "config_hash": of_replayed, "updates_hash": config.digest(recorded)}
    checkpoint = folder / CHECKPOINT
    advice = f"lower training.batch_size, which is {settings.training.batch_size}, or compute.jobs_per_gpu"
    with enough_memory(f"run {settings.run}", advice):
        device = select_device(settings.compute.device, processes.count, processes.rank)
        save = partial(state.save, checkpoint, identity)
        saved = processes.of_first(state.load(checkpoint, identity) if processes.first else None, device)
        try:
            trained = train(settings, dataset, device, saved, save, recorded, processes)
        except UnreadableState as error:
            if processes.first:
                print(f"{checkpoint} is from another version ({error}); training starts from the beginning", flush=True)
            trained = train(settings, dataset, device, None, save, recorded, processes)
        if processes.first:
            _write(folder, trained, dataset, identity, device)


def _recorded(replayed: RunFolder) -> list[tuple[float, float]]:
    """The updates of L of the run that is replayed, see `lipscale.training.control`."""
    return [(float(row["epochs"]), float(row["next_lipschitz"])) for row in replayed.rows("feedback.csv")]


def _write(folder: RunFolder, trained: Trained, dataset: Dataset, identity: dict, device: torch.device) -> None:
    settings = folder.settings
    files.write_rows(folder / "history.csv", list(trained.history[0]), trained.history)
    files.write_rows(folder / "feedback.csv", list(trained.measurements[0]), trained.measurements)
    model = bound(export(trained.network, dataset.image_shape), dataset.classes, dataset.preparation or None)
    files.write_bytes(folder / "model.safetensors", to_bytes(model))
    files.write_json(
        folder / "provenance.json",
        {
            "run": settings.run,
            "seed": settings.seed,
            **identity,
            "commit": provenance.commit(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "seconds": trained.seconds,
            "feedback_seconds": trained.feedback_seconds,
            "returned_after_epoch": trained.returned_after,
            "parameters": trained.parameters,
            "machine": provenance.machine(),
            "versions": provenance.versions(),
        },
    )
    for name in OUTPUTS:
        record(folder / name)
