import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

from support import files, tables
from support.checkpoints import Arrays, unsealed
from support.errors import Diverged, Interrupted, one_line_errors
from support.folders import folder_of_runs
from support.locks import is_in_use, unlock
from support.run import Run
from support.start import ROOT
from support.writer import Writer

import numpy as np
import pytest


class PlannedError(Exception):
    pass


def fail():
    raise PlannedError


# --- the thread ---------------------------------------------------------------------------------


def test_jobs_are_done_beside_the_caller_one_at_a_time_in_their_order():
    writer, may_end, done = Writer(), threading.Event(), []

    def slow():
        may_end.wait(60)
        done.append(threading.current_thread())

    writer.do(slow)
    assert done == []
    waiting = threading.Thread(target=lambda: writer.do(lambda: done.append("second")))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()  # one job at most: its caller waits
    may_end.set()
    waiting.join()
    writer.close()
    assert done[0] is not threading.current_thread()
    assert done[1:] == ["second"]


@pytest.mark.parametrize("how", ["wait", "close", "do", "obey"])
def test_what_a_job_raises_is_raised_once(how):
    writer, done = Writer(), []
    writer.do(fail)
    while how == "obey" and not writer._last.done():
        time.sleep(0.001)
    more = [lambda: done.append(1)] if how == "do" else []
    with pytest.raises(PlannedError):
        getattr(writer, how)(*more)
    writer.wait()
    assert done == []  # nothing is written after what failed


def test_obeying_waits_for_nothing():
    writer, may_end = Writer(), threading.Event()
    writer.obey()
    writer.do(lambda: may_end.wait(60))
    writer.obey()
    may_end.set()
    writer.close()


def test_python_ends_after_the_last_job(tmp_path):
    code = f"""if True:
        import sys, time
        sys.path.insert(0, {str(ROOT)!r})
        from support.writer import Writer
        Writer().do(lambda: (time.sleep(0.3), open("written", "w").close()))
    """
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "written").exists()


# --- a run --------------------------------------------------------------------------------------


def result(weights):
    return float(weights.sum()), 0.5


def train(run, weights, after_step=lambda epoch, step: None, epochs=3):
    """A training of four steps an epoch, each of which changes the weights in place."""
    run.restore_arrays({"0.fc.weights": weights})
    with run:
        for epoch in run.epochs(epochs):
            for batch in run.batches(8, 2, seed=1):
                run.count(1 / (1 + np.abs(weights).sum()), 1, 0.1)
                weights += batch.rng.random(weights.shape)
                after_step(epoch, batch.step)
            run.end_epoch(partial(result, weights))
        run.finish()
    return run


@pytest.fixture
def written(monkeypatch):
    """The names of all files, in the order in which they are written, and by which thread."""
    written = []
    write = files.whole

    def noted(path, keep=None):
        written.append((Path(path).name, threading.current_thread().name))
        return write(path, keep)

    monkeypatch.setattr(files, "whole", noted)
    return written


def test_files_are_written_in_their_order_beside_training(tmp_path, written):
    train(Run.start(tmp_path / "run"), np.zeros(3), epochs=2)
    names = [name for name, _ in written]
    epoch = ["checkpoint.npz", "history.csv"]
    assert names == ["config.json", "results.json", *epoch, *epoch, "results.json"]
    beside = {name for name, thread in written if thread != threading.current_thread().name}
    assert beside == set(epoch)


def test_a_checkpoint_is_of_its_moment_however_late_it_is_written(tmp_path, monkeypatch):
    may_write, folder = threading.Event(), tmp_path / "run"
    encode, found = Arrays.encode, []

    def late(state, notes):
        assert may_write.wait(60)
        return encode(state, notes)

    def after_step(epoch, step):
        if (epoch, step) == (2, 3):  # the checkpoint of the first epoch is not written yet
            assert not (folder / "checkpoint.npz").exists()
            may_write.set()
        if (epoch, step) == (2, 4):
            run.writer.wait()
            saved, notes = Arrays.decode(unsealed((folder / "checkpoint.npz").read_bytes()))
            found.append((saved["0.fc.weights"], notes["position"]["step"], len(notes["history"])))

    expected, weights = np.zeros(3), np.zeros(3)
    train(Run.start(tmp_path / "other"), expected, epochs=1)
    monkeypatch.setattr(Arrays, "encode", staticmethod(late))
    run = Run.start(folder)
    train(run, weights, after_step, epochs=2)
    ((saved, step, num_rows),) = found
    assert np.array_equal(saved, expected)
    assert (step, num_rows) == (0, 1)


