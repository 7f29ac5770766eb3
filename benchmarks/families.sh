#!/usr/bin/env bash
# Does the end point of LiST depend on the layer family? Trains the digits with each family, from L0 = 1, without an offset and with
# 72/255, one seed, and tries to refute the certificates.
#   benchmarks/families.sh FOLDER [more sections for snakemake --config]
# Writes comparison.csv, comparison.md and falsification.csv in FOLDER. Runs are kept in results/digits-FAMILY; repeat the command
# to resume. In the environment, FAMILIES="aol sll" chooses among the families, IMAGES=20 how many certificates are attacked.
set -euo pipefail
folder=$1
shift
runs="{seeds: [0], list_initial_lipschitz: [1], fixed_lipschitz: [50], unconstrained_learning_rate: null,"
runs="$runs variants: [{offsets: [72], list_initial_lipschitz: [1]}]}"
results=()
for goal in measure falsify; do # the networks first
  for family in ${FAMILIES:-orthogonal cayley bro aol sll}; do
    result="results/digits-$family" goals=(measure)
    if [ $goal = falsify ]; then goals=("$result"/runs/list-1{,-xi72}-seed0/falsification.json); else results+=("$result"); fi
    snakemake --cores all --quiet rules host --configfile config/config.yaml --config "experiment=digits-$family" \
      "network={family: $family}" "runs=$runs" "evaluation={falsify_images: ${IMAGES:-50}}" "$@" -- "${goals[@]}"
  done
  lipscale compare "${results[@]}" --epsilons 36 72 108 --folder "$folder"
done
python - "${results[@]}" > "$folder/falsification.csv" << 'END'
import json, sys
from pathlib import Path

names = ("images", "broken", "smallest_margin_left", "median_margin_left")
print("experiment", "run", *names, sep=",")
for path in sorted(path for result in sys.argv[1:] for path in Path(result).glob("runs/*/falsification.json")):
    found = json.loads(path.read_text(encoding="utf-8"))
    print(path.parts[1], path.parent.name, *(found[name] for name in names), sep=",")
END
cat "$folder/comparison.md" "$folder/falsification.csv"
