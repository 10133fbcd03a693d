"""Options of the command line: a dataclass whose fields know their help and their bounds."""

import argparse
import difflib
import math
import os
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

from support import surroundings
from support.errors import RunError
from support.files import read_json_if_there
from support.start import ROOT


def option(
    default, help, minimum=None, maximum=None, choices=None, is_folder=False, is_positional=False
):
    """A field of a Config: its default, its line in --help, and its bounds.

    is_positional: it has no flag and must be given.
    """
    metadata = {"help": help, "minimum": minimum, "maximum": maximum, "choices": choices}
    metadata |= {"is_folder": is_folder, "is_positional": is_positional}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def other_default(config_class, name, default):
    """The field of that name in a Config, with another default."""
    metadata = config_class.__dataclass_fields__[name].metadata
    return field(default=default, metadata=metadata)


def available_threads():
    """Processors this process may use: its affinity, and its container's quota on Linux."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, -(-int(quota) // int(period))))
    except (OSError, ValueError):  # no such file, or no limit ("max 100000")
        return cores


def folder_option(variable, default, help):
    """An option that names a folder; its default is in the environment, or beside the scripts."""

    def value():
        return _folder(variable, os.environ.get(variable)) or str(ROOT / default)

    return option(value, help, is_folder=True)


def _folder(name, text):
    try:
        return surroundings.folder(text)
    except (ValueError, OSError) as error:
        raise RunError(f"{name}: {error}") from error


@dataclass(kw_only=True)
class CheckedOptions:
    """A Config whose values are within their bounds."""

    def __post_init__(self):
        for f in fields(self):
            if f.metadata.get("is_folder"):
                setattr(self, f.name, os.fspath(getattr(self, f.name)))  # a Path, too
            value, choices = getattr(self, f.name), f.metadata.get("choices")
            for number in value if isinstance(value, list | tuple) else [value]:
                if wrong := _out_of_bounds(number, f.metadata):
                    raise RunError(f"{flag(f.name)}: expected a {wrong}, got {number}")
            if choices and value not in choices:
                known = ", ".join(filter(None, choices))
                raise RunError(
                    f"{flag(f.name)}: expected one of {known}, got {value!r}"
                    + _did_you_mean(str(value), choices)
                )


@dataclass(kw_only=True)
class CommonConfig(CheckedOptions):
    """The options that all scripts share. A script's Config adds its own and their defaults."""

    data_dir: str = folder_option("DATA_DIR", "datasets", "folder of the data sets")
    save_dir: str = folder_option("SAVE_DIR", "out", "folder that gets a folder for the run")
    dataset: str = option("auto", "auto: the real data, else generated", choices=())
    train_size: int | None = option(None, "number of training images; all if not given", minimum=1)
    epochs: int = option(8, "passes over the training images", minimum=1, maximum=100_000)
    batch_size: int = option(50, "images in a step", minimum=1, maximum=60_000)
    lr_scale: float = option(
        1.0, "factor on the learning rates of the schedule", minimum=0.0, maximum=10**9
    )
    seed: int = option(
        0, "of initial weights and of the order of the images", minimum=0, maximum=2**32 - 1
    )
    threads: int = option(
        available_threads, "processors to use", minimum=1, maximum=surroundings.MAX_THREADS
    )
    resume: bool = option(
        False, "go on with the interrupted run in the save folder, with its options"
    )
    checkpoint_minutes: float = option(
        5.0, "minutes between checkpoints within an epoch", minimum=0.0, maximum=10**6
    )


def _out_of_bounds(number, bounds):
    """What a number should have been, if it is not: "number of at least 1"."""
    low, high = bounds.get("minimum"), bounds.get("maximum")
    if number is None or (low, high) == (None, None):
        return None
    if not isinstance(number, int | float):
        return "number"
    if low is not None and not number >= low:  # this refuses a nan, too
        return f"number of at least {low}"
    if high is not None and not number <= high:
        return f"number of at most {high}"
    return None if isinstance(number, int) or math.isfinite(number) else "finite number"


def flag(name):
    return "--" + name.replace("_", "-")


def _did_you_mean(word, known):
    """The most similar of the known words as an addition to a message, if one is similar."""
    longer = [other for other in known if len(word) > 2 and other.startswith(word)]
    similar = longer or difflib.get_close_matches(word, known, 1)
    return f"; did you mean {similar[0]}?" if similar else ""