def full(_descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_full_disk_ends_the_run_in_one_line_at_the_latest_when_it_ends(
    tmp_path, monkeypatch, epoch
):
    """After whichever epoch; and never is it said to be finished."""
    reached = []

    def after_step(now, step):
        reached.append((now, step))
        if (now, step) == (epoch, 4):
            monkeypatch.setattr(os, "fsync", full)

    run = Run.start(tmp_path / "run")
    with pytest.raises(SystemExit) as stop, one_line_errors():
        train(run, np.zeros(3), after_step)
    # or, where the epoch before is still being written, its last file
    assert "checkpoint.npz" in stop.value.code or "history.csv" in stop.value.code
    assert "MB are free" in stop.value.code
    assert "\n" not in stop.value.code
    assert reached[-1] <= (epoch + 1, 4)
    assert run.results["status"] == "interrupted"
    assert not is_in_use(tmp_path / "run")
    assert not list((tmp_path / "run").rglob(f"{files.PART}*"))
    monkeypatch.undo()
    weights, expected = np.zeros(3), np.zeros(3)
    train(Run.start(tmp_path / "run", resume=True), weights)
    train(Run.start(tmp_path / "whole"), expected)
    assert np.array_equal(weights, expected)


def test_weights_that_are_not_finite_end_the_run_as_diverged(tmp_path):
    weights = np.zeros(3)

    def after_step(epoch, step):
        if (epoch, step) == (3, 4):
            weights[1] = np.inf

    run = Run.start(tmp_path / "run")
    with pytest.raises(Diverged, match=r"0\.fc\.weights is not finite any more in epoch 4"):
        train(run, weights, after_step)
    assert run.results["status"] == "diverged"


@pytest.mark.parametrize("at", [(1, 4), (2, 1), (2, 4), (3, 2)])
def test_a_signal_while_files_are_written_loses_nothing(tmp_path, monkeypatch, at):
    """The files of the epoch before come first, then those of this moment."""
    flush = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (time.sleep(0.005), flush(file)))

    def after_step(epoch, step):
        if (epoch, step) == at:
            os.kill(os.getpid(), signal.SIGINT)

    run = Run.start(tmp_path / "run")
    with pytest.raises(Interrupted):
        train(run, np.zeros(3), after_step)
    history = tmp_path / "run" / "history.csv"
    assert (len(tables.read_table(history)) if history.exists() else 0) == at[0] - 1
    weights, expected = np.zeros(3), np.zeros(3)
    again = train(Run.start(tmp_path / "run", resume=True), weights)
    whole = train(Run.start(tmp_path / "whole"), expected)
    assert np.array_equal(weights, expected)
    for ours, theirs in zip(again.history, whole.history, strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


def test_a_signal_leaves_an_evaluation_before_the_run_is_saved(tmp_path):
    """The body may hold a lock that the writer waits for, that of an import for example."""
    lock = threading.Lock()

    def validate():
        with lock:
            run.writer.do(lambda: lock.acquire(timeout=60) and lock.release())
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)

    run = Run.start(tmp_path / "run")
    run.restore_arrays({"0.fc.weights": np.zeros(3)})
    begun = time.monotonic()
    with pytest.raises(Interrupted, match="--resume goes on"), run:
        for _ in run.epochs(1):
            for _ in run.batches(2, 2, seed=1):
                run.count(0.5, 1, 0.1)
            run.end_epoch(validate)
    assert time.monotonic() - begun < 50
    assert run.results["status"] == "interrupted"


def test_what_goes_wrong_in_the_thread_does_not_hide_what_went_wrong_before(tmp_path):
    run = Run.start(tmp_path / "run")
    run.writer.do(fail)
    with pytest.raises(PlannedError), run:
        pass
    run = Run.start(tmp_path / "run")
    run.writer.do(fail)
    with pytest.raises(KeyError, match="first"), run:
        raise KeyError("first")
    assert run.results["status"] == "interrupted"
    assert not is_in_use(tmp_path / "run")


