"""Task 1: train a convolutional network on MNIST with the hand-written framework.

    python3 train.py              # writes pictures, tables and the model into out/train/
    python3 train.py --summary    # the network's sizes, parameters, receptive fields and memory
    python3 train.py --resume     # goes on with a run that was interrupted
    python3 train.py --layers layers    # with layers.py alone, in plain NumPy

build_net makes the network, nn.py trains it.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from support import data, files, layer_lists, tables
from support.errors import one_line_errors
from support.facts import run_facts
from support.framework import load_layers, set_threads
from support.options import CommonConfig, option, parse
from support.run import Run

import numpy as np

import nn

# learning rate from the given epoch on
LR_POLICY = {1: {"lr": 1e-1}, 3: {"lr": 1e-2}, 5: {"lr": 1e-3}, 7: {"lr": 1e-4}}


@dataclass(kw_only=True)
class Config(CommonConfig):
    dataset: str = option(
        "auto",
        "mnist: the real data or an error; synthetic: generated digits; auto: mnist if possible",
        choices=("auto", "mnist", "synthetic"),
    )
    layers: str = option(
        "fast_layers",
        "module with the layers, or a file, my_layers.py; layers: plain NumPy, which "
        "fast_layers speeds up",
    )
    summary: bool = option(False, "print the network's table and stop")


def build_net(layers, batch_size, rng, dtype=np.float32):
    """The lab's network for images of 28x28, a list of layers; rng gives the initial weights.

    layers: the module with the classes: fast_layers, layers, or a student's own.
    """

    def he_normal(shape, fan_in):  # handed over, for a student's layers may take no rng
        return np.sqrt(2 / fan_in) * rng.standard_normal(shape)

    images = np.zeros((batch_size, 1, 28, 28), dtype)  # only shape and type count
    net = [layers.Convolution(images, 16, 5, "conv1", weights_initializer_fn=he_normal)]
    net += [layers.MaxPooling(net[-1], "pool1")]
    net += [layers.ReLU(net[-1], "relu1")]
    net += [layers.Convolution(net[-1], 32, 5, "conv2", weights_initializer_fn=he_normal)]
    net += [layers.MaxPooling(net[-1], "pool2")]
    net += [layers.ReLU(net[-1], "relu2")]
    net += [layers.Flatten(net[-1], "flatten3")]
    net += [layers.FC(net[-1], 512, "fc3", weights_initializer_fn=he_normal)]
    net += [layers.ReLU(net[-1], "relu3")]
    net += [layers.FC(net[-1], 10, "logits", weights_initializer_fn=he_normal)]
    return net


def run(config, mnist):
    """Train the network as config says on a data.Dataset; returns what results.json holds."""
    layers = start(config, mnist)
    net = build_net(layers, config.batch_size, np.random.default_rng(config.seed))
    loss = layers.SoftmaxCrossEntropyWithLogits()
    folder = Path(config.save_dir) / "train"
    done = train_in_folder(layers, folder, asdict(config), mnist, net, loss, config.resume)
    mnist.announce()
    print(f"everything is in {folder}")
    return done.results


def train_in_folder(layers, folder, options, mnist, net, loss, resume, columns=None):
    """Train net, test it once, and leave all of a run's files in folder; returns the Run.

    options: a mapping with the fields of Config. columns: {name: function of the row of an epoch},
    to be kept in the history, too.
    """
    facts = run_facts(options, mnist, "cpu", "numpy", "scipy", "cython")
    facts |= set_threads(layers, options["threads"])
    lr_policy = {
        epoch: {"lr": options["lr_scale"] * entry["lr"]} for epoch, entry in LR_POLICY.items()
    }
    config = {"max_epochs": options["epochs"], "save_dir": folder, "lr_policy": lr_policy}
    config |= {"batch_size": options["batch_size"], "seed": options["seed"]}
    initial = {name: array.copy() for name, array in nn.parameters(net).items()}
    num_classes = len(mnist.class_names)
    train_y, valid_y, test_y = (
        data.one_hot(labels, num_classes) for labels in (mnist.train_y, mnist.valid_y, mnist.test_y)
    )

    def test():
        files.write_arrays(folder / "model.npz", {**nn.parameters(net), "mean": mnist.mean})
        layer_lists.write(folder, net, mnist, initial)
        logits = nn.predict(net, mnist.test_x, config["batch_size"])
        return logits, float(loss.forward(logits, test_y))

    with Run.start(folder, options, resume, **facts) as run:
        rows = [row._asdict() for row in nn.summary_rows(net, options["batch_size"])]
        tables.write_table(folder / "page" / "network.csv", list(rows[0]), rows)
        run.show(mnist, lambda: first_filters(net))
        for name, value in (columns or {}).items():
            run.add_column(name, value)
        images = mnist.train_x, train_y, mnist.valid_x, valid_y
        # fast_layers brings a faster update with it
        update = getattr(layers, "sgd_update_params", nn.sgd_update_params)
        nn.train(*images, net, loss, config, run, update)
        run.finish(test)
    return run


def first_filters(net):
    """A copy of the first layer's filters. Shape: (F, C, k, k)."""
    conv = net[0]
    k = conv.kernel_size
    return conv.weights.reshape(conv.weights.shape[0], -1, k, k).copy()


def start(config, mnist):
    """Print what the whole run depends on; returns the module with the layers."""
    layers = load_layers(config.layers)
    uses = set_threads(layers, config.threads)
    name, threads, instruction_set = layers.__name__, uses["threads"], uses["instruction_set"]
    print(f"{name}.py, {threads} thread(s), instruction set {instruction_set}")
    mnist.introduce()
    return layers


def print_summary(config):
    net = build_net(
        load_layers(config.layers), config.batch_size, np.random.default_rng(config.seed)
    )
    print(nn.summary(net, config.batch_size))


def main(argv=None):
    config = parse(Config, argv, __doc__, "train")
    with one_line_errors(data.DataError):
        if config.summary:
            print_summary(config)
        else:
            run(config, data.load_mnist(config.data_dir, config.dataset, config.train_size))


if __name__ == "__main__":
    main()
