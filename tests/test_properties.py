"""Whatever is fed in, configs, settings, YAML, archives, models, data: it is valid, or refused in one line."""

import contextlib
import copy
import io
import json
import math
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from conftest import TINY, tried
from lipscale import config as configs
from lipscale.certification import export
from lipscale.certification.certificate import certificate
from lipscale.data import images
from lipscale.data.dataset import SPLITS, Dataset
from lipscale.data.sources import _old as sources
from lipscale.errors import LipscaleError
from lipscale.networks.network import build_network
from lipscale.store.checksums import seal
from test_data import FORMS, picture, tree, write_folder

CACHE = tempfile.TemporaryDirectory()  # instead of a folder .hypothesis that would be left behind
set_hypothesis_home_dir(CACHE.name)

CONVNET = {**TINY, "network": {"architecture": "convnet", "channels": [4], "depth": 1, "patch": 1, "widths": [8]}}
LIMIT = 2**16 / images.GIB  # of an archive, unpacked: 64 KiB


TIMES = int(os.environ.get("LIPSCALE_EXAMPLES", 1))  # 10: ten times as many examples, and other ones each time

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Duplicate name"),
    pytest.mark.filterwarnings("ignore:Initializing zero-element tensors"),
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
]


def examples(count: int) -> settings:
    """So many examples, the same ones each time, none kept on the disk."""
    return settings(
        max_examples=TIMES * count,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )


@contextlib.contextmanager
def refused(kind: str) -> Iterator[list[str]]:
    """Counts an example; yields a list that gets the one line with which it is refused, if it is. No other error is let by."""
    said = []
    tried[kind] += 1
    try:
        yield said
    except LipscaleError as error:
        said.append(str(error))
        tried[f"{kind} refused"] += 1
    for line in said:
        assert line.isprintable()
        assert 10 < len(line) < 1000


# --- what is fed in ---

TEXTS = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(codec=None), max_size=5),  # lone surrogates too
    st.sampled_from(
        ["", ".", "..", "../x", "/x", "a/b", "x\n", "\0", "nan", "inf", "-1", "1e3", "1e999", "9" * 5000, "true", "null"]
    ),
    st.sampled_from(["x" * 300, "$(touch pwned)", "`x`", "'", '"', "{x}", "{{", "%s", "digits", "list", "cuda", "é\u2028"]),
)
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-2, 130),
    st.floats(),
    st.sampled_from([0, -0.0, 1, 1.0, 36.0, 1e18, 1e19, 10**18, 10**400, 2**63, 5e-324, 1e308, math.nan]),
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | st.dates() | st.binary(max_size=3)
KEYS = st.one_of(TEXTS, st.none(), st.booleans(), st.integers(), st.floats())
ANYTHING = st.recursive(
    SCALARS, lambda item: st.lists(item, max_size=4) | st.dictionaries(KEYS, item, max_size=4), max_leaves=12
)


def places(value: object, place: tuple = ()) -> Iterator[tuple]:
    """The path of keys and indices to everything inside `value`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*place, key)
        yield from places(item, (*place, key))


@st.composite
def mutated(draw, of: list) -> object:
    """One of some configs with a few values replaced, removed, added, renamed or moved."""
    config = copy.deepcopy(draw(st.sampled_from(of)))
    for _ in range(draw(st.integers(1, 3))):
        known = list(places(config))
        assume(known)
        *way, key = draw(st.sampled_from(known))
        parent = config
        for step in way:
            parent = parent[step]
        others = st.sampled_from(known).map(lambda place: get(config, place))
        value = draw(near(parent[key]) | NUMBERS | TEXTS | ANYTHING | others.map(copy.deepcopy))
        change = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "rename"]))
        if change == "replace":
            parent[key] = value
        elif change == "remove":
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(key, value)
        else:
            name = draw(KEYS | st.sampled_from([place[-1] for place in known]))
            parent[name] = value if change == "add" else parent.pop(key)
    return config


def get(value: object, place: tuple) -> object:
    for step in place:
        value = value[step]
    return value


def near(value: object) -> st.SearchStrategy:
    """Values that have a chance of being allowed in the place of `value`."""
    if isinstance(value, int | float) and abs(value) < 1e300:
        return st.sampled_from(
            [value, value + 1, 2 * value, 4 * value, value / 2, value / 3, str(value), f"{value:e}", float(value)]
        )
    return st.sampled_from(
        [value, True, False, "small", "mlp", "convnet", "cpu", "imagefolder", "cifar10", [2, 4], [64], 2, None]
    )


@st.composite
def broken(draw, data: bytes) -> bytes:
    """`data` with a few bytes flipped, cut off, repeated or put in."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "flip", "set", "cut", "remove", "insert", "repeat"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, ord("0"), ord("9"), ord("-")]))
            case "cut":
                del data[at:]
            case "remove":
                del data[at : at + draw(st.integers(1, 600))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=16))
            case "repeat":
                data[at:at] = data[at : at + 512]
    return bytes(data)


