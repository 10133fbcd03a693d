import csv
import json
import signal
import subprocess
import time

from support import plots, torch_training
from support.errors import Diverged, Interrupted, RunError
from support.locks import unlock
from support.options import parse
from support.run import Run

import numpy as np
import pytest
import torch

import pytorch_cifar
from conftest import run_files, run_script, start_slowly
from strong import training

SMALL = ("--dataset", "synthetic", "--train-size", 200, "--epochs", 2, "--threads", 2)
SMALL += ("--device", "cpu", "--no-views")


def test_number_of_parameters_and_shapes(rng):
    model = pytorch_cifar.ConvolutionalModel(rng)
    assert sum(parameter.numel() for parameter in model.parameters()) == 449_898
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0, 0.5, 1, 0.5, 0]),
        ("cosine", [0, 0.5, 1, 0.5, 0]),
        ("steps", [0, 0.5, 1, 0.1, 0.01]),
        ("constant", [0, 0.5, 1, 1, 1]),
    ],
)
def test_learning_rate(schedule, expected):
    config = pytorch_cifar.Config(lr=0.5, lr_scale=2, schedule=schedule)
    rates = [pytorch_cifar.learning_rate(config, progress) for progress in (0, 0.1, 0.2, 0.6, 1)]
    assert rates == pytest.approx(expected, abs=0.01)


def test_jitter_shifts_and_mirrors_each_image_by_itself(rng):
    images = torch.from_numpy(rng.random((400, 3, 32, 32)).astype(np.float32))
    jittered = pytorch_cifar.jittered(images, np.random.default_rng(1), 4)
    assert jittered.shape == images.shape
    assert torch.equal(jittered, pytorch_cifar.jittered(images, np.random.default_rng(1), 4))
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)))
    counts = {}
    for image, source in zip(jittered.numpy(), padded, strict=True):
        found = [
            (dy, dx, mirrored)
            for dy in range(9)
            for dx in range(9)
            for mirrored in (False, True)
            if np.array_equal(
                image, source[:, dy : dy + 32, dx : dx + 32][:, :, :: -1 if mirrored else 1]
            )
        ]
        assert len(found) == 1
        counts[found[0]] = counts.get(found[0], 0) + 1
    shifts = np.array([key for key, count in counts.items() for _ in range(count)])
    assert len({key[0] for key in counts}) == len({key[1] for key in counts}) == 9
    assert 0.4 < shifts[:, 2].mean() < 0.6
    assert abs(shifts[:, :2].mean() - 4) < 0.4


def test_views_are_the_mean_over_shifted_images_and_their_mirrors(rng):
    model = pytorch_cifar.ConvolutionalModel(rng)
    images = torch.from_numpy(rng.standard_normal((7, 3, 32, 32)).astype(np.float32))
    views = torch_training.predict(torch_training.Views(model, {(0, 0): 0.5, (-1, 2): 0.5}), images)
    padded = torch.from_numpy(np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), "reflect"))
    shifted = padded[:, :, 1:33, 4:36]
    outputs = [torch_training.predict(model, x) for x in (images, shifted)]
    outputs += [torch_training.predict(model, x.flip(3)) for x in (images, shifted)]
    assert torch.allclose(views, sum(outputs) / 4, atol=1e-5)
    assert not torch.allclose(views, outputs[0], atol=1e-2)
    assert sum(pytorch_cifar.VIEW_SHIFTS.values()) == pytest.approx(1)


def test_bfloat16_changes_the_outputs_by_rounding_only(rng):
    images = torch.from_numpy(rng.standard_normal((20, 3, 32, 32)).astype(np.float32))
    plain, rounded = (
        torch_training.predict(
            pytorch_cifar.ConvolutionalModel(np.random.default_rng(0), bfloat16), images
        )
        for bfloat16 in (False, True)
    )
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - plain).abs().max() < 0.05 * plain.abs().max()


