"""The report page, as text; tests/test_report_browser.py opens it."""

import base64
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import zlib
from html.parser import HTMLParser

from support import answers, files, metrics, missing_runs, plots, tables
from support.folders import move_aside
from support.gallery import NUM_EXAMPLES
from support.locks import unlock
from support.page import document, formats, pictures, sections
from support.page.facts import facts
from support.page.hand_in import HandIn
from support.read_runs import Record
from support.run import HISTORY_COLUMNS, Run

import numpy as np
import pytest

import report
from conftest import ROOT


def write_run(folder, options=None, epochs=3, names=("cat", "dog"), status="finished", kind=3):
    """A run's folder as the scripts leave it, with made-up numbers; kind: channels."""
    rng = np.random.default_rng(len(str(folder.name)))
    (folder / "filters").mkdir(parents=True)
    files.write_json(folder / "config.json", {"batch_size": 50, **(options or {})})
    rows = [
        dict.fromkeys(HISTORY_COLUMNS, 0.5) | {"epoch": epoch, "seconds": 2.0}
        for epoch in range(1, epochs + 1)
    ]
    tables.write_table(folder / "history.csv", HISTORY_COLUMNS, rows)
    for epoch in range(epochs + 1):
        plots.draw_conv_filters(epoch, 20, rng.random((4, kind, 5, 5)), folder / "filters")
    results = {"status": status, "dataset": "cifar10", "provenance": "generated", "seed": 0}
    results |= {"num_train": 1000, "threads": 2, "device": "cpu", "command": "python3 x.py --a 1"}
    if status == "finished":
        results |= {"test_acc": 0.875, "test_loss": 0.25}
        write_test(folder, names, kind)
    files.write_json(folder / "results.json", results)
    return folder


def write_test(folder, names, kind):
    rng = np.random.default_rng(0)
    counts = rng.integers(100, size=(len(names), len(names)))
    rows = [
        {"true": name, **dict(zip(names, row, strict=True))}
        for name, row in zip(names, counts.tolist(), strict=True)
    ]
    tables.write_table(folder / "confusion_matrix.csv", ["true", *names], rows)
    true = rng.integers(len(names), size=60)
    worst = metrics.worst_mistakes(
        rng.standard_normal((60, len(names) + 1)), true, [*names, "c"], 20
    )
    tables.write_table(folder / "worst_20.csv", metrics.MISTAKE_COLUMNS, worst)
    tiles = rng.integers(256, size=(len(names), len(names) * NUM_EXAMPLES, 8, 8, kind))
    plots.draw_tiles(folder / "confusion_examples.png", tiles.astype(np.uint8))
    plots.draw_tiles(folder / "worst_20_images.png", tiles[:1].astype(np.uint8))


def write_all(save_dir, **kwargs):
    """A save folder in which every script has been run."""
    runs_of = {
        "train": {},
        "train_l2reg/lambda_0.001": {},
        "train_l2reg/lambda_0.01": {},
        "pytorch_mnist": {"weight_decay": 0.01},
        "pytorch_cifar": {},
        "hinge_bonus/cross_entropy": {},
        "hinge_bonus/hinge": {},
    }
    for name, options in runs_of.items():
        write_run(save_dir / name, options, **kwargs)
    for value in (0.001, 0.01):
        rows = [{"epoch": e, "data_loss": 0.1, "l2_loss": value} for e in (1, 2, 3)]
        path = save_dir / f"train_l2reg/lambda_{value:g}/losses.csv"
        tables.write_table(path, ["epoch", "data_loss", "l2_loss"], rows)
    row = {"name": "conv1", "output": (16, 28, 28), "num_params": 416, "receptive_field": 5}
    row |= {"multiply_adds": 313600, "kept_bytes": 156800}
    tables.write_table(save_dir / "train/network.csv", list(row), [row])
    (save_dir / "check_grads").mkdir()
    row = {"name": "FC: x", "error": 1e-9, "index": (0, 1), "analytic": 1.0, "numeric": 1.0}
    row["passed"] = True
    tables.write_table(save_dir / "check_grads/gradients.csv", list(row), [row])
    losses = [
        {"loss": loss, "lr": 0.05, "runs": 1, "test_acc_mean": 0.8, "test_acc_deviation": 0.01,
         "valid_acc_mean": 0.79, "recall_cat": 0.5, "recall_dog": recall}
        for loss, recall in (("cross_entropy", 0.5), ("hinge", 0.625))
    ]  # fmt: skip
    tables.write_table(save_dir / "hinge_bonus/comparison.csv", list(losses[0]), losses)
    write_answers(save_dir)
    return save_dir


