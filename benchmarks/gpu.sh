#!/usr/bin/env bash
# What to run when a GPU is at hand, in order of value, within a time budget. Repeat the command to resume: what is done is kept.
#   benchmarks/gpu.sh MINUTES CONFIG FOLDER [more sections for snakemake --config]
#   benchmarks/gpu.sh 60 config/cifar10-jpeg.yaml gpu "dataset={path: /data/cifar10-jpeg.tar.xz}" "training={epochs: 60}"
# 1. the tests for GPUs, 2. times of training steps, and of trainings that share a GPU, 3. the runs of FIRST, with figures,
# 4. all runs of CONFIG, one seed at a time.
# Output goes to FOLDER: tests.txt, training_step-SIZE-MODE.txt, jobs_per_gpu.txt, and one folder for each stage of runs, as
# `lipscale publish` writes it.
# In the environment: FIRST, the section `runs` of stage 3; SIZES, of the networks of stage 2; DEVICE=cpu for a trial without a GPU.
set -uo pipefail
if [ $# -lt 3 ]; then sed -n '2,9s/^# //p' "$0"; exit 2; fi
minutes=$1 config=$(realpath "$2") folder=$3
shift 3
root=$(cd "$(dirname "$0")/.." && pwd)
name=$(sed -n 's/^experiment: *//p' "$config")
end=$(($(date +%s) + 60 * minutes))
device=${DEVICE:-cuda}
first=${FIRST:-"seeds: [0], list_initial_lipschitz: [1], fixed_lipschitz: [2, 4, 8], unconstrained_learning_rate: null,
  variants: [{offsets: [36, 72], list_initial_lipschitz: [1]}]"}
export PYTHONPATH=$root/src${PYTHONPATH:+:$PYTHONPATH}
mkdir -p "$folder"
folder=$(realpath "$folder")

# within COMMAND...: runs a command in the time that is left; its exit status, or 124 where the time is over.
within() {
  local left=$((end - $(date +%s)))
  if [ "$left" -le 0 ]; then return 124; fi
  timeout --signal=INT --kill-after=60 "$left" "$@"
}

# report NAME STATUS: says how a step ended.
report() {
  case $2 in
    0) echo "$1: done" ;;
    124) echo "$1: the time is over; repeat the command to resume" ;;
    *) echo "$1: failed with status $2" ;;
  esac
  return "$2"
}

# once NAME COMMAND...: runs a command unless FOLDER/NAME.txt is complete, and writes its output there.
once() {
  local title=$1 file=$folder/$1.txt
  shift
  if [ -e "$file" ]; then echo "$title: done before"; return; fi
  within "$@" > "$file.part" 2> "$file.log"
  report "$title" $? && mv "$file.part" "$file"
}

# stage NAME RUNS ...: trains, attacks and draws what RUNS asks for, and collects it in FOLDER/NAME.
stage() {
  local title=$1 runs=$2
  shift 2
  within snakemake --snakefile "$root/Snakefile" --cores all --resources gpu_share=100 --keep-going --rerun-incomplete \
    --quiet rules host --configfile "$config" --config "runs={$runs}" "compute={device: $device}" "$@"
  report "$title" $? || return
  python -m lipscale publish "results/$name" --folder "$folder/$title" --command "benchmarks/gpu.sh $minutes ${config##*/}"
}

once tests env --chdir="$root" python -m pytest -m gpu
for size in ${SIZES-medium large}; do
  for mode in "--modes" "--precision float32" "--precision bf16" "--precision bf16 --compile"; do
    title=${mode//--precision /}
    title=${title#--}
    # shellcheck disable=SC2086  # several options
    once "training_step-$size-${title// --/-}" python "$root/benchmarks/training_step.py" \
      --config "$config" --size "$size" --device "$device" $mode
  done
done
once jobs_per_gpu env DEVICE="$device" "$root/benchmarks/jobs_per_gpu.sh" "$config" "$@"
stage first "$first" "$@" || exit
seeds=$(sed -n 's/^ *seeds: *\[\(.*\)\].*/\1/p' "$config")
asked=""
for seed in ${seeds//,/ }; do
  asked="${asked:+$asked, }$seed"
  stage "seeds-${asked//, /-}" "seeds: [$asked]" "$@" || exit
done