def test_pooling_before_relu_changes_no_output_and_no_gradient(rng):
    """What forward does is what the lab says, with two layers the other way round."""
    model = pytorch_cifar.ConvolutionalModel(rng)
    images = torch.from_numpy(rng.standard_normal((6, 3, 32, 32)).astype(np.float32))
    h = images
    for conv in (model.conv1, model.conv2):
        h = torch.nn.functional.max_pool2d(conv(h).relu(), 3, stride=2)
    expected = model.fc_logits(model.fc2(model.fc1(h.flatten(1)).relu()).relu())
    weights = torch.from_numpy(rng.standard_normal((6, 10)).astype(np.float32))
    logits = model(images)
    grads = [
        torch.autograd.grad((out * weights).sum(), list(model.parameters()))
        for out in (logits, expected)
    ]
    assert torch.allclose(logits, expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(*grads, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("epochs", "most"), [(29, 2), (30, 4)])
def test_long_runs_have_more_jitter(epochs, most, tiny_cifar, tmp_path, monkeypatch):
    shifts = set()

    def jittered(images, rng, shift):
        shifts.add(shift)
        raise Diverged("enough")

    monkeypatch.setattr(pytorch_cifar, "jittered", jittered)
    config = pytorch_cifar.Config(epochs=epochs, device="cpu", threads=1, save_dir=str(tmp_path))
    with pytest.raises(Diverged):
        pytorch_cifar.run(config, tiny_cifar)
    assert shifts == {most}


def test_another_network_is_trained_by_its_own_script(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(training, "main", calls.append)
    pytorch_cifar.main(["--model", "strong", "--size", "large"])
    assert calls == [["--model", "strong", "--size", "large"]]
    with pytest.raises(SystemExit):
        pytorch_cifar.main(["--model", "strange"])
    assert "expected one of lab, strong, resnet18" in capsys.readouterr().err


def test_a_rate_that_is_too_large_ends_as_diverged(tiny_cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(pytorch_cifar.data, "load_cifar10", lambda *_: tiny_cifar)
    options = ["--device", "cpu", "--threads", "1", "--epochs", "20", "--lr-scale", "1e6"]
    with pytest.raises(SystemExit, match="try a smaller --lr-scale"):
        pytorch_cifar.main(["--save-dir", str(tmp_path), *options])
    results = json.loads((tmp_path / "pytorch_cifar" / "results.json").read_text())
    assert results["status"] == "diverged"


def test_evaluate_prints_and_returns_loss_and_confusion_and_trains_nothing(rng, capsys):
    model = pytorch_cifar.ConvolutionalModel(rng)
    images = torch.from_numpy(rng.standard_normal((501, 3, 32, 32)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(10, size=501))
    before = [parameter.clone() for parameter in model.parameters()]
    names = [f"class {k}" for k in range(10)]
    loss, confusion = pytorch_cifar.evaluate(model, images, labels, "valid", names)
    with torch.no_grad():
        logits = model(images)
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert confusion.sum() == 501
    accuracy = (logits.argmax(1) == labels).double().mean().item()
    assert confusion.trace() == round(501 * accuracy)
    out = capsys.readouterr().out
    assert f"accuracy {accuracy:.2%}" in out
    assert "class 9" in out
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    """The folder of a run that nothing disturbed, and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    done = run_script("pytorch_cifar.py", *SMALL, data_dir=data_dir, save_dir=folder)
    assert done.returncode == 0, done.stderr
    return folder / "pytorch_cifar", done.stdout


def history(folder):
    with (folder / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_same_run(folder, other):
    assert history(folder) == history(other)
    ours, theirs = (torch.load(path / "model.pt", weights_only=True) for path in (folder, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_every_file_of_the_run_folder(whole):
    folder, out = whole
    assert {path.name for path in folder.iterdir()} == run_files("pt")
    results = json.loads((folder / "results.json").read_text())
    assert (results["status"], results["provenance"]) == ("finished", "generated")
    assert len(results["recall"]) == 10
    assert out.count("generated stand-in") == 2
    rows = history(folder)
    last, first = (float(row["lr"]) for row in (rows[-1], rows[0]))  # of an epoch's last step
    assert 0 < last < first < 0.05


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_is_resumed_with_the_same_bits(kill, whole, script, data_dir, tmp_path):
    folder = tmp_path / "out" / "pytorch_cifar"
    options = (*SMALL, "--checkpoint-minutes", 0)  # after each step
    process = start_slowly(
        "pytorch_cifar.py",
        *options,
        data_dir=data_dir,
        save_dir=tmp_path / "out",
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not (folder / "history.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(kill)
    assert process.wait(timeout=300) != 0
    done = script("pytorch_cifar.py", "--resume")  # with the options it had
    assert done.returncode == 0, done.stderr
    assert_same_run(folder, whole[0])


@pytest.mark.parametrize(
    ("network", "options"), [(pytorch_cifar, {}), (training, {"cutout": 6, "size": "small"})]
)
def test_a_resumed_run_draws_the_same_random_numbers(
    network, options, tiny_cifar, tmp_path, monkeypatch
):
    def train(name, resume=False):
        options.update(device="cpu", threads=1, epochs=2, batch_size=25, resume=resume)
        network.run(network.Config(save_dir=str(tmp_path / name), **options), tiny_cifar)
        return torch.load(tmp_path / name / "pytorch_cifar" / "model.pt", weights_only=True)

    def end_and_stop(run, validate, then=None):
        end_epoch(run, validate, then)
        raise Interrupted(15, "stopped")

    expected = train("whole")
    end_epoch = Run.end_epoch
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Run, "end_epoch", end_and_stop)
        train("stopped")
    resumed = train("stopped", resume=True)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


@pytest.mark.parametrize("absent", ["mps", "cuda"])
def test_a_device_that_is_absent_is_refused_in_one_line(absent, tiny_cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(pytorch_cifar.data, "load_cifar10", lambda *_: tiny_cifar)
    with pytest.raises(SystemExit) as stop:
        pytorch_cifar.main(["--save-dir", str(tmp_path / "out"), "--device", absent])
    assert f"--device {absent}: this machine, or its PyTorch, has none" in stop.value.code
    assert "\n" not in stop.value.code
    assert not (tmp_path / "out").exists()


def test_tensorboard_that_is_missing_is_said_before_anything_is_moved(monkeypatch):
    monkeypatch.setattr(torch_training, "find_spec", lambda name: None)
    with pytest.raises(RunError, match="--tensorboard needs: python3 -m pip install"):
        torch_training.prepare(pytorch_cifar.Config(tensorboard=True))


def test_all_images_trains_with_those_for_validation_too(tiny_cifar, tmp_path, monkeypatch, capsys):
    trained, notes = [], set()

    def jittered(images, *_):
        trained.extend(image.tobytes() for image in images.numpy())
        return images

    monkeypatch.setattr(pytorch_cifar, "jittered", jittered)
    draw = plots.plot_training_progress
    monkeypatch.setattr(
        plots,
        "plot_training_progress",
        lambda folder, curves, note, *words: (notes.add(note), draw(folder, curves, note, *words)),
    )
    options = {"save_dir": str(tmp_path), "epochs": 1, "device": "cpu", "threads": 1}
    pytorch_cifar.run(pytorch_cifar.Config(all_images=True, **options), tiny_cifar)
    assert "\nvalidation, seen in training: loss" in capsys.readouterr().out
    assert notes == {f"{tiny_cifar.note}; validation images were trained with"}
    results = json.loads((tmp_path / "pytorch_cifar" / "results.json").read_text())
    assert (results["num_train"], results["trains_with_valid"]) == (100, True)
    images = np.concatenate([tiny_cifar.train_x, tiny_cifar.valid_x])
    assert sorted(trained) == sorted(image.tobytes() for image in images)


def test_tricks_can_be_switched_off():
    config = parse(pytorch_cifar.Config, ["--no-jitter", "--no-views"], "words")
    assert (config.jitter, config.average, config.views) == (False, True, False)
    assert parse(pytorch_cifar.Config, ["--jitter"], "words").jitter
