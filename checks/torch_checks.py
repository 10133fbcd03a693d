"""Checks of Tasks 3, 4 and the bonus: what the parts of a script in PyTorch return.

Imported only where `check_grads.py --task` asks for it. No right number is in here.
"""

from importlib import import_module

import numpy as np
import torch
from torch import nn

from checks import calls, cases, tasks
from checks.expectations import for_hand_out
from checks.judge import PASS, judge, report

IMAGES = {"pytorch_mnist": (2, 1, 28, 28), "pytorch_cifar": (2, 3, 32, 32)}
CLASSES = ["zero", "one", "two", "three"]


def main(task):
    """Check the scripts of a task, "3", "4" or "bonus", and print the report; the exit status."""
    table = tasks.TORCH_TASKS["Bonus" if task == "bonus" else f"Task {task}"]
    names = [f"{script}.{name}" for script, names in table.items() for name in names]
    seen = {}
    for script in table:
        module, failure = calls.attempt(import_module, script, seconds=calls.IMPORT_SECONDS)
        seen |= {"module": f"{script}.py: {failure}"} if failure else observe(module, script)
    results = judge(seen, for_hand_out(of_torch=True), names)
    print(report(results))
    return 0 if all(result.status == PASS for result in results) else 1


def observe(module, script, seed=0):
    """Everything that the parts of a script return, by key, as arrays and texts."""
    seen = {}
    for name in tasks.torch_names(script):
        method = name.partition(".")[2]
        if not hasattr(module, offered := method.partition(".")[0]):
            return {"module": f"{script}.py: it has no {offered}"}
        part = {f"{name}/{key}": value for key, value in OBSERVERS[method](module, script, seed)}
        seen |= {**part, f"{name}/parameters": "float32"}  # so exact is PyTorch
    return seen


def value_of(function, *args, file=None):
    """The array of the tensor or number that a function returns, or a text."""
    result, failure = calls.attempt(function, *args, file=file)
    if failure:
        return failure
    if result is None:
        return "to do" if calls.is_gap(function) else "none"
    return calls.as_result(result.detach().numpy() if torch.is_tensor(result) else result)


def model_of(module, script, seed):
    """The script's network, with weights that are given numbers, in the order of parameters()."""
    model = module.ConvolutionalModel(np.random.default_rng(seed))
    for i, parameter in enumerate(model.parameters()):
        values = cases.model_parameter(seed, script, i, tuple(parameter.shape))
        parameter.data = torch.from_numpy(values.astype(np.float32))
    return model


def observe_model(module, script, seed):
    model, failure = calls.attempt(model_of, module, script, seed, file=module.__file__)
    if failure:
        yield from ((key, failure) for key in ("size", "outputs", "one image"))
        return
    images = torch.from_numpy(cases.images(seed, IMAGES[script])).float()
    function = model.forward
    outputs = value_of(function, images, file=module.__file__)
    size = np.array(sum(parameter.numel() for parameter in model.parameters()))
    yield "size", "to do" if isinstance(outputs, str) and outputs == "to do" else size
    yield "outputs", outputs
    yield "one image", value_of(function, images[:1], file=module.__file__)


def observe_l2_loss(module, script, seed):
    model, failure = calls.attempt(model_of, module, script, seed, file=module.__file__)
    for weight_decay in (0.0, 0.25):
        loss = failure or value_of(module.l2_loss, model, weight_decay, file=module.__file__)
        yield f"λ = {weight_decay:g}", loss


class Fixed(nn.Module):
    """Outputs that are written into the images."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(len(CLASSES)))

    def forward(self, x):
        return x[:, 0, 0, : len(CLASSES)] + self.bias


def observe_evaluate(module, script, seed):
    logits, labels = cases.evaluation(seed)
    model = Fixed()
    images = torch.zeros(len(logits), 3, 4, 8)
    images[:, 0, 0, : len(CLASSES)] = torch.from_numpy(logits).float()
    arguments = (model, images, torch.from_numpy(labels), "check")
    result, failure = calls.attempt(module.evaluate, *arguments, file=module.__file__)
    if failure is None and result is None:
        failure = "to do" if calls.is_gap(module.evaluate) else "none"
    if failure is None and (not isinstance(result, tuple) or len(result) != 2):
        failure = "problem: expected a pair, the loss and the confusion matrix"
    for key, value in zip(("loss", "confusion"), (None, None) if failure else result, strict=True):
        yield key, failure or value_of(lambda value=value: value)
    with calls.printed() as text:
        _, failure = calls.attempt(
            module.evaluate, *arguments, CLASSES, file=module.__file__, quiet=False
        )
    is_lost = failure and failure != "to do"
    yield (
        "zero over zero",
        (
            f"problem: where a class was never predicted, or never occurs: {failure}"
            if is_lost
            else "problem: it prints nan where a class was never predicted, or never occurs: 0/0"
            if "nan" in text.getvalue().lower()
            else "ok"
        ),
    )
    is_same = not model.bias.any() and model.bias.grad is None
    yield "trained", "ok" if is_same else "problem: it changes the model: nothing is to be trained"


def observe_worst_mistakes(module, script, seed):
    for num in (3, 20):
        logits, labels, losses = map(torch.from_numpy, cases.mistakes(seed))
        yield (
            f"num = {num}",
            value_of(module.worst_mistakes, logits, labels, losses, num, file=module.__file__),
        )


def observe_hinge(module, script, seed):
    for key, (logits, target, delta) in cases.hinge(seed).items():
        x = torch.tensor(logits, requires_grad=True)
        options = () if delta is None else (delta,)
        function, arguments = module.multiclass_hinge_loss, (x, torch.from_numpy(target), *options)
        yield key, value_of(function, *arguments, file=module.__file__)

        def gradient(function=function, arguments=arguments, x=x):
            loss = function(*arguments)
            if loss is None:
                raise NotImplementedError
            return torch.autograd.grad(loss.sum(), x)[0]

        yield f"gradient, {key}", value_of(gradient, file=module.__file__)


OBSERVERS = {
    "ConvolutionalModel.forward": observe_model,
    "l2_loss": observe_l2_loss,
    "evaluate": observe_evaluate,
    "worst_mistakes": observe_worst_mistakes,
    "multiclass_hinge_loss": observe_hinge,
}
