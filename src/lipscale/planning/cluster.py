"""Whether a SLURM cluster has nodes for the allocations that a workflow asks for."""

import subprocess

CPUS_OF_NODES = ("sinfo", "--noheader", "--exact", "--format=%c")  # a line for each kind of node


def largest_node() -> int | None:
    """The most cores that a node of the cluster has; None if SLURM does not say."""
    try:
        said = subprocess.run(CPUS_OF_NODES, capture_output=True, text=True, check=True, timeout=60).stdout
        return max((int(line) for line in said.split()), default=None)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def refusal(cores: int, largest: int | None) -> str | None:
    """Why allocations of up to `cores` cores would wait for ever on nodes of at most `largest`; None if they would not.

    A job of a group asks for as many cores as its members can use side by side. SLURM accepts one that fits on no node, as it
    could span several, but a partition allows a job of one task one node only: it stays pending without an error.
    """
    if largest is None or cores <= largest:
        return None
    return (
        f"an allocation may have {cores} cores, but the largest node of this cluster has {largest}, so that a larger job would "
        f"never start; set cores to at most {largest} in the profile, or give --cores {largest}"
    )
