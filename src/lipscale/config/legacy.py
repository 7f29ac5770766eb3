"""Configs: checked against `schema.yaml` before any work starts, defaults filled in, expanded into runs.

Needs neither torch nor numpy: Snakemake reads configs with it when it parses the workflow.
"""

import copy
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import jsonschema
import yaml

from lipscale.errors import LipscaleError

SCHEMA = yaml.safe_load((Path(__file__).parent / "schema.yaml").read_text(encoding="utf-8"))
IMAGE_SIDE = {"digits": 8, "cifar10": 32, "cifar100": 32}  # pixels, of the data sets whose size is not configured
ONLY_FOR = {  # keys of `dataset` that mean something for these data sets alone
    "image_size": ("imagefolder",),
    "channels": ("imagefolder",),
    "largest_unpacked_gib": ("imagefolder",),
    "test_images": ("digits",),
}
LARGEST_NUMBER = 1e18
LARGEST_CONFIG = {"levels": 20, "values": 10_000, "bits": 4000}  # of nesting, in all, of a whole number
CONVNETS = {  # sizes by name; `lipscale.networks.network` says why they are what they are
    "small": {"patch": 4, "channels": [48, 96], "depth": 1, "widths": [256]},
    "medium": {"patch": 1, "channels": [64, 128, 256], "depth": 2, "widths": [512]},
    "large": {"patch": 1, "channels": [128, 256, 512], "depth": 4, "widths": [1024, 1024]},
}
IMAGEFOLDER_DEFAULTS = {"image_size": 32, "channels": 3, "largest_unpacked_gib": 4}


def check(config: object) -> dict:
    """A copy of `config` with defaults filled in. Raises LipscaleError: one sentence on the first thing that is wrong."""
    config = _with_defaults(_checked(config, SCHEMA), SCHEMA)
    _check_dataset(config["dataset"])
    _check_network(config["network"], config["dataset"])
    _check_feedback(config["feedback"], config["runs"]["list_initial_lipschitz"])
    fixed = config["runs"]["fixed_lipschitz"]
    posthoc = config["figures"].setdefault("posthoc_lipschitz", max(fixed))
    if posthoc not in fixed:
        raise _wrong("figures.posthoc_lipschitz", posthoc, f"one of runs.fixed_lipschitz, {fixed}")
    for run, count in Counter(settings["run"] for settings in runs(config)).items():
        if count > 1:
            raise LipscaleError(
                f"config: {count} runs would share the name {run}; values under runs must differ in their first six digits"
            )
    return config