def write_answers(save_dir):
    """An answer to each question, as answers.md in a save folder."""
    text = answers.template(answers.SCRIPTS)
    path = save_dir / answers.NAME
    path.write_text(re.sub(r"(?m)^(## .*)$", r"\1\n\nFor a *reason*.", text), encoding="utf-8")
    return path


class Page(HTMLParser):
    """The text of a page, its ids, and whether every element is closed where it must be."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, html):
        super().__init__()
        self.open, self.ids, self.texts = [], [], []
        self.feed(html)
        assert not self.open
        assert len(self.ids) == len(set(self.ids))
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)


def written(save_dir, **kwargs):
    """The text of the page of a save folder, in which the answers lie, too."""
    handed_in = HandIn(answers=save_dir / answers.NAME, **kwargs)
    return report.write_page(save_dir, handed_in=handed_in).read_text(encoding="utf-8")


def page(save_dir, **kwargs):
    return Page(written(save_dir, **kwargs))


def test_an_empty_folder_gives_a_page_that_says_how_to_run_everything(tmp_path):
    text = page(tmp_path / "new").text
    for script in missing_runs.SCRIPTS:
        assert f"python3 {script}.py" in text
    assert text.count("missing") >= 5


def test_a_handout_without_the_pytorch_scripts_has_a_page_without_them(tmp_path, monkeypatch):
    for script in ("train.py", "train_l2reg.py"):
        (tmp_path / script).touch()
    monkeypatch.setattr(document, "ROOT", tmp_path)
    # nor has this one the networks, whose layers are written out
    monkeypatch.setattr(document, "find_spec", lambda name: None)
    text = page(tmp_path / "new").text
    assert "python3 train_l2reg.py" in text
    for words in ("Task 3", "Task 4", "Bonus", "pytorch", "hinge", "None", "network, alive"):
        assert words not in text


def test_any_script_may_be_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(document, "find_spec", lambda name: None)
    for missing in answers.SCRIPTS.values():
        folder = tmp_path / missing
        folder.mkdir()
        for script in answers.SCRIPTS.values():
            if script != missing:
                (folder / script).touch()
        monkeypatch.setattr(document, "ROOT", folder)
        text = page(folder / "out").text
        told = [script for script in answers.SCRIPTS.values() if f"python3 {script}" in text]
        assert told == [script for script in answers.SCRIPTS.values() if script != missing]


def test_a_page_of_everything(tmp_path):
    text = page(write_all(tmp_path)).text
    assert "Not run yet" not in text
    assert "No answer yet" not in text
    assert "cannot be read" not in text
    for words in (
        "1 of 1 tensors agree", "87.50 %", "cifar10, generated, 1,000", "python3 x.py --a 1",
        "6.0 s of training, 3 epochs, 10 steps a second", "cpu, 2 threads", "Every epoch",
        "The validation images choose λ = 0.001", "finished cifar10, generated 87.50 %",
        "validation accuracy, % 50.00 50.00 +0.00", "a training step, ms 100.00",
        "conv1 16 × 28 × 28 416 5 × 5", "dog 50.00 62.50 +12.50", "cross-entropy 0.05 1 80.00 %",
        "FC 1 tensors, largest error 1.0e-09 pass", "416 parameters in all, 416 of them in conv1",
        "a value of conv1 see? 5 × 5", "way back? 156,800 bytes for a batch of 50",
        "finished cifar10, generated 87.50 % 6.0 s 10", "In Tasks 1 to 3 training is the mean over",
        "the network that is kept; training on up to 2,000", "test accuracy validation accuracy",
    ):  # fmt: skip
        assert words in text


def test_of_several_runs_of_a_loss_the_standard_deviation_is_shown(tmp_path):
    names = ("loss", "lr", "runs", "test_acc_mean", "test_acc_deviation", "valid_acc_mean")
    rows = [dict(zip(names, ("hinge", 0.05, 3, 0.8, 0.01, 0.79), strict=True))]
    tables.write_table(tmp_path / "hinge_bonus/comparison.csv", names, rows)
    text = page(tmp_path).text
    assert "standard deviation over the runs validation accuracy hinge" in text
    assert "3 80.00 % 1.00 % 79.00 %" in text


def test_tasks_1_3_and_4_show_what_the_test_says(tmp_path):
    """The matrix with its axes named, and of each mistake the image's index in the test set."""
    write_all(tmp_path)
    with (tmp_path / "train/worst_20.csv").open(newline="") as file:
        indices = [row["index"] for row in csv.DictReader(file)]
    text = page(tmp_path).text
    assert text.count("predicted cat dog true cat") == 3
    for index in indices:
        assert text.count(f" image {index} true ") == 3


