"""Every bad config is refused in one sentence that names the key, the value and what is allowed."""

import copy
import math
import re

import pytest

from lipscale import config as configs
from lipscale.errors import LipscaleError
from small_configs import CONFIG, OBJECTIVES, TINY32, changed


@pytest.fixture
def tiny() -> dict:
    """A small valid config, to be changed freely."""
    return copy.deepcopy(CONFIG)


def convnet(**keys: object) -> dict:
    return {"network": {"architecture": "convnet", "widths": [8], **keys}}


def objective(name: str, **settings: object) -> dict:
    return {"training": {"objective": {"name": name, **settings}}}


BAD = {
    "unknown key": ({"training": {"epoch": 3}}, "unknown key 'epoch' in training; allowed: augmentation, batch_size, "),
    "a misspelt key": ({"training": {"epoch": 3, "epochs": ...}}, "unknown key 'epoch' in training; allowed: augment"),
    "unknown key at the top": ({"trainig": {}}, "unknown key 'trainig' at the top level; allowed: compute, dataset, evalu"),
    "a key that is no text": ({3: 1}, "unknown key 3 at the top level; allowed: compute, "),
    "an old key of feedback": (
        {"feedback": {"rehearsals": 2}},
        "unknown key 'rehearsals' in feedback, which is now warmups; allowed: highest_lipschitz, ",
    ),
    "an old key of evaluation": (
        {"evaluation": {"audit_images": 2}},
        "unknown key 'audit_images' in evaluation, which is now spot_check_images; allowed: attack_batch_size, ",
    ),
    "another old key of evaluation": (
        {"evaluation": {"own_radius_images": 2}},
        "unknown key 'own_radius_images' in evaluation, which is now falsify_images; allowed: attack_batch_size, ",
    ),
    "an old key elsewhere": ({"training": {"rehearsals": 2}}, "unknown key 'rehearsals' in training; allowed: augment"),
    "wrong type": ({"training": {"epochs": "many"}}, "training.epochs is 'many'; allowed: an integer"),
    "no whole number": ({"training": {"epochs": 1.5}}, "training.epochs is 1.5; allowed: an integer"),
    "no number": ({"training": {"learning_rate": [1]}}, "training.learning_rate is [1]; allowed: a number"),
    "a truth value for a number": ({"training": {"epochs": True}}, "training.epochs is True; allowed: an integer"),
    "a truth value for a rate": ({"training": {"learning_rate": True}}, "training.learning_rate is True; allowed: a number"),
    "a number for a truth value": ({"compute": {"pack": 1}}, "compute.pack is 1; allowed: true or false"),
    "text for a truth value": ({"compute": {"pack": "yes"}}, "compute.pack is 'yes'; allowed: true or false"),
    "no list": ({"runs": {"seeds": 3}}, "runs.seeds is 3; allowed: a list"),
    "no section": ({"training": None}, "training is None; allowed: a mapping of the keys augmentation, batch_size, "),
    "no section of a union": ({"dataset": "digits"}, "dataset is 'digits'; allowed: a mapping"),
    "L = 0": ({"runs": {"fixed_lipschitz": [1, 0]}}, "runs.fixed_lipschitz[1] is 0; allowed: a number greater than 0"),
    "L < 0": ({"runs": {"list_initial_lipschitz": [-1]}}, "runs.list_initial_lipschitz[0] is -1; allowed: a number greater"),
    "L = NaN": ({"runs": {"fixed_lipschitz": [1, math.nan]}}, "runs.fixed_lipschitz[1] is nan; allowed: a finite number"),
    "L = infinity": (
        {"runs": {"list_initial_lipschitz": [math.inf]}},
        "runs.list_initial_lipschitz[0] is inf; allowed: a finite number",
    ),
    "L that no float can hold": (
        {"runs": {"fixed_lipschitz": [1, 10**400]}},
        "runs.fixed_lipschitz[1] is 1000",
    ),
    "a number that Python does not write": (
        {"training": {"epochs": 10**5000}},
        "training.epochs is a number of thousands of digits; allowed: a finite number",
    ),
    "a number as text that overflows": ({"training": {"epochs": "1e999"}}, "training.epochs is '1e999'; allowed: an integer"),
    "epsilon < 0": ({"evaluation": {"epsilons": [-36]}}, "evaluation.epsilons[0] is -36; allowed: 1 or more"),
    "no seeds": ({"runs": {"seeds": []}}, "runs.seeds is []; allowed: a list of at least 1"),
    "a seed twice": ({"runs": {"seeds": [1, 1]}}, "runs.seeds is [1, 1]; allowed: each value once"),
    "a large seed": ({"runs": {"seeds": [2**32]}}, "runs.seeds[0] is 4294967296; allowed: 4294967295 or less"),
    "an L twice": ({"runs": {"fixed_lipschitz": [1, 1.0]}}, "runs.fixed_lipschitz is [1, 1.0]; allowed: each value once"),
    "two runs of one name": (
        {"runs": {"fixed_lipschitz": [1, 1.0000001]}},
        "2 runs would share the name fixed-1-seed0; values under runs must differ in their first six digits",
    ),
    "unknown data set": (
        {"dataset": {"name": "mnist"}},
        "dataset.name is 'mnist'; allowed: one of cifar10, cifar100, digits, imagefolder, imagenet, mnist5k, tiny_imagenet",
    ),
    "no data set": ({"dataset": {"name": ...}}, "dataset.name is missing; it has no default"),
    "a list for a data set": ({"dataset": {"name": []}}, "dataset.name is []; allowed: one of cifar10, cifar100, "),
    "unknown architecture": (convnet(architecture="vit"), "network.architecture is 'vit'; allowed: one of mlp, convnet"),
    "unknown objective": (
        {"training": {"objective": "hinge"}},
        f"training.objective.name is 'hinge'; allowed: one of {OBJECTIVES}",
    ),
    "unknown objective in a mapping": (
        {"training": {"objective": {"name": "hinge", "gamma": 3}}},
        f"training.objective.name is 'hinge'; allowed: one of {OBJECTIVES}",
    ),
    "a setting that the objective lacks": (
        {"training": {"objective": {"name": "cross_entropy", "gamma": 3}}},
        "unknown key 'gamma' in training.objective, whose name is cross_entropy; allowed: name",
    ),
    "a setting of another objective": (
        {"training": {"objective": {"name": "pgd", "beta": 3}}},
        "unknown key 'beta' in training.objective, whose name is pgd; allowed: epsilon, name, relative_step, steps",
    ),
    "an objective without a name": ({"training": {"objective": {"gamma": 3}}}, "training.objective.name is missing"),
    "no objective": (
        {"training": {"objective": 3}},
        "training.objective is 3; allowed: a mapping of name and settings, or a name",
    ),
    "no objective at all": ({"training": {"objective": None}}, "training.objective is None; allowed: a mapping of name and"),
    "alpha = 1": (objective("label_smoothing", alpha=1), "training.objective.alpha is 1; allowed: a number less than 1"),
    "alpha < 0": (objective("label_smoothing", alpha=-1), "training.objective.alpha is -1; allowed: 0 or more"),
    "gamma < 0": (objective("focal", gamma=-1), "training.objective.gamma is -1; allowed: 0 or more"),
    "gamma = NaN": (objective("focal", gamma=math.nan), "training.objective.gamma is nan; allowed: a finite number"),
    "no radius": (objective("pgd", epsilon=0), "training.objective.epsilon is 0; allowed: 1 or more"),
    "a radius in pixels": (objective("trades", epsilon=0.5), "training.objective.epsilon is 0.5; allowed: an integer"),
    "no steps": (objective("caat", steps=0), "training.objective.steps is 0; allowed: 1 or more"),
    "steps without length": (
        objective("pgd", relative_step=0),
        "training.objective.relative_step is 0; allowed: a number greater than 0",
    ),
    "beta < 0": (objective("trades", beta=-6), "training.objective.beta is -6; allowed: 0 or more"),
    "an unknown family": (
        {"network": {"family": "lazy"}},
        "network.family is 'lazy'; allowed: one of aol, bro, cayley, orthogonal, sll",
    ),
    "a family without constraint": ({"network": {"family": "unconstrained"}}, "network.family is 'unconstrained'; allowed: "),
    "unknown allocation": (
        {"network": {"allocation": "equal"}},
        "network.allocation is 'equal'; allowed: one of softmax, ",
    ),
    "an odd width": ({"network": {"widths": [15]}}, "network.widths[0] is 15; allowed: a multiple of 2"),
    "channels of an mlp": (
        {"network": {"channels": [8]}},
        "unknown key 'channels' in network, whose architecture is mlp; allowed: allocation, architecture, bias, family, widths",
    ),
    "size of an mlp": ({"network": {"size": "small"}}, "unknown key 'size' in network, whose architecture is mlp; allowed: "),
    "an unknown size": (convnet(size="huge"), "network.size is 'huge'; allowed: one of small, medium, large"),
    "no stages": (convnet(channels=[]), "network.channels is []; allowed: a list of at least 1"),
    "a size too large for the images": (
        convnet(size="large"),
        "network.channels has 3 stages, but an 8 x 8 image can be halved only twice (8 -> 4 -> 2, less than a kernel of 3 x 3)"
        "; use at most 2 stages or larger images",
    ),
    "patches that do not fit": (
        convnet(channels=[2], patch=3),
        "network.patch is 3; allowed: a divisor of the side of an image, 8 pixels",
    ),
    "a path for embedded data": (
        {"dataset": {"path": "x"}},
        "dataset.path is 'x'; allowed: nothing, as the digits are embedded in scikit-learn",
    ),
    "the name of the published results": ({"experiment": "published"}, "experiment is 'published'; allowed: up to 100 letters"),
    "no path": ({"dataset": {"name": "imagefolder", "test_images": ...}}, "dataset.path is missing; it has no default"),
    "a null path": ({"dataset": {"name": "imagefolder", "path": None, "test_images": ...}}, "dataset.path is None; allowed: t"),
    "two channels": (
        {"dataset": {"name": "imagefolder", "path": "x", "channels": 2, "test_images": ...}},
        "dataset.channels is 2; allowed: one of 1, 3",
    ),
    "a key of another data set": (
        {"dataset": {"image_size": 32}},
        "unknown key 'image_size' in dataset, whose name is digits; allowed: name, path, split_seed, test_images, valid",
    ),
    "a missing key": ({"training": {"epochs": ...}}, "training.epochs is missing; it has no default"),
    "a missing section": ({"runs": ...}, "runs is missing; it has no default"),
    "no test split": ({"dataset": {"test_images": ...}}, "dataset.test_images is missing; it has no default"),
    "bounds the wrong way round": (
        {"feedback": {"lowest_lipschitz": 9, "highest_lipschitz": 2}},
        "feedback.lowest_lipschitz is 9; allowed: less than feedback.highest_lipschitz, 2",
    ),
    "L0 out of bounds": (
        {"feedback": {"highest_lipschitz": 50}},
        "runs.list_initial_lipschitz is 100; allowed: from 0.0001 to 50, the bounds under feedback",
    ),
    "a post-hoc L that is not trained": (
        {"figures": {"posthoc_lipschitz": 7}},
        "figures.posthoc_lipschitz is 7; allowed: one of runs.fixed_lipschitz, [20]",
    ),
    "a step of one": ({"feedback": {"largest_step": 1}}, "feedback.largest_step is 1; allowed: a number greater than 1"),
    "a name that leaves results": ({"experiment": "../x"}, "experiment is '../x'; allowed: up to 100 letters"),
    "a name with a line break": ({"experiment": "x\n"}, "experiment is 'x\\n'; allowed: up to 100 letters"),
    "a name that is a number": ({"experiment": 3}, "experiment is 3; allowed: text"),
    "an empty path": (
        {"dataset": {"name": "cifar10", "path": "", "test_images": ...}},
        "dataset.path is ''; allowed: a path that is not empty",
    ),
    "a path with NUL": (
        {"dataset": {"name": "cifar10", "path": "\0", "test_images": ...}},
        "dataset.path is '\\x00'; allowed: a path",
    ),
    "more threads than any machine has": ({"compute": {"threads": 10**18}}, "compute.threads is 1000000000000000000; allowed"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_config_is_refused(tiny, case):
    changes, sentence = BAD[case]
    with pytest.raises(LipscaleError) as caught:
        configs.check(changed(tiny, changes))
    assert str(caught.value).startswith(f"config: {sentence}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [None, [], "text", 3])
def test_what_is_no_mapping_is_refused(config):
    with pytest.raises(LipscaleError, match=re.escape(f"config: the config is {config!r}; allowed: a mapping of the keys")):
        configs.check(config)


SIDES = [  # side of an image, side of a patch, stages
    (
        28,
        2,
        2,
        "has 2 stages, but a 28 x 28 image in patches of 2 can be halved only once (14 -> 7); use 1 stage or another patch",
    ),
    (28, 4, 1, "has 1 stage, but a 28 x 28 image in patches of 4 cannot be halved (7); use another patch"),
    (32, 1, 5, "has 5 stages, but a 32 x 32 image can be halved only 4 times (32 -> 16 -> 8 -> 4 -> 2, less than a kernel of "),
    (8, 4, 1, "has 1 stage, but an 8 x 8 image in patches of 4 cannot be halved (2, less than a kernel of 3 x 3); use "),
]


@pytest.mark.parametrize(("side", "patch", "stages", "sentence"), SIDES)
def test_network_that_does_not_fit_the_images(side, patch, stages, sentence):
    network = configs.check(TINY32 | convnet(channels=[2], patch=1)).network
    network = network.model_copy(update={"channels": [2] * stages, "patch": patch})
    with pytest.raises(LipscaleError, match=f"^{re.escape(f'config: network.channels {sentence}')}"):
        configs.check_image_side(network, side)
