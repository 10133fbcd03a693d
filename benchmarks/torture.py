"""Mutate data files until something gives way; nothing should. For runs: torture_runs.py.

    python3 benchmarks/torture.py
    python3 benchmarks/torture.py --idx 500 --batches 50

Files of MNIST and CIFAR-10 with bits, headers and lengths changed must be read correctly or refused
in one line.
"""

import argparse
import pickle
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from support import cifar10_batches, data, mnist_files


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


if __name__ == "__main__":
    main()
