"""Knowledge distillation: a small network learns from a large one, too, not from labels alone.

    python3 pytorch_cifar.py --model strong --save-dir out/strong
    python3 pytorch_cifar.py --teacher out/strong/pytorch_cifar

A label says that an image shows a cat, and no more. A trained network, the teacher, also says how
much it looks like a dog, and that it hardly looks like a truck: it knows from all the images which
classes are alike. With p and q the softmax of logits / TEMPERATURE, p the teacher's and q the
student's, the student goes down along

    (1 - SHARE) cross-entropy(labels) + SHARE TEMPERATURE² KL(p || q)

A temperature above 1 makes the small probabilities, which hold that knowledge, count for more; its
square keeps the gradient as large as before. The teacher sees each image once, before the training,
as it is and mirrored: its logits are kept, and the student's steps cost no more.

Source: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015.
"""

import pickle
from pathlib import Path

from support import files
from support.errors import RunError

import torch
from torch.nn import functional

import strong_model
import torch_training

SHARE = 0.95  # of the teacher in the loss
TEMPERATURE = 8.0


def load(config, folder, train_x, device):
    """The teacher that config asks for, from its run's folder; None if there is to be none.

    folder: that of the student's run.
    Raises: RunError if there is no trained run of --model strong, or if it has seen the
    validation images and the student must not.
    """
    if not config.teacher:
        return None
    path = Path(config.teacher)
    if path.resolve() == Path(folder).resolve():
        raise RunError(f"--teacher: {path} is this run's own folder; choose another --save-dir")
    try:
        options = files.read_json(path / "config.json")
        state = torch.load(path / "model.pt", map_location=device, weights_only=True)
        if options["model"] != "strong":
            raise RunError("it is not a run of --model strong")
        of_teacher = strong_model.Config(**options)
        teacher = strong_model.Recipe(of_teacher, train_x, device).model
        teacher.load_state_dict(state)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, pickle.PickleError) as error:
        raise RunError(f"--teacher: {path} cannot be used: {error}") from error
    if of_teacher.all_images and not config.all_images:
        raise RunError(f"--teacher: {path} has seen the validation images; add --all-images")
    return teacher


def logits(teacher, images, labels):
    """What the teacher says about images: the mean over each and its mirror image.

    Shapes: images (N, C, H, W), labels (N,) -> (N, K).
    """
    print(f"the teacher looks at {len(images):,} images", flush=True)
    views = torch_training.Views(teacher, {(0, 0): 1.0})
    evaluation = torch_training.evaluate(views, images, labels, "teacher")
    return torch.from_numpy(evaluation.logits).to(images.device)


def loss(label_loss, student, teacher):
    """The loss of the head of this file. Shapes: logits (N, K) of both; a scalar."""
    q = functional.log_softmax(student / TEMPERATURE, dim=1)
    p = functional.log_softmax(teacher / TEMPERATURE, dim=1)
    divergence = functional.kl_div(q, p, reduction="batchmean", log_target=True)
    return (1 - SHARE) * label_loss + SHARE * TEMPERATURE**2 * divergence
