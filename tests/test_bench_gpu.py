"""benchmarks/bench_gpu.py on the CPU: its plan, its clock, its tables, and steps that go wrong."""

import os
import subprocess
import sys
import time
from pathlib import Path

from support import tables

import pytest
import torch

import bench_gpu
import bench_gpu_steps as steps
from conftest import ROOT

FACTS = {"card": "none", "commit": "abc"}
# what the step of a test runs: it leaves a history, a child in a group of its own, or results
PROGRAM = """
import json, subprocess, sys, time
from pathlib import Path
folder = Path(sys.argv[-1], "program")
folder.mkdir(parents=True)
if "child" in sys.argv:
    child = subprocess.Popen([sys.executable, "-c", "while 1: __import__('time').sleep(1)"],
                             start_new_session=True)
    (folder / "child").write_text(str(child.pid))
if "epochs" in sys.argv:
    (folder / "history.csv").write_text("epoch,seconds\\n1,0.1\\n2,0.1\\n")
if "fail" in sys.argv:
    sys.exit("no such luck\\n-----")
results = {"test_acc": 0.75, "test_acc_plain": 0.5, "seconds": 3.0, "provenance": "generated"}
(folder / "results.json").write_text(json.dumps(results))
time.sleep(60 * ("wait" in sys.argv))
"""


@pytest.fixture
def step(tmp_path):
    """A function that makes a step of PROGRAM."""
    (tmp_path / "program.py").write_text(PROGRAM)

    def make(*options, name="seed 0", plan=10, **more):
        script, folder = str(tmp_path / "program.py"), tmp_path / "out"
        return steps.Step(
            name=name, script=script, options=options, folder=folder, plan=plan, **more
        )

    return make


def planned(*argv):
    return bench_gpu.plan(bench_gpu.parsed(list(argv)))


# --- the plan -------------------------------------------------------------------------------------


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"^bench_gpu\.py: PyTorch finds no GPU here; .*\Z"):
        bench_gpu.main([])


def test_all_fits_into_the_minutes_and_the_seeds_come_first():
    options = bench_gpu.parsed([])
    groups = bench_gpu.plan(options)
    seconds = sum(step.plan for group in groups for step in group)
    assert seconds + bench_gpu.RESERVE_SECONDS <= 60 * options.minutes == 720
    names = [step.name for group in groups for step in group]
    assert names[:6] == [*(f"seed {n}" for n in range(5)), "Task 3"]
    assert groups[0][0].command == (
        "python3 pytorch_cifar.py --model strong --size large --seed 0 --device cuda"
    )


def test_folders_are_those_of_the_user_not_of_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    step = planned("--save-dir", "out", "--data-dir", "data")[0][0]
    assert step.folder == tmp_path / "out" / "seed_0"
    assert step.options[-2:] == ["--data-dir", str(tmp_path / "data")]


def test_what_is_resumed_is_what_was_killed_and_is_compared_with_the_first():
    alone, torchrun, killed, resumed = planned("--save-dir", "out")[-2]
    assert torchrun.command.startswith("torchrun --standalone --nproc-per-node 1 pytorch_cifar.py")
    assert killed.kill_after
    assert resumed.folder == killed.folder != alone.folder
    assert resumed.like == torchrun.like == alone.run_folder
    assert sorted([*killed.options, "--resume"]) == sorted(resumed.options)


# --- the clock ------------------------------------------------------------------------------------


