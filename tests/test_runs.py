import csv
import errno
import io
import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace

from support import files, progress, surroundings
from support.checkpoints import Position, sealed
from support.errors import Diverged, Interrupted, RunError, one_line_errors
from support.facts import digest, fingerprint
from support.folders import claim
from support.locks import is_in_use, unlock
from support.options import (
    CommonConfig,
    available_threads,
    one_option,
    option,
    other_default,
    parse,
)
from support.run import HISTORY_COLUMNS, Run
from support.signals import STOPPING
from support.start import ROOT

import numpy as np
import pytest


@dataclass(kw_only=True)
class Config(CommonConfig):
    dataset: str = option("auto", "which data", choices=("auto", "synthetic"))
    rates: list = option(lambda: [0.5, 1.5], "some rates", minimum=0)


def params():
    return {"0.fc.weights": np.arange(6.0).reshape(2, 3), "0.fc.bias": np.zeros(2)}


ROW = dict.fromkeys(HISTORY_COLUMNS, 0.1) | {"epoch": 1, "note": "kept, but no column"}


# --- options ------------------------------------------------------------------------------------


def test_parse(monkeypatch):
    monkeypatch.setenv("SAVE_DIR", "/tmp/saved")
    monkeypatch.delenv("DATA_DIR", raising=False)
    config = parse(Config, ["--epochs", "3", "--rates", "1", "2", "--resume"], "words")
    assert (config.epochs, config.rates, config.resume) == (3, [1.0, 2.0], True)
    assert config.save_dir == "/tmp/saved"
    assert config.data_dir == str(ROOT / "datasets")
    assert config.batch_size == 50
    assert config.train_size is None


