"""Small folders in exactly the layouts of Tiny ImageNet and ImageNet, with generated images."""

import io

import torch

from image_folders import picture

WNIDS = ("n01443537", "n01629819", "n02124075")
BOX = "\t0\t32\t44\t62"


def tiny_imagenet_tree() -> dict[str, bytes]:
    """Two training and two validation images of each class; images of test/ have no labels."""
    top, of_val = "tiny-imagenet-200", [WNIDS[number % 3] for number in (2, 0, 1, 1, 0, 2)]
    found = {f"{top}/wnids.txt": "\n".join(reversed(WNIDS)).encode(), f"{top}/words.txt": b"n01443537\tgoldfish\n"}
    for number, name in enumerate(WNIDS):
        found[f"{top}/train/{name}/{name}_boxes.txt"] = f"{name}_0.JPEG{BOX}".encode()
        for image in range(2):
            mode = "L" if image else "RGB"  # some of its images are grey
            found[f"{top}/train/{name}/images/{name}_{image}.JPEG"] = picture(mode, (64, 64), 10 * number + image, "jpeg")
    for number in range(6):
        found[f"{top}/val/images/val_{number}.JPEG"] = picture("RGB", (64, 64), 100 + number, "jpeg")
    lines = (f"val_{number}.JPEG\t{name}{BOX}\n" for number, name in enumerate(of_val))
    found[f"{top}/val/val_annotations.txt"] = "".join(lines).encode()
    return found | {f"{top}/test/images/test_0.JPEG": picture("RGB", (64, 64), 200, "jpeg")}


def imagenet_tree(flat: bool) -> dict[str, bytes]:
    """Images of many sizes; of a flat val/, meta.bin has the classes in the order of the images' names."""
    found, synsets = {}, [WNIDS[number % 3] for number in (2, 0, 1, 1, 0, 2)]
    for number, name in enumerate(WNIDS):
        for image in range(2):
            found[f"train/{name}/{name}_{image}.JPEG"] = picture("RGB", (80 + 9 * image, 70), 10 * number + image, "jpeg")
    for number, name in enumerate(synsets):
        file = f"ILSVRC2012_val_{number + 1:08}.JPEG"
        found[f"val/{file}" if flat else f"val/{name}/{file}"] = picture("RGB", (90, 66), 100 + number, "jpeg")
    buffer = io.BytesIO()
    torch.save(({name: (name,) for name in WNIDS}, synsets), buffer)
    return found | ({"meta.bin": buffer.getvalue()} if flat else {})
