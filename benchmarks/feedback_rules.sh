#!/usr/bin/env bash
# What it takes to make LiST's end point independent of L0: the same experiment under several rules of feedback, side by side.
#   benchmarks/feedback_rules.sh CONFIG FOLDER [more sections for snakemake --config]
# FOLDER gets comparison.csv and comparison.md; runs are kept in results/NAME-RULE, so a stopped comparison goes on.
# RULES="plain both" in the environment chooses among the rules below.
set -euo pipefail
config=$1 folder=$2
shift 2
name=$(sed -n 's/^experiment: *//p' "$config")

declare -A feedback=(
  [plain]="rehearsals: 0, updates_per_epoch: 1"
  [divided]="rehearsals: 0, updates_per_epoch: 1"
  [frequent]="rehearsals: 0, updates_per_epoch: 4"
  [rehearsed]="rehearsals: 2, updates_per_epoch: 1"
  [both]="rehearsals: 2, updates_per_epoch: 4"
)
results=()
for rule in ${RULES:-plain divided frequent rehearsed both}; do
  divide=true
  if [ "$rule" = plain ]; then divide=false; fi
  snakemake --cores all --quiet rules host --configfile "$config" --config "experiment=$name-$rule" \
    "feedback={${feedback[$rule]}}" "training={divide_loss: $divide}" "$@" -- measure
  results+=("results/$name-$rule")
done
python -m lipscale compare "${results[@]}" --epsilons 36 72 108 --folder "$folder"
cat "$folder/comparison.md"
