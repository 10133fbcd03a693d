"""Knowledge distillation: the lab's network learns from a strong one, its teacher.

    python3 pytorch_cifar.py --model strong --skip 0 --save-dir out/strong
    python3 -m strong.teach --teacher out/strong/pytorch_cifar

A teacher guards from overfitting, so a long training pays: 200 epochs. The network is trained with
batch normalization, which is folded into its weights at the end; what out/teach/model.pt holds is
the lab's network, see lab_network.py and teacher.py.
"""

from dataclasses import dataclass
from pathlib import Path

from support import data, torch_training
from support.errors import RunError, one_line_errors
from support.options import option, other_default, parse

import numpy as np
import torch
from torch.nn import functional

from strong import common
from strong.augmentation import jittered
from strong.lab_network import NormalizedModel
from strong.teacher import distillation_loss, load, teacher_logits

SHIFT = 2  # pixels that an image is shifted by at most
WARM_UP = 0.2  # share of the steps in which the learning rate rises
# (rows, columns): weight in the mean
VIEW_SHIFTS = dict.fromkeys([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], 0.2)


@dataclass(kw_only=True)
class Config(common.Config):
    teacher: str = option("", "folder of a run of --model strong; needed", is_folder=True)
    all_images: bool = other_default(common.Config, "all_images", True)
    epochs: int = option(200, "passes over the training images", minimum=1, maximum=100_000)
    batch_size: int = option(64, "images in a step", minimum=1, maximum=60_000)
    lr: float = option(0.02, "largest learning rate, before --lr-scale", minimum=0, maximum=100)
    momentum: float = option(0.9, "of SGD, Nesterov's", minimum=0, maximum=1)
    weight_decay: float = option(1e-3, "λ, for the weights of all layers", minimum=0, maximum=1000)
    average: bool = option(True, "test with a moving average of the weights")
    views: bool = option(True, "test-time augmentation: the mean over shifted and mirrored images")

    def __post_init__(self):
        super().__post_init__()
        if not self.teacher:
            raise RunError("--teacher is missing: the folder of a run of --model strong")


def train(run, config, cifar, model, averaged_model, teacher):
    """Train the model, and average its weights, until all epochs of a support.run.Run are done."""
    device = model.conv1.weight.device
    images, labels = torch_training.on_device(cifar.train_x, cifar.train_y, device)
    valid = torch_training.on_device(cifar.valid_x, cifar.valid_y, device)
    final_model = averaged_model.module if config.average else model
    network = torch_training.Compiled(model, device) if config.compile else model
    optimizer = common.sgd(model, config)

    def validate():
        return common.evaluated(cifar, final_model, (images, labels), valid)

    run.restore_torch(model=model, average=averaged_model, optimizer=optimizer)
    if not run.is_finished:
        with run.signals.anywhere():
            soft_labels = teacher_logits(teacher, images, labels)
    for _ in run.epochs(config.epochs):
        for batch in run.batches(len(images), config.batch_size, config.seed):
            factor = common.rise_and_fall(batch.progress, WARM_UP)
            lr = config.lr * config.lr_scale * factor
            torch_training.set_learning_rate(optimizer, lr)
            indices = torch_training.to_device(batch.indices, device)
            x, y = jittered(images[indices], batch.rng, SHIFT), labels[indices]
            logits = network(x)  # (B, 10)
            loss = functional.cross_entropy(logits, y)
            loss = distillation_loss(loss, logits, soft_labels[indices])
            num_correct = (logits.argmax(dim=1) == y).sum()
            run.count(loss.item(), num_correct.item(), lr)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            averaged_model.update_parameters(model)
        run.end_epoch(validate)


def test(run, config, cifar, model, averaged_model):
    """Fold the network that is kept, save it, and test it, once; see common.final_test."""
    final_model = (averaged_model.module if config.average else model).folded()
    torch_training.save_model(run.folder / "model.pt", final_model)
    views = torch_training.Views(final_model, VIEW_SHIFTS) if config.views else final_model
    return common.final_test(run, cifar, model, views, model.conv1.weight.device)


def run(config, cifar):
    """Train the network as config says on a data.Dataset; returns what results.json holds."""
    device = torch_training.prepare(config)
    cifar.introduce()
    if config.all_images:
        cifar = cifar.all_to_train_with()
    teacher = load(config.teacher, config.all_images, device)
    bfloat16 = config.bfloat16 and torch_training.has_fast_bfloat16(device)
    model = NormalizedModel(np.random.default_rng(config.seed), bfloat16)
    model = model.to(device, memory_format=torch.channels_last)
    averaged_model = torch_training.Average(model)
    folder = Path(config.save_dir) / "teach"
    with common.start(folder, config, cifar, model, device, teacher_model=teacher.digest) as this:
        this.show(cifar, lambda: torch_training.first_filters(model.conv1), config.tensorboard)
        train(this, config, cifar, model, averaged_model, teacher)
        this.finish(lambda: test(this, config, cifar, model, averaged_model))
    cifar.announce()
    print(f"everything is in {folder}")
    return this.results


def main(argv=None):
    config = parse(Config, argv, __doc__, "teach")
    with one_line_errors(data.DataError):
        run(config, data.load_cifar10(config.data_dir, config.dataset, config.train_size))


if __name__ == "__main__":
    main()
