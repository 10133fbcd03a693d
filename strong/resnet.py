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
from support.errors import one_line_errors
from support.options import option, parse

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import resnet18

from strong import common
from strong.augmentation import jittered

PADDING = 4  # pixels around an image, out of which a crop is taken: zeros, the mean colour
NUM_EVALUATED = 5_000  # training images after each epoch
WARM_UP = 0.2  # share of the steps in which the learning rate rises


@dataclass(kw_only=True)
class Config(common.Config):
    model: str = option("resnet18", "this network", choices=("resnet18",))
    epochs: int = option(30, "passes over the training images", minimum=1, maximum=100_000)
    batch_size: int = option(128, "images in a step", minimum=1, maximum=60_000)
    lr: float = option(0.1, "largest learning rate, before --lr-scale", minimum=0, maximum=100)
    momentum: float = option(0.9, "of SGD, Nesterov's", minimum=0, maximum=1)
    weight_decay: float = option(5e-4, "λ, for the weights of all layers", minimum=0, maximum=1000)
    augment: bool = option(
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


def train(run, config, cifar, model):
    """Train the model until all epochs of a support.run.Run are done."""
    device = model.layers.fc.weight.device
    images, labels = torch_training.on_device(cifar.train_x, cifar.train_y, device)
    evaluated = images[:NUM_EVALUATED], labels[:NUM_EVALUATED]
    valid = torch_training.on_device(cifar.valid_x, cifar.valid_y, device)
    network = torch_training.Compiled(model, device) if config.compile else model
    optimizer = common.sgd(model, config)

    def validate():
        return common.evaluated(cifar, model, evaluated, valid)

    run.restore_torch(model=model, optimizer=optimizer)
    for _ in run.epochs(config.epochs):
        for batch in run.batches(len(images), config.batch_size, config.seed):
            factor = common.rise_and_fall(batch.progress, WARM_UP)
            lr = config.lr * config.lr_scale * factor
            torch_training.set_learning_rate(optimizer, lr)
            indices = torch_training.to_device(batch.indices, device)
            x, y = images[indices], labels[indices]
            if config.augment:
                x = jittered(x, batch.rng, PADDING)
            logits = network(x)  # (B, 10)
            loss = functional.cross_entropy(logits, y)
            num_correct = (logits.argmax(dim=1) == y).sum()
            run.count(loss.item(), num_correct.item(), lr)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        run.end_epoch(validate)


def run(config, cifar):
    """Train the network as config says on a data.Dataset; returns what results.json holds."""
    device = torch_training.prepare(config)
    cifar.introduce()
    if config.all_images:
        cifar = cifar.all_to_train_with()
    bfloat16 = config.bfloat16 and torch_training.has_fast_bfloat16(device)
    model = ResNet(bfloat16).to(device, memory_format=torch.channels_last)
    folder = Path(config.save_dir) / "pytorch_cifar"

    def test():
        torch_training.save_model(folder / "model.pt", model.layers)
        return common.final_test(this, cifar, model, model, device)

    with common.start(folder, config, cifar, model, device) as this:
        first_layer = model.layers.conv1
        this.show(cifar, lambda: torch_training.first_filters(first_layer), config.tensorboard)
        train(this, config, cifar, model)
        this.finish(test)
    cifar.announce()
    print(f"everything is in {folder}")
    return this.results


def main(argv=None):
    config = parse(Config, argv, __doc__, "pytorch_cifar")
    with one_line_errors(data.DataError):
        run(config, data.load_cifar10(config.data_dir, config.dataset, config.train_size))
