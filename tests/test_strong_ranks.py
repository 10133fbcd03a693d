"""Two processes on the CPU, as torchrun starts them, each with one thread, on tiny data."""

import csv
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time

from support import torch_training
from support.errors import RunError
from support.run import Run

import numpy as np
import pytest
import torch

from conftest import ROOT
from strong import hard_images, ranks

# what a rank runs: the script, on data that is read in no time
PROGRAM = """
import os, pickle, sys, tempfile, time
sys.path.insert(0, {root!r})
import pytorch_cifar, torch
from strong import network, training
from support import data
from support.run import Run

def tiny(*ignored):
    with open({dataset!r}, "rb") as file:
        return pickle.load(file)

data.load_cifar10 = tiny
network.SIZES["medium"] = (8, 16, 16), False
if __name__ == "__main__":
    {before}
    pytorch_cifar.main()
"""
OPTIONS = ("--model", "strong", "--epochs", 2, "--threads", 2, "--device", "cpu")
STRONG = (*OPTIONS, "--batch-size", 25)
# without random numbers, and with nothing that looks at a batch as a whole, only roundings differ
ALIKE = (*OPTIONS, "--shift", 0, "--skip", 0, "--no-muon", "--lr-scale", 0.01, "--batch-size", 23)
ALIKE += ("--no-bfloat16",)
NO_NORMALIZATION = "torch.nn.BatchNorm2d = torch.nn.Identity"
LOSE_RANK_1 = """
    set_rates = training.set_learning_rates
    def set_rates_or_die(config, optimizers, peaks, progress):
        if os.environ["RANK"] == "1" and progress > 0.7:
            os._exit(9)
        return set_rates(config, optimizers, peaks, progress)
    training.set_learning_rates = set_rates_or_die
    # rank 0 has not said anything yet when torchrun wants to end it, too
    clean_up = tempfile.TemporaryDirectory.cleanup
    tempfile.TemporaryDirectory.cleanup = lambda self: (time.sleep(2), clean_up(self))
"""
SLOW_STEPS = """
    count = Run.count
    Run.count = lambda *args: (time.sleep(1), count(*args))
"""