# --- archives and folders of images ---

PARTS = st.one_of(
    st.sampled_from(
        [
            "train",
            "test",
            "cat",
            "dog",
            "0.png",
            "1.png",
            "..",
            ".",
            "",
            "C:",
            "__MACOSX",
            ".hidden",
            "a\\b",
            "..\\x",
            "x.jpg",
            "x.txt",
        ]
    ),
    st.sampled_from(
        ["é", "名.png", "x" * 300 + ".png", "\udc80.png", "a\nb.png", "nul\0.png", "-rf", "~", "$(x)", " ", "C:\\x.png", "//"]
    ),
    st.text(max_size=6),
)
NAMES = st.one_of(
    st.lists(PARTS, min_size=1, max_size=5).map("/".join),
    st.tuples(st.sampled_from(["train", "test"]), st.sampled_from(["cat", "dog"]), PARTS).map("/".join),
    st.sampled_from(
        ["/etc/x.png", "train/cat", "train/cat/", "train/cat/0.png/1.png", "train", "train/cat/0.png", "./train/cat/0.png"]
    ),
)
PICTURES = {
    f"{mode} {kind}": picture(mode, (9, 7), kind=kind)
    for kind, modes in {
        "png": ["RGB", "RGBA", "L", "P", "1", "I;16"], "jpeg": ["RGB", "L", "CMYK"], "bmp": ["RGB", "1"], "gif": ["P"],
        "tiff": ["RGB", "CMYK", "LAB", "I;16"], "webp": ["RGBA"], "ppm": ["RGB", "1"],
    }.items()
    for mode in modes
}  # fmt: skip
HUGE_PICTURES = [
    b"P6 60000 60000 255\n", b"P6 9000 9000 255\n", b"P6 0 0 255\n", b"P5 1 99999999 255\n", b"P6 -1 5 255\n",
    b"P1 9999999999999999 1\n",
]  # fmt: skip
CONTENTS = st.one_of(
    st.sampled_from(list(PICTURES.values())),
    st.sampled_from(list(PICTURES.values())).flatmap(broken),
    st.binary(max_size=40),
    st.sampled_from(HUGE_PICTURES),
    st.just(bytes(2**17)),
)
GOOD = tree(2)
TAR_TYPES = [bytes([kind]) for kind in b"0\x0015SLKxgVM23467Zz"]
WRITE = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}


@st.composite
def archives(draw) -> tuple[str, bytes]:
    """(suffix, bytes) of an archive with good and odd members, perhaps damaged."""
    suffix = draw(st.sampled_from([*WRITE, "zip"]))
    members = [(name, data, None) for name, data in GOOD.items()] if draw(st.integers(0, 3)) else []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.none() | st.integers(0, 255))
        members.insert(draw(st.integers(0, len(members))), (draw(NAMES), draw(CONTENTS), kind))
    buffer = io.BytesIO()
    if suffix == "zip":
        write_zip(draw, buffer, members)
    else:
        write_tar(draw, buffer, members, WRITE[suffix])
    data = buffer.getvalue()
    return suffix, draw(broken(data)) if draw(st.booleans()) else data