def run_with_clock(monkeypatch, groups, deadline, seconds_of):
    """The rows of groups and the limits of the steps, by a clock that only the steps move."""
    clock, limits, kept = [0.0], {}, []

    def run(step, limit):
        limits[step.name] = limit
        seconds = seconds_of(step)
        clock[0] += min(seconds, limit)
        return step.row("stopped" if seconds > limit else "done", seconds=min(seconds, limit))

    monkeypatch.setattr(bench_gpu.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(bench_gpu.steps, "run", run)
    rows = bench_gpu.run_all(groups, deadline, lambda rows: kept.append(len(rows)))
    assert kept[-1] == len(rows)
    assert clock[0] <= deadline
    return rows, limits


def test_what_would_not_end_in_time_is_left_out_with_its_group(monkeypatch, step):
    groups = [
        [step(name="a", plan=10)],
        [step(name="b", plan=10), step(name="c", plan=60)],
        [step(name="d", plan=20)],
    ]
    # a takes twice what was planned, so will the others
    rows, _ = run_with_clock(monkeypatch, groups, 100, lambda step: 2 * step.plan)
    assert [row["status"] for row in rows] == ["done", "left out", "left out", "done"]
    assert rows[1]["note"] == "needs about 140 s, 80 s are left"
    rows, _ = run_with_clock(monkeypatch, groups, 59, lambda step: 2 * step.plan)
    assert [row["status"] for row in rows][2:] == ["left out", "left out"]


def test_a_step_that_hangs_is_stopped_and_the_others_follow(monkeypatch, step):
    groups = [[step(name="a", plan=10)], [step(name="b", plan=10)]]
    seconds = {"a": 1000, "b": 10}
    rows, limits = run_with_clock(monkeypatch, groups, 75, lambda step: seconds[step.name])
    assert [row["status"] for row in rows] == ["stopped", "done"]
    assert limits == {"a": 30, "b": 45}  # at most until the end


# --- processes ------------------------------------------------------------------------------------


def test_a_step_that_ends_well(step):
    row = steps.run(step(), 60)
    assert (row["status"], row["test_acc"], row["test_acc_plain"]) == ("done", 0.75, 0.5)
    assert (row["training_seconds"], row["note"]) == (3.0, "generated")
    assert 0 < row["seconds"] < 60


def test_a_step_that_fails_says_why(step):
    row = steps.run(step("fail"), 60)
    assert (row["status"], row["note"]) == ("failed", "no such luck")


def test_what_a_step_leaves_is_compared_with_what_another_left(step, monkeypatch):
    like, compared = step().folder.parent / "exact" / "program", []
    monkeypatch.setattr(steps, "likeness", lambda *paths: compared.append(paths) or "other bits")
    row = steps.run(step(like=like), 60)
    assert row["note"] == "generated; against exact: other bits"
    assert compared == [(step().run_folder / "model.pt", like / "model.pt")]


def is_alive(pid):
    """Whether there is such a process that has not ended; not all systems take ended ones away."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return not status.rpartition(")")[2].startswith(" Z")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says whose child a process is")
def test_a_step_that_takes_too_long_is_ended_with_all_that_it_started(step, monkeypatch):
    slow = step("child", "wait")
    child = slow.run_folder / "child"

    def is_started():
        return child.exists() and child.stat().st_size > 0

    with monkeypatch.context() as patch:  # its time is up as soon as the child is there
        patch.setattr(steps.time, "monotonic", lambda: 1e9 * is_started())
        row = steps.run(slow, 60)
    assert (row["status"], row["note"][:16]) == ("stopped", "it took too long")
    child, patience = int(child.read_text()), time.monotonic() + 30
    while is_alive(child) and time.monotonic() < patience:  # the system has yet to take it away
        time.sleep(0.05)
    assert not is_alive(child)


def test_a_step_is_killed_where_it_should_be(step):
    row = steps.run(step("epochs", "wait", kill_after=2), 60)
    assert (row["status"], row["note"]) == ("killed", "in epoch 3, by SIGKILL")


def test_a_step_that_ends_before_it_is_killed_has_failed(step):
    row = steps.run(step(kill_after=2), 60)
    assert (row["status"], row["note"]) == ("failed", "it was over before it could be killed")


def test_how_far_weights_are_from_others_is_said(tmp_path):
    weights = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]])}
    torch.save(weights, tmp_path / "one.pt")
    assert steps.likeness(tmp_path / "one.pt", tmp_path / "one.pt") == "the same bits"
    torch.save({**weights, "b": torch.tensor([[4.5]])}, tmp_path / "other.pt")
    said = steps.likeness(tmp_path / "other.pt", tmp_path / "one.pt")
    assert said == "other bits: 1 of 3 numbers, 1.0e-01 of their length"


# --- tables ---------------------------------------------------------------------------------------


def test_the_tables_have_the_mean_of_the_seeds_that_are_done(step, tmp_path):
    numbers = {"training_seconds": 30.0, "test_acc_plain": 0.5}
    rows = [
        step(name="seed 0").row("done", test_acc=0.93, seconds=50.0, **numbers),
        step(name="seed 1").row("done", test_acc=0.94, seconds=60.0, **numbers),
        step(name="seed 2").row("failed", "a reason", seconds=3.0),
        step(name="Task 3").row("left out", "why"),
    ]
    bench_gpu.keep(rows, FACTS, tmp_path)
    kept = tables.read_table(tmp_path / "bench_gpu.csv", steps.COLUMNS)
    assert [row["step"] for row in kept][2:] == ["seed 2", "mean of 2 seeds", "Task 3"]
    assert (float(kept[3]["test_acc"]), float(kept[3]["seconds"])) == (0.935, 55.0)
    lines = (tmp_path / "bench_gpu.md").read_text(encoding="utf-8").splitlines()
    assert lines[2] == "| seed 0 | 93.00% | 50.00% | 30.0 | 50.0 | |"
    assert lines[4] == "| seed 2 | | | | 3.0 | failed: a reason |"
    mean = "standard deviation 0.71%, the slowest took 60.0 s"
    assert lines[5] == f"| mean of 2 seeds | 93.50% | 50.00% | 30.0 | 55.0 | {mean} |"
    assert lines[6] == "| Task 3 | | | | | left out: why |"
    assert lines[-1] == "card none; commit abc"


# --- as a user runs it ----------------------------------------------------------------------------


def test_a_tiny_run_ends_with_tables_and_keeps_those_of_the_run_before(
    monkeypatch, tmp_path, capsys
):
    """Its step under torchrun alone; all of them take two minutes."""
    monkeypatch.setattr(bench_gpu, "SHORT", (*bench_gpu.LARGE, "--epochs", "1"))
    step = planned("--tiny", "--save-dir", str(tmp_path / "gpu"))[-2][1]
    step.like = None
    monkeypatch.setattr(bench_gpu, "plan", lambda options: [[step]])
    monkeypatch.setattr(bench_gpu.signal, "signal", lambda *_: None)
    (tmp_path / "gpu").mkdir()
    (tmp_path / "gpu" / "bench_gpu.csv").write_text("before")
    assert bench_gpu.main(["--tiny", "--save-dir", str(tmp_path / "gpu")]) == 0
    (row,) = tables.read_table(tmp_path / "gpu" / "bench_gpu.csv")
    assert (row["step"], row["status"], row["note"]) == ("exact torchrun", "done", "generated")
    assert (tmp_path / "gpu.1" / "bench_gpu.csv").read_text() == "before"
    assert "| exact torchrun |" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_a_signal_ends_the_step_and_leaves_the_table(step, tmp_path):
    slow = step("wait", "epochs")
    code = f"""
import sys
sys.path[:0] = [{str(ROOT / "benchmarks")!r}]
from pathlib import Path
import bench_gpu, bench_gpu_steps as steps
step = steps.Step(name="seed 0", script={slow.script!r}, options=["wait", "epochs"],
                  folder=Path({str(slow.folder)!r}), plan=60)
bench_gpu.environment = lambda device: {FACTS!r}
bench_gpu.plan = lambda options: [[step], [step]]
bench_gpu.main(["--tiny", "--save-dir", {str(tmp_path / "gpu")!r}])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (slow.run_folder / "results.json").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, "")
    assert "bench_gpu.csv" in out
