import csv
import json
import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest

import runs


@dataclass(kw_only=True)
class Config(runs.CommonConfig):
    dataset: str = runs.option("auto", "which data", choices=("auto", "synthetic"))
    rates: list = runs.option(lambda: [0.5, 1.5], "some rates", minimum=0)


def params():
    return {"0.fc.weights": np.arange(6.0).reshape(2, 3), "0.fc.bias": np.zeros(2)}


ROW = dict.fromkeys(runs.HISTORY_COLUMNS, 0.1) | {"epoch": 1, "note": "kept, but no column"}


# --- options ------------------------------------------------------------------------------------


def test_parse(monkeypatch):
    monkeypatch.setenv("SAVE_DIR", "/tmp/saved")
    monkeypatch.delenv("DATA_DIR", raising=False)
    config = runs.parse(Config, ["--epochs", "3", "--rates", "1", "2", "--resume"], "words")
    assert (config.epochs, config.rates, config.resume) == (3, [1.0, 2.0], True)
    assert config.save_dir == "/tmp/saved"
    assert config.data_dir == str(runs.HERE / "datasets")
    assert config.batch_size == 50
    assert config.train_size is None


def test_help_shows_the_defaults(capsys):
    with pytest.raises(SystemExit) as stop:
        runs.parse(Config, ["--help"], "words")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "[50]" in text
    assert "[0.5 1.5]" in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--epochs", "0"], "--epochs: expected a number of at least 1, got 0"),
        (["--batch-size", "0"], "--batch-size: expected a number of at least 1, got 0"),
        (["--batch-size", "x"], "invalid int value: 'x'"),
        (["--lr-scale", "nan"], "--lr-scale: expected a number of at least 0.0, got nan"),
        (["--rates", "1", "-1"], "--rates: expected a number of at least 0, got -1.0"),
        (["--dataset", "cifar"], "--dataset: expected one of auto, synthetic, got 'cifar'"),
        (["--epoch", "3"], "unrecognized arguments: --epoch"),
    ],
)
def test_bad_options_end_with_one_line(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        runs.parse(Config, argv, "words")
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_available_threads_are_some():
    assert 1 <= runs.available_threads() <= (os.cpu_count() or 1)


def test_one_line_errors(capsys):
    with pytest.raises(SystemExit) as stop, runs.one_line_errors(KeyError):
        raise OSError("no\nspace")
    assert "error: no space" in stop.value.code
    with pytest.raises(SystemExit) as stop, runs.one_line_errors():
        raise runs.Interrupted(signal.SIGTERM, "stopped")
    assert stop.value.code == 143
    with pytest.raises(ZeroDivisionError), runs.one_line_errors():
        _ = 1 / 0


# --- files --------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    runs.write_whole(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        runs.write_whole(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


# --- the run's folder ---------------------------------------------------------------------------


def test_a_new_run_moves_the_earlier_one_aside(tmp_path):
    for number in range(3):
        run = runs.Run.start(tmp_path / "train", {"seed": number})
        run.finish_epoch(ROW, params(), runs.Position(epoch=2))
    seeds = {
        path.name: json.loads((path / "config.json").read_text())["seed"]
        for path in tmp_path.iterdir()
    }
    assert seeds == {"train": 2, "train.2": 1, "train.1": 0}
    with (tmp_path / "train" / "history.csv").open() as file:
        assert list(csv.DictReader(file)) == [{key: str(ROW[key]) for key in runs.HISTORY_COLUMNS}]


def test_a_folder_that_holds_no_run_stays_where_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    runs.Run.start(tmp_path)
    assert (tmp_path / "notes.txt").exists()


def test_restore(tmp_path):
    run = runs.Run.start(tmp_path / "run", {"seed": 1})
    assert run.restore(params()) == runs.Position()
    position = runs.Position(epoch=2, step=7, num_seen=350, num_correct=300, loss_sum=0.1 + 0.2)
    run.finish_epoch(ROW, params(), position)
    resumed = runs.Run.start(tmp_path / "run", {"seed": 1}, resume=True)
    restored = {name: np.zeros_like(array) for name, array in params().items()}
    arrays = list(restored.values())
    assert resumed.restore(restored) == position
    assert resumed.history == [ROW]
    for array, expected in zip(arrays, params().values(), strict=True):
        assert np.array_equal(array, expected)  # changed in place


def test_resume_where_there_is_nothing_begins(tmp_path):
    run = runs.Run.start(tmp_path / "run", {"seed": 1}, resume=True)
    assert not run.resuming
    assert run.restore(params()) == runs.Position()


def test_resume_after_a_kill_before_the_first_checkpoint(tmp_path):
    runs.Run.start(tmp_path / "run", {"seed": 1})
    run = runs.Run.start(tmp_path / "run", {"seed": 1}, resume=True)
    assert run.restore(params()) == runs.Position()


def test_resume_refuses_other_options_and_data_by_name(tmp_path):
    options = {"seed": 1, "epochs": 2, "threads": 1}
    runs.Run.start(tmp_path / "run", options, dataset="mnist", provenance="official")
    with pytest.raises(runs.RunError, match="another --seed: it was 1, now it is 2"):
        runs.Run.start(tmp_path / "run", {**options, "seed": 2}, resume=True)
    with pytest.raises(runs.RunError, match="provenance was official, now it is generated"):
        runs.Run.start(tmp_path / "run", options, True, dataset="mnist", provenance="generated")
    more = {**options, "epochs": 3}
    runs.Run.start(tmp_path / "run", more, True, dataset="mnist", provenance="official")


def test_a_finished_run_says_so(tmp_path, capsys):
    run = runs.Run.start(tmp_path / "run", {"epochs": 2})
    run.write_results(status="finished", epochs=2)
    assert runs.Run.start(tmp_path / "run", {"epochs": 2}, resume=True).is_finished
    assert "nothing to resume" in capsys.readouterr().out
    assert not runs.Run.start(tmp_path / "run", {"epochs": 3}, resume=True).is_finished


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "pickle"])
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, damage):
    run = runs.Run.start(tmp_path / "run")
    run.save_checkpoint(params(), runs.Position())
    path = tmp_path / "run" / "checkpoint.npz"
    content = {"cut": path.read_bytes()[:-100], "garbage": b"garbage", "empty": b""}
    if damage == "pickle":
        np.savez(path, state=np.array([{}], dtype=object))
    else:
        path.write_bytes(content[damage])
    with pytest.raises(runs.RunError, match=r"checkpoint\.npz is damaged"):
        runs.Run.start(tmp_path / "run", resume=True).restore(params())


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    run = runs.Run.start(tmp_path / "run")
    run.save_checkpoint(params(), runs.Position())
    other = {**params(), "0.fc.bias": np.zeros(3)}
    with pytest.raises(runs.RunError, match=r"of another network: .*0\.fc\.bias"):
        runs.Run.start(tmp_path / "run", resume=True).restore(other)