def overridden(config: object, values: Iterable[str]) -> object:
    """`config` with values such as `training={epochs: 10}` in place of its own, as `snakemake --config` understands them.

    Raises LipscaleError where one is not of that form; what they say is for `check` to judge.
    """
    for text in values:
        key, equals, value = text.partition("=")
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not equals or not isinstance(config, Mapping):
            raise LipscaleError(f"--config got {text!r}; allowed: KEY=VALUE, the value in YAML")
        old = config.get(key)
        config = {**config, key: {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value}
    return config


def runs(config: Mapping) -> Iterator[dict]:
    """The settings of each run, complete: what `train` gets and what `runs/<run>/config.yaml` holds."""
    starts = {
        "list": config["runs"]["list_initial_lipschitz"],
        "fixed": config["runs"]["fixed_lipschitz"],
        "unconstrained": [None] if config["runs"]["unconstrained_learning_rate"] else [],
    }
    unconstrained = config["training"] | {"learning_rate": config["runs"]["unconstrained_learning_rate"]}
    for method, values in starts.items():
        for lipschitz in values:
            for seed in config["runs"]["seeds"]:
                yield {
                    "run": f"{setting_name(method, lipschitz)}-seed{seed}",
                    "method": method,
                    "initial_lipschitz": None if lipschitz is None else float(lipschitz),
                    "seed": seed,
                    "dataset": config["dataset"]["name"],
                    "network": config["network"],
                    "training": unconstrained if method == "unconstrained" else config["training"],
                    "feedback": config["feedback"],
                    **{key: config["compute"][key] for key in ("device", "threads", "precision", "compile")},
                }


def check_dataset(settings: object) -> dict:
    """`check` for the section `dataset` alone."""
    schema = SCHEMA["properties"]["dataset"] | {"$defs": SCHEMA["$defs"]}
    settings = _with_defaults(_checked(settings, schema), schema)
    _check_dataset(settings)
    return settings


def check_settings(settings: object) -> dict:
    """A copy of the settings of a run. Raises LipscaleError where they are not what `runs` yields: complete and valid."""
    network = settings.get("network") if isinstance(settings, Mapping) else None
    architecture = network.get("architecture") if isinstance(network, Mapping) else None
    settings = _checked(settings, _run_schema(convnet=architecture == "convnet"))
    _check_feedback(settings["feedback"], [])
    free = settings["method"] == "unconstrained"
    if free != (settings["initial_lipschitz"] is None):
        allowed = f"{'null' if free else 'a number'}, as method is {settings['method']}"
        raise _wrong("initial_lipschitz", settings["initial_lipschitz"], allowed)
    return settings


def check_image_side(network: Mapping, side: int) -> None:
    """Raises LipscaleError where the section `network`, complete, does not fit images of `side` x `side` pixels."""
    if network["architecture"] == "mlp":
        return
    stages = len(network["channels"])
    if side % network["patch"]:
        raise _wrong("network.patch", network["patch"], f"a divisor of the side of an image, {side} pixels")
    side //= network["patch"]
    if side % 2**stages or side // 2 ** (stages - 1) < 3:
        raise _wrong(
            "network.channels",
            network["channels"],
            f"as many stages as the side of an image in patches, {side}, can be halved, from 3 or more, without remainder",
        )


def image_shape(dataset: Mapping) -> list[int]:
    """Channels, height and width that the section `dataset`, checked, gives to images."""
    if dataset["name"] == "imagefolder":
        return [dataset["channels"], dataset["image_size"], dataset["image_size"]]
    side = IMAGE_SIDE[dataset["name"]]
    return [1 if dataset["name"] == "digits" else 3, side, side]


def setting_name(method: str, lipschitz: float | None) -> str:
    """Short name of a setting, shared by its seeds: `list-0.01`, `fixed-10`, `unconstrained`."""
    return method if lipschitz is None else f"{method}-{lipschitz:g}"


def digest(settings: object) -> str:
    """A short hash of settings, the same for equal settings whatever the order of their keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _wrong(key: str, value: object, allowed: str) -> LipscaleError:
    return LipscaleError(f"config: {key} is {value!r}; allowed: {allowed}")


def _checked(config: object, schema: Mapping) -> object:
    """A copy of `config` with its values read by `_typed`. Raises LipscaleError where `schema` does not allow it."""
    _check_extent(config)
    config = _typed(config, schema)
    errors = sorted(jsonschema.Draft202012Validator(schema).iter_errors(config), key=lambda error: error.json_path)
    if errors:
        raise LipscaleError(_sentence(errors[0]))
    for key, value in _leaves(config):
        if isinstance(value, int | float) and not -LARGEST_NUMBER <= value <= LARGEST_NUMBER:
            raise _wrong(key, value, "a finite number of ordinary size")
    return config


def _check_extent(config: object) -> None:
    """Raises LipscaleError where YAML's aliases make `config` endless or huge, or a number is too long to be written."""
    level, count = [config], 0
    for _ in range(LARGEST_CONFIG["levels"]):
        if any(isinstance(value, int) and value.bit_length() > LARGEST_CONFIG["bits"] for value in level):
            raise LipscaleError("config: a number has more than a thousand digits; allowed: numbers of ordinary size")
        level = [value for value in level if isinstance(value, Mapping | list)]
        count += sum(map(len, level))
        if not level or count > LARGEST_CONFIG["values"]:
            break
        parts = ([*value, *value.values()] if isinstance(value, Mapping) else value for value in level)
        level = list(itertools.chain.from_iterable(parts))
    if level:
        limits = f"{LARGEST_CONFIG['values']} values, nested at most {LARGEST_CONFIG['levels']} deep"
        raise LipscaleError(f"config: it is too large or nested too deeply; allowed: {limits}")


def _run_schema(convnet: bool) -> dict:
    """The schema of one of `runs`: keys of several sections, none left out."""
    sections = SCHEMA["properties"]
    layers = ["architecture", *(("channels", "depth", "patch") if convnet else ()), "widths", "bias", "allocation"]
    properties = {
        "run": {
            "type": "string",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9.+_-]*$(?!\\n)",
            "$comment": "letters, digits, dots, plus signs, dashes and underscores, a letter or digit first",
            "maxLength": 100,
        },
        "method": {"enum": ["list", "fixed", "unconstrained"]},
        "initial_lipschitz": {"type": ["number", "null"], "exclusiveMinimum": 0},
        "seed": sections["runs"]["properties"]["seeds"]["items"],
        "dataset": sections["dataset"]["properties"]["name"],
        "network": _complete(sections["network"], layers),
        "training": _complete(sections["training"]),
        "feedback": _complete(sections["feedback"]),
        **{key: sections["compute"]["properties"][key] for key in ("device", "threads", "precision", "compile")},
    }
    return _complete({"type": "object", "additionalProperties": False, "properties": properties}) | {"$defs": SCHEMA["$defs"]}


def _complete(schema: Mapping, keys: Iterable[str] | None = None) -> dict:
    """The schema of an object that has all of its properties, or just `keys`."""
    properties = {key: schema["properties"][key] for key in keys or schema["properties"]}
    return {**schema, "properties": properties, "required": list(properties)}