def test_help_shows_the_defaults(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(Config, ["--help"], "words")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "[50]" in text
    assert "[0.5 1.5]" in text
    assert "order of the images [0]" in " ".join(text.split())
    assert "[None]" not in text
    assert "[False]" not in text


def test_a_config_with_another_default_has_the_same_bounds():
    @dataclass(kw_only=True)
    class Longer(Config):
        epochs: int = other_default(Config, "epochs", 70)

    assert Longer().epochs == 70
    with pytest.raises(RunError, match="at least 1, got 0"):
        Longer(epochs=0)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--epochs", "0"], "--epochs: expected a number of at least 1, got 0"),
        (["--batch-size", "0"], "--batch-size: expected a number of at least 1, got 0"),
        (["--batch-size", "x"], "invalid int value: 'x'"),
        (["--lr-scale", "nan"], "--lr-scale: expected a number of at least 0.0, got nan"),
        (["--rates", "1", "-1"], "--rates: expected a number of at least 0, got -1.0"),
        (["--dataset", "cifar"], "--dataset: expected one of auto, synthetic, got 'cifar'"),
        (["--rates", "1", "inf"], "--rates: expected a finite number, got inf"),
        (["--threads", "100000"], f"expected a number of at most {surroundings.MAX_THREADS}, got"),
        (["--seed", "-1"], "--seed: expected a number of at least 0, got -1"),
        (["--seed", str(2**32)], f"--seed: expected a number of at most {2**32 - 1}, got"),
        (["--epoch", "3"], "unrecognized arguments: --epoch 3; did you mean --epochs?"),
        (["--batch_size=3"], "unrecognized arguments: --batch_size=3; did you mean --batch-size?"),
        (["--check", "1"], "unrecognized arguments: --check 1; did you mean --checkpoint-minutes?"),
        (["seed=3"], "unrecognized arguments: seed=3; did you mean --seed?"),
        (["--dataset", "syntetic"], "got 'syntetic'; did you mean synthetic?"),
        (["--zzz"], "unrecognized arguments: --zzz (--help"),
        (["--save-dir", ""], "--save-dir: expected a folder, got an empty name"),
    ],
)
def test_bad_options_end_with_one_line(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(Config, argv, "words")
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


# --- options of a run that is resumed -----------------------------------------------------------


def begun(save_dir, *argv, script="train"):
    """Parse options as a script does, and begin its run."""
    config = parse(Config, ["--save-dir", str(save_dir), *argv], "words", script)
    run = Run.start(save_dir / script, asdict(config), config.resume)
    run.restore_arrays(params())
    unlock(run.folder)
    return config


def test_resume_takes_the_options_of_the_run(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    first = begun(tmp_path, "--seed", "3", "--rates", "1", "2", "--data-dir", str(tmp_path / "d"))
    again = begun(tmp_path, "--resume", "--epochs", "9")
    assert again == replace(first, resume=True, epochs=9)
    assert begun(tmp_path, "--resume") == again  # of the run as it is now
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert begun(tmp_path, "--resume").data_dir == str(tmp_path)
    moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name} moved"))
    assert begun(moved, "--resume") == replace(again, save_dir=str(moved), data_dir=str(tmp_path))


def test_without_resume_or_a_run_the_defaults_hold(tmp_path):
    begun(tmp_path, "--seed", "3")
    assert begun(tmp_path, script="other").seed == 0
    assert begun(tmp_path, "--resume", script="a third").seed == 0
    assert begun(tmp_path).seed == 0


def test_an_option_that_decides_on_the_others_is_resumed_too(tmp_path):
    begun(tmp_path, "--dataset", "synthetic")
    argv = ["--save-dir", str(tmp_path)]
    assert one_option(argv, "dataset", "auto", "train") == "auto"
    assert one_option([*argv, "--resume"], "dataset", "auto", "train") == "synthetic"
    argv += ["--resume", "--dataset", "auto"]
    assert one_option(argv, "dataset", "auto", "train") == "auto"


def test_other_options_are_refused_with_the_line_to_type(tmp_path, monkeypatch):
    begun(tmp_path, "--seed", "3")
    argv = ["--resume", "--seed=4", "--rates", "7", "8", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["train.py", *argv])
    with pytest.raises(RunError) as error:
        begun(tmp_path, *argv)
    assert str(error.value).endswith(
        "another --seed: it was 3, now it is 4, another --rates: it was [0.5, 1.5], now it is "
        "[7.0, 8.0]; with the options that it had: python3 train.py --resume --threads 1"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "config.json cannot be read or is damaged"),
        ("[1]", "config.json cannot be read or is damaged: it holds no object"),
        ('{"seed": -3}', "--seed: expected a number of at least 0, got -3"),
        ('{"seed": "three"}', "config.json is damaged: it says --seed three"),
        ('{"seed": 1.5}', "config.json is damaged: it says --seed 1.5"),
        ('{"seed": true}', "config.json is damaged: it says --seed True"),
        ('{"train_size": "all"}', "config.json is damaged: it says --train-size all"),
        ('{"rates": 1}', "config.json is damaged: it says --rates 1"),
        ('{"rates": []}', "config.json is damaged: it says --rates []"),
        ('{"data_dir": null}', "config.json is damaged: it says --data-dir None"),
        ('{"dataset": {}}', "config.json is damaged: it says --dataset {}"),
        ("[" * 100_000, "config.json cannot be read or is damaged: it is nested too deep"),
    ],
)
def test_a_damaged_config_is_told_in_one_line(tmp_path, content, message, capsys):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "config.json").write_text(content)
    with pytest.raises(SystemExit) as stop:
        argv = ["--resume", "--save-dir", str(tmp_path)]
        one_option(argv, "dataset", "auto", "train")
        parse(Config, argv, "words", "train")
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_several_runs_in_a_folder_are_resumed_with_their_options(tmp_path, capsys):
    folder, options = tmp_path / "several", {"seed": 1, "epochs": 2, "rates": [1]}
    claim(folder, options, resume=False)
    with pytest.raises(RunError, match="another --seed: it was 1, now it is 2"):
        claim(folder, {**options, "seed": 2}, resume=True)
    with pytest.raises(RunError, match="another --epochs: it was 2, now it is 3"):
        claim(folder, {**options, "epochs": 3}, True, fixed=("epochs",))
    assert json.loads((folder / "config.json").read_text()) == options
    claim(folder, {**options, "rates": [1, 2]}, True, free=("rates",))
    assert json.loads((folder / "config.json").read_text())["rates"] == [1, 2]
    assert capsys.readouterr().out == ""
    claim(folder, options, resume=False)
    assert f"the earlier runs are kept in {folder}.1" in capsys.readouterr().out


