"""Task 3: the network of Task 2 in PyTorch, whose curves differ by rounding alone.

    python3 pytorch_mnist.py                       # λ = 0.01, into out/pytorch_mnist/
    python3 pytorch_mnist.py --weight-decay 0      # Task 1's network, without regularization

The same initial weights, the same batches in the same order and the same learning rates as
train_l2reg.py; where its run with the same λ (for 0 that of train.py) is in the save folder, the
two are put side by side in comparison.png and comparison.csv.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from support import comparisons, data, files, tables, torch_layers, torch_training
from support.errors import one_line_errors
from support.facts import run_facts
from support.options import option, parse
from support.read_runs import MAX_ARRAY_BYTES, Record, differences
from support.run import Run

import numpy as np
import torch
from torch import nn
from torch.nn import functional

# learning rate from the given epoch on, as in train.py
LR_POLICY = {1: {"lr": 1e-1}, 3: {"lr": 1e-2}, 5: {"lr": 1e-3}, 7: {"lr": 1e-4}}
COMPARED = ("train_loss", "train_acc", "valid_loss", "valid_acc")


@dataclass(kw_only=True)
class Config(torch_training.Config):
    dataset: str = option(
        "auto",
        "mnist: the real data or an error; synthetic: generated digits; auto: mnist if possible",
        choices=("auto", "mnist", "synthetic"),
    )
    weight_decay: float = option(
        1e-2, "λ: loss + λ/2 * sum of squared weights", minimum=0, maximum=1000
    )


class ConvolutionalModel(nn.Module):
    """conv 16 5x5, maxpool, relu, conv 32 5x5, maxpool, relu, fc 512, relu, fc 10.

    Shapes: (N, 1, 28, 28) -> (N, 10). rng: a NumPy generator for the initial weights.
    """

    def __init__(self, rng):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=5, padding=2)
        self.fc1 = nn.Linear(32 * 7 * 7, 512)
        self.fc_logits = nn.Linear(512, 10)
        for layer in (self.conv1, self.conv2, self.fc1, self.fc_logits):
            torch_training.he_normal_(layer, rng)

    def forward(self, x):
        h = functional.max_pool2d(self.conv1(x), 2).relu()
        h = functional.max_pool2d(self.conv2(h), 2).relu()
        h = self.fc1(h.flatten(start_dim=1)).relu()
        return self.fc_logits(h)


def l2_loss(model, weight_decay):
    """λ/2 times the sum of the squared weights of all layers but the last; no bias.

    The optimizer's own weight_decay would have the same gradient, but not show in the loss.
    """
    if weight_decay == 0:
        return torch.zeros(())
    weights = (model.conv1.weight, model.conv2.weight, model.fc1.weight)
    return weight_decay / 2 * sum(weight.square().sum() for weight in weights)


def learning_rate(config, epoch):
    start = max(start for start in LR_POLICY if start <= epoch)
    return config.lr_scale * LR_POLICY[start]["lr"]


def train(run, config, mnist, device):
    """Train the network on a data.Dataset as config says, and test it once; returns it.

    run: a support.run.Run, which leaves all files in its folder.
    """
    model = ConvolutionalModel(np.random.default_rng(config.seed)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate(config, 1))
    train_x, train_y = torch_training.on_device(mnist.train_x, mnist.train_y, device)
    valid_x, valid_y = torch_training.on_device(mnist.valid_x, mnist.valid_y, device)
    test_x, test_y = torch_training.on_device(mnist.test_x, mnist.test_y, device)

    def objective(logits, y):
        return functional.cross_entropy(logits, y) + l2_loss(model, config.weight_decay)

    def validate():
        found = torch_training.evaluate(
            model, valid_x, valid_y, "validation", loss_function=objective
        )
        return {"valid_loss": found.loss, "valid_acc": found.accuracy, "confusion": found.confusion}

    def test():
        torch_training.save_model(run.folder / "model.pt", model)
        torch_layers.write(run.folder, model, mnist)
        logits = torch_training.predict(model, test_x)
        return logits.numpy(), objective(logits, test_y.cpu()).item()

    run.show(mnist, lambda: torch_training.first_filters(model.conv1), config.tensorboard)
    run.restore_torch(model=model, optimizer=optimizer)
    for epoch in run.epochs(config.epochs):
        lr = optimizer.param_groups[0]["lr"] = learning_rate(config, epoch)
        for batch in run.batches(len(train_x), config.batch_size, config.seed):
            indices = torch.from_numpy(batch.indices).to(device)
            x, y = train_x[indices], train_y[indices]
            logits = model(x)  # (B, 10)
            loss = objective(logits, y)
            num_correct = (logits.argmax(dim=1) == y).sum()
            run.count(loss.item(), num_correct.item(), lr)
            optimizer.zero_grad()  # backward adds to the gradients that are there
            loss.backward()
            optimizer.step()
        run.end_epoch(validate)
    run.finish(test)
    return model


def run(config, mnist):
    """Train the network as config says on a data.Dataset; returns what results.json holds."""
    device = torch_training.prepare(config)
    mnist.introduce()
    folder = Path(config.save_dir) / "pytorch_mnist"
    facts = run_facts(asdict(config), mnist, str(device), "numpy", "torch")
    with Run.start(folder, asdict(config), config.resume, **facts) as this:
        model = train(this, config, mnist, device)
        compare(config, this, torch_training.first_filters(model.conv1), mnist)
    mnist.announce()
    print(f"everything is in {folder}")
    return this.results


def compare(config, run, filters, mnist):
    """Put this run beside the NumPy run with the same λ, if there is one: a picture and a table."""
    name = f"train_l2reg/lambda_{config.weight_decay:g}" if config.weight_decay else "train"
    other = Record(Path(config.save_dir) / name)
    theirs = other.read("model.npz", read_filters, None, MAX_ARRAY_BYTES)
    if other.state != "finished" or other.test_acc is None or theirs is None or not other.history:
        state = f"{other.folder} is {other.state}, or of another network"
        reason = "; ".join(other.problems) or state
        print(f"no finished NumPy run with the same λ to compare with: {reason}")
        return
    ours = {**run.results, **asdict(config)}
    if unlike := differences({**other.results, **other.config}, ours):
        print(f"no comparison with the NumPy run, which is another one: {'; '.join(unlike)}")
        return
    makers = {
        "NumPy": (theirs, other.epochs, other.test_acc),
        "PyTorch": (filters, run.history, run.results["test_acc"]),
    }
    columns = [
        {"name": name, "filters": filters, "history": history, "test_acc": test_acc}
        for name, (filters, history, test_acc) in makers.items()
    ]
    comparisons.draw_side_by_side(run.folder / "comparison.png", columns, mnist)
    write_comparison(run.folder / "comparison.csv", other.epochs, run.history)
    print(f"test accuracy: NumPy {other.test_acc:.2%}, PyTorch {run.results['test_acc']:.2%}")


def read_filters(path):
    """The first layer's filters in the model.npz of a NumPy run, (F, 1, k, k); None if it has none.

    Raises: OSError, ValueError.
    """
    weights = files.read_arrays(path).get("0.conv1.weights")
    if weights is None:
        return None
    is_matrix = weights.ndim == 2 and weights.size > 0 and weights.dtype.kind == "f"
    if not is_matrix or not np.isfinite(weights).all():
        raise ValueError("its filters are none")
    k = math.isqrt(weights.shape[1])
    return weights.reshape(-1, 1, k, k)


def write_comparison(path, numpy_history, pytorch_history):
    """Print and write what both histories say of each epoch."""
    rows, cells = [], []
    for numpy_row, row in zip(numpy_history, pytorch_history, strict=False):
        rows.append({"epoch": row["epoch"]})
        for key in COMPARED:
            rows[-1] |= {f"numpy_{key}": numpy_row[key], f"pytorch_{key}": row[key]}
        cells.append(list(rows[-1].values()))
    columns = [("epoch", "d")]
    for key in COMPARED:
        columns += [(f"{key}, NumPy", ".5f"), ("PyTorch", ".5f")]
    print("\n" + tables.text_table(columns, cells))
    tables.write_table(path, list(rows[0]), rows)


def main(argv=None):
    config = parse(Config, argv, __doc__, "pytorch_mnist")
    with one_line_errors(data.DataError):
        run(config, data.load_mnist(config.data_dir, config.dataset, config.train_size))


if __name__ == "__main__":
    main()
