"""A training step and inference of the lab's MNIST network: ours, PyTorch's and the exercise's.

    python3 benchmarks/bench_step.py           # the cases of RESULTS.md, some minutes
    python3 benchmarks/bench_step.py --all     # every batch size, number of threads and type

Prints milliseconds, the ratio of ours to each of the others and to PyTorch's best variant, and how
much of the peak of a large matrix product, measured in the same run, a step reaches, counting
products with zero as well. Then what all threads take of the time of one, the two in turns, and
what each layer takes in each direction, the zeros that training brings there, and what they save.
Needs requirements.txt.
"""

import argparse
import itertools

import contenders
import layer_times
import side_by_side
from side_by_side import Contender, available_threads, medians

GFLOP_FORWARD = 2 * 3_630_336 / 1e9  # an image, see train.py --summary
# backward takes twice that, but the first layer has no grad of the inputs
GFLOP = {"step": 3 * GFLOP_FORWARD - 2 * 313_600 / 1e9, "inference": GFLOP_FORWARD}
PEAK_SIZE = 2048  # rows and columns
PYTORCH = ("eager", "channels_last", "compiled", "compiled channels_last")
CASES = [
    ("step", 1, "float32"),
    ("step", 50, "float32"),
    ("step", 500, "float32"),
    ("step", 50, "float64"),
    ("inference", 1, "float32"),
    ("inference", 50, "float32"),
    ("inference", 500, "float32"),
]


def main(argv=None):
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--all", action="store_true", help="all cases, not only RESULTS.md's")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each contender [12]")
    options = parser.parse_args(argv)
    print(side_by_side.machine("numpy", "scipy", "torch"))
    most = available_threads()
    if options.all:
        batches = itertools.product(("step", "inference"), (1, 50, 500), ("float32", "float64"))
        cases = {threads: list(batches) for threads in (most,)}
        cases[1] = cases[most]
    else:
        cases = {most: CASES, 1: [("step", 50, "float32")]}
    rows = []
    for threads, of_threads in cases.items():
        everyone = [Contender(name, build, threads) for name, build in contenders.ALL.items()]
        blas = Contender("product", contenders.product, threads)
        for mode, batch_size, dtype in of_threads:
            peak = medians([blas], ("peak", PEAK_SIZE, dtype), 3)["product"]
            seconds = medians(everyone, (mode, batch_size, dtype), options.rounds)
            rate = GFLOP[mode] * batch_size / seconds["ours"]
            row = {"mode": mode, "batch": batch_size, "dtype": dtype, "threads": threads}
            row |= {name: 1000 * value for name, value in seconds.items()}
            row["of the best"] = row["ours"] / min(row[name] for name in PYTORCH)
            row["share of peak"] = rate / (2 * PEAK_SIZE**3 / 1e9 / peak)
            rows.append(row)
            show(row, first=len(rows) == 1)
        for contender in [*everyone, blas]:
            contender.close()
    side_by_side.write("bench_step", rows)
    if most > 1:
        show_scaling(most, options.rounds)
    side_by_side.write("bench_step_layers", layer_times.show(most))
    groups = {
        f"{row['mode']}\nbatch {row['batch']}\n{row['dtype']}\n{row['threads']} thread(s)": row
        for row in rows
    }
    side_by_side.draw_ratios(
        "bench_step", "The lab's MNIST network", groups, list(contenders.ALL), "ms"
    )


def show(row, first):
    """A line of milliseconds, with the ratio of ours to it in parentheses."""
    others = [name for name in contenders.ALL if name != "ours"]
    if first:
        print("milliseconds (ratio of ours to it)")
        titles = "".join(f"{name:>24}" for name in others)
        print(f"{'':40}{'ours':>9}{titles}  of the best  share of peak")
    case = f"{row['mode']}, batch {row['batch']}, {row['dtype']}, {row['threads']} thread(s)"
    cells = "".join(f"{row[name]:15.2f} ({row['ours'] / row[name]:.2f})  " for name in others)
    shares = f"{row['of the best']:13.2f}{row['share of peak']:15.0%}"
    print(f"{case:40}{row['ours']:9.2f}{cells}{shares}", flush=True)


def show_scaling(most, rounds):
    """A line: what a step takes on all threads, and on one."""
    few_and_many = [Contender(str(threads), contenders.ours, threads) for threads in (1, most)]
    one, all_of_them = medians(few_and_many, ("step", 50, "float32"), rounds).values()
    for contender in few_and_many:
        contender.close()
    print(
        f"step, batch 50, float32: {1000 * all_of_them:.2f} ms on {most} threads, "
        f"{1000 * one:.2f} ms on one, ratio {all_of_them / one:.2f}"
    )


if __name__ == "__main__":
    main()