def test_a_layer_whose_gradients_fail_is_open(tmp_path):
    folder = tmp_path / "check_grads"
    folder.mkdir()
    names = ("FC: x", "FC batch 1: x", "ReLU: x", "network: conv1.weights", "Odd: x")
    errors = (1e-9, 0.5, 2e-9, 1e-8, float("nan"))
    rows = [
        {"name": name, "error": error, "index": (0, 1), "analytic": 1.0, "numeric": 1.0}
        | {"passed": error < 1e-5}
        for name, error in zip(names, errors, strict=True)
    ]
    tables.write_table(folder / "gradients.csv", list(rows[0]), rows)
    costs = {"tolerance": 1e-5, "num_params": 337}
    costs |= {"numeric_seconds": 0.156, "analytic_seconds": 0.00034}
    files.write_json(folder / "results.json", costs)
    html = report.write_page(tmp_path).read_text(encoding="utf-8")
    layers = re.findall(r"<details( open)?>\s*<summary>(.*?)</summary>", html, re.DOTALL)
    layers = [(" ".join(re.sub("<[^>]*>", " ", text).split()), opened) for opened, text in layers]
    assert layers[-4:] == [
        ("FC 2 tensors, largest error 5.0e-01 1 fails", " open"),
        ("ReLU 1 tensors, largest error 2.0e-09 pass", ""),
        ("the whole network 1 tensors, largest error 1.0e-08 pass", ""),
        ("Odd 1 tensors, largest error – 1 fails", " open"),
    ]
    text = Page(html).text
    assert "3 of 5 tensors agree" in text
    assert "took some 500 times as long" in text


@pytest.mark.parametrize(
    ("command", "typed"),
    [
        ("python3 train.py --epochs 3", "python3 train.py --epochs 3"),
        ("python3 x.py --save-dir /a/out --epochs 3 --resume", "python3 x.py --epochs 3"),
        ("python3 x.py --data-dir=/a/b --save-dir ~/c", "python3 x.py"),
        ("python3 x.py '--save-dir=C:\\a b\\out'", "python3 x.py"),
        ("python3 x.py --save-dir out/second", "python3 x.py --save-dir out/second"),
        (f"python3 x.py --layers {ROOT / 'a/my.py'}", "python3 x.py --layers a/my.py"),
        (f"python3 x.py --layers={ROOT / 'my.py'}", "python3 x.py --layers=my.py"),
        ("python3 x.py --teacher '/some where/model.pt'", "python3 x.py --teacher model.pt"),
        ("python3 /a/b/x.py", "python3 x.py"),
        ("python3 'x.py", "python3 'x.py"),
        ("", ""),
    ],
)
def test_a_command_is_shown_without_the_places_of_one_machine(command, typed):
    assert formats.command(command) == typed


