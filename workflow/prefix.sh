# Bash that comes before the command of every rule.
set -euo pipefail # as Snakemake has it without a prefix; without pipefail, tee would hide that a job has failed

# The rules run this checkout's lipscale, in whatever environment they are.
PYTHONPATH=$(cd "$(dirname "${BASH_SOURCE[0]}")/../src" && pwd)
export PYTHONPATH

# glibc gives large blocks back to the system after each use, and on a CPU a part of each step goes into getting them again. A
# user's own setting stays.
malloc=glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296:glibc.malloc.top_pad=268435456
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-$malloc}

# A killed process cannot say so itself; this puts it into the log.
python() {
  local status=0
  command python "$@" || status=$?
  if [ $status -eq 137 ]; then
    echo "lipscale: the process was killed (SIGKILL), as happens when memory runs out; allowed: more memory" \
      "(compute.mem_mb on a cluster), smaller batches or fewer jobs at once" >&2
  fi
  return $status
}
