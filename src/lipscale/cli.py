"""The command `lipscale`: finds the module of a command in `lipscale.steps` and runs it."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from lipscale import __version__
from lipscale.errors import LipscaleError, enough_memory
from lipscale.store import files

COMMANDS = {  # that people call
    "certify": "certified radii of images, for a network of your own",
    "falsify": "attack certified images, each at 0.999 of its own radius",
    "plan": "estimate time, memory and disk of an experiment before it is submitted",
    "prepare": "prepare a data set: arrays, splits, manifest",
    "compare": "put the LiST runs of several experiments side by side",
    "publish": "copy figures and tables of an experiment to results/published",
}
STEPS = {  # that the workflow calls
    "configure": "write the checked config of an experiment and of each run",
    "train": "train runs, or resume them from their last epoch",
    "evaluate": "logits, temperature, calibration and certified radii of trained runs",
    "evaluate-shard": "the logits of a part of the images, where jobs share the evaluation of a run",
    "attack": "AutoAttack on a sample of the test images of trained runs",
    "attack-shard": "a part of that, where jobs share the attack on a run",
    "attack-calibration": "attack the calibration of trained runs, and compare with its proven bounds",
    "attack-calibration-shard": "a part of that, where jobs share the attack on a run",
    "tabulate": "join the files of all runs into tables",
    "tabulate-falsifications": "join the falsifications of all runs into a table",
    "claims": "give a verdict on each claim, from the tables or from published ones",
    "draw": "draw figures from the tables",
    "summarise": "draw a summary of each run",
    "page": "write a page of the report",
}
EXAMPLES = """examples:
  lipscale certify model.safetensors images.npz --output radii.csv
  lipscale falsify model.safetensors --data images.npz
  lipscale plan config/config.yaml
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0, or 1 with one sentence on stderr where the user can fix the cause."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = next((word for word in arguments if not word.startswith("-")), None)
    options = _parser(name).parse_args(arguments)
    try:
        with enough_memory(options.command, "run fewer jobs at once, or give it more memory"):
            options.run(options)
    except LipscaleError as error:
        return _failed(str(error))
    except OSError as error:
        if error.errno is None:
            raise
        return _failed(f"{error.filename or options.command}: {files.explain(error.errno)}")
    return 0


def _failed(sentence: str) -> int:
    print(f"lipscale: {sentence}", file=sys.stderr)
    return 1


def _parser(wanted: str | None) -> argparse.ArgumentParser:
    """The parser; only the module of the wanted command is imported."""

    def table(commands: dict[str, str]) -> str:
        return "\n".join(f"  {name:24} {text}" for name, text in commands.items())

    top = argparse.ArgumentParser(
        prog="lipscale",
        usage="lipscale COMMAND ...",
        description="Lipschitz Scaling Training: certified, calibrated networks.",
        epilog=f"commands:\n{table(COMMANDS)}\n\nsteps of the workflow, which Snakemake calls:\n{table(STEPS)}\n\n{EXAMPLES}\n"
        "`lipscale COMMAND --help` explains a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=__version__)
    subparsers = top.add_subparsers(prog="lipscale", title=argparse.SUPPRESS, dest="command", metavar="COMMAND", required=True)
    for name, text in {**COMMANDS, **STEPS}.items():
        if name != wanted:
            subparsers.add_parser(name)
            continue
        module = import_module(f"lipscale.steps.{name.replace('-', '_')}")
        _, _, details = module.__doc__.partition("\n")
        parser = subparsers.add_parser(
            name,
            description=text[0].upper() + text[1:] + ".",
            epilog=details.strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.arguments(parser)
        parser.set_defaults(run=module.run)
    return top


if __name__ == "__main__":
    sys.exit(main())