def write_tar(draw, buffer: io.BytesIO, members: list, mode: str) -> None:
    form = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]))
    with tarfile.open(fileobj=buffer, mode=mode, format=form, errors="surrogateescape") as archive:
        for name, data, kind in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            if kind is not None:
                entry.type = TAR_TYPES[kind % len(TAR_TYPES)]
                entry.linkname = draw(st.sampled_from(["/etc/passwd", "../..", "train/cat/0.png", ""]))
                if form == tarfile.PAX_FORMAT:
                    keys = st.sampled_from(
                        ["size", "path", "mtime", "GNU.sparse.map", "GNU.sparse.major", "GNU.sparse.size", "hdrcharset", "é"]
                    )
                    entry.pax_headers = draw(
                        st.dictionaries(keys, TEXTS.map(lambda text: text.encode(errors="replace").decode()), max_size=2)
                    )
            with contextlib.suppress(ValueError):  # a name that this format of tar cannot hold
                archive.addfile(entry, io.BytesIO(data))


def write_zip(draw, buffer: io.BytesIO, members: list) -> None:
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data, kind in members:
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            if kind is not None:
                entry.external_attr = draw(st.integers(0, 2**16 - 1)) << 16
                entry.extra = draw(st.binary(max_size=12))
            entry.compress_type = draw(
                st.sampled_from(
                    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
                )
            )
            with contextlib.suppress(UnicodeEncodeError):
                archive.writestr(entry, data)


def check_images(path: Path, kind: str) -> bool:
    """Whether the images at `path` were read; nothing may be written anywhere near them."""
    before = sorted(path.parent.rglob("*"))
    with refused(kind) as said:
        source = images.load(path, 8, 3, LIMIT)
    assert sorted(path.parent.rglob("*")) == before
    if not said:
        for split in (source.train, source.test):
            assert split.images.dtype == np.uint8
            assert split.images.shape == (len(split.labels), 3, 8, 8)
            assert 0 <= split.labels.min() <= split.labels.max() < len(source.classes)
        assert json.dumps(source.classes)
    return not said


@pytest.fixture
def quiet(monkeypatch):
    """No bars: thousands of them would fill the report of a failure."""
    monkeypatch.setattr("lipscale.data.images.bar", lambda iterable, **_: contextlib.nullcontext(iterable))


@examples(1500)
@given(archives())
def test_any_archive(tmp_path, quiet, archive):
    suffix, data = archive
    path = tmp_path / f"images.{suffix}"
    path.write_bytes(data)
    check_images(path, "archives")
    path.unlink()


@pytest.mark.parametrize("form", [form for form in FORMS if form != "folder"])
def test_damaged_archive(form, tmp_path, quiet):
    path = FORMS[form](tmp_path, GOOD)
    assert check_images(path, "archives")

    @examples(200)
    @given(broken(path.read_bytes()))
    def damage(data):
        path.write_bytes(data)
        check_images(path, "archives")

    damage()


@pytest.mark.parametrize("kind", PICTURES)
def test_damaged_image(kind, tmp_path, quiet):
    folder = write_folder(tmp_path / "images", GOOD)

    @examples(60)
    @given(broken(PICTURES[kind]))
    def damage(data):
        (folder / "train/cat/0.png").write_bytes(data)
        check_images(folder, "folders of images")

    damage()


@examples(150)
@given(st.lists(st.tuples(NAMES, CONTENTS, st.sampled_from(["file", "file", "folder", "link"])), max_size=4), st.booleans())
def test_any_folder_of_images(quiet, entries, good):
    with tempfile.TemporaryDirectory() as place:
        folder = write_folder(Path(place) / "images", GOOD if good else {})
        folder.mkdir(exist_ok=True)
        for name, data, kind in entries:
            target = folder / name.lstrip("/").replace("..", "__")
            with contextlib.suppress(OSError, ValueError):  # names that this file system cannot hold
                target.parent.mkdir(parents=True, exist_ok=True)
                if kind == "file":
                    target.write_bytes(data)
                elif kind == "folder":
                    target.mkdir()
                else:
                    target.symlink_to(name)
        check_images(folder, "folders of images")


