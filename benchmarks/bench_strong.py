"""The stronger CIFAR-10 network: what it reaches, and what each of its tricks is worth.

    python3 benchmarks/bench_strong.py                                  # two seeds, the defaults
    python3 benchmarks/bench_strong.py --ablate --epochs 4              # each trick switched
    python3 benchmarks/bench_strong.py --processes --epochs 2           # torchrun: two against one

Every run is one of pytorch_cifar.py as a user would start it, with whatever else stands in the
command. Its folder stays in out/benchmarks/strong/, and the same command goes on where it stopped.
Seconds are those of training; testing is not among them.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import side_by_side
from side_by_side import ROOT, np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from support.options import parse

from strong import training

FOLDER = side_by_side.OUT / "strong"
ABLATIONS = {
    "all of them": [],
    "narrower": ["--size", "small"],
    "all images in every epoch": ["--skip", "0"],
    "no whitening": ["--no-whiten"],
    "SGD, not Muon": ["--no-muon"],
    "no mirroring": ["--no-mirror"],
    "no shifting": ["--shift", "0"],
    "no cutout": ["--cutout", "0"],
    "cutout": ["--cutout", "6"],
    "no label smoothing": ["--label-smoothing", "0"],
    "no averaging": ["--no-average"],
    "no views": ["--no-views"],
    "float32": ["--no-bfloat16"],
    "channels first": ["--no-channels-last"],
    "upsampled": ["--upsample"],
}


def train(name, options, processes=1):
    """Run the script in a folder of this name; its results and the seconds of its training."""
    launcher = []
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        launcher.append(str(processes))
    command = [sys.executable, *launcher, str(ROOT / "pytorch_cifar.py"), "--model", "strong"]
    words = " ".join([name, *options])  # with other options it is another run
    folder = FOLDER / re.sub(r"[^\w.]+", "_", words)
    print(f"\n{name}: pytorch_cifar.py --model strong {' '.join(options)}", flush=True)
    subprocess.run([*command, *options, "--save-dir", str(folder), "--resume"], check=True)
    results = json.loads((folder / "pytorch_cifar" / "results.json").read_text())
    return {
        "name": name,
        "options": " ".join(options),
        "multiplied_in": results["multiplied_in"],
        "test_acc": results["test_acc"],
        "test_acc_plain": results["test_acc_plain"],
        "seconds": results["seconds"],
    }


def seeds(given, num_seeds):
    """The same with several seeds, and the mean."""
    rows = [train(f"seed {seed}", [*given, "--seed", str(seed)]) for seed in range(num_seeds)]
    numbers = "test_acc", "test_acc_plain", "seconds"
    means = {key: np.mean([row[key] for row in rows]) for key in numbers}
    return [*rows, {**rows[0], "name": "mean", "options": " ".join(given), **means}]


def ablation(given):
    """One run as given, and one with each trick switched; points and seconds that this changes."""

    def settings(options):
        argv = [*given, *options]
        return parse(training.config_class(argv), argv, __doc__)

    rows = []
    for name, options in ABLATIONS.items():
        if rows and settings(options) == settings([]):
            continue  # it would be the first run again
        if name == "float32" and rows[0]["multiplied_in"] == name:
            continue  # all runs do so on this device
        rows.append(train(name, [*given, *options]))
    for row in rows:
        row["points"] = 100 * (row["test_acc"] - rows[0]["test_acc"])
        row["more_seconds"] = row["seconds"] - rows[0]["seconds"]
    return rows


def draw(rows):
    """Two columns of bars: points lost or won, seconds lost or won without each trick."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.4 * len(rows) + 1), layout="constrained")
    columns = figure.subplots(1, 2, sharey=True)
    names = [row["name"] for row in rows[1:]]
    for axes, key, title in (
        (columns[0], "points", "test accuracy, points"),
        (columns[1], "more_seconds", "training, seconds"),
    ):
        values = [row[key] for row in rows[1:]]
        axes.bar_label(axes.barh(names, values, color="tab:purple"), fmt="%+.1f", padding=3)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_title(f"{title} (all tricks: {_all(rows[0], key)})", fontsize=10)
        axes.margins(x=0.3)
    columns[0].invert_yaxis()
    figure.savefig(side_by_side.OUT / "bench_strong_ablate.png", dpi=100)
    print(f"the picture is in {side_by_side.OUT / 'bench_strong_ablate.png'}")


def _all(row, key):
    return f"{row['test_acc']:.2%}" if key == "points" else f"{row['seconds']:.0f} s"


def main(argv=None):
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=formatter, allow_abbrev=False
    )  # --seed is an option of the script, not short for --seeds
    parser.add_argument("--ablate", action="store_true", help="each trick off in turn")
    parser.add_argument("--processes", action="store_true", help="two processes against one")
    parser.add_argument("--seeds", type=int, default=2, help="seeds without these two [2]")
    options, given = parser.parse_known_args(argv)
    if "--seed" in given and not (options.ablate or options.processes):
        parser.error("--seed goes with --ablate or --processes; otherwise --seeds says how many")
    print(side_by_side.machine("numpy", "torch"))
    if options.ablate:
        name, rows = "bench_strong_ablate", ablation(given)
    elif options.processes:
        name = "bench_strong_processes"
        rows = [train(f"processes {count}", given, count) for count in (1, 2)]
    else:
        name, rows = "bench_strong", seeds(given, options.seeds)
    print(f"\n{'':20}{'test accuracy':>15}{'plain':>10}{'seconds':>10}")
    for row in rows:
        cells = f"{row['test_acc']:15.2%}{row['test_acc_plain']:10.2%}{row['seconds']:10.0f}"
        print(f"{row['name']:20}{cells}")
    side_by_side.write(name, rows)
    if options.ablate:
        draw(rows)


if __name__ == "__main__":
    main()