def test_available_threads_are_some():
    assert 1 <= available_threads() <= (os.cpu_count() or 1)


def test_one_line_errors(capsys):
    with pytest.raises(SystemExit) as stop, one_line_errors(KeyError):
        raise OSError("no\nspace")
    assert "error: no space" in stop.value.code
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise Interrupted(signal.SIGTERM, "stopped")
    assert stop.value.code == 143
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise MemoryError("3 GiB")
    assert "not enough memory: 3 GiB; a smaller --batch-size needs less" in stop.value.code
    with pytest.raises(ZeroDivisionError), one_line_errors():
        _ = 1 / 0


def test_the_last_words_need_no_terminal(monkeypatch):
    class Gone(io.StringIO):
        def write(self, _text):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise Interrupted(1, "the terminal was closed")
    assert stop.value.code == 129


# --- the run's folder ---------------------------------------------------------------------------


def test_a_new_run_moves_the_earlier_one_aside(tmp_path):
    for number in range(3):
        run = Run.start(tmp_path / "train", {"seed": number})
        run.restore_arrays(params())
        end_epoch(run)
    seeds = {
        path.name: json.loads((path / "config.json").read_text())["seed"]
        for path in tmp_path.glob("train*")
    }
    assert seeds == {"train": 2, "train.2": 1, "train.1": 0}
    with (tmp_path / "train" / "history.csv").open() as file:
        assert list(csv.DictReader(file)) == [{key: str(ROW[key]) for key in HISTORY_COLUMNS}]


def test_a_folder_that_holds_no_run_stays_where_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    Run.start(tmp_path)
    assert (tmp_path / "notes.txt").exists()


def end_epoch(run):
    run.position.num_seen = 1
    run.end_epoch(lambda: ROW)
    run.writer.wait()


def saved_run(folder, position=None):
    """A run with a checkpoint."""
    run = Run.start(folder, {"seed": 1})
    run.restore_arrays(params())
    run.position = position or Position()
    run.save_checkpoint()
    unlock(folder)
    return run


def resumed(folder, arrays):
    run = Run.start(folder, {"seed": 1}, resume=True)
    run.restore_arrays(arrays)
    return run


def test_restore(tmp_path):
    position = Position(epoch=2, step=7, num_seen=350, num_correct=300, loss_sum=0.1 + 0.2)
    run = saved_run(tmp_path / "run", Position(epoch=1))
    end_epoch(run)
    run.position = position
    run.save_checkpoint()
    restored = {name: np.zeros_like(array) for name, array in params().items()}
    arrays = list(restored.values())
    again = resumed(tmp_path / "run", restored)
    assert again.position == position
    assert again.history == [ROW]
    for array, expected in zip(arrays, params().values(), strict=True):
        assert np.array_equal(array, expected)  # changed in place


def test_resume_where_there_is_nothing_says_so_and_begins(tmp_path, capsys):
    assert resumed(tmp_path / "run", params()).position == Position()
    expected = f"{tmp_path / 'run'} holds no run that could be resumed: a new one begins\n"
    assert capsys.readouterr().out == expected


def test_resume_after_a_kill_before_the_first_checkpoint(tmp_path):
    Run.start(tmp_path / "run", {"seed": 1})
    assert resumed(tmp_path / "run", params()).position == Position()


def test_resume_refuses_a_run_with_an_option_that_is_gone(tmp_path):
    options = {"seed": 1, "teacher": "out/strong", "batch_norm": False}
    with Run.start(tmp_path / "run", options):
        pass
    with pytest.raises(RunError, match="there is no --teacher out/strong any more"):
        Run.start(tmp_path / "run", {"seed": 1}, resume=True)


def test_resume_refuses_other_options_and_data_by_name(tmp_path):
    options = {"seed": 1, "epochs": 2, "threads": 1}
    Run.start(tmp_path / "run", options, dataset="mnist", provenance="official")
    with pytest.raises(RunError, match="another --epochs: it was 2, now it is 3"):
        Run.start(tmp_path / "run", {**options, "epochs": 3}, True, fixed=("epochs",))
    with pytest.raises(RunError, match="another --seed: it was 1, now it is 2"):
        Run.start(tmp_path / "run", {**options, "seed": 2}, resume=True)
    with pytest.raises(RunError, match="provenance was official, now it is generated"):
        Run.start(tmp_path / "run", options, True, dataset="mnist", provenance="generated")
    more = {**options, "epochs": 3}
    Run.start(tmp_path / "run", more, True, dataset="mnist", provenance="official")


