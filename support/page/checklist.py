"""What the lab asks to be done, and how far it is: an item for each of its sentences."""

from typing import NamedTuple

from support.read_runs import Record

DONE, MISSING = "done", "missing"
GRADIENTS = "gradients checked"
WEIGHT_DECAYS = ("0.001", "0.01", "0.1")  # that Task 2 asks for
LOSSES = ("cross_entropy", "hinge")
WORST_FIRST = ("damaged", "diverged", "killed", "interrupted", "running")  # states of runs


class Item(NamedTuple):
    """part: 1 to 4, or B; what: the lab asks for; state: done, missing, that of a run that has not
    come to its end, or failing; note: how much of it; data: (name, provenance) of what it is on.
    """

    part: str
    what: str
    state: str
    note: str = ""
    data: tuple = ()


def items(save_dir, parts, numbers, words):
    """The Items of these parts. numbers: {name of a number in answers.toml: whether it is there};
    words: {part: the same of its questions in answers.md}."""
    found = []
    for part, of_part in PARTS.items():
        if part in parts:
            found += [Item(part, *item) for item in of_part(save_dir)]
            if part == "1":
                found.append(_counted(part, "numbers in answers.toml", numbers))
            found.append(_counted(part, "questions answered in words", words[part]))
    return found


def _counted(part, what, is_there):
    missing = [name for name, there in is_there.items() if not there]
    note = f"{len(is_there) - len(missing)} of {len(is_there)}" if is_there else ""
    if 0 < len(missing) < len(is_there):
        note += f", not {', '.join(missing)}"
    return Item(part, what, MISSING if missing or not is_there else DONE, note)


def _task_1(save_dir):
    yield _gradients(Record(save_dir / "check_grads"))
    run = Record(save_dir / "train")
    yield _trained("network trained", [run])
    yield _drawn([run])


def _gradients(record):
    rows = record.rows("gradients.csv", ("name", "passed"))
    methods = record.results.get("methods")
    methods = list(methods.values()) if isinstance(methods, dict) else []
    passed = sum(row["passed"] == "True" for row in rows)
    done = sum(status == "pass" for status in methods)
    counts = [(passed, len(rows), "tensors"), (done, len(methods), "methods")]
    note = ", ".join(f"{there} of {all_} {what}" for there, all_, what in counts if all_)
    if passed < len(rows) or "FAIL" in methods:
        return GRADIENTS, "failing", note
    return GRADIENTS, DONE if rows and done == len(methods) else MISSING, note


def _trained(what, records, missing=()):
    """An item about runs that have come to their end, all of them. missing: names of others."""
    there = [record for record in records if record.exists]
    if not there:
        return what, MISSING
    states = {record.state for record in there}
    state = next((state for state in WORST_FIRST if state in states), DONE)
    if missing:
        state, note = MISSING if state == DONE else state, f"missing: {', '.join(missing)}"
    else:
        note = f"{len(records)} runs" if len(records) > 1 else ""
    return what, state, note, _data(there)


def _data(records):
    """(name, provenance) of what the runs are on."""
    keys = ("dataset", "provenance")
    seen = [tuple(str(r.results.get(key, "unknown")) for key in keys) for r in records]
    return tuple(dict.fromkeys(seen))


def _drawn(records):
    """Filters of the first layer: before training, and after the last epoch that has ended."""
    is_there = [
        r.num_epochs and r.paths("filters/epoch_00_*.png")
        and r.paths(f"filters/epoch_{r.num_epochs:02d}_*.png") for r in records
    ]  # fmt: skip
    return _made("filters drawn, before and after", is_there and all(is_there), records)


def _made(what, is_there, records):
    """An item about what runs leave."""
    return (what, DONE, "", _data(records)) if is_there else (what, MISSING)


def _task_2(save_dir):
    whole = Record(save_dir / "train_l2reg")
    found = {value: Record(whole.folder / f"lambda_{value}") for value in WEIGHT_DECAYS}
    missing = [f"λ = {value}" for value, record in found.items() if not record.exists]
    records = [record for record in found.values() if record.exists]
    yield _trained("a network for each λ trained", records, missing)
    yield _drawn(records)
    yield _made("filters and accuracies compared", whole.paths("comparison.csv"), records)


def _task_3(save_dir):
    run = Record(save_dir / "pytorch_mnist")
    yield _trained("the same network trained in PyTorch", [run])
    yield _drawn([run])
    yield _made("loss over the epochs drawn", run.paths("training_plot.png"), [run])


def _task_4(save_dir):
    run = Record(save_dir / "pytorch_cifar")
    yield _trained("network trained", [run])
    yield _made("loss, rate and accuracy drawn", run.paths("training_plot.png"), [run])
    yield _drawn([run])
    matrix = run.paths("confusion_matrix.csv") and "recall" in run.results
    yield _made("confusion matrix, precision and recall", matrix, [run])
    yield _made("20 worst mistakes drawn", run.paths("worst_20.png"), [run])


def _bonus(save_dir):
    whole = Record(save_dir / "hinge_bonus")
    found = {loss: [Record(folder) for folder in whole.paths(f"{loss}*")] for loss in LOSSES}
    missing = [loss.replace("_", "-") for loss in LOSSES if not found[loss]]
    records = [record for of_loss in found.values() for record in of_loss]
    yield _trained("networks trained with both losses", records, missing)
    yield _made("the losses compared", whole.paths("comparison.csv"), records)


PARTS = {"1": _task_1, "2": _task_2, "3": _task_3, "4": _task_4, "B": _bonus}
