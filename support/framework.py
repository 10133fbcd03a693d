"""Which layers a script trains: fast_layers.py, layers.py, or another file with these classes."""

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

from support.errors import RunError


def load_layers(name):
    """The module of that name, or the file, if it ends with .py or names a folder.

    In place of fast_layers it is layers.py in a hand-out, which has no fast_layers.py, and, with a
    warning, where the kernels are not built.
    Raises: RunError if there is no such module or file.
    """
    path = Path(name).expanduser()
    if path.suffix == ".py" or path.name != name:
        return load_file(path, path.stem)
    if not name.isidentifier() or find_spec(name) is None:
        if name != "fast_layers":
            raise RunError(f"--layers {name}: no such module; a file is named with its .py")
        return import_module("layers")
    try:
        return import_module(name)
    except ImportError as error:
        if name != "fast_layers":
            raise
        print(f"warning: {error}; going on with layers.py, which is slower", file=sys.stderr)
        return import_module("layers")


def load_file(path, name):
    """The module in a file, which is imported by that name; if it fails, the name is as before.

    Raises: RunError if there is no such file; whatever its code raises.
    """
    if not path.is_file():
        raise RunError(f"--layers {path}: no such file")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # what lies beside it may be imported by it
    spec = spec_from_file_location(name, path)
    before, module = sys.modules.get(name), module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before
        raise
    return module


def set_threads(layers, threads):
    """Let a module with layers use so many threads; returns what it uses, for results.json."""
    kernels = getattr(layers, "kernels", None)
    if kernels is None:
        from threadpoolctl import ThreadpoolController

        ThreadpoolController().limit(limits=threads, user_api="blas")
        return {"threads": threads, "instruction_set": "that of NumPy"}
    kernels.set_num_threads(threads)  # one where they were built without OpenMP
    instruction_set = kernels.get_instruction_set()
    return {"threads": kernels.get_num_threads(), "instruction_set": instruction_set}