def test_resume_warns_where_the_last_digits_may_differ(tmp_path, capsys):
    facts = {"dataset": "mnist", "threads": 2, "multiplied_in": "bfloat16"}
    Run.start(tmp_path / "run", {}, **facts)
    Run.start(tmp_path / "run", {}, True, **facts)
    assert "warning" not in capsys.readouterr().out
    Run.start(tmp_path / "run", {}, True, **{**facts, "multiplied_in": "float32"})
    out = capsys.readouterr().out
    assert "warning: multiplied in bfloat16 before, float32 now: the last digits may" in out


def test_a_finished_run_says_so(tmp_path, capsys):
    run = Run.start(tmp_path / "run", {"epochs": 2})
    run.write_results(status="finished", epochs=2)
    assert Run.start(tmp_path / "run", {"epochs": 2}, resume=True).is_finished
    assert "nothing to resume" in capsys.readouterr().out
    assert not Run.start(tmp_path / "run", {"epochs": 3}, resume=True).is_finished


def folder_content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def ended_run(folder, position, **results):
    """A run of 3 epochs that has come so far; without results, it was interrupted there."""
    run = Run.start(folder, {"epochs": 3})
    run.restore_arrays(params())
    with run:
        run.position.num_seen = 1
        run.end_epoch(lambda: ROW)
        run.position = position
        run.save_checkpoint()
        run.write_results(status="interrupted", **results)
    return run


@pytest.mark.parametrize("step", [0, 1])
def test_a_run_is_not_finished_with_fewer_epochs_than_it_has_begun(tmp_path, step):
    ended_run(tmp_path / "run", Position(epoch=3, step=step))
    before = folder_content(tmp_path / "run")
    num_begun = 3 if step else 2
    run = Run.start(tmp_path / "run", {"epochs": num_begun - 1}, resume=True)
    with pytest.raises(RunError, match=rf"with --epochs {num_begun - 1}: it is in epoch 3$"), run:
        run.restore_arrays(params())
    assert folder_content(tmp_path / "run") == before
    with Run.start(tmp_path / "run", {"epochs": num_begun}, resume=True) as run:
        run.restore_arrays(params())
    assert files.read_json(tmp_path / "run" / "config.json") == {"epochs": num_begun}


def test_a_finished_run_with_fewer_epochs_stays_as_it_is(tmp_path, capsys):
    ended_run(tmp_path / "run", Position(epoch=4), epochs=3, test_acc=0.5)
    files.write_json(tmp_path / "run" / "results.json", {"status": "finished", "epochs": 3})
    before = folder_content(tmp_path / "run")
    with Run.start(tmp_path / "run", {"epochs": 1}, resume=True) as run:
        run.restore_arrays(params())
        assert list(run.epochs(1)) == []
        run.finish(lambda: pytest.fail("tested again"))
    assert folder_content(tmp_path / "run") == before
    assert "is finished: 3 epochs; nothing to resume" in capsys.readouterr().out


def test_a_run_that_is_prolonged_forgets_what_the_test_said(tmp_path):
    ended_run(tmp_path / "run", Position(epoch=4))
    results = {"status": "finished", "epochs": 3, "test_acc": 0.5}
    files.write_json(tmp_path / "run" / "results.json", results)
    with Run.start(tmp_path / "run", {"epochs": 5}, resume=True, seed=0) as run:
        run.restore_arrays(params())
        assert files.read_json(tmp_path / "run" / "results.json") == {
            "status": "running",
            "seed": 0,
        }


@pytest.mark.parametrize("epochs", [3, 5])
def test_a_run_whose_checkpoints_are_gone_does_not_begin_anew_in_their_place(tmp_path, epochs):
    ended_run(tmp_path / "run", Position(epoch=4))
    files.write_json(tmp_path / "run" / "results.json", {"status": "finished", "epochs": 3})
    for path in (tmp_path / "run").glob("checkpoint*"):
        path.unlink()
    before = folder_content(tmp_path / "run")
    run = Run.start(tmp_path / "run", {"epochs": epochs}, resume=True)
    with pytest.raises(RunError, match="is not there any more; without --resume a new"), run:
        run.restore_arrays(params())
    assert folder_content(tmp_path / "run") == before


