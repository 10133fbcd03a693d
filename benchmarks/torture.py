"""Kill runs and mutate data files until something gives way; nothing should.

    python3 benchmarks/torture.py              # all of it, about half an hour
    python3 benchmarks/torture.py --kills 10 --idx 500 --batches 50
    python3 benchmarks/torture.py --scripts train.py --idx 0 --batches 0

Kills: a training run on a slow disk is killed (SIGKILL) at a random moment, its files are read, it
is resumed, killed again, and so on until it finishes; then another one. All must end with the
weights and the history of the run that was never killed, bit for bit. Mutations: files of MNIST and
CIFAR-10 with bits, headers and lengths changed must be read correctly or refused in one line.
"""

import argparse
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from support import cifar10_batches, data, files, mnist_files, tables
from support.checkpoints import Arrays, Tensors
from support.start import ROOT

SCRIPTS = {"train.py": [], "pytorch_cifar.py": ["--no-views"]}  # with options of their own
SMALL = "--dataset synthetic --train-size 1000 --epochs 3 --threads 2 --checkpoint-minutes 0.001"
# the script, with a disk that takes up to a twentieth of a second to flush a file
SLOW_DISK = """
import os, random, runpy, sys, time
flush = os.fsync
os.fsync = lambda file: (time.sleep(random.random() / 20), flush(file))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(script, folder, *options):
    """The process of a script on small generated data and a slow disk."""
    command = [sys.executable, "-c", SLOW_DISK, str(ROOT / script), *SMALL.split()]
    command += [*SCRIPTS[script], *options, "--save-dir", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def outcome(folder):
    """The history without seconds, and the weights of a finished run."""
    history = tables.read_table(folder / "history.csv")
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
    if (folder / "model.npz").exists():
        return rows, files.read_arrays(folder / "model.npz")
    import torch

    tensors = torch.load(folder / "model.pt", weights_only=True)
    return rows, {name: tensor.numpy() for name, tensor in tensors.items()}


def check_readable(folder):
    """Read every file of a folder under its final name."""
    from skimage.io import imread

    for path in folder.rglob("*"):
        if path.name.startswith(".") or path.is_dir():
            continue
        if path.suffix == ".json":
            files.read_json(path)
        elif path.suffix == ".csv":
            tables.read_table(path)
        elif path.suffix == ".png":
            imread(path)
        elif path.name.startswith("checkpoint"):
            (Arrays if path.suffix == ".npz" else Tensors).read(path)


def kills(script, wanted, rng):
    """Kill runs of a script `wanted` times in all; the number of runs that this took."""
    name = script.removesuffix(".py")
    with tempfile.TemporaryDirectory() as folder:
        for whole in Path(folder, "first"), Path(folder, "whole"):  # the first may draw its data
            begun = time.monotonic()
            process = start(script, whole)
            _, err = process.communicate()
            assert process.returncode == 0, err
            seconds = time.monotonic() - begun
        expected = outcome(whole / name)
        done = num_runs = 0
        while done < wanted:
            num_runs += 1
            target = Path(folder, f"run_{num_runs}")
            resume = ()
            while True:
                process = start(script, target, *resume)
                resume = ("--resume",)
                try:
                    # mostly within training, now and then while it starts or when it has ended
                    process.wait(rng.uniform(0.2, 1.1) * seconds if done < wanted else None)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    done += 1
                err = process.communicate()[1].decode()
                check_readable(target)
                if process.returncode == 0:
                    break
                assert process.returncode == -signal.SIGKILL, err
            rows, weights = outcome(target / name)
            assert rows == expected[0], f"{target}: another history"
            for key, array in weights.items():
                assert np.array_equal(array, expected[1][key]), f"{target}: {key} differs"
            print(f"{script}: {done} kills, {num_runs} runs, all the same bits", flush=True)
    return num_runs


def mutated(content, places, rng):
    """A copy with some bytes among `places` changed, and at times cut off or made longer."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        content[int(rng.choice(places))] = int(rng.integers(256))
    what = rng.random()
    if what < 0.25:
        del content[int(rng.integers(len(content))) :]
    elif what < 0.35:
        content += rng.bytes(int(rng.integers(1, 100)))
    return bytes(content)


def mutations(title, parse, good, places, number, rng):
    """Give parse mutated files; count those that it reads and those that it refuses."""
    read = refused = 0
    slowest = 0.0
    for _ in range(number):
        content = mutated(good, places, rng)
        begun = time.perf_counter()
        try:
            parse(content, "file")
            read += 1
        except data.DataError as error:
            refused += "\n" not in str(error)
        slowest = max(slowest, time.perf_counter() - begun)
    assert read + refused == number, "an error had more than a line"
    print(f"{title}: {number} mutations, {read} read, {refused} refused, slowest {slowest:.2f} s")


def main(argv=None):
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--kills", type=int, default=50, help="of each script [50]")
    parser.add_argument("--scripts", nargs="*", default=list(SCRIPTS), help="to kill [both]")
    parser.add_argument("--idx", type=int, default=10_000, help="mutated IDX files [10000]")
    parser.add_argument("--batches", type=int, default=2_000, help="mutated batches [2000]")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random here [0]")
    options = parser.parse_args(argv)
    rng = np.random.default_rng(options.seed)

    header = bytes([0, 0, 8, 3, 0, 0, 0, 100, 0, 0, 0, 28, 0, 0, 0, 28])
    images = header + rng.bytes(100 * 28 * 28)
    mutations("IDX", mnist_files.parse_idx, images, range(24), options.idx, rng)
    pixels = rng.integers(256, size=cifar10_batches.CIFAR10_BATCH_SHAPE, dtype=np.uint8)
    labels = rng.integers(10, size=len(pixels)).tolist()
    batch = pickle.dumps({"data": pixels, "labels": labels}, 2)
    places = np.r_[0:300, len(batch) - 30_000 : len(batch)]  # all but the pixels
    mutations("CIFAR-10", cifar10_batches.parse_cifar10_batch, batch, places, options.batches, rng)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"peak memory {peak:.0f} MB, a batch has {len(batch) / 1e6:.0f} MB")

    random.seed(options.seed)
    os.environ["MPLBACKEND"] = "agg"
    for script in options.scripts:
        kills(script, options.kills, random)


if __name__ == "__main__":
    main()
