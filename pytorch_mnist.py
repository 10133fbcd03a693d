"""Task 3: the network of Task 2 in PyTorch, with the same results.

    python3 pytorch_mnist.py                       # λ = 0.01, into out/pytorch_mnist/
    python3 pytorch_mnist.py --weight-decay 0      # Task 1's network, without regularization

The same initial weights, the same batches in the same order and the same learning rates as
train_l2reg.py; where its run with the same λ (for 0 that of train.py) is in the save folder, the
two are put side by side in comparison.png and comparison.csv.
"""

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from support import data, torch_training

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import plots
import runs
from gallery import Gallery

# learning rate from the given epoch on
LR_POLICY = {1: 1e-1, 3: 1e-2, 5: 1e-3, 7: 1e-4}
COMPARED = ("train_loss", "train_acc", "valid_loss", "valid_acc")


@dataclass(kw_only=True)
class Config(torch_training.Config):
    dataset: str = runs.option(
        "auto",
        "mnist: the real data or an error; synthetic: generated digits; auto: mnist if possible",
        choices=("auto", "mnist", "synthetic"),
    )
    weight_decay: float = runs.option(
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
    """λ/2 times the sum of the squared weights of all layers but the last; no bias."""
    if weight_decay == 0:
        return torch.zeros(())
    weights = (model.conv1.weight, model.conv2.weight, model.fc1.weight)
    return weight_decay / 2 * sum(weight.square().sum() for weight in weights)


def run(config, mnist):
    """Train the network as config says on a data.Dataset; returns what results.json holds."""
    device = torch_training.prepare(config)
    mnist.introduce()
    folder = Path(config.save_dir) / "pytorch_mnist"
    facts = runs.facts(asdict(config), mnist, str(device), "numpy", "torch")
    this = runs.Run.start(folder, asdict(config), config.resume, **facts)
    model = ConvolutionalModel(np.random.default_rng(config.seed)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR_POLICY[1])
    train_x, train_y = torch_training.on_device(mnist.train_x, mnist.train_y, device)
    valid = torch_training.on_device(mnist.valid_x, mnist.valid_y, device)
    num_steps = -(-len(train_x) // config.batch_size)

    def total_loss(logits, labels):
        return functional.cross_entropy(logits, labels) + l2_loss(model, config.weight_decay)

    with this.recording():
        gallery = Gallery(this, mnist, lambda: torch_training.first_filters(model.conv1))
        this.restore_torch(model=model, optimizer=optimizer)
        log = torch_training.Log(this, config.tensorboard)
        for epoch in this.epochs(config.epochs):
            lr = config.lr_scale * LR_POLICY[max(start for start in LR_POLICY if start <= epoch)]
            optimizer.param_groups[0]["lr"] = lr
            for step, batch in this.batches(len(train_x), config.batch_size, config.seed):
                batch = torch.from_numpy(batch).to(device)
                labels = train_y[batch]
                logits = model(train_x[batch])
                loss = total_loss(logits, labels)
                num_correct = (logits.argmax(dim=1) == labels).sum()
                this.count(loss.item(), num_correct.item(), len(batch), lr)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                gallery.after_step(epoch, step, num_steps)
            with this.stoppable():
                result = torch_training.evaluate(
                    model, *valid, "validation", loss_function=total_loss
                )
                row = this.epoch_row(*result)
                gallery.after_epoch(row)
                log.epoch(row, gallery.first_filters(), result.confusion)
            this.finish_epoch(row)
        if not this.is_finished:
            with this.stoppable():
                torch_training.save_model(folder / "model.pt", model)
                test_x, test_y = torch_training.on_device(mnist.test_x, mnist.test_y, device)
                logits = torch_training.predict(model, test_x)
                test_loss = total_loss(logits, test_y.cpu()).item()
                results = gallery.after_training(logits.numpy(), test_loss)
                compare(config, folder, this, gallery, results, mnist.note)
            this.finish(**results)
        log.close()
    mnist.announce()
    print(f"everything is in {folder}")
    return this.results


def compare(config, folder, this, gallery, results, note):
    """Put this run beside the NumPy run with the same λ, if there is one: a picture and a table."""
    name = f"train_l2reg/lambda_{config.weight_decay:g}" if config.weight_decay else "train"
    theirs = Path(config.save_dir) / name
    try:
        known = json.loads((theirs / "results.json").read_text(encoding="utf-8"))
        with (theirs / "history.csv").open(newline="") as file:
            history = [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
            ]
        with (theirs / "model.npz").open("rb") as file, np.load(file) as arrays:
            filters = arrays["0.conv1.weights"].reshape(-1, 1, 5, 5)
        known |= json.loads((theirs / "config.json").read_text(encoding="utf-8"))
        test_acc = known["test_acc"]
    except (OSError, ValueError, KeyError) as error:
        print(f"no finished NumPy run with the same λ to compare with: {error}")
        return
    if unlike := runs.unlike(known, {**this.results, **asdict(config)}):
        print(f"no comparison with the NumPy run, which is another one: {'; '.join(unlike)}")
        return
    columns = [
        {"name": "NumPy", "filters": filters, "history": history, "test_acc": test_acc},
        {
            "name": "PyTorch",
            "filters": gallery.first_filters(),
            "history": this.history,
            "test_acc": results["test_acc"],
        },
    ]
    plots.draw_side_by_side(folder / "comparison.png", columns, note)
    rows = []
    print(f"\n{'epoch':>5}" + "".join(f"{key + ', NumPy':>19}{'PyTorch':>10}" for key in COMPARED))
    for row, other in zip(this.history, history, strict=False):
        rows.append({"epoch": row["epoch"]})
        for key in COMPARED:
            rows[-1] |= {f"numpy_{key}": other[key], f"pytorch_{key}": row[key]}
        cells = "".join(f"{other[key]:19.5f}{row[key]:10.5f}" for key in COMPARED)
        print(f"{row['epoch']:5d}{cells}")
    print(f"test accuracy: NumPy {test_acc:.2%}, PyTorch {results['test_acc']:.2%}")
    runs.write_table(folder / "comparison.csv", list(rows[0]), rows)


def main(argv=None):
    config = runs.parse(Config, argv, __doc__, "pytorch_mnist")
    with runs.one_line_errors(data.DataError):
        run(config, data.load_mnist(config.data_dir, config.dataset, config.train_size))


if __name__ == "__main__":
    main()
