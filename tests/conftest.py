"""What all tests share: options of pytest, small data, scripts run as a user runs them.

python -m pytest --numpy-only                  # the NumPy half; PyTorch need not be installed
python -m pytest --instruction-set sse2        # as on a processor that has no more
python -m pytest --test-threads 1              # kernels and PyTorch on one thread
"""

import ast
import dataclasses
import functools
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from support import data, standins

import filelock
import hypothesis
import numpy as np
import pytest

import kernels

ROOT = Path(__file__).resolve().parent.parent

# what a user has set for other programs, and what torchrun or a proxy leaves behind
FOREIGN = ("SAVE_DIR", "MPLBACKEND", "MATPLOTLIBRC", "FORCE_COLOR", "PYTHON_COLORS", "COLUMNS")
FOREIGN += ("PYTHONSAFEPATH", "PYTHONIOENCODING", "PYTHONWARNINGS", "PYTHONOPTIMIZE", "PYTHONUTF8")
FOREIGN += ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

hypothesis.settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
standins._glyph_distances = functools.cache(standins._glyph_distances)  # drawn from in many tests


# --- options ------------------------------------------------------------------------------------


def pytest_addoption(parser):
    group = parser.getgroup("the course lab")
    group.addoption("--numpy-only", action="store_true", help="leave out what needs PyTorch")
    group.addoption("--instruction-set", help="of the kernels, in this process: sse2, avx2, ...")
    group.addoption("--test-threads", type=int, help="of kernels and PyTorch, in this process")


def pytest_configure(config):
    hypothesis.settings.load_profile("suite")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background jobs
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("REAL_DATA_DIR", os.environ.pop("DATA_DIR", "") or str(ROOT / "datasets"))
    for name in list(os.environ):
        foreign = name.upper().endswith("_PROXY") or name.startswith(("TORCH", "TQDM_"))
        if foreign or name in FOREIGN:
            del os.environ[name]
    if config.option.instruction_set:
        kernels.set_instruction_set(config.option.instruction_set)
    if config.option.test_threads:
        kernels.set_num_threads(config.option.test_threads)
    if config.option.numpy_only:
        sys.meta_path.insert(0, NoTorch())


class NoTorch:
    """An importer after which PyTorch is not installed, whether it is or not."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}, because of --numpy-only")


def is_without_torch(config):
    return config.option.numpy_only or find_spec("torch") is None


def pytest_report_header(config):
    return "without PyTorch: its tests are left out" if is_without_torch(config) else None


def pytest_ignore_collect(collection_path, config):
    """Leave out the files that need PyTorch where there is none."""
    if collection_path.suffix == ".py" and is_without_torch(config):
        return True if needs_torch(collection_path) else None
    return None


def imported(path):
    """The names of the modules, and of what is in them, that a file cannot be imported without."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@functools.cache
def needs_torch(path):
    """Whether a file, or one of ours that it imports, cannot be imported without PyTorch."""
    places = [name.replace(".", "/") for name in imported(path)]
    ours = [folder / f"{place}.py" for place in places for folder in (ROOT, ROOT / "tests")]
    is_torch = any(place.partition("/")[0] == "torch" for place in places)
    return is_torch or any(needs_torch(p) for p in ours if p.exists() and p != path)


# --- every test begins in the same state --------------------------------------------------------


@pytest.fixture(autouse=True)
def _as_it_was(request):
    """What a test has changed of the process is set back; global random numbers begin anew."""
    threads, instruction_set = kernels.get_num_threads(), kernels.get_instruction_set()
    environment, folder, argv = dict(os.environ), Path.cwd(), sys.argv.copy()
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
        torch.set_num_threads(request.config.option.test_threads or 1)  # or they fight for cores
    yield
    kernels.set_num_threads(threads)
    kernels.set_instruction_set(instruction_set)
    sys.argv[:] = argv
    os.chdir(folder)
    if dict(os.environ) != environment:
        os.environ.clear()
        os.environ.update(environment)


