#!/usr/bin/env bash
# Does an experiment take what `plan` foretells? Runs a small trial of it, foretells the experiment from that, runs the experiment.
#   benchmarks/plan.sh CONFIG
# Prints what was foretold, then, from its own record, what it took.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
config=$(realpath "$1")
cd "$(mktemp -d)"
snakemake=(snakemake --snakefile "$root/Snakefile" --cores all --quiet all --configfile "$config")

"${snakemake[@]}" --config experiment=trial "training={epochs: 10}" "runs={seeds: [0]}" "evaluation={attack_images: 100}"
mkdir trial && mv results/trial trial
python -m lipscale plan --configfile "$config" --results trial
"${snakemake[@]}"
echo
python -m lipscale plan --configfile "$config" --results results
