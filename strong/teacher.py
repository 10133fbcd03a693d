"""Knowledge distillation: a small network learns from a large one, too, not from labels alone.

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

import io
from pathlib import Path

from support import facts, files, torch_training
from support.errors import RunError

import numpy as np
import torch
from torch.nn import functional

from strong.network import StrongModel

SHARE = 0.95  # of the teacher in the loss
TEMPERATURE = 8.0


def load(path, all_images, device):
    """The network that the run of --model strong in the folder path has left.

    Its digest is that of the file that holds it.
    Raises: RunError if there is none, or if it was trained with the validation images and the
    student is not (all_images).
    """
    try:
        options = files.read_json(Path(path) / "config.json")
        content = (Path(path) / "model.pt").read_bytes()
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        if options["model"] != "strong":
            raise RunError("it is not a run of --model strong")
        bfloat16 = options["bfloat16"] and torch_training.has_fast_bfloat16(device)
        layout = torch.channels_last if options["channels_last"] else torch.contiguous_format
        rng = np.random.default_rng()
        model = StrongModel(rng, bfloat16, options["upsample"], layout, options["size"])
        model.load_state_dict(state)
    except Exception as error:  # whatever it is, it cannot be learnt from
        what = files.in_one_line(error)
        raise RunError(f"--teacher: {path} cannot be used: {what}") from error
    if options["all_images"] and not all_images:
        raise RunError(
            f"--teacher: {path} was trained with the validation images; leave out --no-all-images"
        )
    model.digest = facts.digest(content)
    return model.to(device)


def teacher_logits(teacher, images, labels):
    """What the teacher says about images: the mean over each and its mirror image.

    Shapes: images (N, C, H, W), labels (N,) -> (N, K).
    """
    print(f"the teacher looks at {len(images):,} images", flush=True)
    logits = torch_training.predict(torch_training.Views(teacher, {(0, 0): 1.0}), images)
    accuracy = (logits.argmax(dim=1) == labels.cpu()).double().mean().item()
    print(f"teacher: accuracy {accuracy:.2%}", flush=True)
    return logits.to(images.device)


def distillation_loss(label_loss, student, teacher):
    """The loss of the head of this file. Shapes: logits (N, K) of both; a scalar."""
    q = functional.log_softmax(student / TEMPERATURE, dim=1)
    p = functional.log_softmax(teacher / TEMPERATURE, dim=1)
    divergence = functional.kl_div(q, p, reduction="batchmean", log_target=True)
    return (1 - SHARE) * label_loss + SHARE * TEMPERATURE**2 * divergence
