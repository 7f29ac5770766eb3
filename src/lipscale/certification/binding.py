"""What a model file says of the images that its certificates are for.

Radii are distances between prepared images. So the file names the preparation, beside the shape of images, the names of
classes, how pixels are written and the arithmetic of the logits. What a file does not state, as those of earlier versions, is
not checked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lipscale.errors import LipscaleError

if TYPE_CHECKING:
    from lipscale.data.dataset import Dataset

PIXELS = "floats from 0 to 1 with channels first"
ARITHMETIC = "float64"
NOT_STATED = "not stated in the file"
KEYS = ("classes", "pixels", "arithmetic", "preparation_sha256")  # in the model file


@dataclass(frozen=True)
class Binding:
    """None stands for what is not stated.

    Attributes:
        classes: their names, in the order of the logits.
        preparation: checksum of how the images were prepared, `preparation_sha256` of the data's manifest.
        pixels: how images are written, `PIXELS`.
        arithmetic: of the logits that radii rest on, `ARITHMETIC`.
    """

    classes: tuple[str, ...] | None = None
    preparation: str | None = None
    pixels: str | None = PIXELS
    arithmetic: str | None = ARITHMETIC

    @classmethod
    def of(cls, classes: Sequence[str] | None, logits: int, preparation: str | None = None) -> "Binding":
        """Raises LipscaleError where `classes` are not as many names as there are logits."""
        if classes is None:
            return cls(preparation=preparation)
        named = not isinstance(classes, str) and all(isinstance(name, str) for name in classes)
        if not named or len(classes) != logits or len(set(classes)) != logits:
            raise LipscaleError(f"model: the classes are {classes!r}; allowed: {logits} different names, one for each logit")
        return cls(tuple(classes), preparation)

    def stated(self) -> dict:
        """What the model file holds of it, for JSON."""
        values = (None if self.classes is None else list(self.classes), self.pixels, self.arithmetic, self.preparation)
        return {key: value for key, value in zip(KEYS, values, strict=True) if value is not None}

    def described(self) -> dict[str, str]:
        """All of it in words."""
        stated = self.stated()
        if self.classes:
            stated["classes"] = " ".join(self.classes)
        return {key: stated.get(key, NOT_STATED) for key in KEYS}


def read(description: Mapping, logits: int) -> Binding:
    """The binding of a model file. Raises LipscaleError where something stated is not what this version computes."""
    for key, allowed in (("pixels", PIXELS), ("arithmetic", ARITHMETIC)):
        if description.get(key) not in (None, allowed):
            raise LipscaleError(f"model: {key} is {description[key]!r}; allowed: {allowed!r}")
    preparation = description.get("preparation_sha256")
    if not isinstance(preparation, str | None):
        raise LipscaleError(f"model: preparation_sha256 is {preparation!r}; allowed: a checksum")
    classes = description.get("classes")
    if not isinstance(classes, list | None):
        raise LipscaleError(f"model: the classes are {classes!r}; allowed: a list of names")
    named = Binding.of(classes, logits, preparation)
    return Binding(named.classes, preparation, description.get("pixels"), description.get("arithmetic"))


def check_fits(binding: Binding, dataset: "Dataset") -> None:
    """Raises LipscaleError where a prepared data set is not what a model is for, as far as both state it."""
    if binding.classes is not None and list(binding.classes) != dataset.classes:
        raise LipscaleError(
            f"{dataset.name} has the classes {' '.join(dataset.classes)}; "
            f"allowed: those of the model, {' '.join(binding.classes)}"
        )
    if binding.preparation and dataset.preparation and binding.preparation != dataset.preparation:
        raise LipscaleError(
            f"{dataset.name} was prepared from another source or in another way than the images of the model; allowed: "
            f"preparation_sha256 {binding.preparation[:12]}..., not {dataset.preparation[:12]}..."
        )
