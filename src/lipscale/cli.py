"""`python -m lipscale VERB`: what the rules of the workflow call, and what a person can call by hand."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lipscale import __version__, config
from lipscale.errors import LipscaleError, enough_memory
from lipscale.store import files, locks

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
        with enough_memory(options.verb.__name__, "run fewer jobs at once, or give it more memory"):
            options.verb(options)
    except LipscaleError as error:
        return failed(str(error))
    except OSError as error:
        if error.errno is None:
            raise
        return failed(f"{error.filename or options.verb.__name__}: {files.explain(error.errno)}")
    return 0


def failed(sentence: str) -> int:
    print(f"lipscale: {sentence}", file=sys.stderr)
    return 1


def prepare(options: argparse.Namespace) -> None:
    from lipscale.data.prepare import prepare

    settings = config.check_dataset(files.read_yaml(options.settings))
    with locks.writing("prepare", [options.folder]):
        prepare(settings, options.folder)


def train(options: argparse.Namespace) -> None:
    from lipscale.data.dataset import Dataset
    from lipscale.training import loop as training

    settings = files.read_yaml(options.settings)
    settings = [config.check_settings(run) for run in (settings if isinstance(settings, list) else [settings])]
    dataset = Dataset(options.data)
    for run in settings:
        config.check_image_side(run["network"], dataset.image_shape[1])
    folders = [options.runs / run["run"] for run in settings]
    with locks.writing("train", folders):
        for run, folder in zip(settings, folders, strict=True):
            advice = f"lower training.batch_size, which is {run['training']['batch_size']}, or compute.jobs_per_gpu"
            with enough_memory(f"run {run['run']}", advice):
                training.train(run, dataset, folder)


def predict(options: argparse.Namespace) -> None:
    from lipscale.data.dataset import Dataset
    from lipscale.evaluation.logits import predict
    from lipscale.progress import bar
    from lipscale.training.loop import CHECKPOINT

    dataset = Dataset(options.data)
    with locks.writing("predict", options.runs):
        for folder in bar(options.runs, name="predict", unit="run"):
            predict(folder, dataset, options.device)
            (folder / CHECKPOINT).unlink(missing_ok=True)


def calibrate(options: argparse.Namespace) -> None:
    from lipscale.evaluation.calibration import calibrate
    from lipscale.progress import bar

    with locks.writing("calibrate", options.runs):
        for folder in bar(options.runs, name="calibrate", unit="run"):
            calibrate(folder)


def certify(options: argparse.Namespace) -> None:
    from lipscale.certification.certificate import certify
    from lipscale.certification.certify_images import certify_images

    model, *others = options.paths
    if model.suffix == ".safetensors" and len(others) == 1:
        certify_images(model, *others, options.output, options.epsilons, options.device)
    elif model.suffix == ".safetensors" or options.output:
        raise LipscaleError(f"certify got {' '.join(map(str, options.paths))}; allowed: folders of runs, or MODEL and IMAGES")
    else:
        with locks.writing("certify", options.paths):
            for folder in options.paths:
                certify(folder)


def attack(options: argparse.Namespace) -> None:
    from lipscale.attacks.autoattack import Options, attack
    from lipscale.data.dataset import Dataset

    dataset = Dataset(options.data)
    chosen = Options(tuple(sorted(options.epsilons)), options.images, options.audit, options.batch_size, options.seed)
    advice = f"lower evaluation.attack_batch_size, which is {options.batch_size}"
    with locks.writing("attack", options.runs):
        for folder in options.runs:
            with enough_memory(f"the attack on run {folder.name}", advice):
                attack(folder, dataset, chosen, options.device, options.threads)


def audit(options: argparse.Namespace) -> None:
    from lipscale.attacks.falsification import Options, audit
    from lipscale.data.dataset import Dataset
    from lipscale.store.checksums import checked, seal

    dataset, chosen = Dataset(options.data), Options(options.images, options.batch_size, options.seed)
    for path in options.models:
        model = path if path.is_file() else checked(path / "model.safetensors")
        with locks.writing("audit", [model.parent]):
            audit(model, dataset, chosen, options.device, options.threads, model.with_name("audit"))
            for name in ("audit.csv", "audit.json") if path.is_dir() else ():
                seal(path / name, made_from=[model])


def tabulate(options: argparse.Namespace) -> None:
    from lipscale.store.run_folder import PARTIAL
    from lipscale.tables.join import tabulate

    with locks.writing("tabulate", [*options.runs, options.tables]):
        tabulate(options.runs, files.read_yaml(options.config), options.data, options.tables)
        # Snakemake removes the outputs of a job that failed, or that outlived a killed Snakemake, and runs it again. So
        # training and attacks leave what restores them, until the step after them shows that it has seen the outputs.
        for folder in options.runs:
            (folder / PARTIAL).unlink(missing_ok=True)


def tabulate_audits(options: argparse.Namespace) -> None:
    from lipscale.tables.join import tabulate_audits

    with locks.writing("tabulate-audits", [options.tables]):
        tabulate_audits(options.runs, options.tables)


def judge(options: argparse.Namespace) -> None:
    from lipscale.tables.claims import judge

    with locks.writing("judge", [options.tables]):
        judge(options.tables, options.epsilon, options.posthoc_lipschitz)


def draw(options: argparse.Namespace) -> None:
    from importlib import import_module

    for figure in options.figures:
        module = import_module(f"lipscale.report.figures.{figure}")
        extra = {"posthoc_lipschitz": options.posthoc_lipschitz} if figure == "figure1" else {}
        stem = options.folder / figure
        with locks.writing("draw", [stem]):  # each figure by itself, as several are drawn at once
            module.draw(options.tables, stem, **extra)


def page(options: argparse.Namespace) -> None:
    from lipscale.report.pages import write

    if options.page == "provenance" and not (options.data and options.launched):
        raise LipscaleError("the page provenance needs --data and --launched")
    with locks.writing("page", [options.output]):
        write(options.page, options.tables, options.data, options.launched, options.output)


def compare(options: argparse.Namespace) -> None:
    from lipscale.tables.comparison import compare

    compare(options.experiments, options.epsilons, options.folder)


def plan(options: argparse.Namespace) -> None:
    from lipscale.planning import record as records
    from lipscale.planning.estimate import fitting, plan, text

    checked = config.check(config.overridden(files.read_yaml(options.configfile), options.config))
    path, record = fitting(checked, records.find(options.results))
    print(text(checked, path, record, plan(checked, record)))


def publish(options: argparse.Namespace) -> None:
    from lipscale.report.publish import publish

    publish(options.results, options.folder, options.command)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m lipscale", description="Lipschitz Scaling Training, step by step.")
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(function, text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(function.__name__.replace("_", "-"), help=text, description=text)
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
    step = verb(certify, "compute certified radii, of runs or of a network and images of your own")
    step.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="folders of runs; or MODEL, a .safetensors file that lipscale.export wrote, and IMAGES, a prepared data set or an "
        ".npz file of images (uint8, or in [0, 1]) and, if there are any, labels",
    )
    step.add_argument("--output", type=Path, help="CSV file for the radii of MODEL and IMAGES")
    step.add_argument(
        "--epsilons", type=int, nargs="+", default=[36, 72, 108], help="MODEL and IMAGES only: l2 budgets in 1/255"
    )
    add(step, "--device")

    step = verb(attack, "run AutoAttack on a sample of the test split")
    add(step, "runs", "--data", "--epsilons", "--device", "--threads")
    step.add_argument("--images", required=True, type=int, help="test images to evaluate, at most")
    step.add_argument("--audit", required=True, type=int, help="certified images to attack all the same, at most")
    step.add_argument("--batch-size", required=True, type=int, help="images attacked at once")
    step.add_argument("--seed", default=0, type=int, help="of the choice of images and of the attack, default: 0")

    step = verb(audit, "attack certified images, each at 0.999 of its own radius; exit code 1 if a certificate is broken")
    step.add_argument(
        "models", nargs="+", type=Path, metavar="MODEL", help="runs, or .safetensors files; writes audit.csv and .json beside"
    )  # fmt: skip
    add(step, "--data", "--device", "--threads")
    step.add_argument("--images", default=1000, type=int, help="certified images of each network, at most, default: 1000")
    step.add_argument("--batch-size", default=500, type=int, help="images attacked at once, default: 500")
    step.add_argument("--seed", default=0, type=int, help="of the choice of images and of the attacks, default: 0")

    step = verb(tabulate_audits, "join the audits of all runs into a table")
    add(step, "runs", "--tables")

    step = verb(tabulate, "join the files of all runs into tables")
    add(step, "runs", "--data", "--tables")
    step.add_argument("--config", required=True, help="YAML file with the checked config of the experiment; - for stdin")

    step = verb(judge, "give a verdict on each claim of the poster, from the tables")
    add(step, "--tables")
    step.add_argument("--epsilon", required=True, type=int, help="l2 budget of the claim on robustness, in 1/255")
    step.add_argument("--posthoc-lipschitz", required=True, type=float, help="the fixed L whose logits are divided by T")

    step = verb(draw, "draw figures from the tables")
    step.add_argument(
        "figures",
        nargs="+",
        metavar="FIGURE",
        choices=["figure1", "figure2", "figure3", "reliability", "certified", "sheets"],
        help="figure1, figure2, figure3, reliability, certified; sheets: a picture of each run",
    )
    add(step, "--tables")
    step.add_argument(
        "--folder", required=True, type=Path, help="where FIGURE.pdf, .png and .csv are written, and sheets/RUN.png"
    )
    step.add_argument("--posthoc-lipschitz", type=float, help="figure1 only: the fixed L whose logits are divided by T")

    step = verb(page, "write a page of the report")
    step.add_argument("page", choices=["runs", "claims", "provenance"])
    add(step, "--tables")
    step.add_argument("--data", type=Path, help="provenance only: folder of the prepared data set")
    step.add_argument("--launched", help="provenance only: version of Snakemake and the command")
    step.add_argument("--output", required=True, type=Path, help="the HTML file")

    step = verb(compare, "put LiST runs of experiments with different settings side by side")
    step.add_argument("experiments", nargs="+", type=Path, metavar="RESULTS", help="results/EXPERIMENT")
    add(step, "--epsilons")
    step.add_argument("--folder", required=True, type=Path, help="where comparison.csv and comparison.md are written")

    step = verb(plan, "say what an experiment will take, from measured records, before anything is submitted")
    step.add_argument("--configfile", required=True, type=Path, help="config of the experiment, as for Snakemake")
    step.add_argument(
        "--config", nargs="+", default=[], metavar="KEY=VALUE", help="values that replace its own, as for Snakemake"
    )
    step.add_argument(
        "--results", default="results", type=Path, help="folder with the records: experiments that have run, and published/"
    )  # fmt: skip

    step = verb(publish, "copy figures and the table of runs to where they are committed")
    step.add_argument("--results", required=True, type=Path, help="results/EXPERIMENT")
    step.add_argument("--folder", required=True, type=Path, help="results/published/EXPERIMENT")
    step.add_argument("--command", required=True, help="the command that made the results, for the page")
    return top


if __name__ == "__main__":
    sys.exit(main())
