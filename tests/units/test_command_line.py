"""What the command line refuses before any work: names of files, numbers out of range, folders that are missing."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import synthetic
from lipscale import cli
from lipscale.certification.model_file import save


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A network and unlabelled images for it in the current folder."""
    monkeypatch.chdir(tmp_path)
    save(synthetic.network(), "model.safetensors")
    np.savez("images.npz", images=synthetic.images(6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "-3"], "the number of images is -3; allowed: 1 or more"),
        (["--batch-size", "0"], "the batch size is 0; allowed: 1 or more"),
        (["--seed", "-1"], "the seed is -1; allowed: 0 or more"),
        (["--threads", "0"], "--threads is 0; allowed: 1 or more"),
        (["--output", "."], "--output is '.', which names no file"),
    ],
)
def test_options_out_of_range_are_named(files, arguments, message, capsys):
    assert cli.main(["falsify", "model.safetensors", "--data", "images.npz", *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "model.safetensors"], "--output is model.safetensors, which is MODEL too"),
        (["--certificate", "images.npz"], "--certificate is images.npz, which is IMAGES too"),
        (["--output", "same", "--certificate", "./same"], "--certificate is same, which is --output too"),
        (["--output", "."], "--output is '.', which is no file"),
    ],
)
def test_certify_overwrites_none_of_its_files(files, arguments, message, capsys):
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    assert cli.main(["certify", "model.safetensors", "images.npz", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


def test_falsify_overwrites_none_of_its_files(files, capsys):
    shutil.copy("images.npz", "images.csv")
    assert cli.main(["falsify", "model.safetensors", "--data", "images.csv", "--output", "images"]) == 1
    assert "the .csv file is images.csv, which is --data too" in capsys.readouterr().err
    assert Path("images.csv").read_bytes() == Path("images.npz").read_bytes()


@pytest.mark.parametrize("step", ["evaluate", "attack", "claims", "draw", "summarise", "tabulate"])
def test_a_folder_that_is_missing_is_named_and_not_created(files, step, capsys):
    with pytest.raises(SystemExit):
        cli.main([step, "nothing/here"])
    assert "there is no folder 'nothing/here'" in capsys.readouterr().err
    assert not Path("nothing").exists()


def test_a_folder_without_data_is_named(files, capsys):
    assert cli.main(["certify", "model.safetensors", "."]) == 1
    assert ". is no prepared data set; allowed: what `lipscale prepare` wrote" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"text", "it is no whole .npz file"), (None, "holds no images (the array has the shape (0, 1, 8, 8))")],
)
def test_files_without_images_are_named(files, content, message, capsys):
    if content is None:
        np.savez("images.npz", images=np.zeros((0, 1, 8, 8), np.uint8))
    else:
        Path("images.npz").write_bytes(content)
    assert cli.main(["certify", "model.safetensors", "images.npz"]) == 1
    assert message in capsys.readouterr().err