# --- data and scripts ---------------------------------------------------------------------------


def run_files(kind, *more):
    """The names in the folder of a finished run; kind: npz or pt, of model and checkpoint."""
    tables = {"config.json", "history.csv", "results.json", "confusion_matrix.csv", "worst_20.csv"}
    curves = {"training_plot.png", "confusion_matrix.png", "worst_20.png"}
    filters = {"filters", "filters_before_after.png"}
    return tables | curves | filters | {"page", f"model.{kind}", f"checkpoint.{kind}", *more}


@pytest.fixture(scope="session")
def digits():
    """Some hundred generated digits as a data.Dataset: 500 / 5,000 / 200 images."""
    images, labels = standins.draw_digits(5_700, seed=1)
    arrays = images[:5_500], labels[:5_500], images[5_500:], labels[5_500:]
    return data._mnist_dataset(arrays, "generated", None)


def repeated(draw):
    """draw, but of a tenth of the images, ten times each."""

    def tenth(num, seed):
        images, labels = draw(-(-num // 10), seed)
        return np.concatenate([images] * 10)[:num], np.concatenate([labels] * 10)[:num]

    return tenth


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A DATA_DIR that holds the generated stand-ins, each image ten times, and nothing else.

    The processes of pytest-xdist share it: the first that wants it draws it.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "stand-ins"
    with filelock.FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as patch:
        if not folder.exists():
            patch.setattr(standins, "draw_digits", repeated(standins.draw_digits))
            patch.setattr(standins, "draw_shapes", repeated(standins.draw_shapes))
            part = folder.with_suffix(".part")
            data.load_mnist(part, "synthetic", 1)
            data.load_cifar10(part, "synthetic", 1)
            part.rename(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_cifar(data_dir):
    """The generated stand-in of CIFAR-10 as a data.Dataset: 60 / 40 / 30 images."""
    cifar = data.load_cifar10(data_dir, "synthetic", 60)
    few = {"valid_x": 40, "valid_y": 40, "test_x": 30, "test_y": 30}
    return dataclasses.replace(cifar, **{k: getattr(cifar, k)[:n] for k, n in few.items()})


# a script whose steps after the first epoch take so long that a signal never comes too late
SLOW = """
import runpy, sys, time
sys.path.insert(0, sys.argv[1])
from support.run import Run
count = Run.count
Run.count = lambda run, *args: (time.sleep(2 * (run.position.epoch > 1)), count(run, *args))
sys.argv[:2] = []
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start_slowly(name, *options, data_dir, save_dir, **kwargs):
    """Start a script that can be stopped in its second epoch."""
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, str(ROOT), str(ROOT / name), *map(str, options)],
        env={**os.environ, "DATA_DIR": str(data_dir), "SAVE_DIR": str(save_dir)},
        encoding="utf-8",
        **kwargs,
    )


def run_script(name, *options, data_dir, save_dir, **kwargs):
    """Run a script as a user would, from another folder; warnings are errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", ROOT / name, *map(str, options)],
        env={**os.environ, "DATA_DIR": str(data_dir), "SAVE_DIR": str(save_dir)},
        cwd=Path(save_dir).parent,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        **kwargs,
    )


@pytest.fixture
def script(data_dir, tmp_path):
    """Run a script on the generated images; its runs are in tmp_path / "out"."""
    return functools.partial(run_script, data_dir=data_dir, save_dir=tmp_path / "out")


@pytest.fixture(scope="session")
def real_data_dir():
    """DATA_DIR, or datasets/ beside the scripts, where it holds the real MNIST."""
    folder = Path(os.environ["REAL_DATA_DIR"])
    if not list((folder / "MNIST" / "raw").glob("train-images-idx3-ubyte*")):
        pytest.skip(f"no real MNIST in {folder}")
    return folder


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=kernels.instruction_sets())
def instruction_set(request):
    """Every way to convolve and to multiply that this processor has, one after the other."""
    kernels.set_instruction_set(request.param)  # _as_it_was sets it back
    return request.param