def test_a_file_that_cannot_be_read_is_named_without_the_places_of_one_machine(tmp_path):
    record = Record(tmp_path / "train")
    record.add_problem("a.csv", PermissionError(13, "Permission denied", str(tmp_path)))
    assert record.problems == ["train/a.csv cannot be read: Permission denied"]


def test_speed_is_told_over_all_runs_where_it_is_known(tmp_path):
    records = [Record(write_run(tmp_path / name, epochs=n)) for name, n in (("a", 1), ("b", 4))]
    assert [record.steps_a_second for record in records] == [10, 10]
    assert facts(records)["steps_a_second"] == 10
    records[0].config = {}
    assert records[0].steps_a_second is None
    assert facts(records)["steps_a_second"] is None
    assert facts([])["steps_a_second"] is None


def test_a_number_that_is_rounded_up_takes_the_next_unit():
    rates = [formats.rate(value) for value in (1234.5, 9.96, 9.87, 0.123, None)]
    assert rates == ["1,234", "10", "9.9", "0.12", "–"]
    durations = [formats.duration(value) for value in (0.25, 0.9994, 0.9996, 59.94, 59.96, None)]
    assert durations == ["250 ms", "999 ms", "1.0 s", "59.9 s", "1 min 00 s", "–"]


def test_that_compared_runs_are_not_alike_is_said(tmp_path):
    kwargs = {"epochs": 0, "status": "interrupted"}
    for name, epochs in (("0.001", 8), ("0.01", 3), ("0.1", 3)):
        write_run(tmp_path / f"train_l2reg/lambda_{name}", {"epochs": epochs}, **kwargs)
    write_run(tmp_path / "pytorch_mnist", {"weight_decay": 0.1, "epochs": 8}, **kwargs)
    text = page(tmp_path).text
    assert "The runs are not alike, the smallest λ first: epochs 8 and 3." in text
    assert "The two runs are not alike, NumPy first: epochs 3 and 8." in text


def test_an_interrupted_a_killed_and_a_diverged_run_are_shown_as_such(tmp_path):
    write_run(tmp_path / "train", status="interrupted")
    write_run(tmp_path / "pytorch_mnist", status="running")
    write_run(tmp_path / "pytorch_cifar", status="diverged", epochs=0)
    text = page(tmp_path).text
    for state in ("interrupted", "killed", "diverged"):
        assert state in text
    assert "python3 train.py --resume" in text
    for sentence in (
        "This run did not come to its end; below", "The loss of this run is no longer finite",
        "history.csv has no finished epoch",
    ):  # fmt: skip
        assert sentence in text  # capitals and all, for a style would change file names, too


def test_what_a_run_has_lost_is_not_shown_as_nothing(tmp_path):
    folder = write_run(tmp_path / "train", epochs=0)
    row = {"name": "conv1", "output": (16, 28, 28), "num_params": 416, "kept_bytes": 156800}
    tables.write_table(folder / "network.csv", list(row), [row])
    for name in ("config.json", "history.csv"):
        (folder / name).unlink()
    text = page(tmp_path).text
    assert "156,800 bytes for a batch Output and" in text
    assert "no epoch in history.csv Machine" in text
    assert "0 ms" not in text


def test_a_run_that_goes_on_is_running(tmp_path):
    run = Run.start(tmp_path / "train", {"epochs": 1})
    assert "running" in page(tmp_path).text
    run.finish()
    assert "running" not in page(tmp_path).text