def test_several_runs_are_not_resumed_with_fewer_epochs(tmp_path):
    claim(tmp_path / "several", {"epochs": 3}, resume=False)
    with pytest.raises(RunError, match="with --epochs 2: it was 3, and fewer are another run"):
        claim(tmp_path / "several", {"epochs": 2}, resume=True)
    assert files.read_json(tmp_path / "several" / "config.json") == {"epochs": 3}


def test_an_error_after_the_end_leaves_a_run_finished(tmp_path):
    with pytest.raises(KeyError), Run.start(tmp_path / "run") as run:
        run.restore_arrays(params())
        run.finish()
        raise KeyError
    assert files.read_json(tmp_path / "run" / "results.json")["status"] == "finished"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read or is damaged"),
        ("[]", "it holds no object"),
        ("[" * 100_000, "it is nested too deep"),
        ('{"status": "finished"}', "does not say how many epochs"),
        ('{"status": "finished", "epochs": "3"}', "epochs is '3', expected int"),
        ('{"status": ["finished"]}', "status is"),
        ('{"test_acc": {}}', "test_acc is {}, expected float"),
        ('{"versions": 3}', "versions is 3, expected dict"),
    ],
)
def test_damaged_results_are_told_in_one_line(tmp_path, content, message):
    ended_run(tmp_path / "run", Position(epoch=3))
    (tmp_path / "run" / "results.json").write_text(content)
    with pytest.raises(RunError, match=message) as error:
        Run.start(tmp_path / "run", {"epochs": 3}, resume=True)
    assert "results.json" in str(error.value)
    assert "\n" not in str(error.value)
    assert not is_in_use(tmp_path / "run")


def test_resume_refuses_other_images_and_another_teacher(tmp_path, digits):
    facts = {"training_data": fingerprint(digits), "teacher_model": digest(b"one")}
    Run.start(tmp_path / "run", **facts)
    brighter = replace(digits, train_x=digits.train_x + np.float32(0.1))
    relabelled = replace(digits, train_y=digits.train_y[::-1])
    for other in (brighter, relabelled):
        with pytest.raises(RunError, match=r"on other data: training data was sha256 .*, now"):
            Run.start(tmp_path / "run", {}, True, **{**facts, "training_data": fingerprint(other)})
    with pytest.raises(RunError, match="teacher model was sha256"):
        Run.start(tmp_path / "run", {}, True, **{**facts, "teacher_model": digest(b"another")})
    Run.start(tmp_path / "run", {}, True, **facts)


def test_resume_warns_of_another_processor_and_other_versions_in_one_line(tmp_path, capsys):
    facts = {"processor": "old", "versions": {"numpy": "2.1", "python": "3.11"}}
    Run.start(tmp_path / "run", **facts)
    facts = {"processor": "new", "versions": {"numpy": "2.2", "python": "3.12"}}
    Run.start(tmp_path / "run", {}, True, **facts)
    assert capsys.readouterr().out == (
        "warning: processor old before, new now; numpy 2.1 before, 2.2 now: the last digits may "
        "differ from those of an uninterrupted run\n"
    )


def damage(path, how):
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[:-100])
    elif how == "flipped":
        at = content.index(np.arange(6.0).tobytes())
        path.write_bytes(content[:at] + b"x" + content[at + 1 :])
    elif how == "pickle":
        np.savez(path, notes=np.array([{}], dtype=object))
    elif how == "other weights":  # whole, but not those that the checksum was made of
        with np.load(path) as arrays:
            saved = {name: arrays[name] for name in arrays.files}
        np.savez(path, **{**saved, "param:0.fc.bias": np.ones(2)})
    else:
        path.write_bytes(how.encode())


