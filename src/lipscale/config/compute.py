"""The section `compute` of a config."""

from typing import Annotated, Literal

from pydantic import Field

from lipscale.settings import AsInteger, Count, NonNegativeNumber, Settings, TruthValue


class Compute(Settings):
    """Where and how jobs run."""

    device: Literal["cpu", "cuda"] = Field("cpu", description="where networks are trained and attacked")
    threads: Annotated[int, Field(ge=1, le=1024), AsInteger] = Field(
        1,
        description="CPU threads of one training or attack; results depend on it, since the order of sums changes",
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32",
        description="of the passes through the network in training; weights are always made orthogonal in float32, and "
        "networks are always evaluated in float32 or float64",
    )
    compile: TruthValue = Field(
        False, description="train with torch.compile, which takes minutes to start and pays on a GPU with many epochs"
    )
    pack: TruthValue = Field(
        False,
        description="true: for networks so small that starting Python and torch takes longer than the work; the seeds of a "
        "setting share one training and one attack job, all runs share one evaluation job; false: one job per run",
    )
    jobs_per_gpu: Annotated[int, Field(ge=1, le=12), AsInteger] = Field(
        1,
        description="training and attack jobs that share a GPU at a time, on one machine or in one allocation; small networks "
        "leave most of a GPU idle",
    )
    gpus: Annotated[int, Field(ge=1, le=1024), AsInteger] = Field(
        1,
        description="GPUs that train one network together, each in its own process, with a part of training.batch_size; on a "
        "CPU the number of processes, each with compute.threads; results depend on it in the rounding of sums; evaluation and "
        "attacks use one GPU, or compute.shards",
    )
    accumulate: Annotated[int, Field(ge=1, le=1024), AsInteger] = Field(
        1,
        description="parts of a batch that each process computes one after the other, to sum their gradients: for batches that "
        "do not fit into the memory of a GPU; results depend on it in the rounding of sums",
    )
    shards: Annotated[int, Field(ge=1, le=1000), AsInteger] = Field(
        1,
        description="jobs that share the evaluation of a run, its AutoAttack at each epsilon, and the attack on its "
        "calibration, in whole batches of images; results do not depend on it",
    )
    in_memory_gib: NonNegativeNumber = Field(
        2,
        description="training and validation images that take more, with 1 byte per value, are read from the disk in the "
        "background, batch by batch, with the same results; those that take less stay in memory, that of the GPU on a GPU; GiB",
    )
    mem_mb: Count = Field(
        2000, description="memory that a training or attack job asks for, MiB; a training asks for as much for each of its gpus"
    )
    train_runtime: Count = Field(60, description="time that a training job asks for, minutes")
    attack_runtime: Count = Field(60, description="time that an attack job asks for, minutes")