DAMAGE = {
    "cut off": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "noise": lambda content: np.random.default_rng(0).bytes(300),
    "other JSON": lambda content: b'[{"status": 1}]',
    "huge numbers": lambda content: content.replace(b"0.5", b"1e999").replace(b"87", b"9" * 400),
    "texts for numbers": lambda content: content.replace(b"0.5", b"<b>").replace(b"0.87", b'"<b>"'),
    "bits": lambda content: content[:60] + bytes([content[60] ^ 4]) + content[61:]
    if len(content) > 60 else content,
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_page_of_damaged_files(tmp_path, damage):
    write_all(tmp_path)
    for path in tmp_path.rglob("*.*"):
        if path.is_file():
            path.write_bytes(damage(path.read_bytes()))
    assert "What was run" in page(tmp_path).text


@pytest.mark.parametrize("value", [None, [], {"a": 1}, "<b>", True, -1, 10**400])
def test_a_page_of_values_of_other_kinds(tmp_path, value):
    write_all(tmp_path)
    for path in tmp_path.rglob("*.json"):
        values = json.loads(path.read_text())
        values |= dict.fromkeys(values.keys() - {"status"}, value)
        files.write_json(path, values | {"versions": value})
    assert "What was run" in page(tmp_path).text
    assert "<b>" not in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    [
        "results.json",
        "history.csv",
        "confusion_matrix.csv",
        "worst_20.csv",
        "confusion_examples.png",
        "filters/epoch_02_step_000020.png",
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_shown(tmp_path, name):
    path = write_run(tmp_path / "pytorch_cifar") / name
    path.write_bytes(path.read_bytes()[:-5] + b'"\xff')
    text = page(tmp_path).text
    assert f"pytorch_cifar/{name} cannot be read" in text
    assert ("6.0 s of training" in text) == (name != "history.csv")
    assert ("Most often taken" in text or "Point at a cell" in text) == (
        name != "confusion_matrix.csv"
    )


def test_nothing_in_a_run_folder_becomes_markup(tmp_path):
    evil = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'
    write_all(tmp_path, names=(evil, "dog'\"&"))
    for path in tmp_path.rglob("results.json"):
        results = json.loads(path.read_text())
        path.write_text(json.dumps(dict.fromkeys(results, evil)))
    html = written(tmp_path)
    assert "alert" in html
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    scripts = re.findall(r"<script([^>]*)>", html)
    nonces = [text for text in scripts if "json" not in text]
    assert len(nonces) == 2
    assert nonces[0] == nonces[1] != ""
    assert evil in Page(html).text


def test_the_page_loads_nothing_and_is_small(tmp_path):
    write_all(tmp_path)
    html = written(tmp_path)
    addresses = re.findall(r"""(?:src|href)=["']([^"']*)|url\(([^)]*)\)""", html)
    for address in (first or second for first, second in addresses):
        assert address.startswith(("#", "data:"))
    assert len(html) < 1e6


def test_only_the_live_page_may_open_itself_in_a_frame(tmp_path):
    report.write_page(tmp_path)
    assert not is_live(tmp_path)
    report.write_page(tmp_path, live=True)
    assert is_live(tmp_path)


def is_live(save_dir):
    html = (save_dir / "report.html").read_text(encoding="utf-8")
    assert (" data-live>" in html) == ("frame-src" in html)
    return " data-live>" in html


def test_a_long_run_gives_a_slider_of_limited_length(tmp_path, rng):
    folder = write_run(tmp_path / "train", epochs=pictures.MAX_FRAMES + 20)
    frames = pictures.frames(Record(folder))
    assert len(frames) == pictures.MAX_FRAMES
    assert [frames[i]["label"] for i in (0, -1)] == [
        "before training", f"epoch {pictures.MAX_FRAMES + 20}, step 20",
    ]  # fmt: skip


def test_the_last_picture_of_the_filters_is_that_of_the_last_epoch(tmp_path):
    folder = tmp_path / "train"
    for epoch in range(121):
        plots.draw_conv_filters(epoch, 20, np.zeros((1, 1, 1, 1)), folder / "filters")
    labels = [frame["label"] for frame in pictures.frames(Record(folder))]
    assert labels[0] == "before training"
    epochs = [int(label.split()[1].strip(",")) for label in labels[1:]]
    assert epochs == sorted(epochs)
    assert (len(labels), epochs[-1]) == (pictures.MAX_FRAMES, 120)


def png(width=1, height=1, more=b""):
    """A PNG file of that size, of which only the header counts here."""

    def chunk(kind, body):
        checksum = zlib.crc32(kind + body).to_bytes(4)
        return len(body).to_bytes(4) + kind + body + checksum

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"") + more


def test_of_a_picture_only_the_picture_comes_into_the_page(tmp_path):
    (tmp_path / "a.png").write_bytes(png(7, 5, b"x" * 1_000_000))
    picture = pictures.image(Record(tmp_path), "a.png")
    assert (picture["width"], picture["height"]) == (7, 5)
    assert picture["address"].endswith(base64.b64encode(png(7, 5)).decode())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(7, 5, bytes(3_000_000)), "3,000,045 bytes, expected at most 2,000,000"),
        (png(0, 5), "the picture is damaged"),
        (png(5, 2**31), "the picture is damaged"),
        (png()[:-1], "the picture is damaged"),
        (png()[:8] + png()[-12:], "it is no PNG file"),
    ],
)
def test_a_picture_that_cannot_be_is_a_sentence(tmp_path, content, message):
    (tmp_path / "a.png").write_bytes(content)
    record = Record(tmp_path)
    assert pictures.image(record, "a.png") is None
    assert message in record.problems[-1]


