"""What a script says when it cannot start: one line that names the command that mends it.

A script imports `support` before everything else, and nothing more: from then on an import that
fails because a package or the extension is missing, broken, or of another Python ends the script
with one line and status 1, and so does Ctrl-C, as a signal. Every other error keeps its traceback,
a wrong import in a student's own code as well. The line is also right for the extension that was
compiled from other sources than those that lie beside it; their digest is part of the compiled
file.

Written so that old versions of Python can read it, and say that they are too old.
"""

import hashlib
import os
import re
import shlex
import shutil
import sys
import traceback
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
# extension: the sources it is compiled from; setup_cython.py reads this, too
EXTENSIONS = {"im2col_cython": ("im2col_cython.pyx", "setup_cython.py")}
_SHARED = [f"kernels/{path.name}" for path in sorted((ROOT / "kernels").glob("*.[hp]*"))]
_SHARED = [source for source in _SHARED if source.endswith((".h", ".pxd"))]
for _path in sorted((ROOT / "kernels").glob("*.pyx")):
    EXTENSIONS[f"kernels.{_path.stem}"] = (f"kernels/{_path.name}", *_SHARED, "setup_cython.py")
COMPILE = "python3 setup_cython.py build_ext --inplace"
# by the names that are imported: of the NumPy half, and of the PyTorch scripts
NUMPY_HALF = ("numpy", "scipy", "threadpoolctl", "matplotlib", "skimage", "pooch", "filelock")
NUMPY_HALF += ("tqdm", "jinja2", "markdown_it", "Cython", "setuptools")
TORCH_HALF = ("torch", "torchvision")


class NotReadyError(ImportError):
    """What is missing and which command mends it, in one line."""


def install():
    """Let uncaught import errors of the packages and the extension end in one line.

    Raises: NotReadyError if Python is too old.
    """
    sys.excepthook = _say_in_one_line
    sys.meta_path.insert(0, _Extensions)
    if sys.version_info < OLDEST_PYTHON:
        needed, here = ".".join(map(str, OLDEST_PYTHON)), ".".join(map(str, sys.version_info[:3]))
        advice = _activation("") or "start the script with a newer one"
        raise NotReadyError(f"Python {needed} or newer is needed, this is {here}; {advice}")


def digest(name):
    """A name for the content of an extension's sources: the compiled file holds it."""
    sha = hashlib.sha256()
    for source in EXTENSIONS[name]:
        content = (ROOT / source).read_bytes().replace(b"\r\n", b"\n")
        sha.update(b"%d %s" % (len(content), content))
    return f"sources {sha.hexdigest()}"


def is_compiled_from_its_sources(name, path):
    """Whether the extension in that file has the sources that lie there; True if none lie there."""
    if not all((ROOT / source).exists() for source in EXTENSIONS[name]):
        return True
    return digest(name).encode() in Path(path).read_bytes()


