import sys
from types import ModuleType

from support.tensorboard import Log

import numpy as np
import pytest


class Writer:
    def __init__(self, folder, purge_step):
        self.calls = [("begin", folder, purge_step)]

    def add_scalar(self, name, value, step):
        self.calls.append((name, value, step))

    def add_image(self, name, image, step, dataformats="CHW"):
        self.calls.append((name, image.tolist() if dataformats == "HW" else image.shape, step))

    def flush(self):
        raise OSError("no room")  # does not end a training

    def close(self):
        self.calls.append("closed")


@pytest.fixture
def log(monkeypatch):
    pytest.importorskip("torchvision")
    module = ModuleType("tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return Log("folder", lambda: np.ones((9, 3, 5, 5), np.float32))


def test_the_log_begins_with_the_first_epoch_it_gets(log):
    confusion = np.array([[3, 1], [0, 0]])
    log.after_epoch({"epoch": 2, "lr": 0.5, "class_acc": [1, 2], "confusion": confusion})
    log.after_epoch({"epoch": 3, "lr": 0.25})
    log.close()
    assert log._writer.calls == [
        ("begin", "folder", 2),
        ("lr", 0.5, 2),
        ("confusion_matrix", [[0.75, 0.25], [0, 0]], 2),
        ("filters", (3, 13, 49), 2),
        ("lr", 0.25, 3),
        ("filters", (3, 13, 49), 3),
        "closed",
    ]


def test_without_an_epoch_there_is_no_log(log):
    log.close()
    assert log._writer is None
