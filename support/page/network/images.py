"""Test images to choose from, of those that a run has left: right answers, examples from the
confusion matrix, the worst mistakes."""

import base64
import io

from support.page import classification, pictures

import numpy as np

NUM_CONFUSED = 30  # cells of the confusion matrix of which there is an image


def image_groups(record, network):
    """Groups of a Record's images: title, a label for each, the images (N, C, H, W) of uint8."""
    matrix, worst = classification.confusion(record), classification.worst(record)
    groups = []
    if matrix and matrix["names"] == network.classes:
        groups += _examples(record, network, np.array(matrix["counts"]))
    if worst and worst["mistakes"]:
        mistakes = worst["mistakes"]
        labels = [_label(mistake["true"], *mistake["top"][0]) for mistake in mistakes]
        tiles = _tiles(record, "worst_20_images.png", network.input, 1)
        if tiles is not None and tiles.shape[1] == len(mistakes):
            groups.append((f"the {len(mistakes)} worst mistakes", labels, tiles[0]))
    return groups


def _examples(record, network, counts):
    """Of each class one that was recognized, and one of each of the most frequent mistakes."""
    names, K = network.classes, len(network.classes)
    tiles = _tiles(record, "confusion_examples.png", network.input, K)
    if tiles is None or tiles.shape[1] % K:
        return []
    firsts = tiles[:, :: tiles.shape[1] // K]  # of the images of each cell, (K, K, C, H, W)
    right = [(i, i) for i in range(K) if counts[i, i]]
    by_frequency = np.argsort(-counts, axis=None, kind="stable").tolist()
    wrong = [divmod(cell, K) for cell in by_frequency]
    wrong = [(i, j) for i, j in wrong if i != j and counts[i, j]][:NUM_CONFUSED]
    groups = []
    for title, cells in (("recognized", right), ("taken for another class", wrong)):
        if cells:
            labels = [_label(names[i], names[j]) for i, j in cells]
            groups.append((title, labels, np.stack([firsts[cell] for cell in cells])))
    return groups


def packed_images(groups):
    """The groups as they go into the page: the pixels of all images, one after the other, in
    base64."""
    return [
        {
            "title": title,
            "shape": list(images.shape[1:]),
            "labels": labels,
            "pixels": base64.b64encode(np.ascontiguousarray(images).tobytes()).decode(),
        }
        for title, labels, images in groups
    ]


def _label(true, predicted, share=None):
    if true == predicted:
        return true
    return f"{true}, taken for {predicted}" + (f" ({share:.1%})" if share is not None else "")


def _tiles(record, name, shape, rows):
    """The images in a picture of tiles, (rows, columns, C, H, W) of uint8; None without."""
    from skimage.io import imread

    C, H, W = shape
    picture = pictures.image(record, name)
    if picture is None or picture["height"] != rows * H or picture["width"] % W:
        return None
    pixels = imread(io.BytesIO(base64.b64decode(picture["address"].partition(",")[2])))
    if pixels.dtype != np.uint8 or pixels.size != picture["width"] * picture["height"] * C:
        return None
    return pixels.reshape(rows, H, -1, W, C).transpose(0, 2, 4, 1, 3)
