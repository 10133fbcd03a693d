"""Pictures from run folders, to stand in the page itself: as data: addresses."""

import base64
import zlib

MAX_FRAMES = 60  # pictures of the filters in one slider, evenly chosen


def image(record, name):
    """A picture: its data: address, width and height in pixels; None where no whole one is."""
    content = record.read(name, lambda path: _whole_png(path.read_bytes()), None)
    if content is None:
        return None
    width, height = (int.from_bytes(content[start : start + 4]) for start in (16, 20))
    address = "data:image/png;base64," + base64.b64encode(content).decode()
    return {"address": address, "width": width, "height": height}


def _whole_png(content):
    """content, if it is a PNG file from its signature to its end with all checksums right."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("it is no PNG file")
    position = 8
    while content[position + 4 : position + 8] != b"IEND":
        length = int.from_bytes(content[position : position + 4])
        body, end = content[position + 4 : position + 8 + length], position + 12 + length
        if end > len(content) or zlib.crc32(body) != int.from_bytes(content[end - 4 : end]):
            raise ValueError("the picture is damaged")
        position = end
    return content


def tiles(record, name, rows):
    """A picture of square tiles in so many rows; size: of one, in pixels. None without."""
    picture = image(record, name)
    return picture and {**picture, "size": max(1, picture["height"] // rows)}


def frames(record):
    """The pictures of the filters through time: images with a label."""
    paths = sorted(record.folder.glob("filters/epoch_*_step_*.png"))
    if len(paths) > MAX_FRAMES:
        last = len(paths) - 1
        paths = [paths[round(i * last / (MAX_FRAMES - 1))] for i in range(MAX_FRAMES)]
    labelled = []
    for path in paths:
        _, epoch, _, step = path.stem.split("_")[:4]
        picture = image(record, f"filters/{path.name}")
        if picture and epoch.isdecimal() and step.isdecimal():
            label = f"epoch {int(epoch)}, step {int(step)}"
            labelled.append({**picture, "label": label if int(epoch) else "before training"})
    return labelled
