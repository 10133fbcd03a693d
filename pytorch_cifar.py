"""Task 4: a convolutional network on CIFAR-10, and a hard look at what it gets wrong.

    python3 pytorch_cifar.py                                        # some minutes on two cores
    python3 pytorch_cifar.py --epochs 100                           # better, eight times as long
    python3 pytorch_cifar.py --no-jitter --no-average --no-views    # without the tricks
    python3 pytorch_cifar.py --model strong                         # larger networks, in strong/
    python3 pytorch_cifar.py --model resnet18

Writes into out/pytorch_cifar/: curves (training: of 2,000 images), filters, confusion matrix,
metrics of each class, the 20 worst mistakes, the model.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from support import data, metrics, torch_layers, torch_training
from support.errors import one_line_errors
from support.facts import run_facts
from support.options import one_option, option, parse
from support.run import Run

import numpy as np
import torch
from torch import nn
from torch.nn import functional

NUM_PARAMETERS = 449_898
SHIFT, LONG_SHIFT = 2, 4  # pixels that jitter moves an image at most, in a long run
LONG_RUN = 30  # epochs, from which on more jitter pays
NUM_EVALUATED = 2_000  # training images after each epoch; all would take a fifth of its time
WARM_UP = 0.2  # share of the steps in which the learning rate rises
# (rows, columns): weight in the mean
VIEW_SHIFTS = dict.fromkeys([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], 0.2)


@dataclass(kw_only=True)
class Config(torch_training.Config):
    model: str = option(
        "lab",
        "lab: the lab's network; strong, resnet18: larger ones, with options of their own",
        choices=("lab", "strong", "resnet18"),
    )
    dataset: str = option(
        "auto",
        "cifar10: the real data or an error; synthetic: drawn shapes; auto: cifar10 if possible",
        choices=("auto", "cifar10", "synthetic"),
    )
    all_images: bool = option(
        False, "train with the validation images, too, once all else is chosen by them"
    )
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
        "data augmentation: mirror half of the images, and shift all by up to "
        f"{SHIFT} pixels, from {LONG_RUN} epochs on by up to {LONG_SHIFT}",
    )
    average: bool = option(True, "test with a moving average of the weights")
    views: bool = option(True, "test-time augmentation: the mean over shifted and mirrored images")
    bfloat16: bool = option(True, "multiply in bfloat16, where the device is fast at it")
    compile: bool = option(False, "compile the network first; meant for long runs on a GPU")


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
            # max(relu(x)) = relu(max(x)), and after the pooling ReLU has a quarter of the work
            h = functional.max_pool2d(self.conv1(x), 3, stride=2).relu()  # (N, 16, 15, 15)
            h = functional.max_pool2d(self.conv2(h), 3, stride=2).relu()  # (N, 32, 7, 7)
            h = self.fc1(h.flatten(start_dim=1)).relu()
            h = self.fc2(h).relu()
            return self.fc_logits(h).float()


def learning_rate(config, progress):
    """The rate of the step in which the share `progress` of all training is done."""
    rate = config.lr * config.lr_scale * min(1, progress / WARM_UP)
    left = min(1, (1 - progress) / (1 - WARM_UP))  # from 1 at the end of the warm-up down to 0
    factors = {
        "linear": left,
        "cosine": (1 - np.cos(np.pi * left)) / 2,
        "steps": 1 if left > 0.5 else 0.1 if left > 0.2 else 0.01,
        "constant": 1,
    }
    return float(rate * factors[config.schedule])


def sgd(model, config):
    """SGD with Nesterov's momentum m: v = m * v + grad, parameter -= lr * (grad + m * v).

    Weight decay adds λ * weights to the gradients of all weights, not of the biases; unlike that of
    Task 3 it is not part of the loss.
    """
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    biases = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    return torch.optim.SGD(
        [{"params": weights, "weight_decay": config.weight_decay}, {"params": biases}],
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        fused=weights[0].device.type in ("cpu", "cuda") or None,  # all parameters at once
    )


def jittered(images, rng, shift=SHIFT):
    """Data augmentation: every image shifted by up to `shift` pixels, zeros coming in, and half of
    them mirrored.

    Shape: images (N, C, H, W). rng: a NumPy generator, so that the jitter of a step depends on
    nothing but its seed.
    """
    N, _, H, W = images.shape
    padded = functional.pad(images, (shift, shift, shift, shift))
    offsets = torch_training.to_device(rng.integers(2 * shift + 1, size=(2, N, 1)), images.device)
    columns = torch.arange(W, device=images.device).expand(N, W)
    is_mirrored = torch_training.to_device(rng.random((N, 1)) < 0.5, images.device)
    columns = torch.where(is_mirrored, W - 1 - columns, columns) + offsets[1]
    rows = torch.arange(H, device=images.device) + offsets[0]
    n = torch.arange(N, device=images.device)
    # one row and one column index for every image and pixel: (N, H, W, C)
    pixels = padded[n[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return pixels.permute(0, 3, 1, 2)


def evaluate(
    model, images, labels, title="", class_names=None, loss_function=functional.cross_entropy
):
    """Print how well the model does, and return its loss and its confusion matrix.

    Shapes: images (N, C, H, W), labels (N,) -> a number and (K, K), rows the true class. With
    class_names, the matrix and the metrics of the classes are printed, too. Nothing is trained.
    """
    logits = torch_training.predict(model, images)  # (N, K)
    labels = labels.cpu()
    predicted = logits.numpy().argmax(axis=1)
    confusion = metrics.confusion_matrix(labels.numpy(), predicted, logits.shape[1])
    accuracy = metrics.accuracy(confusion)
    loss = loss_function(logits, labels).item()
    print(f"{title or 'evaluation'}: loss {loss:.4f}, accuracy {accuracy:.2%}", flush=True)
    if class_names is not None:
        print(metrics.confusion_table(confusion, class_names))
        print(metrics.per_class_table(confusion, class_names))  # precision, recall, F1
    return loss, confusion


def worst_mistakes(logits, labels, losses, num=20):
    """The indices of the misclassified images with the largest losses, the worst one first.

    Shapes: logits (N, K), labels (N,), losses (N,), one an image -> at most num indices.
    """
    wrong = (logits.argmax(dim=1) != labels).nonzero().flatten()
    order = losses[wrong].argsort(descending=True, stable=True)
    return wrong[order][:num]


def train(run, config, cifar, model, averaged_model, loss_function):
    """Train the model, and average its weights, until all epochs of a support.run.Run are done.

    loss_function(logits, labels): a mean over the images.
    """
    device = model.conv1.weight.device
    images, labels = torch_training.on_device(cifar.train_x, cifar.train_y, device)
    some_xy = images[:NUM_EVALUATED], labels[:NUM_EVALUATED]
    valid_xy = torch_training.on_device(cifar.valid_x, cifar.valid_y, device)
    network = torch_training.Compiled(model, device) if config.compile else model
    final_model = averaged_model.module if config.average else model
    optimizer = sgd(model, config)
    shift = LONG_SHIFT if config.epochs >= LONG_RUN else SHIFT

    def validate():
        return evaluated(cifar, final_model, some_xy, valid_xy, loss_function)

    run.restore_torch(model=model, average=averaged_model, optimizer=optimizer)
    for _ in run.epochs(config.epochs):
        for batch in run.batches(len(images), config.batch_size, config.seed):
            lr = learning_rate(config, batch.progress)
            torch_training.set_learning_rate(optimizer, lr)
            indices = torch_training.to_device(batch.indices, device)
            x, y = images[indices], labels[indices]
            if config.jitter:
                x = jittered(x, batch.rng, shift)
            logits = network(x)  # (B, 10)
            loss = loss_function(logits, y)
            num_correct = (logits.argmax(dim=1) == y).sum()
            run.count(loss.item(), num_correct.item(), lr)  # refuses a loss that is not finite
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            averaged_model.update_parameters(model)
        run.end_epoch(validate)


def evaluated(cifar, model, train_xy, valid_xy, loss_function):
    """What the history says of the training and the validation images after an epoch."""
    title = f"training, {len(train_xy[0]):,} images"
    train_loss, train_confusion = evaluate(model, *train_xy, title, loss_function=loss_function)
    title = "validation" + (", seen in training" if cifar.trains_with_valid else "")
    valid_loss, confusion = evaluate(model, *valid_xy, title, loss_function=loss_function)
    return {
        # of the network that is kept; while it was trained, the weights were others in every step
        "train_loss": train_loss,
        "train_acc": metrics.accuracy(train_confusion),
        "valid_loss": valid_loss,
        "valid_acc": metrics.accuracy(confusion),
        "class_acc": metrics.recall(confusion).tolist(),
        "confusion": confusion,
    }


def final_test(run, config, cifar, model, final_model, loss_function):
    """Test the network, once: its outputs, their mean loss, the loss of each image, and which of
    them are the worst mistakes."""
    images, labels = torch_training.on_device(cifar.test_x, cifar.test_y, model.conv1.weight.device)
    torch_training.save_model(run.folder / "model.pt", final_model)
    torch_layers.write(run.folder, final_model, cifar)
    title = "test, neither average nor views"
    _, plain = evaluate(model, images, labels, title, loss_function=loss_function)
    run.write_results(test_acc_plain=metrics.accuracy(plain))
    views = torch_training.Views(final_model, VIEW_SHIFTS) if config.views else final_model
    logits, labels = torch_training.predict(views, images), labels.cpu()
    pairs = zip(logits.split(1), labels.split(1), strict=True)
    # of each image alone, for the loss function may be any mean over a batch
    losses = torch.tensor([loss_function(*pair).item() for pair in pairs])
    worst = worst_mistakes(logits, labels, losses)
    return logits.numpy(), loss_function(logits, labels).item(), losses.numpy(), worst.tolist()


def train_in_folder(folder, config, cifar, device, loss_function=functional.cross_entropy):
    """Train a network, test it once, and leave all of a run's files in folder; returns the run."""
    if config.all_images:
        cifar = cifar.all_to_train_with()
    bfloat16 = config.bfloat16 and torch_training.has_fast_bfloat16(device)
    model = ConvolutionalModel(np.random.default_rng(config.seed), bfloat16)
    model = model.to(device, memory_format=torch.channels_last)
    averaged_model = torch_training.Average(model)
    final_model = averaged_model.module if config.average else model
    facts = run_facts(asdict(config), cifar, str(device), "numpy", "torch")
    facts["multiplied_in"] = "bfloat16" if bfloat16 else "float32"
    # the schedule depends on how many epochs there are
    with Run.start(folder, asdict(config), config.resume, fixed=("epochs",), **facts) as run:
        run.show(cifar, lambda: torch_training.first_filters(model.conv1), config.tensorboard)
        train(run, config, cifar, model, averaged_model, loss_function)
        run.finish(lambda: final_test(run, config, cifar, model, final_model, loss_function))
    return run


def run(config, cifar):
    """Train the network as config says on a data.Dataset; returns what results.json holds."""
    device = torch_training.prepare(config)
    cifar.introduce()
    folder = Path(config.save_dir) / "pytorch_cifar"
    results = train_in_folder(folder, config, cifar, device).results
    cifar.announce()
    print(f"everything is in {folder}")
    return results


def main(argv=None):
    model = one_option(argv, "model", "lab", "pytorch_cifar")
    if model == "strong":
        from strong import training as other
    elif model == "resnet18":
        from strong import resnet as other
    if model in ("strong", "resnet18"):
        other.main(argv)
        return
    config = parse(Config, argv, __doc__, "pytorch_cifar")
    with one_line_errors(data.DataError):
        run(config, data.load_cifar10(config.data_dir, config.dataset, config.train_size))


if __name__ == "__main__":
    main()
