"""The section of the page that shows the networks of all runs: which go in, and what is said of the
others."""

from support.page.network.export import packed
from support.page.network.networks import UnusableError, read_network
from support.read_runs import Record

MODEL, INITIAL = "model.npz", "initial.npz"
CHOICES = ("default", "all", "none")
# characters of all networks; the other parts of a page from all runs take 2 million
ROOM = {"default": 6_000_000, "all": 14_000_000, "none": 0}


def network(save_dir, which="default"):
    """The networks of the runs that are there, and a sentence for each that is not shown.

    which: one of CHOICES.
    """
    shown, sentences, room = [], [], ROOM[which]
    if which == "none":
        return {"shown": shown, "sentences": sentences}
    for id, title, record, name in _candidates(save_dir, which == "all"):
        if not record.exists:
            continue
        try:
            block = packed(read_network(record, name))
        except UnusableError as error:
            sentences.append(f"{title}: {error}.")
            continue
        if len(block) > room:
            sentences.append(f"{title}: left out, or the page would be too large.")
            continue
        room -= len(block)
        shown.append({"id": id, "title": title, "block": block, "accuracy": record.test_acc})
    index = [{key: one[key] for key in ("id", "title", "accuracy")} for one in shown]
    return {"shown": shown, "sentences": sentences, "index": index}


def _candidates(save_dir, all_of_them):
    """(id, title, Record, file of the parameters), the most important ones first."""
    train = Record(save_dir / "train")
    yield "network-1", "Task 1, after training", train, MODEL
    yield "network-4", "Task 4", Record(save_dir / "pytorch_cifar"), MODEL
    yield "network-1-initial", "Task 1, before training", train, INITIAL
    records = [Record(folder) for folder in Record(save_dir / "train_l2reg").paths("lambda_*")]
    with_history = [record for record in records if record.history]
    best = max(with_history, key=lambda record: record.history["valid_acc"][-1], default=None)
    for record in records:
        if all_of_them or record is best:
            weight_decay = record.folder.name.removeprefix("lambda_")
            yield f"network-2-{weight_decay}", f"Task 2, λ = {weight_decay}", record, MODEL
    if all_of_them:
        yield "network-3", "Task 3, PyTorch", Record(save_dir / "pytorch_mnist"), MODEL