@pytest.fixture(scope="module")
def start(tiny_cifar, tmp_path_factory):
    """Start the program on one or two ranks; before: statements that each executes first."""
    programs = tmp_path_factory.mktemp("programs")
    dataset = tmp_path_factory.mktemp("dataset") / "tiny.pickle"
    dataset.write_bytes(pickle.dumps(tiny_cifar))

    def start(num_ranks, folder, *options, before="pass"):
        program = programs / f"program_{len(list(programs.iterdir()))}.py"
        filled = PROGRAM.format(root=str(ROOT), dataset=str(dataset), before=before.strip())
        program.write_text(filled)
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command = [sys.executable, *launcher[: None if num_ranks > 1 else 0], program]
        env = {**os.environ, "SAVE_DIR": str(folder)}
        return subprocess.Popen(
            [*command, *map(str, options)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """The folder of a run on two ranks that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    finish(start(2, folder, *STRONG))
    return folder


def finish(process, status=0):
    out, err = process.communicate(timeout=600)
    assert process.returncode == status, err
    return out, err


def history(folder):
    with (folder / "pytorch_cifar" / "history.csv").open() as file:
        rows = csv.DictReader(file)
        return [[float(v) for k, v in row.items() if k != "seconds"] for row in rows]


def model(folder):
    return torch.load(folder / "pytorch_cifar" / "model.pt", weights_only=True)


def results(folder):
    return json.loads((folder / "pytorch_cifar" / "results.json").read_text())


def assert_same_run(folder, other):
    assert history(folder) == history(other)
    ours, theirs = model(folder), model(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_two_ranks_train_as_one_does(start, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start(1, one, *ALIKE, before=NO_NORMALIZATION))
    out, err = finish(start(2, two, *ALIKE, before=NO_NORMALIZATION))
    assert "destroy_process_group" not in err  # PyTorch's warning where that is left out
    assert "2 processes, each with 1 thread(s)" in out
    assert out.count("epoch 2/2: lr") == 1  # rank 0 alone prints
    # of the accuracies, rounding may cross a tie: of one image in 60, or in 40
    np.testing.assert_allclose(history(two), history(one), rtol=1e-3, atol=1.5 / 40)
    losses = [[(row[2], row[4]) for row in history(folder)] for folder in (two, one)]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    ours, theirs = model(two), model(one)
    for name in theirs:
        assert torch.allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-5)
    assert [path.name for path in two.glob("[!.]*")] == ["pytorch_cifar"]
    assert (results(two)["status"], results(two)["processes"]) == ("finished", 2)


def test_each_rank_knows_the_losses_that_the_other_has_seen(whole):
    checkpoint = torch.load(whole / "pytorch_cifar" / "checkpoint.pt", weights_only=True)
    selection = checkpoint["state"]["selection"]
    assert (selection["losses"] < hard_images.MUST_BE_SEEN).all()
    assert sorted(selection["times_seen"].tolist()) == [1] * 20 + [2] * 40


def test_a_lost_rank_ends_the_run_and_it_is_resumed_with_the_same_bits(start, whole, tmp_path):
    _, err = finish(start(2, tmp_path, *STRONG, before=LOSE_RANK_1), status=1)
    assert "another process of this run was lost; the same command with --resume goes on" in err
    assert results(tmp_path)["status"] == "interrupted"
    out, _ = finish(start(2, tmp_path, *STRONG, "--resume"))
    assert "in epoch 2 after step 0" in out
    assert_same_run(tmp_path, whole)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_signal_stops_all_ranks_after_the_same_step(start, whole, tmp_path):
    process = start(2, tmp_path, *STRONG, before=SLOW_STEPS)
    checkpoint = tmp_path / "pytorch_cifar" / "checkpoint.pt"
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=600)
    assert process.returncode != 0
    assert re.search(r"interrupted in epoch \d after step \d", err), err
    assert "lost" not in err
    finish(start(2, tmp_path, *STRONG, "--resume"))
    assert_same_run(tmp_path, whole)


def test_one_rank_is_on_its_own(tmp_path):
    assert (ranks.rank(), ranks.size(), ranks.on_this_machine()) == (0, 1, 1)
    assert ranks.summed(1.5, 2) == (1.5, 2)
    assert ranks.in_parts(str, [1, 2, 3]) == ["1", "2", "3"]
    batch = np.arange(5)
    assert ranks.share(batch)[0].tolist() == batch.tolist()
    with ranks.one_run(tmp_path) as folder:
        assert folder == tmp_path


def test_one_process_under_torchrun_leaves_its_group(tmp_path):
    where = {"init_method": f"file://{tmp_path / 'group'}", "rank": 0, "world_size": 1}
    ranks.distributed.init_process_group("gloo", **where)
    with ranks.one_run(tmp_path) as folder:
        assert folder == tmp_path
    assert not ranks.distributed.is_initialized()


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("mps", "processes cannot share a training on mps; --device cpu can"),
        ("cuda", "expected a GPU for each process, got 1; --device cpu can do"),
    ],
)
def test_devices_that_ranks_cannot_share_are_refused(device, message, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(ranks.distributed, "is_nccl_available", lambda: True)
    with pytest.raises(RunError, match=message):
        ranks.join(torch.device(device))


def test_the_labs_networks_refuse_to_run_under_torchrun(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with pytest.raises(RunError, match=r"only .* --model strong runs on several devices"):
        torch_training.prepare(torch_training.Config())


@pytest.mark.parametrize("num_images", [1, 2, 5, 6])
def test_the_shares_of_a_batch_are_all_of_it_and_their_means_its_mean(num_images, monkeypatch, rng):
    monkeypatch.setattr(ranks, "size", lambda: 3)
    batch = rng.permutation(100)[:num_images]
    values = rng.standard_normal(100)
    images, means = [], []
    for rank in range(3):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        share, weight = ranks.share(batch)
        assert len(share)
        means.append(weight * values[share].mean())
        images += share.tolist() if weight else []
    assert sorted(images) == sorted(batch)
    assert np.mean(means) == pytest.approx(values[batch].mean())


@pytest.mark.parametrize("error", [RunError("no data"), RuntimeError("a bug")])
def test_another_error_is_no_lost_rank(error, monkeypatch, tmp_path):
    monkeypatch.setattr(ranks, "size", lambda: 2)
    with pytest.raises(type(error), match=f"^{error}$"), ranks.one_run(tmp_path):
        raise error


def test_what_a_rank_begins_with_is_sent_from_the_processors_memory(monkeypatch, tmp_path):
    class OnAGpu:
        """As much of such a tensor as can be had without a GPU."""

        def detach(self):
            return self

        def to(self, device, copy):
            return torch.ones(3, device=device)

    class Part:
        def state_dict(self):
            return {"weight": OnAGpu()}

    sent = []
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(
        ranks.distributed, "broadcast_object_list", lambda content, src: sent.extend(content)
    )
    run = Run(tmp_path, {}, {}, None)
    run.history = [{"epoch": 1}]
    ranks.follow(run, model=Part())
    assert torch.equal(sent[0][-1]["model"]["weight"], torch.ones(3))
