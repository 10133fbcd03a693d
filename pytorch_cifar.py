"""Task 4: a convolutional network on CIFAR-10, and a hard look at what it gets wrong.

    python3 pytorch_cifar.py                                        # some minutes on two cores
    python3 pytorch_cifar.py --epochs 100                           # better, eight times as long
    python3 pytorch_cifar.py --teacher out/strong/pytorch_cifar     # best, see distillation.py
    python3 pytorch_cifar.py --no-jitter --no-average --no-views    # without the tricks
    python3 pytorch_cifar.py --model strong                         # a larger network

Writes into out/pytorch_cifar/: curves, filters, confusion matrix, metrics of each class, the 20
worst mistakes, the model.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from support import data, metrics
from support.errors import one_line_errors
from support.facts import run_facts
from support.gallery import Gallery
from support.options import one_option, option, other_default, parse
from support.run import Run

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import distillation
import hard_images
import ranks
import strong_model
import torch_training
from torch_training import evaluate

NUM_PARAMETERS = 449_898
SHIFT, LONG_SHIFT = 2, 4  # pixels that jitter moves an image at most, in a long run
LONG_RUN = 30  # epochs, from which on more jitter pays
EPSILON = 1e-5  # added to the variances of batch normalization
WARM_UP = 0.2  # share of the steps in which the learning rate rises
# (rows, columns): weight in the mean
VIEW_SHIFTS = dict.fromkeys([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], 0.2)


@dataclass(kw_only=True)
class Config(torch_training.CifarConfig):
    model: str = torch_training.model_option("lab")
    epochs: int = option(12, "passes over the training images", minimum=1, maximum=100_000)
    batch_size: int = option(64, "images in a step", minimum=1, maximum=60_000)
    lr: float = option(0.02, "largest learning rate, before --lr-scale", minimum=0, maximum=100)
    schedule: str = option(
        "linear",
        "of the learning rate, after a warm-up: linear or cosine down to 0; steps: by 10, twice",
        choices=("linear", "cosine", "steps", "constant"),
    )
    momentum: float = option(0.9, "of SGD, Nesterov's", minimum=0, maximum=1)
    weight_decay: float = option(2e-3, "λ, for the weights of all layers", minimum=0, maximum=1000)
    jitter: bool = option(
        True,
        f"mirror half of the images, and shift all by up to {SHIFT} pixels, "
        f"from {LONG_RUN} epochs on without a teacher by up to {LONG_SHIFT}",
    )
    batch_norm: bool = option(
        False, "train with batch normalization, which is folded into the weights at the end"
    )


@dataclass(kw_only=True)
class TaughtConfig(Config):
    """The defaults with a teacher: it guards from learning by heart, so a long training pays."""

    epochs: int = other_default(Config, "epochs", 200)
    weight_decay: float = other_default(Config, "weight_decay", 1e-3)
    batch_norm: bool = other_default(Config, "batch_norm", True)
    all_images: bool = other_default(Config, "all_images", True)


class ConvolutionalModel(nn.Module):
    """conv 16 5x5, relu, maxpool 3/2, conv 32 5x5, relu, maxpool 3/2, fc 256, relu, fc 128, relu,
    fc 10.

    Shapes: (N, 3, 32, 32) -> (N, 10) of float32. rng: a NumPy generator for the initial weights.
    bfloat16: convolutions and products in that type; the parameters stay in float32.
    """

    def __init__(self, rng, bfloat16=False):
        super().__init__()
        self.bfloat16 = bfloat16
        self.conv1 = nn.Conv2d(3, 16, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=5, padding=2)
        self.fc1 = nn.Linear(32 * 7 * 7, 256)
        self.fc2 = nn.Linear(256, 128)
        self.fc_logits = nn.Linear(128, 10)
        for layer in (self.conv1, self.conv2, self.fc1, self.fc2, self.fc_logits):
            torch_training.he_normal_(layer, rng)
        assert sum(parameter.numel() for parameter in self.parameters()) == NUM_PARAMETERS

    def forward(self, x):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
            # ReLU and the maximum may change places; in this order ReLU has a quarter of the work
            h = functional.max_pool2d(self.conv1(x), 3, stride=2).relu()
            h = functional.max_pool2d(self.conv2(h), 3, stride=2).relu()
            h = self.fc1(h.flatten(start_dim=1)).relu()
            h = self.fc2(h).relu()
            return self.fc_logits(h).float()


class NormalizedModel(ConvolutionalModel):
    """The same network with batch normalization of its first three layers, for the training only.

    It has no parameters more: the bias of a layer is added after its normalization, and any scale
    is left to the next layer. In evaluation normalization but scales and shifts, so that folded()
    can do without. A last batch of one image, whose outputs of fc1 have no variance, is normalized
    there as in evaluation.

    Source: Ioffe and Szegedy, Batch Normalization, 2015.
    """

    NORMALIZED = "conv1", "conv2", "fc1"

    def __init__(self, rng, bfloat16=False):
        super().__init__(rng, bfloat16)
        for name in self.NORMALIZED:
            layer = getattr(self, name)
            layer.register_buffer("mean", torch.zeros_like(layer.bias))
            layer.register_buffer("variance", torch.ones_like(layer.bias))

    def forward(self, x):
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
            h = functional.conv2d(x, self.conv1.weight, padding=2)
            h = self.normalized(functional.max_pool2d(h, 3, stride=2), self.conv1).relu()
            h = functional.conv2d(h, self.conv2.weight, padding=2)
            h = self.normalized(functional.max_pool2d(h, 3, stride=2), self.conv2).relu()
            h = functional.linear(h.flatten(start_dim=1), self.fc1.weight)
            h = self.normalized(h, self.fc1).relu()
            h = self.fc2(h).relu()
            return self.fc_logits(h).float()

    def normalized(self, h, layer):
        scale = torch.ones_like(layer.bias)
        has_variance = h.numel() > h.shape[1]  # not so one image in a fully connected layer
        training = self.training and has_variance
        return functional.batch_norm(
            h, layer.mean, layer.variance, scale, layer.bias, training, eps=EPSILON
        )

    @torch.no_grad()
    def folded(self):
        """The ConvolutionalModel with the same outputs as this one in evaluation."""
        state = {name: value.clone() for name, value in self.state_dict().items()}
        for layer in self.NORMALIZED:
            factor = (state.pop(f"{layer}.variance") + EPSILON).rsqrt()
            state[f"{layer}.weight"] *= factor.view(-1, *[1] * (state[f"{layer}.weight"].ndim - 1))
            state[f"{layer}.bias"] -= factor * state.pop(f"{layer}.mean")
        model = ConvolutionalModel(np.random.default_rng(), self.bfloat16)
        model = model.to(factor.device, memory_format=torch.channels_last)
        model.load_state_dict(state)
        return model


def learning_rate(config, progress):
    """The rate of the step in which the share `progress` of all training is done."""
    peak = config.lr * config.lr_scale * min(1, progress / WARM_UP)
    left = min(1, (1 - progress) / (1 - WARM_UP))  # from 1 at the end of the warm-up down to 0
    factors = {
        "linear": left,
        "cosine": (1 - np.cos(np.pi * left)) / 2,
        "steps": 1 if left > 0.5 else 0.1 if left > 0.2 else 0.01,
        "constant": 1,
    }
    return peak * factors[config.schedule]


def jittered(images, rng, shift=SHIFT):
    """Every image shifted by up to `shift` pixels, zeros coming in, and half of them mirrored.

    Shape: images (N, C, H, W). rng: a NumPy generator, so that the jitter of a step depends on
    nothing but its seed.
    """
    N, _, H, W = images.shape
    padded = functional.pad(images, (shift, shift, shift, shift))
    offsets = torch_training.sent(rng.integers(2 * shift + 1, size=(2, N, 1)), images.device)
    columns = torch.arange(W, device=images.device).expand(N, W)
    mirrored = torch_training.sent(rng.random((N, 1)) < 0.5, images.device)
    columns = torch.where(mirrored, W - 1 - columns, columns) + offsets[1]
    rows = torch.arange(H, device=images.device) + offsets[0]
    n = torch.arange(N, device=images.device)
    jittered = padded[n[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return jittered.permute(0, 3, 1, 2)


class Recipe:
    """The network of the lab and how it is trained."""

    view_shifts = VIEW_SHIFTS
    num_evaluated = None  # training images after each epoch: all

    def __init__(self, config, train_x, device):
        self.config = config
        self.bfloat16 = config.bfloat16 and torch_training.has_fast_bfloat16(device)
        network = NormalizedModel if config.batch_norm else ConvolutionalModel
        model = network(np.random.default_rng(config.seed), self.bfloat16)
        self.model = model.to(device, memory_format=torch.channels_last)
        self.first_layer = model.conv1
        self.selection = hard_images.Selection(len(train_x))
        weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        biases = [parameter for parameter in model.parameters() if parameter.ndim == 1]
        optimizer = torch.optim.SGD(
            [{"params": weights, "weight_decay": config.weight_decay}, {"params": biases}],
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.momentum > 0,
            fused=device.type in ("cpu", "cuda") or None,
        )
        self.optimizers = {"optimizer": optimizer}

    def set_learning_rate(self, progress):
        """Set and return it; progress: the share of all training that is done."""
        lr = float(learning_rate(self.config, progress))
        for group in self.optimizers["optimizer"].param_groups:
            group["lr"] = lr
        return lr

    def jittered(self, images, indices, times_seen, rng):
        """Images to train with; indices: which of the training images they are; times_seen: how
        often each of them was trained with before.
        """
        if not self.config.jitter:
            return images
        is_long = self.config.epochs >= LONG_RUN and not self.config.teacher
        return jittered(images, rng, LONG_SHIFT if is_long else SHIFT)

    def training_loss(self, loss_function):
        """The loss to go down along, where loss_function is the one to report."""
        return loss_function

    def finished(self, model):
        """The network that a trained model leaves: the lab's."""
        return model.folded() if self.config.batch_norm else model