def test_watching_goes_on_when_a_page_cannot_be_written(tmp_path, monkeypatch, capsys):
    """A folder that is moved while it is read, a disk that is full."""
    folder = write_run(tmp_path / "train")
    written = []

    def write_page(save_dir, live=False, handed_in=None, networks="default"):
        written.append(live)
        if not live:
            return
        if len(written) < 3:
            raise FileNotFoundError(2, "No such file or directory", "filters")
        raise KeyboardInterrupt

    def sleep(seconds):
        (folder / "history.csv").touch()

    monkeypatch.setattr(document, "write_page", write_page)
    monkeypatch.setattr(document.time, "sleep", sleep)
    document.follow(tmp_path)
    assert written == [True, True, True, False]
    assert capsys.readouterr().err.count("warning: the page is as it was") == 1


def test_watching_sees_that_a_run_was_killed(tmp_path):
    """Whose files stay as they were."""
    run, handed_in = Run.start(tmp_path / "train", {"epochs": 1}), HandIn()
    before = document._progress(tmp_path, handed_in)
    assert document._progress(tmp_path, handed_in) == before
    unlock(run.folder)
    assert document._progress(tmp_path, handed_in) != before


def test_a_full_disk_is_said_without_advice_for_trainings(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    write_run(tmp_path / "train")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit) as stop:
        report.main(["--save-dir", str(tmp_path)])
    assert f"MB are free in {tmp_path}; make room" in stop.value.code
    assert "report.html" in stop.value.code
    assert "--resume" not in stop.value.code


