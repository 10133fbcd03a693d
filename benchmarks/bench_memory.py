"""Peak memory and seconds of Task 1, ours against the same in PyTorch.

    python3 benchmarks/bench_memory.py                 # one epoch on 55,000 images
    python3 benchmarks/bench_memory.py --epochs 8      # Task 1 whole: also the seconds count

Each script runs in a process of its own, with the same options, on the same data, and writes into
a folder that is removed afterwards. The peak is the resident memory that the system reports.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

import side_by_side
from side_by_side import ROOT

SCRIPTS = {"ours": ["train.py"], "PyTorch": ["pytorch_mnist.py", "--weight-decay", "0"]}


def measure(script, options):
    """Peak resident memory in MB, and seconds, of a script as a user would start it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / script[0]), *script[1:], *options]
        start = time.perf_counter()
        process = subprocess.Popen([*command, "--save-dir", folder], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    if status != 0:
        raise RuntimeError(f"{script[0]} failed")
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return usage.ru_maxrss * unit / 1e6, seconds


def main(argv=None):
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--epochs", type=int, default=1, help="epochs of each run [1]")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each script, by turns [1]")
    parser.add_argument("--dataset", default="auto", help="see train.py --help [auto]")
    options = parser.parse_args(argv)
    print(side_by_side.machine("numpy", "scipy", "torch"))
    given = ["--epochs", str(options.epochs), "--dataset", options.dataset]
    rows = []
    for _ in range(options.repeats):
        for name, script in SCRIPTS.items():
            megabytes, seconds = measure(script, given)
            rows.append({"name": name, "megabytes": megabytes, "seconds": seconds})
            print(f"{name:10}{megabytes:10.0f} MB{seconds:10.1f} s", flush=True)
    for key in ("megabytes", "seconds"):
        middle = {
            name: sorted(row[key] for row in rows if row["name"] == name)[options.repeats // 2]
            for name in SCRIPTS
        }
        print(f"ratio of {key}: {middle['ours'] / middle['PyTorch']:.2f}")
    side_by_side.write("bench_memory", rows)


if __name__ == "__main__":
    main()
