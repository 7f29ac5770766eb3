#!/usr/bin/env bash
# Does the end point of LiST depend on the layer family? Trains the network of a config (the digits) with each family, from L0 = 1,
# without an offset and with 72/255, one seed, and tries to refute the certificates.
#   benchmarks/families.sh FOLDER [more sections for snakemake --config]
# Writes comparison.csv, comparison.md and families.csv in FOLDER: the comparison, and how many certificates were attacked and broken,
# and the margin left where an attack came closest (falsify_*). Runs are kept in results/EXPERIMENT-FAMILY; repeat the command
# to resume. In the environment, FAMILIES="aol sll" chooses among the families, IMAGES=20 how many certificates are attacked, and
# CONFIG another config. With convolutions:
#   CONFIG=config/mnist5k.yaml benchmarks/families.sh FOLDER "figures={posthoc_lipschitz: 50}"
set -euo pipefail
folder=$1
shift
config=${CONFIG:-config/config.yaml}
experiment=$(sed -n "s/^experiment: *//p" "$config")
runs="{seeds: [0], list_initial_lipschitz: [1], fixed_lipschitz: [50], unconstrained_learning_rate: null,"
runs="$runs variants: [{offsets: [72], list_initial_lipschitz: [1]}]}"
results=()
for goal in measure falsify; do # the networks first
  for family in ${FAMILIES:-orthogonal cayley bro aol sll}; do
    result="results/$experiment-$family" goals=(measure)
    if [ $goal = falsify ]; then goals=("$result"/runs/list-1{,-xi72}-seed0/falsification.json); else results+=("$result"); fi
    snakemake --cores all --quiet rules host --configfile "$config" --config "experiment=$experiment-$family" \
      "network={family: $family}" "runs=$runs" "evaluation={falsify_images: ${IMAGES:-50}}" "$@" -- "${goals[@]}"
  done
  lipscale compare "${results[@]}" --epsilons 36 72 108 --folder "$folder"
done
python - "$folder" << 'END'
import csv, json, sys
from pathlib import Path

folder = Path(sys.argv[1])
names = ("images", "broken", "smallest_margin_left", "median_margin_left")
rows = list(csv.DictReader((folder / "comparison.csv").open(encoding="utf-8")))
for row in rows:
    offset = float(row["offset"])
    run = f"list-1-xi{offset:g}-seed{row['seed']}" if offset else f"list-1-seed{row['seed']}"
    found = json.loads(Path("results", row["experiment"], "runs", run, "falsification.json").read_text(encoding="utf-8"))
    row |= {f"falsify_{name}": found[name] for name in names}
with (folder / "families.csv").open("w", encoding="utf-8", newline="") as file:
    writer = csv.DictWriter(file, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    print(*(f"{row['experiment']}, offset {row['offset']}: {row['falsify_broken']} broken of {row['falsify_images']}, "
            f"margin left {float(row['falsify_smallest_margin_left']):.3f}, median {float(row['falsify_median_margin_left']):.3f}"
            for row in rows), sep="\n")
END
cat "$folder/comparison.md"
