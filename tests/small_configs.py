"""Small configs, and changes of them, for tests of the check."""

from conftest import TINY

CONFIG = TINY | {"evaluation": {"epsilons": [72], "attack_images": 60, "spot_check_images": 10, "attack_batch_size": 60}}
TINY32 = CONFIG | {"dataset": {"name": "cifar10", "validation_images": 9}}
OBJECTIVES = "brier, caat, cross_entropy, flsd, focal, label_smoothing, pgd, trades"


def changed(config: dict, changes: dict) -> dict:
    """`config` with values replaced; ... removes a key."""
    for key, value in changes.items():
        if isinstance(value, dict):
            config[key] = changed(config.get(key, {}), value)
        elif value is ...:
            del config[key]
        else:
            config[key] = value
    return config
