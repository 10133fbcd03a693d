"""The strong network, and the tricks that train it fast: each an option of its own.

    python3 pytorch_cifar.py --model strong
    python3 pytorch_cifar.py --model strong --no-muon       # without one of the tricks
    python3 pytorch_cifar.py --model strong --size large    # a larger one, for a GPU
    torchrun --standalone --nproc-per-node=2 pytorch_cifar.py --model strong

The mirroring by turns and the smoothed labels are those of Jordan, 94% on CIFAR-10 in 3.29 Seconds
on a Single GPU, 2024.
"""

from dataclasses import dataclass
from pathlib import Path

from support import data, torch_training
from support.errors import one_line_errors
from support.options import one_option, option, other_default, parse

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from strong import common, ranks
from strong.augmentation import augmented
from strong.hard_images import Selection
from strong.muon import Muon
from strong.network import SIZES, UPSAMPLED, WHITENING_IMAGES, StrongModel, whiten_

NUM_EVALUATED = 2_000  # images after each epoch, of those it trains with
WHOLE = 0.25  # share of the epochs that leave out no image
WARM_UP = 0.1  # share of the steps in which the learning rates rise
ADAM_RATE = 0.005  # largest one, of everything that is not a filter
SGD_RATE = 1.5  # largest one, of the filters without Muon
# (rows, columns): weight in the mean
VIEW_SHIFTS = {(0, 0): 0.5, (-1, -1): 0.25, (1, 1): 0.25}


@dataclass(kw_only=True)
class Config(common.Config):
    model: str = option("strong", "this network", choices=("strong",))
    epochs: int = option(9, "passes over the training images", minimum=1, maximum=100_000)
    batch_size: int = option(500, "images in a step", minimum=1, maximum=60_000)
    lr: float = option(
        0.12, "largest learning rate of the filters, for Muon", minimum=0, maximum=100
    )
    size: str = option(
        "medium",
        "of the network; small: 55 %% of the arithmetic; large: for a GPU, other defaults",
        choices=tuple(SIZES),
    )
    skip: float = option(
        1 / 3,
        "share of the images, the easiest ones, that an epoch leaves out after the first quarter",
        minimum=0,
        maximum=0.5,
    )
    whiten: bool = option(True, "begin with filters that make the pixels uncorrelated")
    muon: bool = option(True, "move the filters by Muon; else by SGD")
    mirror: bool = option(True, "mirror each image every other time")
    shift: int = option(
        2, "pixels that images are shifted by at most; 0: none", minimum=0, maximum=31
    )
    cutout: int = option(
        0, "side of a square that is cut out of images; 0: none", minimum=0, maximum=63
    )
    label_smoothing: float = option(
        0.2, "share of the label that all classes get alike", minimum=0, maximum=1
    )
    average: bool = option(True, "test with a moving average of the weights")
    views: bool = option(True, "test-time augmentation: the mean over shifted and mirrored images")
    upsample: bool = option(False, f"enlarge the images to {UPSAMPLED} x {UPSAMPLED} pixels")
    channels_last: bool = option(True, "keep the channels of a pixel together in memory")


@dataclass(kw_only=True)
class LargeConfig(Config):
    """The defaults of the large network, in which overfitting begins sooner."""

    size: str = other_default(Config, "size", "large")
    epochs: int = other_default(Config, "epochs", 36)
    batch_size: int = other_default(Config, "batch_size", 1000)
    skip: float = other_default(Config, "skip", 0.0)
    shift: int = other_default(Config, "shift", 4)
    cutout: int = other_default(Config, "cutout", 12)
    all_images: bool = other_default(Config, "all_images", True)


def config_class(argv):
    """The options, with their defaults, of a command line (None: sys.argv)."""
    size = one_option(argv, "size", "medium", "pytorch_cifar")
    return LargeConfig if size == "large" else Config


def make_model(config, device, train_x):
    """The network with its first weights; train_x: the images that its first filters whiten."""
    bfloat16 = config.bfloat16 and torch_training.has_fast_bfloat16(device)
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    rng = np.random.default_rng(config.seed)
    model = StrongModel(rng, bfloat16, config.upsample, layout, config.size)
    if config.whiten:
        whiten_(model.whiten, torch.from_numpy(train_x[:WHITENING_IMAGES]))
    return model.to(device)


