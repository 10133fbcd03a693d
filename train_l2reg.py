"""Task 2: the network of Task 1 with L2 regularization, for several weight decays λ.

    python3 train_l2reg.py      # λ = 1e-3, 1e-2, 1e-1 into out/train_l2reg/
    python3 train_l2reg.py --resume --weight-decay 1e-3 1e-2 3e-2 1e-1    # and one more

The weights of conv1, conv2 and fc3 are regularized; biases and the last layer are not.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from support import comparisons, data, tables
from support.errors import RunError, one_line_errors
from support.folders import folder_of_runs
from support.options import option, parse

import numpy as np

import train

REGULARIZED = ("conv1", "conv2", "fc3")
COMPARISON_COLUMNS = [
    "weight_decay",
    "train_acc",
    "valid_acc",
    "test_acc",
    "data_loss",
    "l2_loss",
]


@dataclass(kw_only=True)
class Config(train.Config):
    weight_decay: list = option(
        lambda: [1e-3, 1e-2, 1e-1],
        "λ, one or more: loss + λ/2 * sum of squared weights",
        minimum=0,
        maximum=1000,
    )

    def __post_init__(self):
        super().__post_init__()
        names = [f"{value:g}" for value in self.weight_decay]  # of the folders
        if len(set(names)) < len(names):
            raise RunError(f"--weight-decay: expected different values, got {' '.join(names)}")


def regularized_loss(layers, net, weight_decay):
    """Cross-entropy plus the L2 losses of the layers in REGULARIZED."""
    regularizers = [
        layers.L2Regularizer(layer.weights, weight_decay, f"{layer.name}_l2reg")
        for layer in net
        if layer.name in REGULARIZED
    ]
    return layers.RegularizedLoss(layers.SoftmaxCrossEntropyWithLogits(), regularizers)


def run(config, mnist):
    """Train one network for each weight decay and compare them; returns the rows of the table."""
    layers = train.start(config, mnist)
    folder = Path(config.save_dir) / "train_l2reg"
    with folder_of_runs(folder, asdict(config), config.resume, free=("weight_decay",)):
        runs = [train_one(layers, config, mnist, folder, value) for value in config.weight_decay]
        rows = compare(folder, runs, mnist)
    mnist.announce()
    print(f"everything is in {folder}")
    return rows


def compare(folder, runs, mnist):
    """Draw, write and print what the runs have reached; returns the rows of the table."""
    comparisons.draw_l2_comparison(folder / "comparison.png", runs, mnist)
    rows = [{**of_run, **of_run["history"][-1]} for of_run in runs]
    tables.write_table(folder / "comparison.csv", COMPARISON_COLUMNS, rows)
    shown = {"weight_decay": ("λ", "g"), "test_acc": ("test accuracy", ".2%")}
    shown |= {"data_loss": ("data loss", ".4f"), "l2_loss": ("L2 loss", ".4f")}
    cells = [[row[key] for key in shown] for row in rows]
    print("\n" + tables.text_table(shown.values(), cells))
    return rows


def train_one(layers, config, mnist, folder, weight_decay):
    """Train with one weight decay; what the comparison shows of it."""
    print(f"\nλ = {weight_decay:g}")
    net = train.build_net(layers, config.batch_size, np.random.default_rng(config.seed))
    loss = regularized_loss(layers, net, weight_decay)
    before = train.first_filters(net)

    columns = {  # of the history, besides the usual ones; data_loss: of the validation images
        "l2_loss": lambda row: float(sum(part.forward() for part in loss.regularizer_losses)),
        "data_loss": lambda row: row["valid_loss"] - row["l2_loss"],
    }
    done = train.train_in_folder(
        layers,
        folder / f"lambda_{weight_decay:g}",
        {**asdict(config), "weight_decay": weight_decay},
        mnist,
        net,
        loss,
        config.resume,
        columns,
    )
    tables.write_table(done.folder / "losses.csv", ["epoch", "data_loss", "l2_loss"], done.history)
    return {
        "weight_decay": weight_decay,
        "before": before,
        "after": train.first_filters(net),
        "history": done.history,
        "test_acc": done.results["test_acc"],
    }


def main(argv=None):
    config = parse(Config, argv, __doc__, "train_l2reg")
    with one_line_errors(data.DataError):
        if config.summary:
            train.print_summary(config)
        else:
            run(config, data.load_mnist(config.data_dir, config.dataset, config.train_size))


if __name__ == "__main__":
    main()
