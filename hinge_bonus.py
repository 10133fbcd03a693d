"""Bonus: multiclass hinge loss against cross-entropy, the network of Task 4 with either.

    python3 hinge_bonus.py                # 3 seeds of each, into out/hinge_bonus/
    python3 hinge_bonus.py --seeds 1      # one of each
    python3 hinge_bonus.py --tune         # first choose the learning rates on validation data

The hinge loss sums over the wrong classes within the margin, at the start five or six of nine: the
right class of an image gets a gradient of about -5, with cross-entropy -0.9. So each loss has a
learning rate of its own.
The defaults are those that --tune chose, with seed 0 and the JPEG-compressed copy of CIFAR-10 that
RESULTS.md speaks of:

    cross-entropy   rate                  0.01    0.02    0.04
                    validation accuracy  77.04   78.22   77.40 %
    hinge           rate                 0.002   0.004   0.008   0.016
                    validation accuracy  73.60   74.56   74.72   71.42 %
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from support import comparisons, data, tables, torch_training
from support.errors import Diverged, one_line_errors
from support.folders import folder_of_runs
from support.options import option, parse

import numpy as np
import torch
from torch.nn import functional

import pytorch_cifar


@dataclass(kw_only=True)
class Config(pytorch_cifar.Config):
    model: str = option("lab", "the lab's network", choices=("lab",))
    lr: float = option(0.02, "largest learning rate with cross-entropy", minimum=0, maximum=100)
    hinge_lr: float = option(
        0.008, "largest learning rate with the hinge loss", minimum=0, maximum=100
    )
    delta: float = option(1.0, "margin of the hinge loss", minimum=0, maximum=1000)
    seeds: int = option(3, "runs with each loss, from --seed on", minimum=1, maximum=100)
    tune: bool = option(False, "first halve and double both rates as long as that helps")


def multiclass_hinge_loss(logits: torch.Tensor, target: torch.Tensor, delta=1.0):
    """The multiclass hinge loss: wrong classes should stay a margin below the right one.

    loss = mean over b of  sum over wrong classes k of max(0, logits[b, k] - logits[b, target[b]]
                                                              + delta)
    Shapes: logits (B, C), B images and C classes, target (B,) of integers; a scalar tensor.
    Raises: ValueError for other shapes.
    Source: Weston and Watkins, Support Vector Machines for Multi-Class Pattern Recognition, 1999.
    """
    if logits.ndim != 2 or target.shape != logits.shape[:1]:
        raise ValueError(
            f"expected logits of shape (B, C) and target of shape (B,), "
            f"got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    B, C = logits.shape
    is_right = torch.arange(C, device=logits.device) == target[:, None]
    right = logits.masked_select(is_right).reshape(B, 1)
    wrong = logits.masked_select(~is_right).reshape(B, C - 1)
    return (wrong - right + delta).clamp(min=0).sum(dim=1).mean()


def loss_functions(config):
    """name: (loss function, learning rate)."""

    def hinge(logits, target):
        return multiclass_hinge_loss(logits, target, config.delta)

    return {
        "cross_entropy": (functional.cross_entropy, config.lr),
        "hinge": (hinge, config.hinge_lr),
    }


def run(config, cifar):
    """Train with both losses and all seeds and compare them; returns the rows of the table."""
    device = torch_training.prepare(config)
    cifar.introduce()
    folder = Path(config.save_dir) / "hinge_bonus"
    options = dataclasses.asdict(config)
    with folder_of_runs(folder, options, config.resume, fixed=("epochs",)):
        if config.tune:
            config = tuned(config, cifar, folder, device)
        rows = compare(folder, train_all(config, cifar, folder, device), cifar)
    cifar.announce()
    print(f"everything is in {folder}")
    return rows


def train_all(config, cifar, folder, device):
    """A dict for each loss: its name, its learning rate, and its runs, one a seed."""
    columns = []
    for name, (loss_function, lr) in loss_functions(config).items():
        done = []
        for seed in range(config.seed, config.seed + config.seeds):
            print(f"\n{name}, seed {seed}")
            of_run = dataclasses.replace(config, seed=seed, lr=lr)
            suffix = "" if seed == config.seed else f"_seed_{seed}"
            path = folder / f"{name}{suffix}"
            torch.manual_seed(seed)
            done.append(pytorch_cifar.train_in_folder(path, of_run, cifar, device, loss_function))
        columns.append({"name": name, "lr": lr, "runs": done})
    return columns


def tuned(config, cifar, folder, device):
    """config with learning rates that did better on the validation images than half and double.

    The runs are as long as the others: short ones would choose too large a rate.
    """
    rows, best = [], {}
    for name, (loss_function, lr) in loss_functions(config).items():
        accuracies = {}
        while best.get(name) != lr:  # until the middle one of three rates is the best
            best[name] = lr
            for rate in (lr / 2, lr, 2 * lr):
                if rate not in accuracies:
                    print(f"\n{name}, learning rate {rate:g}")
                    path = folder / "tuning" / f"{name}_{rate:g}"
                    trial = dataclasses.replace(config, lr=rate, all_images=False)
                    accuracies[rate] = valid_acc(path, trial, cifar, device, loss_function)
            lr = max(accuracies, key=accuracies.get)
        rows += [{"loss": name, "lr": lr, "valid_acc": accuracies[lr]} for lr in sorted(accuracies)]
    tables.write_table(folder / "tuning.csv", ["loss", "lr", "valid_acc"], rows)
    print(f"\nbest learning rates: {best}")
    return dataclasses.replace(config, lr=best["cross_entropy"], hinge_lr=best["hinge"])


def valid_acc(path, config, cifar, device, loss_function):
    """The last validation accuracy of a run; 0 if it diverged."""
    try:
        run = pytorch_cifar.train_in_folder(path, config, cifar, device, loss_function)
        return run.history[-1]["valid_acc"]
    except Diverged as error:
        print(error)
        return 0.0


def compare(folder, columns, cifar):
    """Print and write the table of both losses and draw their curves and classes."""
    rows = []
    for column in columns:
        accuracies = {
            "valid_acc": [done.history[-1]["valid_acc"] for done in column["runs"]],
            "test_acc": [done.results["test_acc"] for done in column["runs"]],
        }
        row = {"loss": column["name"], "lr": column["lr"], "runs": len(column["runs"])}
        for key, values in accuracies.items():
            row[f"{key}_mean"] = float(np.mean(values))
            row[f"{key}_deviation"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        for name in cifar.class_names:
            recalls = [done.results["recall"][name] for done in column["runs"]]
            row[f"recall_{name}"] = float(np.mean(recalls))
        rows.append(row)
    tables.write_table(folder / "comparison.csv", list(rows[0]), rows)
    curves = [
        {"name": c["name"], "histories": [done.history for done in c["runs"]]} for c in columns
    ]
    recalls = {row["loss"]: [row[f"recall_{name}"] for name in cifar.class_names] for row in rows}
    comparisons.draw_loss_comparison(
        folder / "comparison.png", curves, cifar.class_names, recalls, cifar
    )
    print_comparison(rows, recalls, cifar.class_names)
    return rows


def print_comparison(rows, recalls, class_names):
    """Print the accuracies with each loss, and the recall of each class."""
    columns = [("loss", "<"), ("rate", "g"), ("validation accuracy", ""), ("test accuracy", "")]
    cells = []
    for row in rows:
        cells.append([row["loss"], row["lr"]])
        for key in ("valid_acc", "test_acc"):
            deviation = row[f"{key}_deviation"]
            deviation = "–" if deviation is None else f"{deviation:.2%}"
            cells[-1].append(f"{row[f'{key}_mean']:.2%} ± {deviation:5}")
    print("\n" + tables.text_table(columns, cells))
    columns = [("recall", "<"), *((loss, ".2%") for loss in recalls), ("difference", "+.2%")]
    pairs = zip(class_names, *recalls.values(), strict=True)
    print("\n" + tables.text_table(columns, [[*row, row[2] - row[1]] for row in pairs]))


def main(argv=None):
    config = parse(Config, argv, __doc__, "hinge_bonus")
    with one_line_errors(data.DataError):
        run(config, data.load_cifar10(config.data_dir, config.dataset, config.train_size))


if __name__ == "__main__":
    main()
