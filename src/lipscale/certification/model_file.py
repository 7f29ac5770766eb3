"""Networks of plain layers in a .safetensors file, which holds no code.

The file holds the weights and, as metadata, the list of layers, the enforced L and what is known of the images
(`binding.py`). Reading it back builds the layers of `lipscale.certification.plain_layers` and nothing else: an unknown layer is
an error that names it.
"""

import json
import math
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save as serialized

from lipscale.certification import binding
from lipscale.certification.plain_layers import PlainNetwork, Scale
from lipscale.certification.specification import specification_of
from lipscale.errors import LipscaleError


def to_bytes(network: PlainNetwork) -> bytes:
    """The content of the file. L without constraint is the string "inf", since JSON has no infinity.

    Raises:
        LipscaleError: a scale is not finite, or layers were changed since the network was made.
    """
    with torch.device("meta"):
        as_made = PlainNetwork(network.specification, network.lipschitz, network.image_shape)
    if specification_of(network) != specification_of(as_made):
        raise LipscaleError("the layers were changed after export; allowed: change the original network and export it again")
    lipschitz = network.lipschitz if math.isfinite(network.lipschitz) else "inf"
    description = {"specification": network.specification, "lipschitz": lipschitz, "image_shape": network.image_shape}
    description |= network.binding.stated()
    try:
        metadata = {"network": json.dumps(description, allow_nan=False)}  # one key: safetensors writes several in random order
    except ValueError:
        raise LipscaleError("the network has scales that are not finite; allowed: numbers") from None
    return serialized({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, metadata)


def save(network: PlainNetwork, path: str | Path) -> None:
    """Write the file, whole or not at all.

    Raises:
        LipscaleError: it cannot be written.
    """
    if not isinstance(network, PlainNetwork):
        raise LipscaleError(f"save: the network is {type(network).__name__}; allowed: what lipscale.export or load returns")
    path, content = Path(path), to_bytes(network)
    if not path.name:
        raise LipscaleError(f"save: {str(path)!r} names no file; allowed: the path of a file")
    temporary = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise LipscaleError(f"{path} cannot be written: {os.strerror(error.errno or 0)}") from None


def load(path: str | Path, device: str | torch.device = "cpu") -> PlainNetwork:
    """Read a network that `save` wrote. Raises LipscaleError where the file is not such a network, whole and finite."""
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            description = json.loads((file.metadata() or {})["network"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        if description["lipschitz"] is None:
            description["lipschitz"] = math.inf
        with torch.device("meta"):  # sizes may be absurd until they are found to be those of the tensors
            network = PlainNetwork(**{key: value for key, value in description.items() if key not in binding.KEYS})
        network.binding = binding.read(description, network.class_count)
        network.load_state_dict(tensors, assign=True)
        _check_numbers(network)
    except Exception as error:  # broken bytes make json, safetensors and torch raise whatever they happen to run into
        raise LipscaleError(f"the model {path} cannot be read: {' '.join(str(error).split())}") from None
    return network.to(device).eval()


def _check_numbers(network: PlainNetwork) -> None:
    """Raises ValueError where numbers are of another kind than `save` writes."""
    scales = [layer.scale for layer in network.modules() if isinstance(layer, Scale)]
    if not (network.lipschitz >= 0 and all(map(math.isfinite, scales))):
        raise ValueError(f"L is {network.lipschitz} and the scales are {scales}; allowed: numbers")
    for name, tensor in network.state_dict().items():
        if tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise ValueError(f"{name} holds something other than finite float32 numbers")
