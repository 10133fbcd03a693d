"""Zips that let Gradescope and Classroom 50 run grade.py themselves, one submission at a time.

They hold the solutions: Gradescope shows them to nobody; what Classroom 50 publishes can be read by
whoever knows its address.
"""

import zipfile
from pathlib import Path

from support.start import ROOT

HERE = Path(__file__).parent
FILES = ("grade.py", "layers.py", "nn.py", "im2col_cython.pyx", "setup_cython.py", "LICENSE")
FILES += ("requirements-numpy.txt", "checks/*.*", "marking/*.*", "marking/gradescope/*")
FILES += ("marking/classroom50/*", "support/*.py")
FILES += ("support/page/*.*", "support/page/network/*.*")
DATE = (1980, 1, 1, 0, 0, 0)  # the same files make the same zip


def write_gradescope(path, marks):
    """To be uploaded as the autograder: setup.sh builds the image, run_autograder marks.

    marks: the path of the marks.toml that holds there.
    Source: https://gradescope-autograders.readthedocs.io/en/latest/specs/
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("setup.sh", "run_autograder"):
            _add(archive, name, (HERE / "gradescope" / name).read_bytes(), executable=True)
        _add_project(archive, "", marks)


def write_classroom50(path, marks):
    """To be unpacked into CLASSROOM/autograders/ASSIGNMENT/ of the repository classroom50.

    Source: https://github.com/foundation50/classroom50, wiki page Advanced-Autograding
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "autograder.py", (HERE / "classroom50" / "autograder.py").read_bytes())
        _add_project(archive, "lab/", marks)


def _add_project(archive, folder, marks):
    for pattern in FILES:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and path.suffix not in (".so", ".pyd", ".c"):
                name = path.relative_to(ROOT).as_posix()
                content = Path(marks) if name == "marking/marks.toml" else path
                _add(archive, folder + name, content.read_bytes())


def _add(archive, name, content, executable=False):
    entry = zipfile.ZipInfo(name, DATE)
    entry.external_attr = (0o100755 if executable else 0o100644) << 16
    entry.create_system = 3  # Unix: where the rights above mean something
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)
