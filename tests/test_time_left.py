"""How far make demo and make report have come, and how long the rest takes."""

import sys

from support import missing_runs, time_left
from support.time_left import TimeLeft, about

import pytest


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still: [seconds]."""
    now = [0.0]
    monkeypatch.setattr(time_left.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_goes_by_how_long_what_is_done_has_taken(clock):
    left = TimeLeft({"a": (1, 10), "b": (2, 30)})
    assert left.seconds == 40
    left.begin("a")
    assert left.read("epoch 1/2: step 50/100, loss 2.3, 1.0 ms a step")
    clock[0] = 2.5
    assert left.seconds == 37.5  # of 10 seconds a quarter
    clock[0] = 5.0  # twice as slow as expected
    assert left.seconds == pytest.approx(75)
    assert str(left) == "epoch 1/2, about 1 min left in all"
    left.read("epoch 2/2: lr 0.1, training loss 0.3")
    clock[0] = 20.0
    left.end()
    assert left.seconds == pytest.approx(60)
    left.begin("b")
    for line in ("epoch 1/2: lr 0.1", "epoch 2/2: lr 0.1", "epoch 1/2: step 1/2"):
        assert left.read(line)
    assert str(left).startswith("run 2 of 2, epoch 1/2, ")
    clock[0] = 57.5
    assert left.seconds == pytest.approx(22.5)
    left.end()
    assert left.seconds == 0


def test_what_was_there_before_tells_nothing_of_the_pace(clock):
    left = TimeLeft({"a": (2, 100)})
    left.begin("a")
    assert not left.read("out/a/1 is finished: 4 epochs; nothing to resume")
    assert left.seconds == 50
    left.read("epoch 3/4: step 1/1")  # the second run is resumed: half of it was there
    clock[0] = 25.0
    assert left.seconds == pytest.approx(25)


@pytest.mark.parametrize("line", ["", "Epochs", "epoch 3", "downloading 3/4: step 1/2"])
def test_other_lines_say_nothing(line):
    left = TimeLeft({"a": (1, 10)})
    left.begin("a")
    assert not left.read(line)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "10 s"), (44, "40 s"), (56, "1 min"), (150, "2 min"), (2900, "48 min"), (6000, "1.7 h")],
)
def test_a_time_is_said_as_people_say_it(seconds, text):
    assert about(seconds) == f"about {text}"


LINES = [f"epoch {epoch}/9: step {step}/5" for epoch in range(1, 10) for step in range(1, 6)]


def lines_of_a_script(monkeypatch, tmp_path, is_terminal):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)

    def call(command, heed):
        for line in ("downloading", *LINES, "everything is in out"):
            heed(line)
        return 0, LINES[-1]

    monkeypatch.setattr(missing_runs, "call", call)
    monkeypatch.setattr(missing_runs, "SCRIPTS", {"train": "results.json"})
    assert missing_runs.run_missing(tmp_path, {}, {"train": (1, 120)}) == 0


def test_a_log_gets_few_lines(tmp_path, monkeypatch, capsys):
    lines_of_a_script(monkeypatch, tmp_path, False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("without downloads about 2 min on two cores of an AMD EPYC, else")
    assert lines[1] == "1/1 train.py: runs, about 2 min left in all"
    assert lines[2].startswith("1/1 train.py: done in ")
    assert len(lines) == 3
    monkeypatch.setattr(missing_runs, "LOG_SECONDS", 0)
    lines_of_a_script(monkeypatch, tmp_path, False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + len(LINES)
    assert lines[2].startswith("1/1 train.py: epoch 1/9, about ")


def test_a_terminal_has_one_line_that_is_rewritten(tmp_path, monkeypatch, capsys):
    lines_of_a_script(monkeypatch, tmp_path, True)
    _, line = capsys.readouterr().out.rstrip("\n").split("\n")
    parts = line.split("\r\x1b[K")[1:]
    assert len(parts) == 3 + len(LINES)
    assert parts[1] == "1/1 train.py: downloading"
    assert all(len(part) < 80 for part in parts)
