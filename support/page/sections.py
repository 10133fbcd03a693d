"""The sections of the page, in the order of the lab: what its template shows of each."""

import contextlib

from support.page import classification
from support.page.charts import comparison_charts, difference_charts, progress_charts
from support.page.facts import facts
from support.page.gradients import gradients
from support.page.pictures import frames
from support.read_runs import Record, as_number, differences


def task_1(save_dir):
    """The gradient check, the network's table, and the run of train.py."""
    checks, run = Record(save_dir / "check_grads"), Record(save_dir / "train")
    network = run.rows("network.csv", ("name", "output", "num_params", "kept_bytes"))
    return {
        **facts([run]),
        "gradients": gradients(checks),
        "cost": checks.results,
        "ratio": _ratio(checks.results),
        "network": network,
        "totals": {key: _total(network, key) for key in ("num_params", "kept_bytes")},
        "largest": max(network, key=lambda row: as_number(row["num_params"]) or 0, default=None),
        "last_conv": next((row for row in reversed(network) if "conv" in row["name"]), None),
        **_trained(run),
        "problems": checks.problems + run.problems,
    }


def _trained(run):
    """What the training and the test of one run show."""
    return {"charts": progress_charts(run.history), "frames": frames(run), **_tested(run)}


def _tested(run):
    if run.state not in ("finished", "damaged"):  # what is there is of fewer epochs
        return {"confusion": None, "worst": None}
    return {"confusion": classification.confusion(run), "worst": classification.worst(run)}


def _ratio(cost):
    """How many times as long as the analytic gradient the numeric one takes, None if unknown."""
    numeric, analytic = (as_number(cost.get(f"{kind}_seconds")) for kind in ("numeric", "analytic"))
    return numeric / analytic if numeric and analytic else None


def _total(rows, key):
    values = [as_number(row[key]) for row in rows]
    return None if None in values else sum(values)


def task_2(save_dir):
    """The runs of train_l2reg.py by λ."""
    by_weight_decay = {}
    for folder in Record(save_dir / "train_l2reg").paths("lambda_*"):
        with contextlib.suppress(ValueError):
            by_weight_decay[float(folder.name.removeprefix("lambda_"))] = Record(folder)
    columns = [
        {
            "name": f"λ = {weight_decay:g}",
            "run": run,
            "frames": frames(run),
            "losses": run.numbers("losses.csv", ("epoch", "data_loss", "l2_loss")),
        }
        for weight_decay, run in sorted(by_weight_decay.items())
    ]
    names = [column["name"] for column in columns]
    records = [column["run"] for column in columns]
    losses = [column["losses"] for column in columns]
    tested = [c for c in columns if c["run"].test_acc is not None and c["run"].history]
    best_first = sorted(tested, key=lambda column: -_last(column["run"], "valid_acc"))
    return {
        **facts(records),
        "columns": columns,
        "best_first": best_first,
        "differences": _unlike(records),
        "charts": comparison_charts(names, [run.history for run in records], ["valid_acc"])
        + comparison_charts(names, losses, ["data_loss", "l2_loss"]),
    }


def _unlike(records):
    """What makes a comparison of runs with the first of them unfair, as texts; see differences."""
    said = [{**run.results, **run.config} for run in records]
    texts = [text for other in said[1:] for text in differences(said[0], other)]
    return list(dict.fromkeys(texts))


def task_3(save_dir):
    """The run of pytorch_mnist.py beside the NumPy run with the same λ."""
    pytorch = Record(save_dir / "pytorch_mnist")
    weight_decay = as_number(pytorch.config.get("weight_decay")) or 0
    name = f"train_l2reg/lambda_{weight_decay:g}" if weight_decay else "train"
    numpy = Record(save_dir / name)
    pair = (numpy, pytorch)
    histories, pictures = [run.history for run in pair], [frames(run) for run in pair]
    accuracies = [run.test_acc for run in pair]
    charts = comparison_charts(["NumPy", "PyTorch"], histories, ["train_loss", "valid_acc"])
    tested = _tested(pytorch)
    return {
        **facts([pytorch]),
        **tested,
        "numpy": numpy,
        "weight_decay": weight_decay,
        "rows": _compared(pair),
        "test_accs": [] if None in accuracies else accuracies,
        "differences": _unlike(pair),
        "charts": charts + difference_charts(*histories),
        "frames": pictures,
    }


def _compared(pair):
    """The table of two runs: what is compared, both values and their number of digits."""
    rows = [
        ("test accuracy, %", [run.test_acc for run in pair], 2),
        ("validation accuracy, %", [_last(run, "valid_acc") for run in pair], 2),
        ("validation loss", [_last(run, "valid_loss") for run in pair], 5),
        ("training loss, last epoch", [_last(run, "train_loss") for run in pair], 5),
        ("a training step, ms", [run.milliseconds_a_step for run in pair], 2),
    ]
    return [
        {
            "what": what,
            "values": [100 * value if "%" in what else value for value in values],
            "digits": digits,
        }
        for what, values, digits in rows
        if None not in values
    ]


def _last(run, key):
    return run.history[key][-1] if run.num_epochs else None


def task_4(save_dir):
    """The run of pytorch_cifar.py, and what it gets wrong."""
    run = Record(save_dir / "pytorch_cifar")
    shown = _trained(run)  # which may find problems
    return {**facts([run]), **shown}


def bonus(save_dir):
    """The runs of hinge_bonus.py: both losses, all seeds."""
    whole = Record(save_dir / "hinge_bonus")
    rows = whole.rows("comparison.csv", ("loss", "lr", "runs", "test_acc_mean", "valid_acc_mean"))
    names, records = [], []
    for loss in ("cross_entropy", "hinge"):
        for folder in whole.paths(f"{loss}*"):
            names.append(loss.replace("_", "-"))
            records.append(Record(folder))
    histories = [run.history for run in records]
    return {
        **facts(records),
        "rows": rows,
        "recalls": _recalls(rows),
        "charts": comparison_charts(names, histories, ["train_acc", "valid_acc"]),
        "problems": whole.problems + [problem for run in records for problem in run.problems],
    }


def _recalls(rows):
    """(class, its recall in per cent in both rows); none unless there are two."""
    recalls = []
    for key in rows[0] if len(rows) == 2 else ():
        values = [as_number(row[key]) for row in rows]
        if key.startswith("recall_") and None not in values:
            recalls.append((key.removeprefix("recall_"), [100 * value for value in values]))
    return recalls
