"""What pydantic finds wrong, as one sentence: which key, its value, what is allowed."""

import reprlib
from collections.abc import Iterable
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError

from lipscale.errors import LipscaleError

Model = TypeVar("Model", bound=BaseModel)
RENAMED = {"rehearsals": "warmups", "audit_images": "spot_check_images", "own_radius_images": "falsify_images"}
ALLOWED = {  # by the type of pydantic's error; the fields are its context
    "greater_than": "a number greater than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "list_type": "a list",
    "string_type": "text",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
    "less_than": "a number less than {lt}",
    "string_unicode": "text that UTF-8 can hold",
}
NOT_A_SECTION = ("model_type", "model_attributes_type", "dict_type")
_shortened = reprlib.Repr()
_shortened.maxlevel, _shortened.maxlist, _shortened.maxdict = 4, 20, 10
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 200


def parsed(model: type[Model], value: object) -> Model:
    """`value` as a `model`. Raises LipscaleError: one sentence on the first thing that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False), model) from None


def wrong(key: str, value: object, allowed: str) -> LipscaleError:
    """The refusal of the value of a key."""
    return LipscaleError(f"config: {key} is {shown(value)}; allowed: {allowed}")


def missing(key: str) -> LipscaleError:
    """The refusal of a config without a key."""
    return LipscaleError(f"config: {key} is missing; it has no default")


def unknown(name: object, section: str, allowed: Iterable[str]) -> LipscaleError:
    """The refusal of a key that `section` (empty: the top level) does not have."""
    where = f"in {section}" if section else "at the top level"
    renamed = f", which is now {RENAMED[name]}" if name in RENAMED and RENAMED[name] in allowed else ""
    return LipscaleError(f"config: unknown key {shown(name)} {where}{renamed}; allowed: {', '.join(sorted(allowed))}")


def shown(value: object) -> str:
    """`value` as in Python, shortened."""
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    try:
        return _shortened.repr(value)
    except ValueError:  # Python writes no integer of more than some thousand digits
        return "a number of thousands of digits"


def joined(path: Iterable[object]) -> str:
    """Keys and indices as one name: `runs.seeds[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _refusal(errors: list[dict], model: type[BaseModel]) -> LipscaleError:
    """The sentence on the first error; an unknown key comes first, since a missing key is often a misspelt one."""
    errors = [error for error in errors if error["type"] != "default_factory_not_called"]  # follows from another error
    error = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    *section, name = error["loc"] or [""]
    if kind in ("extra_forbidden", "invalid_key"):
        path, owner, tag = _located(model, section)
        return unknown(name, joined(path) + tag, owner.model_fields if owner else ())
    path, owner, _ = _located(model, error["loc"])
    key = joined(path) or "the config"
    if kind == "missing":
        return missing(key)
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        key = f"{key}.{context['discriminator'].strip(chr(39))}"
        if kind == "union_tag_not_found":
            return missing(key)
        return wrong(key, value[key.rpartition(".")[2]], f"one of {context['expected_tags'].replace(chr(39), '')}")
    if kind in NOT_A_SECTION:
        return wrong(key, value, "a mapping" + (f" of the keys {', '.join(sorted(owner.model_fields))}" if owner else ""))
    if kind == "literal_error":
        return wrong(key, value, f"one of {context['expected'].replace(chr(39), '').replace(' or ', ', ')}")
    if kind == "value_error":
        return _of_a_validator(key, value, str(context["error"]))
    context = {name: shown(bound) if isinstance(bound, float) else bound for name, bound in context.items()}
    return wrong(key, value, ALLOWED[kind].format(**context) if kind in ALLOWED else error["msg"])


def _of_a_validator(key: str, value: object, said: str) -> LipscaleError:
    if said.startswith("allowed: "):
        return wrong(key, value, said.removeprefix("allowed: "))
    return LipscaleError(f"config: {key}: {said}")


def _located(model: type[BaseModel], location: Iterable[object]) -> tuple[list, type[BaseModel] | None, str]:
    """Where an error is.

    Pydantic puts the tag of a union (the name of a data set) among the keys of a location; here it is not one.

    Returns:
        path: keys and indices.
        owner: the model there, if there is one.
        tag: words on the tag that chose the model: ", whose name is digits".
    """
    path, owner, tag, union = [], model, "", None
    for part in location:
        if union is not None:
            owner = next(option for option in union[1] if part in get_args(option.model_fields[union[0]].annotation))
            tag, union = f", whose {union[0]} is {part}", None
            continue
        path.append(part)
        if isinstance(part, int):  # an entry of a list: of the model that was found for the list
            continue
        field = owner.model_fields.get(part) if owner else None
        owner, tag, kinds = None, "", _kinds(field.annotation) if field else []
        discriminators = [metadata.discriminator for metadata in (field, *kinds) if getattr(metadata, "discriminator", None)]
        models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if discriminators:
            union = (discriminators[0], models)
        else:
            owner = next(iter(models), None)
    return path, owner, tag


def _kinds(annotation: object) -> list[object]:
    """An annotation and what it is made of, such as the models of a union and the metadata of `Annotated`."""
    return [annotation, *(kind for part in get_args(annotation) for kind in _kinds(part))]
