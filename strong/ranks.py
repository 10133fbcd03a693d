"""One training on many devices: what the processes (ranks) that torchrun starts say to each other.

    torchrun --standalone --nproc-per-node=2 pytorch_cifar.py --model strong

Every rank runs the same program with the same seed, so all draw the same batches, and each takes
its share of a batch. DistributedDataParallel gives all of them the mean gradient, hence the same
weights after every step. Rank 0 alone prints, and writes into the run's folder.

Batch normalisation takes mean and variance from a rank's own share; its running statistics are
averaged after each step. So all that a checkpoint holds is the same on every rank, and one is
enough. Without torchrun there is one rank, and nothing here does anything.
"""

import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from support.checkpoints import copied
from support.errors import RunError
from support.run import Run

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel


def are_wanted():
    """Whether torchrun started this process."""
    return distributed.is_torchelastic_launched()


def join(device):
    """Meet the other ranks, where torchrun started this process; the device for this rank.

    Raises: RunError if the ranks cannot have a device each.
    """
    if not are_wanted() or distributed.is_initialized():
        return device
    if device.type == "mps" or (device.type == "cuda" and not distributed.is_nccl_available()):
        raise RunError(f"processes cannot share a training on {device.type}; --device cpu can")
    if device.type == "cuda":
        number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if number >= there:
            raise RunError(f"expected a GPU for each process, got {there}; --device cpu can do")
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if rank() > 0:
        # for the rest of the process
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8", errors="replace")  # noqa: SIM115
    return device


def size():
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank():
    return distributed.get_rank() if distributed.is_initialized() else 0


def on_this_machine():
    return int(os.environ["LOCAL_WORLD_SIZE"]) if distributed.is_initialized() else 1


def parallel(model):
    """The model, with the gradients of all ranks averaged whenever they are computed."""
    if size() == 1:
        return model
    model = DistributedDataParallel(model)
    model.broadcast_buffers = False  # average_statistics does it; as an argument it is deprecated
    return model


def share(batch):
    """This rank's part of an array of indices, and the weight of its mean in the batch's mean.

    Where there are more ranks than images, a rank without one takes the first, with weight 0.
    """
    part = batch[rank() :: size()]
    return (part, len(part) * size() / len(batch)) if len(part) else (batch[:1], 0.0)


def summed(*numbers):
    """The sums over all ranks."""
    if size() == 1:
        return numbers
    values = torch.tensor(numbers, dtype=torch.float64, device=_device())
    distributed.all_reduce(values)
    return values.tolist()


def gathered(values, num_images):
    """The values (num_images,) for all images of a batch, from those for this rank's share()."""
    if size() == 1:
        return values
    of_all = torch.zeros(num_images, device=_device())
    part = of_all[rank() :: size()]
    part.copy_(values[: len(part)])
    distributed.all_reduce(of_all)
    return of_all.cpu()


def average_statistics(model):
    """Make the running statistics of batch normalisation those of all ranks."""
    if size() == 1:
        return
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    if not buffers:
        return
    values = torch.cat([buffer.flatten() for buffer in buffers])
    distributed.all_reduce(values)
    values /= size()
    for buffer, mean in zip(buffers, values.split([b.numel() for b in buffers]), strict=True):
        buffer.copy_(mean.view_as(buffer))


def in_parts(function, parts):
    """[function(part) for part in parts], each rank doing its share of them."""
    results = [function(part) for part in parts[rank() :: size()]]
    if size() == 1:
        return results
    gathered = [None] * size()
    distributed.all_gather_object(gathered, results)
    return [gathered[number % size()][number // size()] for number in range(len(parts))]


@contextmanager
def one_run(folder):
    """A folder for the run on this rank: the given one on rank 0, else one that is thrown away.

    Raises: RunError when another rank is lost.
    """
    try:
        with tempfile.TemporaryDirectory() as elsewhere:
            yield folder if rank() == 0 else Path(elsewhere, "run")
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        raise RunError(
            "another process of this run was lost; the same command with --resume goes on from the "
            f"last checkpoint ({' '.join(str(error).split())[:100]})"
        ) from error
    if distributed.is_initialized():
        distributed.destroy_process_group()


def follow(run, **parts):
    """Begin on every rank where rank 0 begins, and stop on all when one gets a signal.

    run: a Run; parts: what its checkpoints hold, by name.
    """
    if size() == 1:
        return
    run.rank, run.signals.agree, run.has_bar = rank(), _agree, run.has_bar and rank() == 0
    # every rank would put what comes from a GPU on that of rank 0
    states = copied({name: part.state_dict() for name, part in parts.items()})
    content = [(run.position, run.history, run.results, run.is_finished, states)]
    distributed.broadcast_object_list(content, src=0)
    if rank() > 0:
        run.position, run.history, run.results, run.is_finished, states = content[0]
        for name, part in parts.items():
            part.load_state_dict(states[name])
    if not run.history and not run.position.step:
        run.save_checkpoint()  # where a rank is lost before the next one, this is what is left


def _agree(signum):
    value = torch.tensor(signum or 0, device=_device())
    distributed.all_reduce(value, op=distributed.ReduceOp.MAX)
    return value.item() or None


def _device():
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"