def _leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{key}[{index}]")
    else:
        yield key, value


def _sentence(error: jsonschema.ValidationError) -> str:
    """What is wrong, where and what is allowed, from an error of jsonschema."""
    key = error.json_path.removeprefix("$").removeprefix(".")
    value, limit = error.instance, error.validator_value
    if error.validator == "additionalProperties":
        allowed = sorted(error.schema["properties"])
        unknown = sorted(str(name) for name in value if name not in allowed)
        where = f"in {key}" if key else "at the top level"
        return f"config: unknown key {unknown[0]!r} {where}; allowed: {', '.join(allowed)}"
    if error.validator == "required":
        missing = next(name for name in limit if name not in value)
        return f"config: {f'{key}.{missing}' if key else missing} is missing; it has no default"
    allowed = {
        "type": lambda: " or ".join([limit] if isinstance(limit, str) else limit),
        "enum": lambda: "one of " + ", ".join(map(str, limit)),
        "exclusiveMinimum": lambda: f"a number greater than {limit}",
        "minimum": lambda: f"{limit} or more",
        "maximum": lambda: f"{limit} or less",
        "multipleOf": lambda: f"a multiple of {limit}",
        "minItems": lambda: f"a list of at least {limit}",
        "uniqueItems": lambda: "each value once",
        "maxItems": lambda: f"a list of at most {limit}",
        "maxLength": lambda: f"at most {limit} characters",
        "pattern": lambda: error.schema["$comment"],
    }[error.validator]()
    return str(_wrong(key or "the config", value, allowed))


def _typed(value: object, schema: Mapping) -> object:
    """`value` with text read as a number or truth value where the schema allows no text, and 36.0 as 36 where it asks for that.

    Snakemake passes the values inside `--config "training={epochs: 10}"` as text, and YAML takes 1e-3 for text.
    """
    schema = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
    if isinstance(value, Mapping):
        properties = schema.get("properties", {})
        return {key: _typed(item, properties.get(key, {})) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item, schema.get("items", {})) for item in value]
    kinds = schema.get("type", [])
    text_allowed = "string" in kinds or any(isinstance(option, str) for option in schema.get("enum", [""] if not kinds else []))
    if isinstance(value, float) and kinds == "integer" and value.is_integer():
        return int(value)
    if not isinstance(value, str) or text_allowed:
        return value
    for read in (int, float, {"true": True, "false": False}.__getitem__):
        try:
            return _typed(read(value), schema)
        except (ValueError, KeyError):
            continue
    return value


def _with_defaults(value: object, schema: Mapping) -> object:
    if "properties" not in schema:
        return copy.deepcopy(value)
    filled = {key: _with_defaults(item, schema["properties"][key]) for key, item in value.items()}
    for key, subschema in schema["properties"].items():
        if key not in filled and "default" in subschema:
            filled[key] = _with_defaults(subschema["default"], subschema)
    return filled


def _check_dataset(dataset: dict) -> None:
    name = dataset["name"]
    for key, names in ONLY_FOR.items():
        if key in dataset and name not in names:
            raise _wrong(f"dataset.{key}", dataset[key], f"nothing, as dataset.name is {name}; the key is for {names[0]} only")
    if name == "imagefolder":
        if dataset["path"] is None:
            raise _wrong("dataset.path", None, "the path of a folder or archive of images")
        for key, default in IMAGEFOLDER_DEFAULTS.items():
            dataset.setdefault(key, default)
    if name == "digits" and dataset["path"] is not None:
        raise _wrong("dataset.path", dataset["path"], "nothing, as the digits are embedded in scikit-learn")
    if name == "digits" and "test_images" not in dataset:
        raise LipscaleError("config: dataset.test_images is missing; digits comes without a test split")


def _check_network(network: dict, dataset: dict) -> None:
    if network["architecture"] == "mlp":
        for key in ("size", "channels", "depth", "patch"):
            if key in network:
                raise _wrong(f"network.{key}", network[key], "nothing, as network.architecture is mlp")
        network.setdefault("widths", [])
        return
    for key, default in CONVNETS[network.pop("size", "medium")].items():
        network.setdefault(key, default)
    check_image_side(network, image_shape(dataset)[1])


def _check_feedback(feedback: Mapping, starts: Iterable[float]) -> None:
    lowest, highest = feedback["lowest_lipschitz"], feedback["highest_lipschitz"]
    if lowest >= highest:
        raise _wrong("feedback.lowest_lipschitz", lowest, f"less than feedback.highest_lipschitz, {highest}")
    for value in starts:
        if not lowest <= value <= highest:
            raise _wrong("runs.list_initial_lipschitz", value, f"from {lowest} to {highest}, the bounds under feedback")