HOW = ["cut", "flipped", "garbage", "", "pickle", "other weights"]


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, how, capsys):
    run = saved_run(tmp_path / "run", Position(epoch=3))
    run.position = Position(epoch=4)
    run.save_checkpoint()
    damage(tmp_path / "run" / "checkpoint.npz", how)
    again = resumed(tmp_path / "run", params())
    assert again.position.epoch == 3
    err = capsys.readouterr().err
    assert "checkpoint.npz is damaged" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("how", HOW)
def test_without_a_whole_checkpoint_resuming_is_refused_in_one_line(tmp_path, how):
    saved_run(tmp_path / "run")
    damage(tmp_path / "run" / "checkpoint.npz", how)
    with pytest.raises(RunError, match=r"checkpoint\.npz is damaged") as error:
        resumed(tmp_path / "run", params())
    assert "\n" not in str(error.value)


def checkpoint_of(folder, kind):
    """A run that has saved twice, in epochs 3 and 4, what it holds, and its newest checkpoint."""
    run = Run.start(folder)
    if kind == "pt":
        torch = pytest.importorskip("torch")
        parts = {"optimizer": torch.optim.SGD([torch.zeros(3)], 0.1, weight_decay=0.002)}
        run.restore_torch(**parts)
    else:
        run.restore_arrays(params())
    for epoch in (3, 4):
        run.position = Position(epoch=epoch)
        run.save_checkpoint()
    unlock(folder)
    return run, folder / f"checkpoint.{kind}"


@pytest.mark.parametrize("kind", ["npz", "pt"])
def test_a_bit_that_flips_anywhere_is_damage(tmp_path, kind, rng, capsys):
    run, path = checkpoint_of(tmp_path / "run", kind)
    content = path.read_bytes()
    for place in rng.integers(8 * len(content), size=60):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        assert run._checkpoints.restore()[0].epoch == 3
    path.write_bytes(content)
    assert run._checkpoints.restore()[0].epoch == 4


@pytest.mark.parametrize("kind", ["npz", "pt"])
@pytest.mark.parametrize("content", [b"no file of that kind", b"", b"\x80\x02K\x01."])
def test_what_cannot_be_decoded_is_damage_whatever_it_raises(tmp_path, kind, content, capsys):
    run, path = checkpoint_of(tmp_path / "run", kind)
    path.write_bytes(sealed(content))
    assert run._checkpoints.restore()[0].epoch == 3
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["npz", "pt"])
def test_checkpoints_are_files_that_numpy_and_pytorch_read(tmp_path, kind):
    _, path = checkpoint_of(tmp_path / "run", kind)
    if kind == "npz":
        assert files.read_arrays(path)["param:0.fc.weights"].tolist() == [[0, 1, 2], [3, 4, 5]]
    else:
        torch = pytest.importorskip("torch")
        saved = torch.load(path, weights_only=True)["state"]
        assert saved["optimizer"]["param_groups"][0]["weight_decay"] == 0.002


def test_a_damaged_checkpoint_does_not_take_the_place_of_a_whole_one(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    checkpoint_of(folder, "npz")
    damage(folder / "checkpoint.npz", "cut")
    run = Run.start(folder, resume=True)
    run.restore_arrays(params())
    whole = (folder / "checkpoint.previous.npz").read_bytes()

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "fsync", full)
        run.save_checkpoint()
    assert (folder / "checkpoint.previous.npz").read_bytes() == whole
    run.position = Position(epoch=5)
    run.save_checkpoint()
    assert (folder / "checkpoint.previous.npz").read_bytes() == whole
    assert run._checkpoints.restore()[0].epoch == 5
    run.save_checkpoint()
    assert (folder / "checkpoint.previous.npz").read_bytes() != whole


def test_a_checkpoint_of_older_scripts_is_refused_with_the_reason(tmp_path):
    _, path = checkpoint_of(tmp_path / "run", "npz")
    path.with_name("checkpoint.previous.npz").unlink()
    files.write_arrays(path, {"param:0.fc.weights": np.ones(3), "notes": np.array("{}")})
    with pytest.raises(RunError, match="checksum is wrong, or older scripts wrote it; without"):
        resumed(tmp_path / "run", params())


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    saved_run(tmp_path / "run")
    with pytest.raises(RunError, match=r"of another network: .*0\.fc\.bias"):
        resumed(tmp_path / "run", {**params(), "0.fc.bias": np.zeros(3)})


