"""Attack certified images, each at 0.999 of its own radius; exit code 1 if a certificate is broken.

MODEL is a .safetensors file that `lipscale.save` wrote, attacked on the images of --data; results go to --output, by default
beside it: MODEL-falsification.csv and .json. MODEL can also be the name of a published network, EXPERIMENT/RUN, whose results
go to the current folder by default. A folder of a run is attacked as its config says, on the experiment's data.

examples:
  lipscale falsify model.safetensors --data images.npz --images 500
  lipscale falsify digits/list-1-seed0 --data results/digits/data
  lipscale falsify results/digits/runs/list-1-seed0
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import torch

from lipscale.attacks.falsification import COLUMNS, Falsification, Options, falsify, falsify_dataset
from lipscale.certification.model_file import load
from lipscale.errors import LipscaleError
from lipscale.steps.common import add_device, check_outputs
from lipscale.steps.images import arrays_file, read_images
from lipscale.store import files, locks, provenance
from lipscale.store.checksums import checked, record
from lipscale.store.dataset import read_dataset
from lipscale.store.published import find
from lipscale.store.run_folder import RunFolder
from lipscale.training.devices import select_device

SUFFIXES = (".csv", ".json")  # of the two result files


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="+",
        type=Path,
        metavar="MODEL",
        help=".safetensors files, names of published networks, or folders of runs",
    )
    parser.add_argument("--data", type=Path, help="MODEL only: prepared data set, or .npz file with `images` and `labels`")
    parser.add_argument("--output", type=Path, help="one MODEL only: path of the two result files, without suffix")
    add_device(parser)
    parser.add_argument("--threads", default=1, type=int, help="CPU threads, default: %(default)s")
    parser.add_argument("--images", default=1000, type=int, help="certified images, at most, default: %(default)s")
    parser.add_argument("--batch-size", default=500, type=int, help="images attacked at once, default: %(default)s")
    parser.add_argument("--seed", default=0, type=int, help="of the choice of images and of the attacks, default: %(default)s")


def run(options: argparse.Namespace) -> None:
    runs = [path for path in options.models if path.is_dir()]
    if runs and (len(runs) < len(options.models) or options.data or options.output):
        raise LipscaleError("falsify: folders of runs take neither MODEL files nor --data nor --output beside them")
    if not runs and not options.data:
        raise LipscaleError("falsify: MODEL needs --data; allowed: a prepared data set, or an .npz file of images and labels")
    if options.threads < 1:
        raise LipscaleError(f"falsify: --threads is {options.threads}; allowed: 1 or more")
    if options.output and not options.output.name:
        raise LipscaleError(f"falsify: --output is {str(options.output)!r}, which names no file; allowed: a path")
    if options.output and len(options.models) > 1:
        raise LipscaleError("falsify: --output takes one MODEL; allowed: several models without --output")
    if runs:
        for path in runs:
            _falsify_run(RunFolder(path))
        return
    stems = [options.output or _stem(path) for path in options.models]
    for position, stem in enumerate(stems):
        if stem in stems[:position]:
            raise LipscaleError(f"falsify: two models would write {stem}.csv; allowed: one at a time, with --output")
        tables = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
        inputs = {"MODEL": find(options.models[position]), "--data": arrays_file(options.data)}
        check_outputs(inputs, {f"the {path.suffix} file": path for path in tables})
    for path, stem in zip(options.models, stems, strict=True):
        _falsify_model(path, stem, options)


def _stem(name: Path) -> Path:
    """Path of the result files of a model, without suffix."""
    model = find(name)
    beside = model if model == name else Path(model.name)  # nothing is written beside published networks
    return beside.with_name(f"{model.stem}-falsification")


def _falsify_run(folder: RunFolder) -> None:
    settings = folder.settings
    evaluation = settings.evaluation
    chosen = Options(evaluation.falsify_images, evaluation.attack_batch_size, evaluation.attack_seed)
    torch.set_num_threads(settings.compute.threads)
    with locks.writing("falsify", [folder.path]):
        model = checked(folder / "model.safetensors")
        dataset, device = read_dataset(folder.data), select_device(settings.compute.device)
        found = falsify_dataset(load(model, device), dataset, chosen, device, folder.name)
        _write(found, model, chosen, folder / "falsification", {"data_sha256": dataset.sha256})
        for suffix in SUFFIXES:
            record(folder / f"falsification{suffix}", made_from=[model])
    found.check()


def _falsify_model(name: Path, stem: Path, options: argparse.Namespace) -> None:
    chosen = Options(options.images, options.batch_size, options.seed)
    model = find(name)
    torch.set_num_threads(options.threads)
    with locks.writing("falsify", [stem]):
        device = select_device(options.device)
        network = load(model, device)
        if options.data.is_dir():
            found = falsify_dataset(network, read_dataset(options.data), chosen, device, str(name))
        else:
            images, labels = read_images(options.data, network.binding)
            found = falsify(
                network,
                images,
                labels,
                images_at_most=chosen.images,
                batch_size=chosen.batch_size,
                seed=chosen.seed,
                device=device,
                name=str(name),
            )
        _write(found, model, chosen, stem, {"data": options.data.name})
    found.check()


def _write(found: Falsification, model: Path, chosen: Options, stem: Path, data: dict) -> None:
    table, summary = (stem.with_name(stem.name + suffix) for suffix in SUFFIXES)
    files.write_rows(table, COLUMNS, found.rows)
    origin = {
        "options": asdict(chosen),
        "model_sha256": files.sha256(model),
        **data,
        "commit": provenance.commit(),
        "machine": provenance.machine(),
        "versions": provenance.versions(),
    }
    files.write_json(summary, found.summary | origin)
    counts = f"{found.summary['images']} certified images attacked, {found.summary['broken']} broken"
    left = f"smallest margin left {found.summary['smallest_margin_left']:.3g}"
    print(f"{found.name}: {counts}, {left}; written to {table} and {summary.name}")
