"""Task 1's questions: compare your answers in answers.toml with what the network really has.

    python3 check_answers.py                          # exit status 0 if all are right, else 1
    python3 check_answers.py --answers elsewhere.toml

Says right, wrong or missing, and how to think again. Nothing runs forward: layers.py may still have
gaps. Of "memory" several ways to count are right; which one you took is said. The answers in words,
in answers.md beside that file, are counted and not judged.
"""

import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import support  # says in one line which package is missing
from support import answers as in_words
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
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
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
    print_words(given, Path(config.answers).with_suffix(".md"))
    return 0 if count["right"] == len(verdicts) else 1


def print_words(given, path):
    """Print which questions are not answered in words: in the file at path, an answers.md, or in
    given, the tables of answers.toml, as in earlier hand-outs.
    """
    try:
        prose = in_words.read(path)
    except FileNotFoundError:
        prose = ""
        print(f"there is no {path.name}; python3 report.py --questions writes it")
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    asked = [question.number for question in in_words.questions(in_words.parts_here())]
    written = in_words.written(prose, given)
    missing = [number for number in asked if number not in written]
    count = f"{len(asked) - len(missing)} of {len(asked)} written"
    more = f"; missing: {', '.join(missing)}" if missing else ""
    print(f"in words, for your teacher to read: {count}{more}")


def main(argv=None):
    config = parse(Config, argv, __doc__)
    with one_line_errors(resumes=False):
        sys.exit(run(config))


if __name__ == "__main__":
    main()
