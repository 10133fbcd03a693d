"""Task 1: train a convolutional network on MNIST with the hand-written framework.

python3 train.py              # writes pictures, tables and the model into out/train/
python3 train.py --summary    # the network's sizes, parameters, receptive fields and memory
python3 train.py --resume     # goes on with a run that was interrupted
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import data
import layers
import metrics
import nn
import plots
import runs

# learning rate from the given epoch on
LR_POLICY = {1: {"lr": 1e-1}, 3: {"lr": 1e-2}, 5: {"lr": 1e-3}, 7: {"lr": 1e-4}}
FILTER_STEPS = 200  # between two pictures of the filters
NUM_WORST = 20


@dataclass(kw_only=True)
class Config(runs.CommonConfig):
    dataset: str = runs.option(
        "auto",
        "mnist: the real data or an error; synthetic: generated digits; auto: mnist if possible",
        choices=("auto", "mnist", "synthetic"),
    )
    summary: bool = runs.option(False, "print the network's table and stop")


def build_net(batch_size, rng, dtype=np.float32):
    """The lab's network for images of 28x28, a list of layers; rng gives the initial weights."""
    images = np.zeros((batch_size, 1, 28, 28), dtype)
    net = [layers.Convolution(images, 16, 5, "conv1", rng=rng)]
    net += [layers.MaxPooling(net[-1], "pool1")]
    net += [layers.ReLU(net[-1], "relu1")]
    net += [layers.Convolution(net[-1], 32, 5, "conv2", rng=rng)]
    net += [layers.MaxPooling(net[-1], "pool2")]
    net += [layers.ReLU(net[-1], "relu2")]
    net += [layers.Flatten(net[-1], "flatten3")]
    net += [layers.FC(net[-1], 512, "fc3", rng=rng)]
    net += [layers.ReLU(net[-1], "relu3")]
    net += [layers.FC(net[-1], 10, "logits", rng=rng)]
    return net


def run(config, mnist):
    """Train the network as config says on a data.Dataset; returns what results.json holds."""
    start(config.threads, mnist)
    net = build_net(config.batch_size, np.random.default_rng(config.seed))
    loss = layers.SoftmaxCrossEntropyWithLogits()
    folder = Path(config.save_dir) / "train"
    done = train_in_folder(folder, asdict(config), mnist, net, loss, config.resume)
    announce(mnist)
    print(f"everything is in {folder}")
    return done.results


def train_in_folder(folder, options, mnist, net, loss, resume, on_epoch=None):
    """Train net, test it once, and leave all of a run's files in folder; returns the runs.Run.

    options: a mapping with the fields of Config. on_epoch: see nn.train.
    """
    this = runs.Run.start(folder, options, resume, **facts(options, mnist))
    before = first_filters(net)

    def draw_filters(epoch, step):
        if step % FILTER_STEPS == 0 or step * options["batch_size"] >= len(mnist.train_x):
            plots.draw_conv_filters(epoch, step, first_filters(net), folder / "filters")

    def draw_curves(row):
        if on_epoch is not None:
            on_epoch(row)
        history = [*this.history, row]
        curves = {key: [row[key] for row in history] for key in row}
        plots.plot_training_progress(folder, curves, mnist.note)

    num_classes = len(mnist.class_names)
    config = {
        "max_epochs": options["epochs"],
        "batch_size": options["batch_size"],
        "seed": options["seed"],
        "save_dir": folder,
        "lr_policy": {
            epoch: {"lr": options["lr_scale"] * entry["lr"]} for epoch, entry in LR_POLICY.items()
        },
    }
    with this.recording():
        if not this.is_finished:
            plots.draw_conv_filters(0, 0, before, folder / "filters")
        nn.train(
            mnist.train_x,
            data.one_hot(mnist.train_y, num_classes),
            mnist.valid_x,
            data.one_hot(mnist.valid_y, num_classes),
            net,
            loss,
            config,
            this,
            draw_filters,
            draw_curves,
        )
        if not this.is_finished:
            after = first_filters(net)
            plots.draw_filters_before_after(
                folder / "filters_before_after.png", before, after, mnist.note
            )
            runs.write_arrays(folder / "model.npz", {**nn.parameters(net), "mean": mnist.mean})
            test(this, mnist, net, loss, config)
    return this


def test(this, mnist, net, loss, config):
    """Try net on the test images: figures, confusion matrix, table, and the worst mistakes."""
    num_classes, folder = len(mnist.class_names), this.folder
    logits = nn.predict(net, mnist.test_x, config["batch_size"])
    test_loss = float(loss.forward(logits, data.one_hot(mnist.test_y, num_classes)))
    confusion = metrics.confusion_matrix(mnist.test_y, logits.argmax(axis=1), num_classes)
    print(f"test: loss {test_loss:.4f}, accuracy {metrics.accuracy(confusion):.2%}")
    print(metrics.per_class_table(confusion, mnist.class_names))

    rows = [
        {"true": name, **dict(zip(mnist.class_names, counts, strict=True))}
        for name, counts in zip(mnist.class_names, confusion.tolist(), strict=True)
    ]
    runs.write_table(folder / "confusion_matrix.csv", ["true", *mnist.class_names], rows)
    plots.draw_confusion_matrix(
        folder / "confusion_matrix.png", confusion, mnist.class_names, mnist.note
    )
    worst = metrics.worst_mistakes(logits, mnist.test_y, mnist.class_names, NUM_WORST)
    runs.write_table(folder / "worst_20.csv", metrics.MISTAKE_COLUMNS, worst)
    images = mnist.pixels(mnist.test_x[[mistake["index"] for mistake in worst]])
    captions = [metrics.mistake_caption(mistake) for mistake in worst]
    plots.draw_mistakes(folder / "worst_20.png", images, captions, mnist.note)
    this.write_results(
        status="finished",
        epochs=len(this.history),
        test_loss=test_loss,
        test_acc=metrics.accuracy(confusion),
        precision=dict(zip(mnist.class_names, metrics.precision(confusion).tolist(), strict=True)),
        recall=dict(zip(mnist.class_names, metrics.recall(confusion).tolist(), strict=True)),
        seconds=sum(row["seconds"] for row in this.history),
    )


def first_filters(net):
    """A copy of the first layer's filters. Shape: (F, C, k, k)."""
    conv = net[0]
    k = conv.kernel_size
    return conv.weights.reshape(conv.weights.shape[0], -1, k, k).copy()


def start(threads, mnist):
    """Set and print what the whole run depends on."""
    layers.set_num_threads(threads)
    print(f"{threads} thread(s), instruction set {layers.kernels.get_instruction_set()}")
    announce(mnist)


def announce(mnist):
    """Say so if the images are not the official ones; at the start and at the end of a run."""
    if mnist.note:
        print(mnist.note)


def facts(options, mnist):
    """What results.json says from the start of the run."""
    return {
        "dataset": mnist.name,
        "provenance": mnist.provenance,
        "seed": options["seed"],
        "threads": options["threads"],
        "device": "cpu",
        "instruction_set": layers.kernels.get_instruction_set(),
        **runs.software("numpy", "scipy", "cython"),
    }


def main(argv=None):
    config = runs.parse(Config, argv, __doc__)
    with runs.one_line_errors(data.DataError):
        if config.summary:
            rng = np.random.default_rng(config.seed)
            print(nn.summary(build_net(config.batch_size, rng), config.batch_size))
        else:
            run(config, data.load_mnist(config.data_dir, config.dataset, config.train_size))


if __name__ == "__main__":
    main()