def make_optimizers(config, model):
    """Those of the filters and of everything else, and their largest learning rates."""
    filters = model.filters()
    others = [p for p in model.parameters() if all(p is not f for f in filters)]
    if config.muon:
        of_filters = Muon(filters, lr=config.lr, bfloat16=model.bfloat16)
    else:
        of_filters = torch.optim.SGD(
            filters, lr=SGD_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
    peaks = config.lr if config.muon else SGD_RATE, ADAM_RATE
    return (of_filters, torch.optim.Adam(others, lr=ADAM_RATE)), peaks


def make_selection(config, num_images):
    """Which of the training images an epoch has; the first quarter of the epochs has all."""
    return Selection(num_images, config.skip, max(1, round(WHOLE * config.epochs)))


def set_learning_rates(config, optimizers, peaks, progress):
    """Up, then linearly down to 0; returns the one of the filters.

    progress: the share of all training that is done.
    """
    factor = common.rise_and_fall(progress, WARM_UP) * config.lr_scale
    for optimizer, peak in zip(optimizers, peaks, strict=True):
        torch_training.set_learning_rate(optimizer, peak * factor)
    return peaks[0] * factor


def train(run, config, cifar, model, averaged_model):
    """Train the model, and average its weights, until all epochs of a support.run.Run are done."""
    device = model.head.weight.device
    images, labels = torch_training.on_device(cifar.train_x, cifar.train_y, device)
    evaluated = images[:NUM_EVALUATED], labels[:NUM_EVALUATED]
    most = NUM_EVALUATED if cifar.trains_with_valid else None
    valid = torch_training.on_device(cifar.valid_x[:most], cifar.valid_y[:most], device)
    final_model = averaged_model.module if config.average else model
    network = ranks.parallel(model)
    network = torch_training.Compiled(network, device) if config.compile else network
    optimizers, peaks = make_optimizers(config, model)
    selection = make_selection(config, len(images))
    num_steps = [-(-selection.size(n) // config.batch_size) for n in range(1, config.epochs + 1)]
    is_mirrored_first = np.random.default_rng(config.seed).random(len(images)) < 0.5

    def validate():
        return common.evaluated(cifar, final_model, evaluated, valid, ranks.in_parts)

    def select_next():
        if run.position.epoch < config.epochs:
            selection.next_epoch(run.position.epoch + 1)

    resume(run, model, averaged_model, selection, optimizers)
    for epoch in run.epochs(config.epochs):
        for batch in run.batches(selection.images(), config.batch_size, config.seed):
            # batch.progress takes all epochs for as long as this one
            half_step = sum(num_steps[: epoch - 1]) + batch.step - 0.5
            lr = set_learning_rates(config, optimizers, peaks, half_step / sum(num_steps))
            share, weight = ranks.share(batch.indices)
            indices = torch_training.to_device(share, device)
            # either way round by turns
            is_mirrored = is_mirrored_first[share] ^ (selection.times_seen[share].numpy() % 2 == 1)
            x, y = augmented(images[indices], is_mirrored, batch.rng, config), labels[indices]
            logits = network(x)  # (B, 10)
            loss = weight * cross_entropy(logits, y, label_smoothing=config.label_smoothing)
            num_correct = (logits.argmax(dim=1) == y).sum() * (weight > 0)
            run.count(*ranks.summed(loss.item() / ranks.size(), num_correct.item()), lr)
            selection.remember(batch.indices, logits, y)
            update(loss, optimizers)
            ranks.average_statistics(model)
            averaged_model.update_parameters(model)
        run.end_epoch(validate, select_next)


def update(loss, optimizers):
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()


def resume(run, model, averaged_model, selection, optimizers):
    """Go on from the last checkpoint of a run, if there is one, on all ranks."""
    parts = {"model": model, "average": averaged_model, "selection": selection}
    parts |= {"optimizer": optimizers[0], "optimizer_of_others": optimizers[1]}
    run.restore_torch(**parts)
    ranks.follow(run, **parts)


def train_in_folder(folder, config, cifar, device):
    """Train a network, test it once, and leave all of a run's files in folder; returns the run."""
    if config.all_images:
        cifar = cifar.all_to_train_with()
    model = make_model(config, device, cifar.train_x)
    averaged_model = torch_training.Average(model)
    final_model = averaged_model.module if config.average else model

    def test():
        torch_training.save_model(folder / "model.pt", final_model)
        views = torch_training.Views(final_model, VIEW_SHIFTS) if config.views else final_model
        return common.final_test(run, cifar, model, views, device, ranks.in_parts)

    with common.start(folder, config, cifar, model, device, processes=ranks.size()) as run:
        run.show(cifar, lambda: torch_training.first_filters(model.whiten), config.tensorboard)
        train(run, config, cifar, model, averaged_model)
        run.finish(test)
    return run


def run(config, cifar):
    """Train the network as config says on a data.Dataset; returns what results.json holds."""
    device = ranks.join(torch_training.pick_device(config.device))
    threads = max(1, config.threads // ranks.on_this_machine())
    processes = f"{ranks.size()} processes, each with " if ranks.size() > 1 else ""
    torch_training.set_up(config, device, threads, processes)
    cifar.introduce()
    folder = Path(config.save_dir) / "pytorch_cifar"
    with ranks.one_run(folder) as own_folder:
        results = train_in_folder(own_folder, config, cifar, device).results
    cifar.announce()
    print(f"everything is in {folder}")
    return results


def main(argv=None):
    config = parse(config_class(argv), argv, __doc__, "pytorch_cifar")
    with one_line_errors(data.DataError):
        run(config, data.load_cifar10(config.data_dir, config.dataset, config.train_size))
