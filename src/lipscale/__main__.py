"""`python -m lipscale VERB`: what the rules of the workflow call, and what a person can call by hand."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lipscale import __version__, config, files
from lipscale.errors import LipscaleError

ARGUMENTS = {  # that several verbs have
    "runs": {"nargs": "+", "type": Path, "metavar": "RUN", "help": "folders of runs, results/EXPERIMENT/runs/RUN"},
    "--data": {"required": True, "type": Path, "help": "folder of the prepared data set"},
    "--device": {"default": "cpu", "choices": ["cpu", "cuda"], "help": "default: cpu"},
    "--threads": {"default": 1, "type": int, "help": "CPU threads, default: 1"},
    "--epsilons": {"required": True, "type": int, "nargs": "+", "help": "l2 budgets in 1/255 of the pixel range"},
    "--tables": {"required": True, "type": Path, "help": "folder of the tables"},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit code: 0, or 1 with one sentence on stderr where the user can mend it."""
    options = parser().parse_args(arguments)
    try:
        options.verb(options)
    except LipscaleError as error:
        print(f"lipscale: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(options: argparse.Namespace) -> None:
    from lipscale.data.prepare import prepare

    prepare(config.check_dataset(files.read_yaml(options.settings)), options.folder)


def train(options: argparse.Namespace) -> None:
    from lipscale import training
    from lipscale.data.dataset import Dataset

    settings = files.read_yaml(options.settings)
    settings = [config.check_settings(run) for run in (settings if isinstance(settings, list) else [settings])]
    dataset = Dataset(options.data)
    for run in settings:
        config.check_image_side(run["network"], dataset.image_shape[1])
    folders = [options.runs / run["run"] for run in settings]
    for run, folder in zip(settings, folders, strict=True):
        training.train(run, dataset, folder)
    # Snakemake removes the outputs of a job that fails; until all of them are whole, a checkpoint can restore each.
    for folder in folders:
        (folder / training.CHECKPOINT).unlink(missing_ok=True)


def predict(options: argparse.Namespace) -> None:
    from lipscale.data.dataset import Dataset
    from lipscale.predict import predict
    from lipscale.progress import bar

    dataset = Dataset(options.data)
    for folder in bar(options.runs, name="predict", unit="run"):
        predict(folder, dataset, options.device)


def calibrate(options: argparse.Namespace) -> None:
    from lipscale.calibration import calibrate
    from lipscale.progress import bar

    for folder in bar(options.runs, name="calibrate", unit="run"):
        calibrate(folder)


def certify(options: argparse.Namespace) -> None:
    from lipscale.certificate import certify

    for folder in options.runs:
        certify(folder)


def attack(options: argparse.Namespace) -> None:
    from lipscale.attack import PARTIAL, Options, attack
    from lipscale.data.dataset import Dataset

    dataset = Dataset(options.data)
    chosen = Options(tuple(sorted(options.epsilons)), options.images, options.audit, options.batch_size, options.seed)
    for folder in options.runs:
        attack(folder, dataset, chosen, options.device, options.threads)
    for folder in options.runs:
        (folder / PARTIAL).unlink(missing_ok=True)


def tabulate(options: argparse.Namespace) -> None:
    from lipscale.tables import tabulate

    tabulate(options.runs, options.epsilons, options.tables)


def judge(options: argparse.Namespace) -> None:
    from lipscale.claims import judge

    judge(options.tables, options.epsilon, options.posthoc_lipschitz)


def draw(options: argparse.Namespace) -> None:
    from importlib import import_module

    module = import_module(f"lipscale.figures.{options.figure}")
    extra = {"posthoc_lipschitz": options.posthoc_lipschitz} if options.figure == "figure1" else {}
    module.draw(options.tables, options.folder / options.figure, **extra)


def compare(options: argparse.Namespace) -> None:
    from lipscale.compare import compare

    compare(options.experiments, options.epsilons, options.folder)


def publish(options: argparse.Namespace) -> None:
    from lipscale.publish import publish

    publish(options.results, options.folder, options.command)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m lipscale", description="Lipschitz Scaling Training, step by step.")
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(function, text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(function.__name__, help=text, description=text)
        added.set_defaults(verb=function)
        return added

    def add(step: argparse.ArgumentParser, *names: str) -> None:
        for name in names:
            step.add_argument(name, **ARGUMENTS[name])

    step = verb(prepare, "make a data set ready: arrays, splits, manifest")
    step.add_argument("--settings", required=True, help="YAML file with the section `dataset` of a config; - for stdin")
    step.add_argument("--folder", required=True, type=Path, help="where it is written")

    step = verb(train, "train runs, or go on with them from their last epoch")
    step.add_argument(
        "--settings", required=True, help="YAML file with a list of settings, or a run's config.yaml; - for stdin"
    )
    step.add_argument("--runs", required=True, type=Path, help="folder that gets a folder for each run")
    add(step, "--data")

    add(verb(predict, "write the logits of trained runs"), "runs", "--data", "--device")
    add(verb(calibrate, "measure temperature and ECE with netcal"), "runs")
    add(verb(certify, "compute certified radii"), "runs")

    step = verb(attack, "run AutoAttack on a sample of the test split")
    add(step, "runs", "--data", "--epsilons", "--device", "--threads")
    step.add_argument("--images", required=True, type=int, help="test images to evaluate, at most")
    step.add_argument("--audit", required=True, type=int, help="certified images to attack all the same, at most")
    step.add_argument("--batch-size", required=True, type=int, help="images attacked at once")
    step.add_argument("--seed", default=0, type=int, help="of the choice of images and of the attack, default: 0")

    add(verb(tabulate, "join the files of all runs into tables"), "runs", "--epsilons", "--tables")

    step = verb(judge, "give a verdict on each claim of the poster, from the tables")
    add(step, "--tables")
    step.add_argument("--epsilon", required=True, type=int, help="l2 budget of the claim on robustness, in 1/255")
    step.add_argument("--posthoc-lipschitz", required=True, type=float, help="the fixed L whose logits are divided by T")

    step = verb(draw, "draw a figure from the tables")
    step.add_argument("figure", choices=["figure1", "figure2", "figure3"])
    add(step, "--tables")
    step.add_argument("--folder", required=True, type=Path, help="where FIGURE.pdf, .png and .csv are written")
    step.add_argument("--posthoc-lipschitz", type=float, help="figure1 only: the fixed L whose logits are divided by T")

    step = verb(compare, "put LiST runs of experiments with different settings side by side")
    step.add_argument("experiments", nargs="+", type=Path, metavar="RESULTS", help="results/EXPERIMENT")
    add(step, "--epsilons")
    step.add_argument("--folder", required=True, type=Path, help="where comparison.csv and comparison.md are written")

    step = verb(publish, "copy figures and the table of runs to where they are committed")
    step.add_argument("--results", required=True, type=Path, help="results/EXPERIMENT")
    step.add_argument("--folder", required=True, type=Path, help="results/published/EXPERIMENT")
    step.add_argument("--command", required=True, help="the command that made the results, for the page")
    return top


if __name__ == "__main__":
    sys.exit(main())
