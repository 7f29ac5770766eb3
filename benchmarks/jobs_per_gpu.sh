#!/usr/bin/env bash
# Does a GPU train networks faster side by side? Four trainings with LiST, two epochs each, with compute.jobs_per_gpu 1, 2 and 4.
#   benchmarks/jobs_per_gpu.sh CONFIG [more sections for snakemake --config]
# Prints the seconds of each, the start of Python included. Runs are written to results/EXPERIMENT-jobs, and removed before they are
# repeated. In the environment: DEVICE=cpu for a trial without a GPU, where compute.jobs_per_gpu has no effect.
set -euo pipefail
if [ $# -lt 1 ]; then sed -n '2,5s/^# //p' "$0"; exit 2; fi
config=$1
shift
root=$(cd "$(dirname "$0")/.." && pwd)
results=$(sed -n 's/^experiment: *//p' "$config")-jobs
models=("results/$results/runs/list-1-seed"{0,1,2,3}/model.safetensors)

# workflow N TARGET...: makes the targets, N trainings at a time. Of sections that are given twice, the last one counts.
workflow() {
  local jobs=$1
  shift
  snakemake --snakefile "$root/Snakefile" --cores all --resources gpu_share=100 --quiet all --configfile "$config" \
    --config "${sections[@]}" "experiment=$results" "runs={seeds: [0, 1, 2, 3], list_initial_lipschitz: [1], fixed_lipschitz: [4],
      unconstrained_learning_rate: null, variants: []}" "figures={posthoc_lipschitz: 4}" "training={epochs: 2}" \
    "compute={device: ${DEVICE:-cuda}, jobs_per_gpu: $jobs, pack: false}" -- "$@" >&2  # standard output is for what is measured
}

sections=("$@")
workflow 1 "results/$results/data/manifest.json"
for jobs in 1 2 4; do
  rm -rf "results/$results/runs"
  start=$(date +%s%N)
  workflow "$jobs" "${models[@]}"
  echo "jobs_per_gpu $jobs: $((($(date +%s%N) - start) / 1000000000)) s for four trainings"
done