RECIPES = {"lab": Recipe, "strong": strong_model.Recipe}


def config_class(argv):
    """The options, with their defaults, of a command line (None: sys.argv)."""
    if one_option(argv, "model", "lab", "pytorch_cifar") == "strong":
        return strong_model.config_class(argv)
    return TaughtConfig if one_option(argv, "teacher", "", "pytorch_cifar") else Config


def run(config, cifar):
    """Train the network as config says on a data.Dataset; returns what results.json holds."""
    device = torch_training.prepare(config, many=True)
    cifar.introduce()
    folder = Path(config.save_dir) / "pytorch_cifar"
    with ranks.one_run(folder) as own_folder:
        done = train_in_folder(own_folder, config, cifar, device)
    cifar.announce()
    print(f"everything is in {folder}")
    return done.results


def train_in_folder(folder, config, cifar, device, loss_function=functional.cross_entropy):
    """Train a network, test it once, and leave all of a run's files in folder; returns the run.

    loss_function(logits, labels): a mean over the images.
    """
    if config.all_images:
        cifar = cifar.all_to_train_with()
    recipe = RECIPES[config.model](config, cifar.train_x, device)
    model = recipe.model
    teacher = distillation.load(config, folder, cifar.train_x, device)
    facts = run_facts(asdict(config), cifar, str(device), "numpy", "torch")
    facts["multiplied_in"] = "bfloat16" if recipe.bfloat16 else "float32"
    facts["processes"] = ranks.size()
    options = asdict(config)  # the schedule depends on how many epochs there are
    this = Run.start(folder, options, config.resume, fixed=("epochs",), **facts)
    train_x, train_y = torch_training.on_device(cifar.train_x, cifar.train_y, device)
    seen = train_x[: recipe.num_evaluated], train_y[: recipe.num_evaluated]
    valid = torch_training.on_device(cifar.valid_x, cifar.valid_y, device)
    selection = recipe.selection
    num_steps = [-(-selection.size(n) // config.batch_size) for n in range(1, config.epochs + 1)]
    average = torch_training.moving_average(model)
    tested = average.module if config.average else model
    trained = ranks.parallel(model)
    if config.compile:
        trained = torch_training.Compiled(trained, device)
    training_loss = recipe.training_loss(loss_function)

    def evaluated(images, labels, title):
        return evaluate(tested, images, labels, title, loss_function=loss_function)

    with this.recording():
        gallery = Gallery(this, cifar, lambda: torch_training.first_filters(recipe.first_layer))
        parts = {"model": model, "average": average, "selection": selection, **recipe.optimizers}
        this.restore_torch(**parts)
        ranks.follow(this, **parts)
        log = torch_training.Log(this, config.tensorboard)
        if teacher is not None and not this.is_finished:
            with this.stoppable():
                taught = distillation.logits(teacher, train_x, train_y)
        for epoch in this.epochs(config.epochs):
            chosen = selection.images()
            for step, places in this.batches(len(chosen), config.batch_size, config.seed):
                batch = chosen[places]
                done = sum(num_steps[: epoch - 1]) + step - 0.5  # half of this step, so that
                lr = recipe.set_learning_rate(done / sum(num_steps))  # its rate is never 0
                rng = np.random.default_rng([config.seed, epoch, step, ranks.rank()])
                mine, weight = ranks.share(batch)
                indices = torch_training.sent(mine, device)
                labels = train_y[indices]
                times_seen = selection.times_seen[mine].numpy()
                logits = trained(recipe.jittered(train_x[indices], mine, times_seen, rng))
                loss = training_loss(logits, labels)
                if teacher is not None:
                    loss = distillation.loss(loss, logits, taught[indices])
                loss = weight * loss
                num_correct = (logits.argmax(dim=1) == labels).sum() * (weight > 0)
                sums = ranks.summed(loss.item() / ranks.size(), num_correct.item())
                this.count(*sums, len(batch), lr)
                selection.saw(batch, logits, labels)
                for optimizer in recipe.optimizers.values():
                    optimizer.zero_grad()
                loss.backward()
                for optimizer in recipe.optimizers.values():
                    optimizer.step()
                ranks.average_statistics(model)
                average.update_parameters(model)
                gallery.after_step(epoch, step, num_steps[epoch - 1])
            with this.stoppable():
                train_loss, train_acc = evaluated(*seen, f"training, {len(seen[0]):,} images")
                title = "validation" + ", seen in training" * config.all_images
                result = evaluated(*valid, title)
                row = this.epoch_row(*result)
                row |= {"train_loss": train_loss, "train_acc": train_acc}
                row["class_acc"] = metrics.recall(result.confusion).tolist()
                gallery.after_epoch(row)
                log.epoch(row, gallery.first_filters(), result.confusion)
            if epoch < config.epochs:
                selection.next_epoch(epoch + 1)
            this.finish_epoch(row)
        if not this.is_finished:
            with this.stoppable():
                tested = recipe.finished(tested)
                torch_training.save_model(folder / "model.pt", tested)
                test_x, test_y = torch_training.on_device(cifar.test_x, cifar.test_y, device)
                title = "test, neither average nor views"
                plain = evaluate(model, test_x, test_y, title, loss_function=loss_function)
                views = torch_training.Views(tested, recipe.view_shifts)
                logits = torch_training.predict(views if config.views else tested, test_x)
                test_y = test_y.cpu()
                test_loss = loss_function(logits, test_y).item()
                images = zip(logits.split(1), test_y.split(1), strict=True)
                losses = [loss_function(*image).item() for image in images]
                results = gallery.after_training(logits.numpy(), test_loss, losses)
                results["test_acc_plain"] = plain.accuracy
            this.finish(**results)
        log.close()
    return this


def main(argv=None):
    config = parse(config_class(argv), argv, __doc__, "pytorch_cifar")
    with one_line_errors(data.DataError):
        run(config, data.load_cifar10(config.data_dir, config.dataset, config.train_size))


if __name__ == "__main__":
    main()
