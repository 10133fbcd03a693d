"""Damage checkpoints, and write a file by several processes at once; nothing should give way.

    python3 benchmarks/torture_files.py
    python3 benchmarks/torture_files.py --flips 500 --seconds 5

Flips: of a checkpoint with a bit changed, the one before must be used. Writers: who reads a file
that several processes write must find it whole.
"""

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from support.checkpoints import Checkpoints, Position
from support.start import ROOT

LETTERS = "abcd"  # a process for each
# write a file of one letter again and again, until the time is up; say how often, and what failed
WRITE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from support import files
written, failed, end = 0, [], time.monotonic() + float(sys.argv[4])
while time.monotonic() < end:
    try:
        files.write_whole(sys.argv[2], 200_000 * sys.argv[3])
        written += 1
    except OSError as error:
        failed.append(repr(error))
print(written, len(failed))
"""


def flips(kind, number, rng):
    """Change a bit of a newest checkpoint; the one before must be used, and told so in one line."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder))
        if kind == "npz":
            checkpoints.hold_arrays({"weights": np.arange(600.0).reshape(20, 30)})
        else:
            model = torch.nn.Linear(20, 30)
            optimizer = torch.optim.SGD(model.parameters(), 0.1, weight_decay=0.002, momentum=0.9)
            model(torch.ones(1, 20)).sum().backward()
            optimizer.step()
            checkpoints.hold_torch({"model": model, "optimizer": optimizer})
        checkpoints.save(checkpoints.snapshot(Position(epoch=3), []))
        checkpoints.save(checkpoints.snapshot(Position(epoch=4), []))
        path = Path(folder, f"checkpoint.{kind}")
        content = path.read_bytes()
        for _ in range(number):
            flipped, place = bytearray(content), int(rng.integers(8 * len(content)))
            flipped[place // 8] ^= 1 << place % 8
            path.write_bytes(flipped)
            with contextlib.redirect_stderr(io.StringIO()) as said:
                assert checkpoints.restore()[0].epoch == 3, f"bit {place} went unnoticed"
            assert said.getvalue().count("\n") == 1
    print(f"checkpoint.{kind}: {number} flips of a bit, {number} times the one before was used")


def writers(seconds):
    """Read a file for some seconds while several processes write it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        command = [sys.executable, "-c", WRITE, str(ROOT), str(path)]
        processes = [
            subprocess.Popen([*command, letter, str(seconds)], stdout=subprocess.PIPE)
            for letter in LETTERS
        ]
        reads = torn = 0
        while any(process.poll() is None for process in processes):
            if path.exists():
                content = path.read_text()
                reads += 1
                torn += len(content) != 200_000 or len(set(content)) != 1
        counts = [process.communicate()[0].split() for process in processes]
        left = len(list(Path(folder).iterdir())) - 1
    written, failed = (sum(int(pair[i]) for pair in counts) for i in range(2))
    print(f"{len(LETTERS)} writers: {written} writes, {failed} failed; {reads} reads, {torn} torn")
    assert (failed, torn, left) == (0, 0, 0)


def main(argv=None):
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument(
        "--flips", type=int, default=1_500, help="of each kind of checkpoint [1500]"
    )
    parser.add_argument("--seconds", type=float, default=20, help="of writing one file [20]")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random here [0]")
    options = parser.parse_args(argv)
    for kind in ("npz", "pt"):
        flips(kind, options.flips, np.random.default_rng(options.seed))
    writers(options.seconds)


if __name__ == "__main__":
    main()