def test_weights_that_are_not_finite_do_not_replace_a_checkpoint(tmp_path):
    run = runs.Run.start(tmp_path / "run")
    run.save_checkpoint(params(), runs.Position())
    before = (tmp_path / "run" / "checkpoint.npz").read_bytes()
    with pytest.raises(runs.Diverged, match=r"0\.fc\.bias is not finite"):
        run.save_checkpoint({**params(), "0.fc.bias": np.array([np.inf, 0])}, runs.Position())
    assert (tmp_path / "run" / "checkpoint.npz").read_bytes() == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_at_the_end_of_the_step(tmp_path, signum):
    run = runs.Run.start(tmp_path / "run")
    position = runs.Position(epoch=3, step=5)
    handler = signal.getsignal(signum)
    with pytest.raises(runs.Interrupted) as stop, run.recording():
        run.stop_if_asked(params(), position)
        os.kill(os.getpid(), signum)
        run.stop_if_asked(params(), position)
    assert stop.value.signum == signum
    assert signal.getsignal(signum) is handler
    assert json.loads((tmp_path / "run" / "results.json").read_text())["status"] == "interrupted"
    resumed = runs.Run.start(tmp_path / "run", resume=True)
    assert resumed.restore(params()) == position


def test_a_second_signal_stops_at_once(tmp_path):
    run = runs.Run.start(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), run.recording():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert run.results["status"] == "interrupted"


def test_progress_is_plain_without_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runs, "PLAIN_LINE_SECONDS", 0)
    run = runs.Run.start(tmp_path / "run")
    position = runs.Position(step=2, num_seen=4, loss_sum=2.0)
    assert list(run.progress(position, 5, "epoch 1/1")) == [2, 3, 4]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("epoch 1/1: step 3/5, loss 0.5000, ")
