import os

from support import files

import numpy as np
import pytest


def test_a_failed_write_leaves_the_older_file_and_says_which(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_whole(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        files.write_whole(path, "new")
    assert error.value.filename == str(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_body_that_fails_leaves_the_older_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.whole(path) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_names_that_are_no_text_are_read_back_as_they_were(tmp_path):
    values = {"č": "b\udcff \\udcff"}
    files.write_json(tmp_path / "file", values)
    assert files.read_json(tmp_path / "file") == values
    assert "č" in (tmp_path / "file").read_text(encoding="utf-8")


def test_arrays_are_read_back_and_none_is_unpickled(tmp_path):
    path = tmp_path / "arrays.npz"
    files.write_arrays(path, {"0.conv1.weights": np.arange(3.0)})
    assert files.read_arrays(path)["0.conv1.weights"].tolist() == [0, 1, 2]
    files.write_arrays(path, {"evil": np.array([print], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        files.read_arrays(path)


@pytest.mark.parametrize("content", ["[1]", "{", "", "\udcff", "[" * 100_000])
def test_a_damaged_object_is_an_error_that_readers_know(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(files.DAMAGE):
        files.read_json(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip file", b"\x93NUMPY no array"])
def test_damaged_arrays_are_an_error_that_readers_know(tmp_path, content):
    path = tmp_path / "arrays.npz"
    path.write_bytes(content)
    with pytest.raises(files.DAMAGE):
        files.read_arrays(path)
