"""TensorBoard's log of a run."""

from contextlib import suppress

import numpy as np


class Log:
    """The log in a folder. It begins with the next epoch: if that was logged before an
    interruption, it is purged.
    """

    def __init__(self, folder, first_filters):
        self.folder, self.first_filters = folder, first_filters
        self._writer = None

    def after_epoch(self, row):
        """Log the numbers of a row of the history, the first layer's filters and, where the row has
        it, the confusion matrix.
        """
        epoch = row["epoch"]
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=epoch)
        for name, value in row.items():
            if name != "epoch" and isinstance(value, int | float):
                self._writer.add_scalar(name, value, epoch)
        if "confusion" in row:
            shares = row["confusion"] / np.maximum(row["confusion"].sum(axis=1, keepdims=True), 1)
            self._writer.add_image("confusion_matrix", shares, epoch, dataformats="HW")
        from torch import from_numpy
        from torchvision.utils import make_grid  # its import takes as long as PyTorch's

        filters = from_numpy(self.first_filters())
        grid = make_grid(filters, nrow=8, padding=1, normalize=True)
        self._writer.add_image("filters", grid, epoch)
        with suppress(OSError):
            self._writer.flush()

    def close(self):
        if self._writer is not None:
            self._writer.close()
