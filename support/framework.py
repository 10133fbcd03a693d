"""Which layers a script trains: fast_layers.py, layers.py, or another file with these classes."""

import sys
from importlib import import_module


def load_layers(name):
    """The module of that name; where the kernels of fast_layers are not built, a warning says so,
    and it is layers.py.
    """
    try:
        return import_module(name)
    except ImportError as error:
        if name != "fast_layers":
            raise
        print(f"warning: {error}; going on with layers.py, which is slower", file=sys.stderr)
        return import_module("layers")


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