@pytest.mark.parametrize("is_patient", [True, False])
def test_the_folder_stays_locked_until_the_last_file_is_written(tmp_path, monkeypatch, is_patient):
    """A second Ctrl-C comes while the first one waits for the writer, or a third as well."""
    events, may_end = [], threading.Event()
    monkeypatch.setattr("support.run.unlock", lambda folder: events.append("unlocked"))
    run = Run.start(tmp_path / "run")
    run.writer.do(lambda: (may_end.wait(60), events.append("written")))

    def stop(_signum):
        if is_patient:
            may_end.set()
        else:
            monkeypatch.setattr(run.writer, "close", second)
        raise KeyboardInterrupt

    def second():
        raise KeyboardInterrupt

    run.signals._stop = stop
    with pytest.raises(KeyboardInterrupt), run, run.signals.anywhere():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    assert events == (["written", "unlocked"] if is_patient else [])
    may_end.set()
    run.writer.wait()
    unlock(tmp_path / "run")


@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_signal_after_the_last_step_keeps_the_next_run_from_beginning(tmp_path, is_resumed):
    """Within the writing of the results, or to a run that was finished before."""
    run, is_reached = Run.start(tmp_path / "run", {"epochs": 1}), []
    if is_resumed:
        train(run, np.zeros(3), epochs=1)
        run = Run.start(tmp_path / "run", {"epochs": 1}, resume=True)
    write_results = run.write_results

    def last(**values):
        write_results(**values)
        os.kill(os.getpid(), signal.SIGTERM)

    run.write_results = last
    with pytest.raises(Interrupted, match="run is finished") as stop, run:
        if is_resumed:
            os.kill(os.getpid(), signal.SIGTERM)
        run.restore_arrays({"0.fc.weights": np.zeros(3)})
        for _ in run.epochs(1):
            for _ in run.batches(2, 2, seed=1):
                run.count(0.5, 1, 0.1)
            run.end_epoch(lambda: (0.5, 0.5))
        run.finish()
        is_reached.append(True)
    assert is_reached  # it ends first
    assert stop.value.signum == signal.SIGTERM
    assert files.read_json(tmp_path / "run" / "results.json")["status"] == "finished"
    assert not is_in_use(tmp_path / "run")


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    folder = tmp_path / "runs" / "run"
    train(Run.start(folder, {"epochs": 3}), np.zeros(3), epochs=2)
    left = [folder / place / f"{files.PART}1-x" for place in ("", "filters", "page", "..")]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    with folder_of_runs(tmp_path / "runs", {"epochs": 3}, resume=True):
        train(Run.start(folder, {"epochs": 3}, resume=True), np.zeros(3))
    assert not [path for path in left if path.exists()]


KILLED = """
import os, random, sys, time
sys.path[:0] = sys.argv[1:3]
import numpy as np
from support.run import Run
from test_writer import train
flush = os.fsync
os.fsync = lambda file: (time.sleep(random.random() / 100), flush(file))
weights = np.zeros(20_000)
slow = lambda epoch, step: time.sleep(0.001)
options = {"epochs": 12, "checkpoint_minutes": 0.0002}
train(Run.start("run", options, resume="resume" in sys.argv), weights, slow, epochs=12)
np.save("weights.npy", weights)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_run_that_is_killed_while_it_writes_leaves_whole_files_and_ends_with_the_same_bits(
    tmp_path,
):
    folder, resume, rng = tmp_path / "run", [], random.Random(0)
    for number in range(5):
        command = [sys.executable, "-c", KILLED, str(ROOT), str(ROOT / "tests"), *resume]
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
        resume = ["resume"]
        while number < 4 and process.poll() is None:
            is_there = (folder / "results.json").exists()
            if is_there and list(folder.glob(f"{files.PART}*")) and rng.random() < 0.05:
                process.kill()  # in the middle of writing
                break
            time.sleep(0.001)
        err = process.communicate()[1].decode()
        assert process.returncode in (0, -signal.SIGKILL), err
        for path in folder.glob("checkpoint*.npz"):
            Arrays.decode(unsealed(path.read_bytes()))
        for name in ("results.json", "config.json"):
            files.read_json(folder / name)
        if (folder / "history.csv").exists():
            tables.read_table(folder / "history.csv")
    expected = np.zeros(20_000)
    train(Run.start(tmp_path / "whole"), expected, epochs=12)
    assert np.array_equal(np.load(tmp_path / "weights.npy"), expected)
    assert not list(folder.glob(f"{files.PART}*"))
