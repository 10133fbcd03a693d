"""Task 1's questions: compare your answers in answers.toml with what the network really has.

    python3 check_answers.py                          # exit status 0 if all are right, else 1
    python3 check_answers.py --answers elsewhere.toml

Says right, wrong or missing, and how to think again. Nothing runs forward: layers.py may still have
gaps. Of "memory" several ways to count are right; which one you took is said.
"""

import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import support  # says in one line which package is missing
from support import tables
from support.errors import RunError, one_line_errors
from support.framework import load_layers
from support.options import option, parse
from support.start import ROOT

import numpy as np

import nn
import train
from checks import answers

BATCH_SIZE = 50


@dataclass(kw_only=True)
class Config:
    answers: str = option(str(ROOT / "answers.toml"), "file with the answers")


def read(path):
    """The tables of a .toml file. Raises: RunError if there is none, or it cannot be read."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        advice = "a hand-out brings one; elsewhere make start writes it"
        raise RunError(f"there is no {path}; {advice}") from error
    except (ValueError, RecursionError) as error:  # of TOML, or no text at all
        raise RunError(f"{path} cannot be read: {error}") from error


def run(config):
    """Print a verdict on every answer; returns the exit status."""
    given = read(config.answers)
    net = train.build_net(load_layers("layers"), BATCH_SIZE, np.random.default_rng(0))
    verdicts = answers.judge(given, net, nn.size_rows(net), BATCH_SIZE)
    columns = [("question", "<"), ("", "<"), ("", "<")]
    rows = [[f"{v.section}: {v.name}", v.status, v.message] for v in verdicts]
    print(tables.text_table(columns, rows))
    count = Counter(verdict.status for verdict in verdicts)
    print(f"{count['right']} of {len(verdicts)} right, {count['wrong']} wrong, ", end="")
    print(f"{count['missing']} missing")
    words = given.get("words", {})
    if isinstance(words, dict) and words:
        written = sum(bool(str(text).strip()) for text in words.values())
        print(f"in words, for your teacher to read: {written} of {len(words)} written")
    return 0 if count["right"] == len(verdicts) else 1


def main(argv=None):
    config = parse(Config, argv, __doc__)
    with one_line_errors():
        sys.exit(run(config))


if __name__ == "__main__":
    main()
