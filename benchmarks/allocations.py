"""A sweep of short trainings on SLURM: an allocation for each run, packed by seeds, or shared by job groups.

    python benchmarks/allocations.py --settings 20

Trains digits at so many fixed L, and LiST from one L0, with two seeds, three times: with a job for each run, with the seeds
of a setting in a job (compute.pack), and with the runs in job groups of twenty. Prints how many allocations that took, how long
they waited in the queue, how long they held cores, and the time from start to end. Run it where jobs are submitted to SLURM.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
WAYS = {
    "a job for each run": ({"pack": False}, ["train=1"]),
    "packed by seeds": ({"pack": True}, ["train=1"]),
    "job groups of twenty": ({"pack": False}, ["train=20"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=20, help="values of L, each with two seeds, default: 20")
    parser.add_argument("--cores", type=int, default=2, help="of an allocation, default: 2")
    options = parser.parse_args()

    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    values = [float(index + 1) for index in range(options.settings)]
    config["runs"] = {"seeds": [0, 1], "list_initial_lipschitz": [1.0], "fixed_lipschitz": values}
    config["figures"] = {}
    print(f"{'':24}{'allocations':>12}{'waited':>10}{'held':>12}{'total':>10}")
    for way, (compute, groups) in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "config.yaml")
            path.write_text(yaml.safe_dump({**config, "compute": config["compute"] | compute}), encoding="utf-8")
            snakemake = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
            snakemake += ["--configfile", path, "--quiet", "all"]
            subprocess.run([*snakemake, "--cores", "1", "--", "prepare_data"], check=True)
            start = time.perf_counter()
            shared = ["--cores", options.cores, "--group-components", *groups, "--until", "train"]
            profile = ["--workflow-profile", ROOT / "workflow" / "profiles" / "slurm"]
            subprocess.run([*map(str, [*snakemake, *profile, *shared])], check=True)
            seconds, jobs = time.perf_counter() - start, allocations(folder)
        waited = sum((began - submitted).total_seconds() for submitted, began, _, _ in jobs)
        held = sum((ended - began).total_seconds() * cores for _, began, ended, cores in jobs)
        print(f"{way:24}{len(jobs):>12}{waited:>8.0f} s{held:>5.0f} core-s{seconds:>8.0f} s", flush=True)


def allocations(folder: str) -> list[tuple[datetime, datetime, datetime, int]]:
    """When each job of a workflow was submitted, began and ended, and its cores, as squeue still lists them."""
    command = ["squeue", "--states=all", "--noheader", "--format=%Z|%V|%S|%e|%C"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [row for row in (line.split("|") for line in lines) if row[0] == folder]
    return [(*map(datetime.fromisoformat, row[1:4]), int(row[4])) for row in rows]


if __name__ == "__main__":
    main()