class _Parser(argparse.ArgumentParser):
    """Knows of the options that were given, and of no others; what is wrong is said in one line."""

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, argument_default=argparse.SUPPRESS, **kwargs)

    def parse_args(self, argv):
        given, unknown = self.parse_known_args(argv)
        if unknown:
            flag = unknown[0].partition("=")[0]
            similar = _did_you_mean(flag.replace("_", "-"), list(self._option_string_actions))
            self.error(f"unrecognized arguments: {' '.join(unknown)}{similar}")
        return given

    def error(self, message):
        message = " ".join(message.split())
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def parse(config_class, argv, description, script=None):
    """A config_class from the command line argv (None: sys.argv); exits with one line on errors.

    script: the name of the run's folder; with --resume, options that are not given are as in its
    config.json.
    """
    surroundings.make_text_harmless()
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(description=description, formatter_class=formatter)
    try:
        Path.cwd()
    except FileNotFoundError:
        parser.error("the current folder was deleted: cd to another one")
    try:
        for f in fields(config_class):
            _add_option(parser, f)
        given = vars(parser.parse_args(argv))
        for f in fields(config_class):
            if f.metadata["is_folder"] and f.name in given:
                if not given[f.name]:
                    raise RunError(f"{flag(f.name)}: expected a folder, got an empty name")
                given[f.name] = _folder(flag(f.name), given[f.name])
        return config_class(**{**_earlier_options(config_class, argv, script), **given})
    except RunError as error:
        parser.error(str(error))


def _default(f):
    return f.default if f.default is not MISSING else f.default_factory()


def _add_option(parser, f):
    """Tell a parser of a field of a Config."""
    default = _default(f)
    has_default = default not in (None, "") and default is not False
    # "%" has a meaning in argparse's help
    value = f" [{_shown(default)}]".replace("%", "%%") if has_default else ""
    text = f.metadata["help"] + value
    if f.metadata["is_positional"]:
        parser.add_argument(f.name, metavar=f.name.upper(), help=text)
    elif default is True:
        kind = argparse.BooleanOptionalAction
        parser.add_argument(flag(f.name), action=kind, help=f"{f.metadata['help']} [on]")
    elif default is False:
        parser.add_argument(flag(f.name), action="store_true", help=text)
    elif isinstance(default, list):
        parser.add_argument(flag(f.name), type=type(default[0]), nargs="+", help=text)
    else:
        kind = int if default is None else type(default)
        shown = "|".join(filter(None, f.metadata["choices"] or ())) or kind.__name__.upper()
        parser.add_argument(flag(f.name), type=kind, metavar=shown, help=text)


def one_option(argv, name, default, script=None):
    """The value of one option, to be known before parse is told what the others are.

    script: as in parse.
    """
    parser = _Parser(add_help=False)
    try:
        default = _resumed(argv, script).get(name, default)
    except RunError as error:
        parser.error(str(error))
    parser.add_argument(flag(name), default=default, dest="value")
    return parser.parse_known_args(argv)[0].value


def _earlier_options(config_class, argv, script):
    """The options of the run that argv asks to resume, but those that say where things are now."""
    now = {"save_dir", "resume", *(["data_dir"] if os.environ.get("DATA_DIR") else [])}
    known = {f.name: f for f in fields(config_class) if f.name not in now}
    earlier = {name: value for name, value in _resumed(argv, script).items() if name in known}
    for name, value in earlier.items():
        if not _is_of_its_type(value, _default(known[name])):
            raise RunError(f"config.json is damaged: it says {flag(name)} {str(value)[:60]}")
    return earlier


def _is_of_its_type(value, default):
    """Whether the value of an option may take the place of its default; None: a number or None."""
    if default is None:
        return value is None or type(value) is int
    if isinstance(default, list):
        is_list = isinstance(value, list) and value != []
        return is_list and all(_is_of_its_type(number, default[0]) for number in value)
    return type(value) is type(default) or (type(default) is float and type(value) is int)


def _resumed(argv, script):
    """What config.json says in the folder of the run that argv asks to resume; empty if none."""
    if script is None:
        return {}
    parser = _Parser(add_help=False)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--save-dir")
    given = vars(parser.parse_known_args(argv)[0])
    if "resume" not in given:
        return {}
    default = CommonConfig.__dataclass_fields__["save_dir"].default_factory
    save_dir = _folder("--save-dir", given.get("save_dir")) or default()
    return read_json_if_there(Path(save_dir) / script / "config.json")


def _shown(default):
    if isinstance(default, list):
        return " ".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else default
