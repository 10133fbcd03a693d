"""What the trainings here share: their options, and what is left of an epoch and of a test."""

import os
from dataclasses import asdict, dataclass

from support import metrics, torch_training
from support.facts import run_facts
from support.options import option
from support.run import Run

import torch
from torch.nn import functional


@dataclass(kw_only=True)
class Config(torch_training.Config):
    dataset: str = option(
        "auto",
        "cifar10: the real data or an error; synthetic: drawn shapes; auto: cifar10 if possible",
        choices=("auto", "cifar10", "synthetic"),
    )
    all_images: bool = option(
        False, "train with the validation images, too, once all else is chosen by them"
    )
    bfloat16: bool = option(True, "multiply in bfloat16, where the device is fast at it")
    compile: bool = option(False, "compile the network first; meant for long runs on a GPU")
    deterministic: bool = option(
        False, "on a GPU, too, only algorithms whose results do not depend on chance; slower"
    )


def start(folder, config, cifar, model, device, **facts):
    """Begin or resume a Run with the facts that decide on its digits."""
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product
        torch.use_deterministic_algorithms(True, warn_only=True)
    facts["multiplied_in"] = "bfloat16" if model.bfloat16 else "float32"
    facts |= run_facts(asdict(config), cifar, str(device), "numpy", "torch", "torchvision")
    options = asdict(config)  # the schedule depends on how many epochs there are
    return Run.start(folder, options, config.resume, fixed=("epochs",), **facts)


def sgd(model, config):
    """SGD with Nesterov's momentum, and weight decay for the weights, not for the biases."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    biases = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    return torch.optim.SGD(
        [{"params": weights, "weight_decay": config.weight_decay}, {"params": biases}],
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        fused=weights[0].device.type in ("cpu", "cuda") or None,
    )


def rise_and_fall(progress, warm_up):
    """A factor for the learning rate: up to 1 in the share warm_up of all training, then down to 0.

    progress: the share of all training that is done.
    """
    return min(progress / warm_up, (1 - progress) / (1 - warm_up))


def evaluated(cifar, model, train, valid, each=map):
    """What the history says of the training and the validation images after an epoch.

    train, valid: images and labels; each: see torch_training.predict.
    """
    title = f"training, {len(train[0]):,} images"
    train_loss, train_acc = torch_training.evaluate(model, *train, title, each=each)
    title = "validation" + (", seen in training" if cifar.trains_with_valid else "")
    result = torch_training.evaluate(model, *valid, title, each=each)
    columns = {"train_loss": train_loss, "train_acc": train_acc}
    columns |= {"valid_loss": result.loss, "valid_acc": result.accuracy}
    columns |= {"class_acc": metrics.recall(result.confusion).tolist()}
    return {**columns, "confusion": result.confusion}


def final_test(run, cifar, model, views, device, each=map):
    """Test the model as it is and its views: their outputs, mean loss, each image's loss."""
    images, labels = torch_training.on_device(cifar.test_x, cifar.test_y, device)
    title = "test, neither average nor views"
    plain = torch_training.evaluate(model, images, labels, title, each=each)
    run.write_results(test_acc_plain=plain.accuracy)
    logits, labels = torch_training.predict(views, images, each), labels.cpu()
    losses = functional.cross_entropy(logits, labels, reduction="none").tolist()
    return logits.numpy(), functional.cross_entropy(logits, labels).item(), losses
