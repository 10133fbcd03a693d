"""What a submission is marked on: the points and limits that marks.toml names."""

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

from support.errors import RunError

from checks import tasks

DEFAULT = Path(__file__).parent / "marks.toml"


@dataclass(frozen=True)
class Answers:
    points: int = 0


@dataclass(frozen=True)
class Training:
    points: int = 0
    images: int = 5000
    epochs: int = 2
    accuracy: float = 0.8
    moved: float = 0.01


@dataclass(frozen=True)
class Limits:
    seconds: int = 30
    training_seconds: int = 120
    memory_mb: int = 2000
    open_files: int = 64
    written_mb: int = 50
    printed_kb: int = 200
    processes: int = 16


@dataclass(frozen=True)
class Scheme:
    """methods: {method: its points}, in the order of marks.toml."""

    methods: dict
    answers: Answers = field(default_factory=Answers)
    training: Training = field(default_factory=Training)
    limits: Limits = field(default_factory=Limits)


def read_scheme(path):
    """The Scheme in a .toml file. Raises: RunError, in one line, whatever is wrong with it."""
    try:
        given = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    sections = {"answers": Answers, "training": Training, "limits": Limits}
    _check_names(path, "section", given, ["methods", *sections])
    methods = given.get("methods", {})
    _check_names(path, "method", methods, tasks.ALL)
    for name, points in methods.items():
        _check_number(path, name, points, int)
    parts = {name: _section(path, name, kind, given) for name, kind in sections.items()}
    scheme = Scheme(methods, **parts)
    if not any((*methods.values(), scheme.answers.points, scheme.training.points)):
        raise RunError(f"{path}: nothing in it has points")
    return scheme


def _section(path, name, kind, given):
    values = given.get(name, {})
    known = {f.name: f.type for f in fields(kind)}
    _check_names(path, f"entry of [{name}]", values, known)
    for key, value in values.items():
        _check_number(path, key, value, known[key], least=0 if key in ("points", "moved") else None)
    return kind(**values)


def _check_names(path, what, values, known):
    if not isinstance(values, dict):
        raise RunError(f"{path}: expected a table of every {what}, got {values!r}")
    for name in values:
        if name not in known:
            raise RunError(f"{path}: no {what} is called {name!r}; there are {', '.join(known)}")


def _check_number(path, name, value, kind, least=0):
    """Raise unless value is a whole number, or any number, of at least `least`; None: above 0."""
    is_number = isinstance(value, int | (float if kind is float else int))
    is_number = is_number and not isinstance(value, bool)
    if not is_number or not (value > 0 if least is None else value >= least):
        what = "number" if kind is float else "whole number"
        bound = "above 0" if least is None else f"of at least {least}"
        raise RunError(f"{path}: expected {name} to be a {what} {bound}, got {value!r}")
