"""The section of the page that shows networks alive: which go in, what is said of the others, and
an example for whoever has no JavaScript."""

from support.page.network.export import packed
from support.page.network.images import image_groups, packed_images
from support.page.network.networks import INITIAL, MODEL, UnusableError, read_network
from support.page.network.worked import worked_example
from support.read_runs import Record, as_number

VIEWS = (
    "{}: its test takes the mean over shifted and mirrored images; here it sees each image once, "
    "so some answers differ from those of its test."
)
# characters of all networks; the rest of a page from all runs has 3 million
ROOM = {"default": 5_300_000, "all": 13_000_000}


def network(save_dir, which="default"):
    """The networks of the runs that are there, a sentence for each that cannot be shown, and a
    note for one that answers otherwise than in its test.

    which: default | all | none; None for none.
    """
    if which == "none":
        return None
    shown, sentences, images, worked = [], [], {}, None
    room = ROOM[which]
    for id, title, record, name in _candidates(save_dir, which):
        try:
            found = read_network(record, name)
        except UnusableError as error:
            sentences.append(f"{title}: no network to show; {error}.")
            continue
        block = packed(found)
        if len(block) > room:
            sentences.append(f"{title}: left out, or the page would be too large.")
            continue
        room -= len(block)
        accuracy = record.test_acc if name == MODEL else None
        note = VIEWS.format(title) if record.config.get("views") is True else ""
        shown.append({"id": id, "title": title, "accuracy": accuracy, "note": note, "block": block})
        shape = tuple(found.input)
        if shape not in images:
            images[shape] = image_groups(record, found)
            worked = worked or _worked(title, found, images[shape])
    return {
        "shown": shown,
        "sentences": sentences,
        "index": [{key: one[key] for key in ("id", "title", "accuracy", "note")} for one in shown],
        "images": [group for groups in images.values() for group in packed_images(groups)],
        "worked": worked,
    }


def _candidates(save_dir, which):
    """(id, title, Record, file of the parameters) of the runs that are there, the most important
    ones first."""
    train, cifar = Record(save_dir / "train"), Record(save_dir / "pytorch_cifar")
    found = [
        ("network-1", "Task 1, after training", train, MODEL),
        ("network-4", "Task 4", cifar, MODEL),
        ("network-1-initial", "Task 1, before training", train, INITIAL),
    ]
    folders = Record(save_dir / "train_l2reg").paths("lambda_*")
    records = [Record(folder) for folder in folders if as_number(_weight_decay(folder)) is not None]
    records = [record for record in records if record.history]
    # the one that the validation images choose comes first
    records.sort(key=lambda record: -record.history["valid_acc"][-1])
    for record in records if which == "all" else records[:1]:
        value = _weight_decay(record.folder)
        found.append((f"network-2-{value}", f"Task 2, λ = {value}", record, MODEL))
    if which == "all":
        pytorch = Record(save_dir / "pytorch_mnist")
        found.append(("network-3", "Task 3, PyTorch", pytorch, MODEL))
    return [one for one in found if one[2].exists]


def _weight_decay(folder):
    """As the name of the folder has it; that of a run that was moved aside is no number."""
    return folder.name.removeprefix("lambda_")


def _worked(title, found, groups):
    """An image of the first group on its way through the network; None without images."""
    for _, labels, images in groups[:1]:
        middle = len(labels) // 2
        return {"network": title, **worked_example(found, images[middle], labels[middle])}
    return None