@examples(100)
@given(TEXTS)
def test_any_path_of_images(path):
    assume("\0" not in path)  # the schema keeps it out
    with refused("paths"):
        images.load(Path(f"/nowhere/x{path}/x{path}"), 8, 3, LIMIT)


@examples(100)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=5), st.one_of(st.integers(1, 150), st.integers(1, 10**18)))
def test_any_count_of_validation_images(sizes, count):
    from lipscale.data.prepare import take

    labels = np.repeat(np.arange(len(sizes)), sizes)
    with refused("splits") as said:
        rest, taken = take(sources.Split(np.zeros((len(labels), 1, 1, 1)), labels), count, np.random.default_rng(0), "key")
        assert len(taken.labels) == count
        assert np.bincount(rest.labels, minlength=len(sizes)).min() > 0
    assert bool(said) or count < len(labels)


# --- models and prepared data ---


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    network = build_network(configs.check(CONVNET)["network"], (1, 8, 8), 10, [0.5], 3.0)
    export.save(export.export(network, (1, 8, 8)), path)
    return path


def check_model(path: Path) -> None:
    with refused("models") as said:
        network = export.load(path)
    if not said:
        with refused("certificates"):
            assert certificate(network).lipschitz_certified >= 0
        logits = network(torch.zeros(2, *network.image_shape))
        assert len(logits) == 2
        assert network.lipschitz >= 0


@examples(400)
@given(st.data())
def test_damaged_model(model, tmp_path, data):
    whole, path = model.read_bytes(), tmp_path / "model.safetensors"
    header = 8 + int.from_bytes(whole[:8], "little")
    text = data.draw(st.booleans())  # damage to the description, or anywhere
    path.write_bytes(data.draw(broken(whole[:header])) + whole[header:] if text else data.draw(broken(whole)))
    check_model(path)


@examples(400)
@given(st.data())
def test_mutated_description_of_a_model(model, tmp_path, data):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(model, "pt") as file:
        description = json.loads(file.metadata()["network"])
    changed = data.draw(mutated([description]))
    try:
        text = json.dumps(changed)
    except (ValueError, TypeError, RecursionError):  # what is no JSON
        assume(False)
    assume(len(text) < 10**6)
    save_file(load_file(model), tmp_path / "model.safetensors", {"network": text})
    check_model(tmp_path / "model.safetensors")


def check_data(folder: Path) -> None:
    for name in ("arrays.npz", "manifest.json"):  # or the seals would refuse all of them, and nothing would be parsed
        seal(folder / name)
    with refused("prepared data") as said:
        dataset = Dataset(folder)
        for split in SPLITS:
            assert dataset.images(split).shape == (len(dataset.labels(split)), *dataset.image_shape)
    if not said:
        assert len(dataset.mean) == dataset.image_shape[0]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Prepared data that are small enough to be written again and again."""
    from lipscale.data.prepare import prepare

    folder = tmp_path_factory.mktemp("prepared")
    section = {
        "name": "imagefolder",
        "path": str(write_folder(folder / "images", tree())),
        "validation_images": 2,
        "image_size": 2,
    }
    prepare(configs.check_dataset(section), folder)
    return folder


@examples(300)
@given(st.data())
def test_damaged_data(prepared, tmp_path, data):
    shutil.copy(prepared / "manifest.json", tmp_path)
    (tmp_path / "arrays.npz").write_bytes(data.draw(broken((prepared / "arrays.npz").read_bytes())))
    check_data(tmp_path)


@examples(300)
@given(st.data())
def test_damaged_manifest(prepared, tmp_path, data):
    shutil.copy(prepared / "arrays.npz", tmp_path)
    whole = (prepared / "manifest.json").read_bytes()
    if data.draw(st.booleans()):
        content = data.draw(broken(whole))
    else:
        try:
            content = json.dumps(data.draw(mutated([json.loads(whole)]))).encode()
        except (ValueError, TypeError, RecursionError):
            assume(False)
    (tmp_path / "manifest.json").write_bytes(content)
    check_data(tmp_path)
