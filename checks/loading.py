"""Imports a student's file, or says in a text why that cannot be done."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from checks import calls


def load(path):
    """(module, None) or (None, text) for a file with layers, which is imported as `layers`."""
    path = Path(path).resolve()
    if not path.is_file():
        return None, f"{path.name}: no such file"
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # what lies beside it may be imported by it
    spec = spec_from_file_location("layers", path)
    module = module_from_spec(spec)
    before = sys.modules.get("layers")
    sys.modules["layers"] = module
    _, failure = calls.attempt(spec.loader.exec_module, module, file=str(path))
    if failure is None:
        return module, None
    sys.modules.pop("layers")
    if before is not None:
        sys.modules["layers"] = before
    return None, f"{path.name} cannot be imported: {failure.removeprefix('error: ')}"