def test_weights_that_are_not_finite_do_not_replace_a_checkpoint(tmp_path):
    run = saved_run(tmp_path / "run")
    before = (tmp_path / "run" / "checkpoint.npz").read_bytes()
    run.restore_arrays({**params(), "0.fc.bias": np.array([np.inf, 0])})
    with pytest.raises(Diverged, match=r"0\.fc\.bias is not finite any more in epoch 1"):
        run.save_checkpoint()
    assert (tmp_path / "run" / "checkpoint.npz").read_bytes() == before


def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path, monkeypatch):
    run = saved_run(tmp_path / "run", Position(epoch=5))

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "fsync", full)
        run.save_checkpoint()
    assert resumed(tmp_path / "run", params()).position.epoch == 5


def test_a_full_disk_is_told_with_path_and_free_space(tmp_path, monkeypatch, capsys):
    path = tmp_path / "file"

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit) as stop, one_line_errors():
        files.write_whole(path, "content")
    assert str(path) in stop.value.code
    assert "MB are free" in stop.value.code


# --- the loop -----------------------------------------------------------------------------------


def loop(run, losses=None, max_epochs=2, steps=None):
    """A training loop that records which images it was given; steps: stop after so many."""
    seen = []
    run.restore_arrays(params())
    with run:
        for epoch in run.epochs(max_epochs):
            for batch in run.batches(10, 4, seed=3):
                seen.append((epoch, batch.step, batch.indices.tolist()))
                run.count(next(losses) if losses else 0.5, 1, 0.1)
                if len(seen) == steps:
                    os.kill(os.getpid(), signal.SIGINT)
            run.end_epoch(lambda: (0.25, 0.75))
    return seen


def test_batches_are_the_same_for_the_same_seed_and_every_image_once(tmp_path):
    seen = loop(Run.start(tmp_path / "a"))
    assert seen == loop(Run.start(tmp_path / "b"))
    assert [len(batch) for _, _, batch in seen] == [4, 4, 2] * 2
    for epoch in (1, 2):
        images = [image for at, _, batch in seen if at == epoch for image in batch]
        assert sorted(images) == list(range(10))
    assert seen[0][2] != seen[3][2]


@pytest.mark.parametrize("steps", range(1, 6))
def test_an_interrupted_loop_goes_on_where_it_was(tmp_path, steps):
    whole = Run.start(tmp_path / "whole")
    expected = loop(whole)
    run = Run.start(tmp_path / "run")
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as stop:
        loop(run, steps=steps)
    assert stop.value.signum == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is handler
    assert run.results["status"] == "interrupted"
    run = Run.start(tmp_path / "run", resume=True)
    assert loop(run) == expected[steps:]
    for ours, theirs in zip(run.history, whole.history, strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


def test_batches_of_some_images_and_how_far_training_is(tmp_path):
    run, found = Run.start(tmp_path / "run"), []
    run.restore_arrays(params())
    with run:
        for _ in run.epochs(2):
            for batch in run.batches(np.array([3, 8, 9]), 2, seed=3):
                found.append(batch)
                run.count(0.5, 1, 0.1)
            run.end_epoch(lambda: (0.25, 0.75))
    assert [batch.progress for batch in found] == [0.125, 0.375, 0.625, 0.875]
    assert sorted(np.concatenate([batch.indices for batch in found[:2]])) == [3, 8, 9]
    assert found[0].rng.random() == np.random.default_rng([3, 1, 1, 0]).random()
    assert found[0].rng.random() != found[1].rng.random()


def test_calls_that_were_forgotten_are_named(tmp_path):
    run = Run.start(tmp_path / "run")
    with pytest.raises(RuntimeError, match="restore_arrays or restore_torch before the first"):
        next(run.epochs(2))
    run.restore_arrays(params())
    epochs = run.epochs(2)
    next(epochs)
    batches = run.batches(10, 4, seed=3)
    next(batches)
    with pytest.raises(RuntimeError, match="expected count in step 1"):
        next(batches)
    with pytest.raises(RuntimeError, match="expected end_epoch at the end of epoch 1"):
        next(epochs)


def test_columns_are_kept_and_arrays_are_not(tmp_path):
    run = saved_run(tmp_path / "run")
    run.position.num_seen = 1
    run.add_column("both", lambda row: row["valid_loss"] + row["more"])
    run.end_epoch(lambda: {"valid_loss": 1, "valid_acc": 0, "more": 2, "confusion": np.eye(2)})
    assert run.history[0]["both"] == 3
    assert "confusion" not in run.history[0]


def test_checkpoints_within_an_epoch(tmp_path, monkeypatch):
    run = Run.start(tmp_path / "run", {"checkpoint_minutes": 0.0})
    saved, save = [], run._checkpoints.save

    def noted(snapshot):
        saved.append(snapshot.position.step)
        save(snapshot)

    monkeypatch.setattr(run._checkpoints, "save", noted)
    loop(run, max_epochs=1)
    assert saved == [1, 2, 3, 0]


SIGNALS = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
SIGNALS = [signum for signum in SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN]  # nohup


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("of_epoch", [True, False])
def test_a_signal_ends_an_evaluation_where_it_is(tmp_path, signum, of_epoch):
    def evaluate():
        os.kill(os.getpid(), signum)
        pytest.fail("went on")

    run = saved_run(tmp_path / "run")
    run.position = Position(epoch=3, step=5, num_seen=1)
    with pytest.raises(Interrupted) as stop, run:
        (run.end_epoch if of_epoch else run.finish)(evaluate)
    assert stop.value.signum == signum
    assert resumed(tmp_path / "run", params()).position == Position(epoch=3, step=5, num_seen=1)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal")
def test_a_signal_that_is_ignored_as_by_nohup_stays_ignored(tmp_path):
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Run.start(tmp_path / "run"):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, earlier)


