"""What a student writes, by task: the one table of gaps for checks, hand-outs and marks."""

TASKS = {
    "Task 1": (
        "FC.forward",
        "FC.backward_inputs",
        "FC.backward_params",
        "ReLU.forward",
        "ReLU.backward_inputs",
        "SoftmaxCrossEntropyWithLogits.forward",
        "SoftmaxCrossEntropyWithLogits.backward_inputs",
    ),
    "Task 2": ("L2Regularizer.forward", "L2Regularizer.backward_params"),
}
# given in the exercise, cut from a hand-out only on demand
MORE = {
    "More": (
        "Convolution.forward",
        "Convolution.backward_inputs",
        "Convolution.backward_params",
        "MaxPooling.forward",
        "MaxPooling.backward_inputs",
    ),
}
# of the PyTorch scripts, by file
TORCH_TASKS = {
    "Task 3": {"pytorch_mnist": ("ConvolutionalModel.forward", "l2_loss")},
    "Task 4": {"pytorch_cifar": ("ConvolutionalModel.forward", "evaluate", "worst_mistakes")},
    "Bonus": {"hinge_bonus": ("multiclass_hinge_loss",)},
}
# files of checks/ that hold solutions: no hand-out has them
SOLUTIONS = ("expected.py", "reference.py", "mistakes*.py", "torch_expected.py")
NINE = tuple(name for names in TASKS.values() for name in names)
ALL = NINE + MORE["More"]


def task_of(name):
    """The task of a method, "FC.forward" for example."""
    for task, scripts in TORCH_TASKS.items():
        if any(name in torch_names(script) for script in scripts):
            return task
    return next(task for task, names in {**TASKS, **MORE}.items() if name in names)


def torch_names(script):
    """The names of what a student writes in a script, such as "pytorch_mnist.l2_loss"."""
    tables = [scripts for scripts in TORCH_TASKS.values() if script in scripts]
    return [f"{script}.{name}" for scripts in tables for name in scripts[script]]


def chosen(only, names=ALL):
    """Those of the names that `only` asks for: a class, Class.method, or None for all.

    Raises: ValueError if there are none.
    """
    found = [name for name in names if only in (None, name, name.partition(".")[0])]
    if not found:
        classes = dict.fromkeys(name.partition(".")[0] for name in names)
        raise ValueError(f"expected one of {', '.join(classes)} or Class.method, got {only!r}")
    return found
