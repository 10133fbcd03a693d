"""Kill runs, stop them and start them at once until something gives way; nothing should.

    python3 benchmarks/torture_runs.py              # all of it, about half an hour
    python3 benchmarks/torture_runs.py --kills 10 --stops 10 --starts 50
    python3 benchmarks/torture_runs.py --scripts train.py --starts 0

Kills: a training run on a slow disk, with a clock that jumps, is killed (SIGKILL) at a random
moment, its files are read, it is resumed, killed again, and so on until it finishes; then another
one. All must end with the weights and the history of the run that was never killed, bit for bit.
Stops: the same with SIGSTOP and SIGCONT; meanwhile the folder must count as in use. Starts: of
several processes that start a run in one folder at once, while others look whether it is in use,
one must get it, and the others must say which.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from support import files, tables
from support.checkpoints import Arrays, Tensors, unsealed
from support.locks import is_in_use
from support.start import ROOT

SCRIPTS = {"train.py": [], "pytorch_cifar.py": ["--no-views"]}  # with options of their own
SMALL = "--dataset synthetic --train-size 1000 --epochs 3 --threads 2 --checkpoint-minutes 0.001"
NUM_PROCESSES = 4  # that start at once
# the script, with a disk that takes up to a twentieth of a second to flush a file, and a clock that
# may be days off
SLOW_DISK = """
import os, random, runpy, sys, time
flush, clock = os.fsync, time.time
os.fsync = lambda file: (time.sleep(random.random() / 20), flush(file))
time.time = lambda: clock() + random.uniform(-1e6, 1e6)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# begin a run when a line comes, say how that went; with the next line, whether it is still there
START = """
import contextlib, io, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support.folders import begin
from support.locks import unlock
folder, number = Path(sys.argv[2]), str(os.getpid())
for line in sys.stdin:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            begin(folder, {}, False, (), {})
        (folder / "mine").write_text(number)
        said = "begun"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    print(said, flush=True)
    sys.stdin.readline()
    if said == "begun":
        said = "kept" if (folder / "mine").read_text() == number else "lost"
        unlock(folder)
    print(said, flush=True)
"""
LOOK = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support.locks import is_in_use
while True:
    is_in_use(Path(sys.argv[2]))
"""


def start(script, folder, *options):
    """The process of a script on small generated data and a slow disk."""
    command = [sys.executable, "-c", SLOW_DISK, str(ROOT / script), *SMALL.split()]
    command += [*SCRIPTS[script], *options, "--save-dir", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def outcome(folder):
    """The history without seconds, and the weights of a finished run."""
    history = tables.read_table(folder / "history.csv")
    assert all(0 <= float(row["seconds"]) < 1000 for row in history), "the clock was believed"
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
    if (folder / "model.npz").exists():
        return rows, files.read_arrays(folder / "model.npz")
    import torch

    tensors = torch.load(folder / "model.pt", weights_only=True)
    return rows, {name: tensor.numpy() for name, tensor in tensors.items()}


def check_same(folder, expected):
    rows, weights = outcome(folder)
    assert rows == expected[0], f"{folder}: another history"
    for key, array in weights.items():
        assert np.array_equal(array, expected[1][key]), f"{folder}: {key} differs"


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
            (Arrays if path.suffix == ".npz" else Tensors).decode(unsealed(path.read_bytes()))


def whole_run(script, folder):
    """The outcome and the seconds of a run that is left alone."""
    for whole in Path(folder, "first"), Path(folder, "whole"):  # the first may draw its data
        begun = time.monotonic()
        process = start(script, whole)
        _, err = process.communicate()
        assert process.returncode == 0, err
    return outcome(whole / script.removesuffix(".py")), time.monotonic() - begun


def kills(script, wanted, rng, folder, expected, seconds):
    """Kill runs of a script `wanted` times in all."""
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
        check_same(target / script.removesuffix(".py"), expected)
        assert not list(target.rglob(f"*/{files.PART}*")), "parts are left"
        print(f"{script}: {done} kills, {num_runs} runs, all the same bits", flush=True)


def stops(script, wanted, rng, folder, expected):
    """Stop and continue runs of a script `wanted` times in all."""
    done = num_runs = num_seen = 0
    while done < wanted:
        num_runs += 1
        target = Path(folder, f"stopped_{num_runs}") / script.removesuffix(".py")
        process = start(script, target.parent)
        while process.poll() is None:
            time.sleep(rng.uniform(0.02, 0.3))
            process.send_signal(signal.SIGSTOP)
            results = files.read_json_if_there(target / "results.json")
            if process.poll() is None and results.get("status") == "running":
                assert is_in_use(target), "a stopped run is taken for a dead one"
                num_seen += 1
            process.send_signal(signal.SIGCONT)
            done += 1
        assert process.returncode == 0, process.communicate()[1].decode()
        check_same(target, expected)
        check_readable(target.parent)
    print(f"{script}: {done} stops, {num_seen} while it trained, {num_runs} runs, the same bits")


def python(code, *arguments):
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code, str(ROOT), *map(str, arguments)]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def answers(processes):
    """What each says to a line that all of them get at once."""
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.stdout.readline().strip() for process in processes]


def starts(number):
    """Begin runs in one folder at once, again and again, while others look at it."""
    count = dict.fromkeys(("begun", "refused by name", "refused otherwise", "lost"), 0)
    with tempfile.TemporaryDirectory() as save_dir:
        folder = Path(save_dir, "run")
        lookers = [python(LOOK, folder) for _ in range(2)]
        starters = [python(START, folder) for _ in range(NUM_PROCESSES)]
        for _ in range(number):
            said = dict(zip([starter.pid for starter in starters], answers(starters), strict=True))
            begun = [pid for pid, line in said.items() if line == "begun"]
            for pid, line in said.items():
                is_named = any(f"in use by process {one};" in line for one in begun)
                count["begun"] += pid in begun
                count["refused by name"] += is_named
                count["refused otherwise"] += pid not in begun and not is_named
            count["lost"] += answers(starters).count("lost")
        for process in (*lookers, *starters):
            process.kill()
            process.communicate()
        num_moved = len(list(Path(save_dir).glob("run.*")))
    ways = ", ".join(f"{times} {way}" for way, times in count.items())
    print(f"{number} times {NUM_PROCESSES} starts: {ways}; {num_moved} moved aside")
    assert (count["begun"], num_moved) == (number, number - 1)
    assert (count["refused otherwise"], count["lost"]) == (0, 0)


def main(argv=None):
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--kills", type=int, default=50, help="of each script [50]")
    parser.add_argument("--stops", type=int, default=50, help="of each script [50]")
    parser.add_argument("--scripts", nargs="*", default=list(SCRIPTS), help="to kill [both]")
    parser.add_argument(
        "--flips", type=int, default=1_500, help="of each kind of checkpoint [1500]"
    )
    parser.add_argument("--seconds", type=float, default=20, help="of writing one file [20]")
    parser.add_argument("--starts", type=int, default=300, help="of several runs at once [300]")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random here [0]")
    options = parser.parse_args(argv)
    rng = random.Random(options.seed)
    os.environ["MPLBACKEND"] = "agg"
    if options.starts:
        starts(options.starts)
    for script in options.scripts:
        with tempfile.TemporaryDirectory() as folder:
            expected, seconds = whole_run(script, folder)
            kills(script, options.kills, rng, folder, expected, seconds)
            stops(script, options.stops, rng, folder, expected)


if __name__ == "__main__":
    main()
