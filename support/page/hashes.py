"""SHA-256 of what is handed in: the files that a student writes, and what each run has left.

The hash of several files is that of their list, a line each as sha256sum prints it, in the order of
their names: two folders have the same hash if they hold the same files, and practically only then.
"""

import hashlib
import re
import stat

from support.missing_runs import SCRIPTS

CODE = ("layers.py", "my_layers.py", "pytorch_mnist.py", "pytorch_cifar.py", "hinge_bonus.py")
OF_A_RUN = ("config.json", "history.csv", "results.json", "model.npz", "model.pt")
OF_A_RUN += ("gradients.csv", "comparison.csv")
UNREADABLE = "unreadable"
ALL = "all"


def hashes(prose, save_dir):
    """{"code", the name of each run, "all": its hash}, of 64 hexadecimal digits each.

    prose: path of the answers in words; beside it lie those in numbers and the code.
    """
    names = {*CODE, prose.name, prose.with_suffix(".toml").name}
    found = {"code": _of_files(prose.parent, names)}
    for script in SCRIPTS:
        for folder in [save_dir / script, *_folders_in(save_dir / script)]:
            found[folder.relative_to(save_dir).as_posix()] = _of_files(folder, OF_A_RUN)
    found = {name: value for name, value in found.items() if value}
    return {**found, ALL: _of_list(found)}


def _folders_in(folder):
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:  # it is not there
        return []


def _of_files(folder, names):
    """The hash of those of the files that are there; None if there is none of them."""
    digests = {name: digest for name in sorted(names) if (digest := _of_file(folder / name))}
    return _of_list(digests) if digests else None


def _of_list(digests):
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def _of_file(path):
    """The hash of a file; None if there is none."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            return UNREADABLE
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return UNREADABLE


def on_page(path):
    """The hash of all that a page says; None if there is no page, or it says none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    found = re.search(r'data-hash="([0-9a-f]{64})"', text)
    return found and found[1]
