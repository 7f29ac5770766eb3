"""What CIFAR-10 and CIFAR-100 share: torchvision reads both."""

from pathlib import Path
from typing import TYPE_CHECKING

from lipscale.errors import LipscaleError
from lipscale.settings import SourceSettings

if TYPE_CHECKING:
    from lipscale.data.source import Source

FOLDER = "data"  # of the download, where the config names none


def load(settings: SourceSettings, kind_name: str, title: str) -> "Source":
    """A CIFAR through torchvision, which downloads it once and compares its files with their MD5 sums.

    Args:
        kind_name: class in torchvision.datasets.
        title: name for people.
    """
    import numpy as np
    from torchvision import datasets

    from lipscale.data.source import Source, Split

    kind, folder = getattr(datasets, kind_name), Path(settings.path or FOLDER)
    try:
        splits = [kind(folder, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise LipscaleError(
            f"{title} could not be downloaded or read ({' '.join(str(error).split())}); download {kind.url} "
            f"(MD5 {kind.tgz_md5}), put it into {folder.resolve()} and repeat the command"
        ) from None
    train, test = (Split(split.data.transpose(0, 3, 1, 2), np.array(split.targets, dtype=np.int64)) for split in splits)
    return Source(list(splits[0].classes), train, test, {"url": kind.url, "md5": kind.tgz_md5})
