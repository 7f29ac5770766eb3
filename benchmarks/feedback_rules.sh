#!/usr/bin/env bash
# What makes the final L of LiST independent of L0? Runs the same experiment under several rules of feedback, and compares them.
#   benchmarks/feedback_rules.sh CONFIG FOLDER [more sections for snakemake --config]
# Writes comparison.csv and comparison.md in FOLDER. Runs are kept in results/NAME-RULE; repeat the command to resume.
# RULES="plain both" in the environment chooses among the rules below.
set -euo pipefail
config=$1 folder=$2
shift 2
name=$(sed -n 's/^experiment: *//p' "$config")

declare -A feedback=(
  [plain]="warmups: 0, updates_per_epoch: 1"
  [divided]="warmups: 0, updates_per_epoch: 1"
  [frequent]="warmups: 0, updates_per_epoch: 4"
  [warmup]="warmups: 2, updates_per_epoch: 1"
  [both]="warmups: 2, updates_per_epoch: 4"
  [third]="warmups: 3, updates_per_epoch: 4"
)
results=()
for rule in ${RULES:-plain divided frequent warmup both}; do
  divide=true
  if [ "$rule" = plain ]; then divide=false; fi
  snakemake --cores all --quiet rules host --configfile "$config" --config "experiment=$name-$rule" \
    "feedback={${feedback[$rule]}}" "training={divide_loss: $divide}" "$@" -- measure
  results+=("results/$name-$rule")
done
lipscale compare "${results[@]}" --epsilons 36 72 108 --folder "$folder"
cat "$folder/comparison.md"
