#!/usr/bin/env bash
# Does an experiment take what `lipscale plan` estimates? Runs a small trial, estimates the experiment from it, runs the experiment.
#   benchmarks/plan.sh CONFIG
# Prints the estimate, then, from the experiment's own record, what it took.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
config=$(realpath "$1")
cd "$(mktemp -d)"
snakemake=(snakemake --snakefile "$root/Snakefile" --cores all --quiet all --configfile "$config")

"${snakemake[@]}" --config experiment=trial "training={epochs: 10}" "runs={seeds: [0]}" "evaluation={attack_images: 100}"
mkdir trial && mv results/trial trial
lipscale plan "$config" --results trial
"${snakemake[@]}"
echo
lipscale plan "$config" --results results
