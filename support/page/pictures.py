"""Pictures from run folders, to stand in the page itself: as data: addresses."""

import base64
import re
import struct
import zlib

import numpy as np

MAX_FRAMES = 25  # pictures of the filters in one slider, evenly chosen
MAX_BYTES = 2_000_000  # of a picture; the examples of the confusion matrix have one million
MAX_PIXELS = 10_000  # in a row or column
FRAME_NAME = re.compile(r"epoch_([0-9]+)_step_([0-9]+)")


def image(record, name):
    """A picture: its data: address, width and height in pixels; None where no whole one is."""

    def read(path):
        content = _whole_png(path.read_bytes())
        sizes = [int.from_bytes(content[start : start + 4]) for start in (16, 20)]
        if not all(1 <= size <= MAX_PIXELS for size in sizes):
            raise ValueError("the picture is damaged")
        return content, *sizes

    read_picture = record.read(name, read, None, MAX_BYTES)
    if read_picture is None:
        return None
    content, width, height = read_picture
    address = "data:image/png;base64," + base64.b64encode(content).decode()
    return {"address": address, "width": width, "height": height}


def _whole_png(content):
    """content, if it is a PNG file from its signature to its end with all checksums right; without
    what is behind its end."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n") or content[12:16] != b"IHDR":
        raise ValueError("it is no PNG file")
    position, kind = 8, None
    while kind != b"IEND":
        length = int.from_bytes(content[position : position + 4])
        body, end = content[position + 4 : position + 8 + length], position + 12 + length
        if end > len(content) or zlib.crc32(body) != int.from_bytes(content[end - 4 : end]):
            raise ValueError("the picture is damaged")
        position, kind = end, body[:4]
    return content[:position]


def png(pixels):
    """A PNG file of pixels (rows, columns, 3) of uint8."""
    height, width, _ = pixels.shape
    lines = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0)))  # 0: a line as it is
    content = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits; red, green, blue
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(lines.tobytes(), 9), b"IEND": b""}
    for kind, body in chunks.items():
        content += struct.pack(">I", len(body)) + kind + body
        content += struct.pack(">I", zlib.crc32(kind + body))
    return content


def tiles(record, name, rows):
    """A picture of square tiles in so many rows; size: of one, in pixels. None without."""
    picture = image(record, name)
    return picture and {**picture, "size": max(1, picture["height"] // rows)}


def frames(record):
    """The pictures of the filters through time: images with a label."""
    paths = record.paths("filters/epoch_*_step_*.png")
    labelled, last = [], len(paths) - 1
    if len(paths) > MAX_FRAMES:
        paths = [paths[round(i * last / (MAX_FRAMES - 1))] for i in range(MAX_FRAMES)]
    for path in paths:
        place = FRAME_NAME.fullmatch(path.stem)
        if place and (picture := image(record, f"filters/{path.name}")):
            epoch, step = map(int, place.groups())
            label = f"epoch {epoch}, step {step}" if epoch else "before training"
            labelled.append({**picture, "label": label, "epoch": epoch})
    return labelled
