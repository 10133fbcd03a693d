import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from support.run import Run

import numpy as np
import pytest
from skimage.io import imread

import bare_layers
import fast_layers
import nn
import train
import train_l2reg
from conftest import ROOT, run_files, run_script, start_slowly

SMALL = ("--dataset", "synthetic", "--train-size", 300, "--epochs", 3)  # 6 steps an epoch
SMALL += ("--threads", 1)  # unless another number follows; the last one counts


def history(folder):
    """history.csv without the seconds."""
    with (folder / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def results(folder):
    return json.loads((folder / "results.json").read_text())


def weights(folder):
    with np.load(folder / "model.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def assert_same_run(folder, other):
    assert history(folder) == history(other)
    ours, theirs = weights(folder), weights(other)
    assert list(ours) == list(theirs)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    for key in ("test_loss", "test_acc", "precision", "recall", "epochs", "status"):
        assert results(folder)[key] == results(other)[key]


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    """The folder of a run that nothing disturbed, and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    done = run_script("train.py", *SMALL, "--threads", 2, data_dir=data_dir, save_dir=folder)
    assert done.returncode == 0, done.stderr
    return folder / "train", done.stdout


def test_every_file_of_the_run_folder(whole):
    folder, out = whole
    assert {path.name for path in folder.iterdir()} == run_files("npz")
    filters = sorted(path.name for path in (folder / "filters").iterdir())
    assert filters == [
        "epoch_00_step_000000.png",
        *(f"epoch_{epoch:02d}_step_000006.png" for epoch in (1, 2, 3)),
    ]
    assert imread(folder / "filters" / filters[0]).shape[1] > 8 * 5 * 10  # enlarged
    rows = history(folder)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["lr"]) for row in rows] == [0.1, 0.1, 0.01]
    assert all(0 <= float(row["valid_acc"]) <= 1 for row in rows)
    assert json.loads((folder / "config.json").read_text())["batch_size"] == 50
    assert weights(folder)["3.conv2.weights"].shape == (32, 400)
    assert "everything is in" in out


def test_results_say_what_was_run_on_what(whole):
    folder, out = whole
    said = results(folder)
    assert (said["status"], said["dataset"], said["provenance"]) == (
        "finished",
        "mnist",
        "generated",
    )
    assert (said["seed"], said["threads"], said["device"], said["epochs"]) == (0, 2, "cpu", 3)
    assert {"python", "numpy"} <= set(said["versions"])
    assert len(said["precision"]) == len(said["recall"]) == 10
    assert f"accuracy {said['test_acc']:.2%}" in out
    assert out.count("generated stand-in") == 2  # at the start and at the end
    with (folder / "confusion_matrix.csv").open() as file:
        counts = [[int(row[str(k)]) for k in range(10)] for row in csv.DictReader(file)]
    assert np.sum(counts) == 10_000
    assert np.trace(counts) / 10_000 == pytest.approx(said["test_acc"])
    with (folder / "worst_20.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 20
    assert losses == sorted(losses, reverse=True)


def test_the_same_seed_gives_the_same_bits_and_the_earlier_run_stays(script, whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "out" / "train")
    done = script("train.py", *SMALL, "--threads", 2)
    assert done.returncode == 0, done.stderr
    assert "the earlier run is kept in" in done.stdout
    for name in ("train", "train.1"):
        assert_same_run(tmp_path / "out" / name, whole[0])


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_resumed_with_the_same_bits(kill, script, whole, data_dir, tmp_path):
    """Ended after the first epoch, wherever the second one is by then."""
    folder = tmp_path / "out" / "train"
    process = start_slowly(
        "train.py",
        *(*SMALL, "--threads", 2),
        data_dir=data_dir,
        save_dir=tmp_path / "out",
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not (folder / "history.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(kill)
    _, err = process.communicate(timeout=300)
    if kill == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        assert results(folder)["status"] == "running"
    else:
        assert process.returncode == 128 + kill
        assert results(folder)["status"] == "interrupted"
        command = f"python3 {ROOT / 'train.py'} --save-dir {tmp_path / 'out'} --resume"
        assert f"{command} goes on from there" in err
        assert err.count("\n") == 1
    done = script("train.py", "--resume")  # with the options it had
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stdout
    assert_same_run(folder, whole[0])
    again = script("train.py", *SMALL, "--threads", 2, "--resume")
    assert again.returncode == 0
    assert "nothing to resume" in again.stdout


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "--epochs: expected a number of at least 1, got 0"),
        (["--batch-size", "0"], "--batch-size: expected a number of at least 1, got 0"),
        (["--train-size", "55001"], "--train-size: there are 55000 training images, got 55001"),
        (["--momentum", "0.9"], "unrecognized arguments: --momentum"),
        (["--dataset", "mnist"], "missing and could not be downloaded"),
        (["--data-dir", "broken", "--dataset", "mnist"], "no IDX file"),
        (["--save-dir", "file/inside"], "cannot write to"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(
    script, tmp_path, monkeypatch, options, message
):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody answers there
    (tmp_path / "file").write_text("")
    (tmp_path / "broken" / "MNIST" / "raw").mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / "broken" / "MNIST" / "raw" / f"{name}-ubyte").write_text("<html></html>")
    before = sorted(tmp_path.rglob("*"))
    if "--dataset" not in options:
        options = ["--dataset", "synthetic", *options]
    done = script("train.py", *options)
    assert done.returncode not in (0, None)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_of_another_network_is_refused(script, tmp_path):
    assert script("train.py", *SMALL).returncode == 0
    folder = tmp_path / "out" / "train"
    other = Run.start(tmp_path / "other")
    other.restore_arrays({"0.conv1.weights": np.zeros((4, 9))})
    other.save_checkpoint()
    (tmp_path / "other" / "checkpoint.npz").replace(folder / "checkpoint.npz")
    (folder / "results.json").unlink()
    done = script("train.py", *SMALL, "--resume")
    assert done.returncode == 1
    assert "is of another network" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_rate_that_is_too_large_ends_as_diverged(script, tmp_path):
    done = script("train.py", *SMALL, "--lr-scale", 1e6)
    assert done.returncode == 1
    assert "try a smaller --lr-scale" in done.stderr
    assert results(tmp_path / "out" / "train")["status"] == "diverged"


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of that kind")
def test_a_checkpoint_without_room_ends_in_one_line_and_can_be_resumed(script, whole, tmp_path):
    """As a full disk does; here a limit on the size of files is met."""
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))

    done = script("train.py", *SMALL, "--threads", 2, preexec_fn=limit)
    assert done.returncode == 1
    assert "checkpoint.npz" in done.stderr
    assert "a limit on the size of files was met" in done.stderr
    assert done.stderr.count("\n") == 1
    folder = tmp_path / "out" / "train"
    assert not [path.name for path in folder.rglob(".part-*")]
    done = script("train.py", *SMALL, "--threads", 2, "--resume")
    assert done.returncode == 0, done.stderr
    assert_same_run(folder, whole[0])


def test_a_second_run_at_once_into_the_same_folder_is_refused(data_dir, script, tmp_path):
    process = subprocess.Popen(
        [sys.executable, ROOT / "train.py", "--dataset", "synthetic"],
        env={**os.environ, "DATA_DIR": str(data_dir), "SAVE_DIR": str(tmp_path / "out")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "out" / "train" / "results.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    done = script("train.py", *SMALL)
    process.kill()
    process.wait()
    assert done.returncode == 1
    assert f"is in use by process {process.pid}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_names_with_spaces_and_letters_beyond_ascii(script, tmp_path):
    folder = tmp_path / "moj izlaz č"
    done = script("train.py", *SMALL, "--epochs", 1, "--save-dir", folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "train" / "worst_20.png").exists()


def test_a_reader_that_has_seen_enough(data_dir, tmp_path):
    command = f"{sys.executable} {ROOT / 'train.py'} {' '.join(map(str, SMALL))} | head -n 1"
    done = subprocess.run(
        command,
        shell=True,
        env={**os.environ, "DATA_DIR": str(data_dir), "SAVE_DIR": str(tmp_path / "out")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "ignored" not in done.stderr


# --- layers of a student ------------------------------------------------------------------------


def steps(layers, loss_of_net, num_steps=3):
    """The network of the lab after a few steps of training on random images: its parameters."""
    rng = np.random.default_rng(4)
    net = train.build_net(layers, 5, np.random.default_rng(0), np.float64)
    loss = loss_of_net(net)
    for _ in range(num_steps):
        x, y = rng.standard_normal((5, 1, 28, 28)), np.eye(10)[rng.integers(10, size=5)]
        grads = nn.backward_pass(net, loss, nn.forward_pass(net, x), y)
        nn.sgd_update_params(grads, {"lr": 0.01})
    return nn.parameters(net)


def test_layers_with_the_exercises_interface_and_no_more_train_as_ours():
    def regularized(layers):
        return steps(layers, lambda net: train_l2reg.regularized_loss(layers, net, 0.1))

    ours, theirs = regularized(fast_layers), regularized(bare_layers)
    assert list(ours) == list(theirs)
    for name in ours:
        np.testing.assert_allclose(theirs[name], ours[name], rtol=0, atol=1e-10)


def test_layers_in_a_file_anywhere(script, tmp_path):
    path = tmp_path / "my layers.py"
    path.write_text("from layers import *\nfrom small_help import GREETING\nprint(GREETING)\n")
    (tmp_path / "small_help.py").write_text("GREETING = 'what lies beside a file is found, too'")
    done = script("train.py", *SMALL, "--epochs", 1, "--layers", path)
    assert done.returncode == 0, done.stderr
    assert "what lies beside" in done.stdout
    assert "my layers.py, 1 thread(s)" in done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.py", "--layers none.py: no such file"),
        ("none", "--layers none: no such module; a file is named with its .py"),
        ("folder/none.py", "--layers folder/none.py: no such file"),
    ],
)
def test_layers_that_are_not_there(script, name, message):
    done = script("train.py", *SMALL, "--layers", name)
    assert (done.returncode, done.stderr) == (1, f"train.py: error: {message}\n")


def test_a_gap_says_what_is_to_do(script, tmp_path):
    code = """import layers
from layers import *
class ReLU(layers.ReLU):
    def forward(self, x):
        raise NotImplementedError("Task 1: ReLU.forward")
"""
    (tmp_path / "mine.py").write_text(code)
    done = script("train.py", *SMALL, "--layers", tmp_path / "mine.py")
    assert done.returncode == 1
    assert "error: Task 1: ReLU.forward: still to be written; check_grads.py lists" in done.stderr
    assert "Traceback" not in done.stderr


# --- beside training ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train.py", "train_l2reg.py"])
def test_summary_needs_no_data_and_writes_nothing(script, tmp_path, name):
    done = script(name, "--summary", "--data-dir", tmp_path / "none")
    assert done.returncode == 0, done.stderr
    assert "821,706" in done.stdout
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "none").exists()


def test_help_names_every_option_and_its_default(script):
    done = script("train.py", "--help")
    assert done.returncode == 0
    for name in [
        "data-dir",
        "save-dir",
        "dataset",
        "train-size",
        "epochs",
        "batch-size",
        "lr-scale",
        "seed",
    ]:
        assert f"--{name}" in done.stdout
    assert "[8]" in done.stdout
