"""Knowledge distillation: the lab's network learns from a strong one, its teacher.

    python3 pytorch_cifar.py --model strong --save-dir out/strong
    python3 -m strong.teach --teacher out/strong/pytorch_cifar

A teacher guards from overfitting, so a long training pays: 200 epochs. The network is trained with
batch normalization, which is folded into its weights at the end; what out/teach/model.pt holds is
the lab's network, see lab_network.py and teacher.py.
"""

from dataclasses import dataclass
from pathlib import Path

from support import data, torch_training

import numpy as np
import torch
from torch.nn import functional

import runs
from gallery import Gallery
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
    teacher: str = runs.option("", "folder of a run of --model strong; needed", is_folder=True)
    all_images: bool = runs.other_default(common.Config, "all_images", True)
    epochs: int = runs.option(200, "passes over the training images", minimum=1, maximum=100_000)
    batch_size: int = runs.option(64, "images in a step", minimum=1, maximum=60_000)
    lr: float = runs.option(
        0.02, "largest learning rate, before --lr-scale", minimum=0, maximum=100
    )
    momentum: float = runs.option(0.9, "of SGD, Nesterov's", minimum=0, maximum=1)
    weight_decay: float = runs.option(
        1e-3, "λ, for the weights of all layers", minimum=0, maximum=1000
    )
    average: bool = runs.option(True, "test with a moving average of the weights")
    views: bool = runs.option(
        True, "test-time augmentation: the mean over shifted and mirrored images"
    )

    def __post_init__(self):
        super().__post_init__()
        if not self.teacher:
            raise runs.RunError("--teacher is missing: the folder of a run of --model strong")


def train(this, gallery, config, cifar, model, averaged_model, teacher):
    """Train the model, and average its weights, until all epochs of a runs.Run are done."""
    device = model.conv1.weight.device
    images, labels = torch_training.on_device(cifar.train_x, cifar.train_y, device)
    valid = torch_training.on_device(cifar.valid_x, cifar.valid_y, device)
    final_model = averaged_model.module if config.average else model
    network = torch_training.Compiled(model, device) if config.compile else model
    optimizer = common.sgd(model, config)
    this.restore_torch(model=model, average=averaged_model, optimizer=optimizer)
    log = torch_training.Log(this, config.tensorboard)
    num_steps = -(-len(images) // config.batch_size)
    if not this.is_finished:
        with this.stoppable():
            soft_labels = teacher_logits(teacher, images, labels)
    for epoch in this.epochs(config.epochs):
        for step, batch in this.batches(len(images), config.batch_size, config.seed):
            half_step = (epoch - 1) * num_steps + step - 0.5  # so that its rate is never 0
            factor = common.rise_and_fall(half_step / (config.epochs * num_steps), WARM_UP)
            lr = config.lr * config.lr_scale * factor
            torch_training.set_learning_rate(optimizer, lr)
            indices = torch_training.to_device(batch, device)
            rng = np.random.default_rng([config.seed, epoch, step])
            x, y = jittered(images[indices], rng, SHIFT), labels[indices]
            logits = network(x)  # (B, 10)
            loss = functional.cross_entropy(logits, y)
            loss = distillation_loss(loss, logits, soft_labels[indices])
            num_correct = (logits.argmax(dim=1) == y).sum()
            this.count(loss.item(), num_correct.item(), len(batch), lr)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            averaged_model.update_parameters(model)
            gallery.after_step(epoch, step, num_steps)
        row = common.end_epoch(this, gallery, log, final_model, (images, labels), valid)
        this.finish_epoch(row)
    log.close()


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
    averaged_model = torch_training.averaged(model)
    folder = Path(config.save_dir) / "teach"
    this = common.start(folder, config, cifar, model, device)
    with this.recording():
        gallery = Gallery(this, cifar, lambda: torch_training.first_filters(model.conv1))
        train(this, gallery, config, cifar, model, averaged_model, teacher)
        if not this.is_finished:
            with this.stoppable():
                final_model = (averaged_model.module if config.average else model).folded()
                torch_training.save_model(folder / "model.pt", final_model)
                views = torch_training.Views(final_model, VIEW_SHIFTS)
                views = views if config.views else final_model
                results = common.final_test(gallery, cifar, model, views, device)
            this.finish(**results)
    cifar.announce()
    print(f"everything is in {folder}")
    return this.results


def main(argv=None):
    config = runs.parse(Config, argv, __doc__, "teach")
    with runs.one_line_errors(data.DataError):
        run(config, data.load_cifar10(config.data_dir, config.dataset, config.train_size))


if __name__ == "__main__":
    main()
