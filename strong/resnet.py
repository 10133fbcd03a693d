"""torchvision's ResNet-18 on CIFAR-10, trained as textbooks do: the measure of our tricks.

    python3 pytorch_cifar.py --model resnet18       # meant for a GPU

SGD with Nesterov's momentum and weight decay, random crops and mirroring, no tricks: what
`--model strong` does better than this, it owes to its tricks. Images of 32 x 32 pixels would leave
the first layers, 7x7 with stride 2 and a pooling, as 8 x 8; here they are a 3x3 convolution.

Source: He et al., Deep Residual Learning for Image Recognition, 2015.
"""

from dataclasses import dataclass
from pathlib import Path

from support import data, torch_training

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import resnet18
from torchvision.transforms import v2

import runs
from gallery import Gallery
from strong import common

PADDING = 4  # pixels around an image, out of which a crop is taken: zeros, the mean colour
TRANSFORM = v2.Compose([v2.RandomCrop(32, padding=PADDING), v2.RandomHorizontalFlip()])
NUM_EVALUATED = 5_000  # training images after each epoch
WARM_UP = 0.2  # share of the steps in which the learning rate rises


@dataclass(kw_only=True)
class Config(common.Config):
    model: str = runs.option("resnet18", "this network", choices=("resnet18",))
    epochs: int = runs.option(30, "passes over the training images", minimum=1, maximum=100_000)
    batch_size: int = runs.option(128, "images in a step", minimum=1, maximum=60_000)
    lr: float = runs.option(0.1, "largest learning rate, before --lr-scale", minimum=0, maximum=100)
    momentum: float = runs.option(0.9, "of SGD, Nesterov's", minimum=0, maximum=1)
    weight_decay: float = runs.option(
        5e-4, "λ, for the weights of all layers", minimum=0, maximum=1000
    )
    augment: bool = runs.option(
        True, f"data augmentation: crops of images with {PADDING} more pixels around, mirroring"
    )


class ResNet(nn.Module):
    """ResNet-18 with a first layer for small images. Shapes: (N, 3, H, W) -> (N, 10) of float32.

    The first weights come from PyTorch's random numbers. bfloat16: convolutions and products in
    that type.
    """

    def __init__(self, bfloat16=False):
        super().__init__()
        self.bfloat16 = bfloat16
        self.layers = resnet18(num_classes=10)
        self.layers.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        self.layers.maxpool = nn.Identity()
        nn.init.kaiming_normal_(self.layers.conv1.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.layers(x).float()


def augmented(images, seed):
    """Data augmentation by torchvision: of each image a crop, out of its padded self, or the mirror
    image of that.

    The transforms draw once a call, so each image has one of its own; that takes ten times as long
    as the one pass over a batch in augmentation.py, and little beside a step of this network.
    """
    torch.manual_seed(seed)  # so that they depend on nothing that was drawn before
    return torch.stack([TRANSFORM(image) for image in images])


def train(this, gallery, config, cifar, model):
    """Train the model until all epochs of a runs.Run are done."""
    device = model.layers.fc.weight.device
    images, labels = torch_training.on_device(cifar.train_x, cifar.train_y, device)
    evaluated = images[:NUM_EVALUATED], labels[:NUM_EVALUATED]
    valid = torch_training.on_device(cifar.valid_x, cifar.valid_y, device)
    network = torch_training.Compiled(model, device) if config.compile else model
    optimizer = common.sgd(model, config)
    this.restore_torch(model=model, optimizer=optimizer)
    log = torch_training.Log(this, config.tensorboard)
    num_steps = -(-len(images) // config.batch_size)
    for epoch in this.epochs(config.epochs):
        for step, batch in this.batches(len(images), config.batch_size, config.seed):
            half_step = (epoch - 1) * num_steps + step - 0.5  # so that its rate is never 0
            factor = common.rise_and_fall(half_step / (config.epochs * num_steps), WARM_UP)
            lr = config.lr * config.lr_scale * factor
            torch_training.set_learning_rate(optimizer, lr)
            indices = torch_training.to_device(batch, device)
            x, y = images[indices], labels[indices]
            if config.augment:
                rng = np.random.default_rng([config.seed, epoch, step])
                x = augmented(x, int(rng.integers(2**63)))
            logits = network(x)  # (B, 10)
            loss = functional.cross_entropy(logits, y)
            num_correct = (logits.argmax(dim=1) == y).sum()
            this.count(loss.item(), num_correct.item(), len(batch), lr)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            gallery.after_step(epoch, step, num_steps)
        row = common.end_epoch(this, gallery, log, model, evaluated, valid)
        this.finish_epoch(row)
    log.close()


def run(config, cifar):
    """Train the network as config says on a data.Dataset; returns what results.json holds."""
    device = torch_training.prepare(config)
    cifar.introduce()
    if config.all_images:
        cifar = cifar.all_to_train_with()
    bfloat16 = config.bfloat16 and torch_training.has_fast_bfloat16(device)
    model = ResNet(bfloat16).to(device, memory_format=torch.channels_last)
    folder = Path(config.save_dir) / "pytorch_cifar"
    this = common.start(folder, config, cifar, model, device)
    with this.recording():
        first_layer = model.layers.conv1
        gallery = Gallery(this, cifar, lambda: torch_training.first_filters(first_layer))
        train(this, gallery, config, cifar, model)
        if not this.is_finished:
            with this.stoppable():
                torch_training.save_model(folder / "model.pt", model.layers)
                results = common.final_test(gallery, cifar, model, model, device)
            this.finish(**results)
    cifar.announce()
    print(f"everything is in {folder}")
    return this.results


def main(argv=None):
    config = runs.parse(Config, argv, __doc__, "pytorch_cifar")
    with runs.one_line_errors(data.DataError):
        run(config, data.load_cifar10(config.data_dir, config.dataset, config.train_size))
