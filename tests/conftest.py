from support import data, standins

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import im2col_cython as kernels

torch.set_num_threads(1)  # PyTorch's threads would only fight those of the kernels for the cores

ROOT = Path(__file__).resolve().parent.parent


def run_files(kind, *more):
    """The names in the folder of a finished run; kind: npz or pt, of model and checkpoint."""
    tables = {"config.json", "history.csv", "results.json", "confusion_matrix.csv", "worst_20.csv"}
    curves = {"training_plot.png", "confusion_matrix.png", "worst_20.png"}
    tiles = {"confusion_examples.png", "worst_20_images.png"}
    filters = {"filters", "filters_before_after.png"}
    return tables | curves | tiles | filters | {f"model.{kind}", f"checkpoint.{kind}", *more}


@pytest.fixture(scope="session")
def digits():
    """Some hundred generated digits as a data.Dataset: 500 / 5,000 / 200 images."""
    images, labels = standins.draw_digits(5_700, seed=1)
    arrays = images[:5_500], labels[:5_500], images[5_500:], labels[5_500:]
    return data._mnist_dataset(arrays, "generated", None)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A DATA_DIR that holds the whole generated stand-ins and nothing else."""
    folder = tmp_path_factory.mktemp("data")
    standins.generated_digits(folder)
    data.load_cifar10(folder, "synthetic")
    return folder


@pytest.fixture(scope="session")
def tiny_cifar(data_dir):
    """The generated stand-in of CIFAR-10 as a data.Dataset: 60 / 40 / 30 images."""
    cifar = data.load_cifar10(data_dir, "synthetic", 60)
    few = {"valid_x": 40, "valid_y": 40, "test_x": 30, "test_y": 30}
    return dataclasses.replace(cifar, **{k: getattr(cifar, k)[:n] for k, n in few.items()})


@pytest.fixture
def script(data_dir, tmp_path):
    """Run a script as a user would, on the generated digits, from another folder."""

    def run(name, *options, **kwargs):
        env = {**os.environ, "DATA_DIR": str(data_dir), "SAVE_DIR": str(tmp_path / "out")}
        return subprocess.run(
            [sys.executable, "-W", "error", ROOT / name, *map(str, options)],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            **kwargs,
        )

    return run


@pytest.fixture(scope="session")
def real_data_dir():
    """DATA_DIR, or datasets/ beside the scripts, where it holds the real MNIST."""
    folder = Path(os.environ.get("DATA_DIR") or ROOT / "datasets")
    if not list((folder / "MNIST" / "raw").glob("train-images-idx3-ubyte*")):
        pytest.skip(f"no real MNIST in {folder}")
    return folder


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=kernels.instruction_sets())
def instruction_set(request):
    """Every way to convolve and to multiply that this processor has, one after the other."""
    best = kernels.get_instruction_set()
    kernels.set_instruction_set(request.param)
    yield request.param
    kernels.set_instruction_set(best)