class _Extensions:
    """Asked before the usual finders: says why an extension of ours cannot be what is wanted."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in EXTENSIONS:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.origin is None:
            found = _of_another_python(name)
            why = f"was built for another Python ({found})" if found else "is missing"
            raise NotReadyError(f"the extension {name} {why}; {_compile()}", name=name)
        # a student may have written a module of that name in Python
        is_compiled = spec.origin.endswith(tuple(EXTENSION_SUFFIXES))
        if is_compiled and not is_compiled_from_its_sources(name, spec.origin):
            why = "was compiled from other sources than those that are here"
            raise NotReadyError(f"the extension {name} {why}; {_compile()}", name=name)
        return spec


def _say_in_one_line(kind, error, trace):
    if _is_stopped(error) and not hasattr(sys, "ps1"):  # who types line by line sees where
        message = "stopped"
    else:
        reason = explanation(error, trace)
        message = reason and f"error: {reason}"
    if message is None:
        sys.__excepthook__(kind, error, trace)
    elif sys.stderr is not None:
        print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)


def _is_stopped(error):
    """Whether this is Ctrl-C, or what an import that it ended made of it."""
    while isinstance(error, ImportError) and (error.__cause__ or error.__context__):
        error = error.__cause__ or error.__context__
    return isinstance(error, KeyboardInterrupt)


def explanation(error, trace):
    """The line for an error of an import, with its traceback; None if it is of another kind."""
    if not isinstance(error, Exception):
        return None
    if isinstance(error, NotReadyError):
        return str(error)
    packages = NUMPY_HALF + TORCH_HALF
    missing = (getattr(error, "name", None) or "").partition(".")[0]
    is_missing = isinstance(error, ModuleNotFoundError) and missing in packages
    if is_missing and find_spec(missing) is None:
        return f"the package {missing} is missing; {_installation(missing)}"
    if missing == "strong" and not (ROOT / "strong").exists():
        return "a hand-out has no strong/, the folder of the larger networks"
    if getattr(error, "name", None) in EXTENSIONS:  # the system's loader refuses the file
        return f"the extension {error.name} cannot be loaded: {_cause(error)}; {_compile()}"
    for frame, _ in traceback.walk_tb(trace):
        # a module in whose import the error arose: one that works stays in sys.modules
        name = frame.f_globals.get("__name__", "")
        is_import = frame.f_code.co_name in ("<module>", f"init {name}")
        if is_import and name not in sys.modules:
            package = name.partition(".")[0]
            if package in packages:
                advice = _installation(package, "--force-reinstall ")
                if lacks_memory(error):
                    advice = "end other programs, or raise the limit (ulimit -v unlimited)"
                return f"the package {package} cannot be loaded: {_cause(error)}; {advice}"
            if name in EXTENSIONS:
                return f"the extension {name} cannot be loaded: {_cause(error)}; {_compile()}"
    return None


def lacks_memory(error):
    """Whether an error, or one that it was made of, says so: PyTorch has kinds of its own."""
    said = "(allocate|not enough|out of) memory|bad_alloc|map segment|start new thread"
    while error is not None:
        if isinstance(error, MemoryError) or re.search(said, str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _cause(error):
    """What the first of a chain of errors says, in one line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= 200 else line[:200] + "..."


def _of_another_python(name):
    """The name of a file with the extension for another version or system, or None."""
    stem = name.replace(".", "/")
    files = sorted(p.name for kind in ("so", "pyd") for p in ROOT.glob(f"{stem}.*{kind}"))
    ours = [Path(stem).name + suffix for suffix in EXTENSION_SUFFIXES]
    return next((file for file in files if file not in ours), None)


def _compile():
    """The command that builds the extension, for the folder the user is in."""
    return _activation("Cython") or f"run: {_in_project()}{COMPILE}"


def _installation(package, options=""):
    """How the user gets a package: the environment that has it, make, or pip."""
    in_environment = sys.prefix != sys.base_prefix or "CONDA_PREFIX" in os.environ
    by_make = not in_environment and shutil.which("make") and (ROOT / "Makefile").exists()
    target, name = ("install-torch", "") if package in TORCH_HALF else ("install", "-numpy")
    pip = f"python3 -m pip install {options}-r requirements{name}.txt"
    activate = "source .venv/bin/activate"
    command = f"make {target} && {activate}" if by_make else pip
    return _activation(package) or f"run: {_in_project()}{command}"


def _activation(package):
    """The advice to activate .venv, if another Python is running and the package is in there."""
    environment = ROOT / ".venv"
    on_windows = os.name == "nt"
    packages = environment.glob("Lib" if on_windows else "lib/python3*")
    found = [folder for folder in packages if _holds(folder / "site-packages", package)]
    if not found or Path(sys.prefix).resolve() == environment.resolve():
        return ""
    script = "Scripts/activate" if on_windows else "bin/activate"
    path = str(Path(".venv" if Path.cwd() == ROOT else environment, script))
    words = [path] if on_windows else ["source", path]
    return f"first activate the environment: {shell_line(words)}"


def _holds(folder, package):
    return (folder / package).is_dir() or (folder / f"{package}.py").exists()


def _in_project():
    return "" if Path.cwd() == ROOT else f"{shell_line(['cd', str(ROOT)])} && "


def shell_line(words):
    """The words as they are typed, those with spaces between quotes."""
    if os.name != "nt":
        return shlex.join(words)
    from subprocess import list2cmdline  # here, because every script would wait for its import

    return list2cmdline(words)
