"""What sections of a config have to agree on."""

from collections.abc import Collection, Sequence

from lipscale.config.messages import wrong
from lipscale.config.models import Compute, Feedback, Training
from lipscale.config.networks import Network
from lipscale.errors import LipscaleError
from lipscale.method.methods import Method
from lipscale.settings import SourceSettings

KERNEL = 3  # side of the convolutions of a stage


def image_shape(dataset: SourceSettings) -> tuple[int, int, int]:
    """Channels, height and width that the section `dataset` gives to images."""
    return dataset.image_shape()


def check_image_side(network: Network, side: int) -> None:
    """Raises LipscaleError where the section `network` does not fit images of `side` x `side` pixels."""
    if network.architecture != "convnet":
        return
    stages, patch = len(network.channels), network.patch
    if side % patch:
        raise wrong("network.patch", patch, f"a divisor of the side of an image, {side} pixels")
    sides = [side // patch]
    while sides[-1] % 2 == 0 and sides[-1] >= KERNEL:
        sides.append(sides[-1] // 2)
    possible = len(sides) - 1
    if stages > possible:
        raise LipscaleError(f"config: network.channels has {_count(stages)}, but {_too_often(side, patch, sides)}")


def check_feedback(feedback: Feedback) -> None:
    """Raises LipscaleError where the bounds on L are the wrong way round."""
    if feedback.lowest_lipschitz >= feedback.highest_lipschitz:
        allowed = f"less than feedback.highest_lipschitz, {feedback.highest_lipschitz:g}"
        raise wrong("feedback.lowest_lipschitz", feedback.lowest_lipschitz, allowed)


def check_parts(compute: Compute, training: Training) -> None:
    """Raises LipscaleError where several GPUs or shards contradict the rest, or a batch has fewer images than parts."""
    several = f"where compute.gpus is {compute.gpus}"
    if compute.gpus > 1 and compute.pack:
        raise wrong("compute.pack", True, f"false {several}")
    if compute.gpus > 1 and compute.jobs_per_gpu > 1:
        raise wrong("compute.jobs_per_gpu", compute.jobs_per_gpu, f"1 {several}")
    if compute.shards > 1 and compute.pack:
        raise wrong("compute.pack", True, f"false where compute.shards is {compute.shards}")
    parts = compute.gpus * compute.accumulate
    if training.batch_size < parts:
        allowed = f"at least {parts}, compute.gpus times compute.accumulate"
        raise wrong("training.batch_size", training.batch_size, allowed)


def check_start(key: str, initial_lipschitz: float, feedback: Feedback) -> None:
    """Raises LipscaleError where the first L of a run with feedback, the value of `key`, is out of bounds."""
    lowest, highest = feedback.lowest_lipschitz, feedback.highest_lipschitz
    if not lowest <= initial_lipschitz <= highest:
        raise wrong(key, initial_lipschitz, f"from {lowest:g} to {highest:g}, the bounds under feedback")


def check_offset(method: Method, training: Training) -> None:
    """Raises LipscaleError where a method or an objective has no loss with the offset of `training`."""
    if not training.offset:
        return
    if not training.objective.TAKES_OFFSET:
        raise wrong("training.offset", training.offset, f"0 where the objective is {training.objective.name}")
    if training.offset_unit == "input" and not method.constrained:
        allowed = f"0 for the method {method.name}, which has no L; or training.offset_unit: logit"
        raise wrong("training.offset", training.offset, allowed)


def check_replay(setting: str, replayed: str, settings: Collection[str], seeds: Sequence[int]) -> None:
    """Raises LipscaleError where a setting cannot replay the L of another seed of the setting `replayed`."""
    if len(seeds) < 2:
        raise LipscaleError(
            f"config: {setting} replays the L of another seed of {replayed}, but runs.seeds is {list(seeds)}; "
            "allowed: two seeds or more"
        )
    if replayed not in settings:
        raise LipscaleError(
            f"config: {setting} replays the L of {replayed}, which the config does not train; add it to the runs or variants, "
            "with the same offset, objective and calibration_data"
        )


def _too_often(side: int, patch: int, sides: list[int]) -> str:
    """How often an image can be halved: `sides` are its sides in patches, one after each stage that is possible."""
    possible = len(sides) - 1
    article = "an" if str(side).startswith("8") or side in (11, 18) else "a"
    image = f"{article} {side} x {side} image" + (f" in patches of {patch}" if patch > 1 else "")
    small = f", less than a kernel of {KERNEL} x {KERNEL}" if sides[-1] < KERNEL else ""
    halvings = f"({' -> '.join(map(str, sides))}{small})"
    another = "another patch" if patch > 1 else "larger images"
    if possible == 0:
        return f"{image} cannot be halved {halvings}; use {another}"
    often = {1: "only once", 2: "only twice"}.get(possible, f"only {possible} times")
    use = _count(possible) if possible == 1 else f"at most {_count(possible)}"
    return f"{image} can be halved {often} {halvings}; use {use} or {another}"


def _count(stages: int) -> str:
    return "1 stage" if stages == 1 else f"{stages} stages"