def test_watching_rewrites_the_page_after_an_epoch(tmp_path):
    folder = write_run(tmp_path / "train", status="running", epochs=1)
    command = [sys.executable, ROOT / "report.py", "--watch", "--save-dir", tmp_path]
    watcher = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        path = tmp_path / "report.html"
        wait_until(lambda: path.exists() and "training, 1 epoch," in path.read_text())
        with (folder / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
        rows.append({**rows[0], "epoch": 2})
        tables.write_table(folder / "history.csv", HISTORY_COLUMNS, rows)
        wait_until(lambda: "training, 2 epochs," in path.read_text())
        assert is_live(tmp_path)
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(30) == 0
        assert not is_live(tmp_path)
    finally:
        watcher.kill()
        watcher.wait()


def wait_until(condition):
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < 300
        time.sleep(0.1)


def test_run_missing_runs_what_has_not_come_to_its_end(tmp_path, monkeypatch, capsys):
    write_all(tmp_path)
    tables.write_table(tmp_path / "train_l2reg/comparison.csv", ["weight_decay"], [])
    for name in ("train", "hinge_bonus"):
        move_aside(tmp_path / name)
    (tmp_path / "pytorch_cifar/results.json").write_text('{"status": "interrupted"}')
    called = []

    def fake(command, heed):
        called.append([str(part) for part in command[1:]])
        return (1, "hinge_bonus.py: error: no") if "hinge" in str(command[1]) else (0, "done")

    monkeypatch.setattr(missing_runs, "call", fake)
    assert missing_runs.run_missing(tmp_path, {"train": ["--epochs", "1"]}) == 1
    common = ["--save-dir", str(tmp_path)]
    assert called == [
        [str(ROOT / "train.py"), *common, "--epochs", "1", "--resume"],
        [str(ROOT / "pytorch_cifar.py"), *common, "--resume"],
        [str(ROOT / "hinge_bonus.py"), *common, "--resume"],
    ]
    lines = capsys.readouterr().out.splitlines()
    assert "1/6 check_grads.py: is there" in lines
    assert any(line.endswith("hinge_bonus.py: error: no") for line in lines)


def test_the_last_line_of_a_script_is_kept(tmp_path):
    code = "import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)"
    assert missing_runs.call([sys.executable, "-c", code], print) == (3, "two")


def test_a_stopped_report_waits_for_the_script_it_runs(tmp_path):
    """Ctrl-C reaches both; the script must not lose its output while it saves."""
    child = (
        f"import pathlib, time\nfolder = pathlib.Path({str(tmp_path)!r})\n"
        "try:\n    (folder / 'ready').touch(); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(1); print('saved', flush=True)\n"
        "    (folder / 'saved').touch()"
    )
    command = f"[sys.executable, '-c', {child!r}]"
    code = f"import sys; from support.missing_runs import call; print(call({command}, print))"
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until((tmp_path / "ready").exists)
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.wait(60) != 0
        assert (tmp_path / "saved").exists()
    finally:
        parent.kill()
        parent.wait()


def test_the_page_from_a_real_run(script, tmp_path):
    pytest.importorskip("torch")
    options = ("--dataset", "synthetic", "--train-size", 100, "--epochs", 1, "--threads", 1)
    for name, *more in (("train.py",), ("pytorch_cifar.py", "--no-views", "--device", "cpu")):
        done = script(name, *options, *more)
        assert done.returncode == 0, done.stderr
    done = script("report.py")
    assert done.returncode == 0, done.stderr
    text = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text
    assert "fc3 512 803,328 all" in text
    assert "python3 train.py --dataset synthetic" in text
    assert "cannot be read" not in text
    assert "The confusion matrix comes with the test" not in text


def test_facts_say_what_the_data_is(tmp_path):
    folder = write_run(tmp_path / "pytorch_cifar")
    results = json.loads((folder / "results.json").read_text())
    assert facts([Record(folder)])["data"] == ["cifar10, generated, 1,000 training images"]
    files.write_json(folder / "results.json", results | {"provenance": "unverified copy"})
    assert facts([Record(folder)])["data"] == [
        "cifar10, unverified copy (not the official files: another checksum), 1,000 training images"
    ]
    files.write_json(folder / "results.json", results | {"trains_with_valid": True})
    assert facts([Record(folder)])["data"] == [
        "cifar10, generated, 1,000 training images, those for validation among them"
    ]


def test_what_a_shorter_run_was_tested_with_is_not_shown_while_it_is_prolonged(tmp_path):
    write_run(tmp_path / "train")
    assert sections.task_1(tmp_path)["confusion"] is not None
    results = files.read_json(tmp_path / "train" / "results.json")
    files.write_json(tmp_path / "train" / "results.json", results | {"status": "interrupted"})
    assert sections.task_1(tmp_path)["confusion"] is None
