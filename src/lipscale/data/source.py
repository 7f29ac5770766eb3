"""What a data set gives before it is split: the return value of `load` in each module of `lipscale.data.sources`."""

from dataclasses import dataclass

from lipscale.data.dataset import Split


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as it comes.

    Attributes:
        classes: their names, in the order of the labels.
        train: the training split; the validation split is taken from it.
        test: the test split; None if there is none, then `test_images` of the settings are taken from `train`.
        origin: where the images come from, for the manifest; must fit into JSON. Its `sha256` or `md5`, if there is one,
            stands for the images in `preparation_sha256`.
        order: how images are sorted within each split, for the manifest.
    """

    classes: list[str]
    train: Split
    test: Split | None
    origin: dict
    order: str = "as in the source"
