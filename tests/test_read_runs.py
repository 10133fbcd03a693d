import os
from pathlib import Path

from support import files, read_runs, tables
from support.locks import unlock
from support.read_runs import MAX_ARRAY_BYTES, Record
from support.run import HISTORY_COLUMNS, Run

import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path):
    """A finished run of two epochs of 1,000 images, 50 at a time, 2 s each."""
    files.write_json(tmp_path / "config.json", {"batch_size": 50})
    results = {"status": "finished", "num_train": 1001, "test_acc": 0.875}
    files.write_json(tmp_path / "results.json", results)
    rows = [dict.fromkeys(HISTORY_COLUMNS, 0.5) | {"epoch": e, "seconds": 2} for e in (1, 2)]
    tables.write_table(tmp_path / "history.csv", HISTORY_COLUMNS, rows)
    files.write_arrays(tmp_path / "model.npz", {"0.conv1.weights": np.ones((2, 25))})
    return tmp_path


def arrays_of(run):
    return run.read("model.npz", files.read_arrays, {}, MAX_ARRAY_BYTES)


def test_a_run_is_read(folder):
    run = Record(folder)
    assert (run.state, run.num_epochs, run.test_acc, run.seconds) == ("finished", 2, 0.875, 4)
    assert run.milliseconds_a_step == 1000 * 4 / (2 * 21)
    assert run.history["epoch"] == [1, 2]
    assert run.epochs[1] == dict.fromkeys(HISTORY_COLUMNS, 0.5) | {"epoch": 2, "seconds": 2}
    assert arrays_of(run)["0.conv1.weights"].shape == (2, 25)
    assert run.problems == []


@pytest.mark.parametrize("wrong", [-1, 0, 1e300, 1e-320, 10**300, 10**15, True, None, "50", [50]])
@pytest.mark.parametrize("key", ["num_train", "batch_size"])
def test_a_number_of_images_that_cannot_be_gives_no_time(folder, key, wrong):
    name = "results.json" if key == "num_train" else "config.json"
    files.write_json(folder / name, files.read_json(folder / name) | {key: wrong})
    assert Record(folder).milliseconds_a_step is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_opened(tmp_path, make):
    names = ("config.json", "results.json", "history.csv", "model.npz")
    for name in names:
        make(tmp_path / name)
    run = Record(tmp_path)
    assert arrays_of(run) == {}
    assert len(run.problems) == len(names)
    assert all("cannot be read: it is not a file" in problem for problem in run.problems)


def test_a_file_that_is_far_too_large_is_not_read(folder):
    for name in ("results.json", "history.csv", "model.npz"):
        os.truncate(folder / name, 300_000_000)  # takes no room
    run = Record(folder)
    assert arrays_of(run) == {}
    assert len(run.problems) == 3
    assert all("300,000,000 bytes, expected at most" in problem for problem in run.problems)


def test_a_table_of_far_too_many_rows_is_not_shown(folder):
    tables.write_table(folder / "worst_20.csv", ["true"], [{"true": "cat"}] * 1_001)
    run = Record(folder)
    assert run.rows("worst_20.csv") == []
    assert "1,001 rows, expected at most 1,000" in run.problems[-1]


def test_names_are_sorted_with_their_numbers_as_numbers(tmp_path, monkeypatch):
    for epoch in (100, 99, 9, 10, 0):
        (tmp_path / f"epoch_{epoch:02d}_step_000001.png").touch()
    (tmp_path / "epoch_\u0663_step_1.png").touch()  # a digit, too
    names = [path.name for path in Record(tmp_path).paths("epoch_*_step_000001.png")]
    assert names == [f"epoch_{epoch:02d}_step_000001.png" for epoch in (0, 9, 10, 99, 100)]

    def moved(*args):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "glob", moved)
    assert Record(tmp_path).paths("*") == []


def test_what_only_the_page_needs_is_found_in_its_folder_and_where_it_once_was(folder):
    rows = [{"name": "conv1", "output": "16"}]
    tables.write_table(folder / "network.csv", ["name", "output"], rows)
    assert Record(folder).rows("network.csv", ("name",)) == rows
    rows = [{"name": "conv1", "output": "32"}]
    tables.write_table(folder / "page" / "network.csv", ["name", "output"], rows)
    assert Record(folder).rows("network.csv", ("name",)) == rows
    (folder / "page" / "network.csv").write_text("name")
    damaged = Record(folder)
    assert damaged.rows("network.csv", ("output",)) == []
    assert damaged.problems


@pytest.mark.parametrize("name", ["missing", "file", "empty"])
def test_what_is_not_there_is_empty_and_no_problem(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    run = Record(tmp_path / name)
    assert (run.results, run.config, run.history, run.epochs) == ({}, {}, {}, [])
    assert (run.test_acc, run.milliseconds_a_step, run.seconds) == (None, None, 0)
    assert (arrays_of(run), run.rows("losses.csv", ("epoch",))) == ({}, [])
    assert run.problems == []
    assert run.state == ("damaged" if name == "empty" else "missing")


@pytest.mark.parametrize("name", ["config.json", "results.json", "history.csv", "model.npz"])
def test_a_damaged_file_is_a_sentence_and_the_rest_is_read(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-5] + b'"\xff')
    run = Record(folder)
    empty = {
        "config.json": run.config,
        "results.json": run.results,
        "history.csv": run.history,
        "model.npz": arrays_of(run),
    }
    assert [key for key, value in empty.items() if not value] == [name]
    [problem] = run.problems
    assert problem.startswith(f"{folder.name}/{name} cannot be read: ")
    assert "\n" not in problem


def test_a_run_that_says_it_goes_on_and_holds_no_lock_was_killed(tmp_path):
    run = Run.start(tmp_path / "train", {"epochs": 1})
    assert Record(tmp_path / "train").state == "running"
    unlock(run.folder)
    assert Record(tmp_path / "train").state == "killed"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1), ("12", 12), ("0.5", 0.5), ("nan", None), ("x", None), (None, None), (True, None),
     (10**400, None), ([], None), (float("inf"), None), (1e15, None), ("-1e300", None), (-5, -5)],
)  # fmt: skip
def test_as_number(value, expected):
    assert read_runs.as_number(value) == expected


def test_only_what_makes_a_comparison_unfair_is_a_difference():
    ours = {"seed": 0, "num_train": 1000, "epochs": 8, "threads": 1}
    theirs = {"seed": 1, "num_train": 500, "epochs": 8, "threads": 2, "batch_size": 50}
    assert read_runs.differences(ours, theirs) == ["num train 1000 and 500", "seed 0 and 1"]


@pytest.mark.parametrize("place", ["", "page/"])
def test_a_damaged_file_is_named_with_the_folder_it_lies_in(folder, place):
    path = folder / place / "network.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\xff")
    run = Record(folder)
    assert run.rows("network.csv") == []
    assert run.problems[0].startswith(f"{folder.name}/{place}network.csv cannot be read: ")