def test_a_clock_that_is_set_while_a_run_goes_on_changes_no_duration(tmp_path, monkeypatch):
    jumps = iter(range(10**9, 0, -(10**6)))
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    monkeypatch.setattr(progress, "PLAIN_LINE_SECONDS", 0)
    run = Run.start(tmp_path / "run", {"checkpoint_minutes": 60.0})
    loop(run)
    assert all(0 <= row["seconds"] < 10**6 for row in run.history)


def test_a_second_signal_stops_at_once(tmp_path):
    run = Run.start(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), run:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert run.results["status"] == "interrupted"


def test_a_loss_that_is_not_finite_says_where_and_what_was_before(tmp_path):
    run = Run.start(tmp_path / "run")
    losses = iter([0.5, float("nan")])
    message = (
        r"the loss is nan in epoch 1, step 2, at learning rate 0.1; .* loss was 0.5; "
        r"try a smaller --lr-scale, or check the gradients: python3 check_grads.py"
    )
    with pytest.raises(Diverged, match=message):
        loop(run, losses)
    assert run.results["status"] == "diverged"


def test_tensors_are_restored_with_their_optimizer(tmp_path):
    torch = pytest.importorskip("torch")

    def parts():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        return {"model": model, "optimizer": torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)}

    def steps(model, optimizer, num):
        for i in range(num):
            optimizer.zero_grad()
            model(torch.full((1, 3), float(i))).square().sum().backward()
            optimizer.step()

    ours = parts()
    run = Run.start(tmp_path / "run")
    run.restore_torch(**ours)
    steps(**ours, num=3)
    run.position = Position(epoch=2)
    run.save_checkpoint()
    steps(**ours, num=2)
    theirs = parts()
    again = Run.start(tmp_path / "run", resume=True)
    again.restore_torch(**theirs)
    assert again.position.epoch == 2
    steps(**theirs, num=2)
    assert torch.equal(ours["model"].weight, theirs["model"].weight)
    with pytest.raises(RunError, match="of another network"):
        again.restore_torch(model=torch.nn.Linear(4, 2))
    path = tmp_path / "run" / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(RunError, match=r"checkpoint\.pt is damaged"):
        again.restore_torch(**theirs)


def test_progress_is_plain_without_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_LINE_SECONDS", 0)
    loop(Run.start(tmp_path / "run"), max_epochs=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("epoch 1/1: step 2/3, loss 0.5000, ")
    assert lines[3].startswith("epoch 1/1: lr 0.1, training loss 0.5000, accuracy 30.00%, ")
