"""What two experiments must have in common for the measured cost of one to say something about the other."""

from collections.abc import Mapping, Sequence

# Version 0.1 wrote these names and lacked these settings.
OLD_NAMES = {"rehearsals": "warmups"}
OLD_DEFAULTS = {"objective": {"name": "cross_entropy"}}
OLD_PARTS = {"gpus": 1, "accumulate": 1}
OLD_FAMILY = {"family": "orthogonal"}


def comparable(run: Mapping, image_shape: Sequence[int]) -> dict[str, object]:
    """The settings on which the cost of a training step and of an attacked image depends.

    Args:
        run: content of a run's config.yaml, `Run.model_dump(mode="json")`. Those of version 0.1 are understood, too: they have
            the keys of `compute` at the top level, and the name of the data set in place of its settings.
        image_shape: (channels, height, width).
    """
    dataset, training, feedback = run["dataset"], run["training"], run["feedback"]
    compute = run.get("compute", run)
    found = {"dataset": dataset if isinstance(dataset, str) else dataset["name"], "network": run["network"]}
    found |= {key: compute[key] for key in ("device", "threads", "precision", "compile")}
    found |= {key: compute[key] for key in OLD_PARTS if key in compute}
    found |= {key: training[key] for key in ("batch_size", "augmentation", "objective") if key in training}
    found |= {key: feedback[key] for key in ("warmups", *OLD_NAMES, "updates_per_epoch") if key in feedback}
    return upgraded(found | {"image_shape": list(image_shape)})


def upgraded(settings: Mapping) -> dict[str, object]:
    """Comparable settings of any version, under the names of this one."""
    settings = {OLD_NAMES.get(key, key): value for key, value in settings.items()}
    return OLD_DEFAULTS | OLD_PARTS | settings | {"network": OLD_FAMILY | settings["network"]}
