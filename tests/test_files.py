import os
import stat
import sys
import time
from pathlib import Path

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


def test_two_writers_of_a_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "file"
    with files.whole(path) as ours:
        ours.write_text("ours")
        with files.whole(path) as theirs:
            theirs.write_text("theirs, longer")
        assert path.read_text() == "theirs, longer"
    assert path.read_text() == "ours"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be flushed there")
def test_a_file_is_flushed_before_it_is_renamed_and_its_folder_after_that(tmp_path, monkeypatch):
    path, flushed = tmp_path / "file", []

    def watched(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        flushed.append(("folder" if is_folder else "file", path.exists()))

    monkeypatch.setattr(os, "fsync", watched)
    files.write_whole(path, "content")
    assert flushed == [("file", False), ("folder", True)]


def test_the_file_that_is_there_is_kept_once_the_new_one_is_whole(tmp_path, monkeypatch):
    path, previous = tmp_path / "file", tmp_path / "previous"
    files.write_whole(path, "1", keep=previous)
    assert not previous.exists()
    files.write_whole(path, "2", keep=previous)
    assert (path.read_text(), previous.read_text()) == ("2", "1")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_whole(path, "3", keep=previous)
    assert (path.read_text(), previous.read_text()) == ("2", "1")


def test_a_file_that_is_being_read_on_windows_is_waited_for(tmp_path, monkeypatch):
    path, replace, refused = tmp_path / "file", Path.replace, []

    def refusing(temporary, target):
        if len(refused) < 2:
            refused.append(target)
            raise PermissionError(13, "Access is denied")
        return replace(temporary, target)

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(Path, "replace", refusing)
    files.write_whole(path, "content")
    assert path.read_text() == "content"
    assert len(refused) == 2


def test_an_error_names_the_file_and_not_its_first_name(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        files.write_whole(tmp_path / "missing" / "file", "content")
    assert error.value.filename == str(tmp_path / "missing" / "file")


def test_what_a_killed_writer_left_is_removed(tmp_path):
    (tmp_path / "file").write_text("whole")
    with files.whole(tmp_path / "file") as temporary:
        temporary.write_text("half")
        left = temporary.rename(temporary.with_name(temporary.name.replace("file", "left")))
        temporary.write_text("new")
    assert left.exists()
    files.remove_parts(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_whatever_is_wrong_in_an_array_file_is_one_kind_of_error(tmp_path, rng):
    path = tmp_path / "arrays.npz"
    files.write_arrays(path, {"weights": np.arange(6.0), "notes": np.array("text")})
    content = path.read_bytes()
    errors = []
    for _ in range(300):
        mutated = bytearray(content)
        for place in rng.integers(len(content), size=3):
            mutated[place] ^= 1 << rng.integers(8)
        path.write_bytes(mutated[: rng.integers(len(content))] if rng.random() < 0.1 else mutated)
        try:
            files.read_arrays(path)
        except ValueError as error:
            errors.append(str(error))
    assert len(errors) > 100
    assert not any("\n" in error for error in errors)
