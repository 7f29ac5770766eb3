"""What an attack on calibration has finished, as bytes to be kept."""

import io

import numpy as np

from lipscale.attacks.reached import Arrays

State = list[dict[str, Arrays]]  # of each finished batch; by `Case.key`, what was reached


def packed(batches: State, **facts: str | float) -> bytes:
    """The content of a .npz file; facts have no "/" in their names."""
    arrays = {
        f"{number}/{key}/{name}": array
        for number, batch in enumerate(batches)
        for key, fields in batch.items()
        for name, array in fields.items()
    }
    content = io.BytesIO()
    np.savez(content, **arrays, **facts)
    return content.getvalue()


def unpacked(content: bytes) -> tuple[State, dict[str, str | float]]:
    """The inverse of `packed`: batches, and facts."""
    batches: State = []
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        facts = {name: arrays[name].item() for name in arrays.files if "/" not in name}
        for path in (name for name in arrays.files if "/" in name):
            number, key, name = path.split("/")
            if int(number) == len(batches):
                batches.append({})
            batches[int(number)].setdefault(key, {})[name] = arrays[path]
    return batches, facts
