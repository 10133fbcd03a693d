"""Imports a student's file, or says in a text why that cannot be done."""

from pathlib import Path

from support.framework import load_file

from checks import calls


def load(path):
    """(module, None) or (None, text) for a file with layers, which is imported as `layers`."""
    path = Path(path).resolve()
    if not path.is_file():
        return None, f"{path.name}: no such file"
    module, failure = calls.attempt(
        load_file, path, "layers", file=str(path), seconds=calls.IMPORT_SECONDS
    )
    if failure is None:
        return module, None
    return None, f"{path.name} cannot be imported: {failure.removeprefix('error: ')}"
