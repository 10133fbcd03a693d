"""The answers of a submission: the numbers compared with the lab's network as our own layers build
it, the words for a teacher to read."""

import tomllib

from support import answers as in_words
from support.framework import load_layers

import numpy as np

import nn
from checks import answers
from marking.train_inside import BATCH_SIZE, build_net


def judge(content):
    """The verdicts on the bytes of an answers.toml. Raises: ValueError if it is no TOML."""
    net = build_net(load_layers("layers"), np.float32)
    return answers.judge(_tables(content), net, nn.size_rows(net), BATCH_SIZE)


def _tables(content):
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError("answers.toml is nested too deeply") from error


def words(files):
    """{question: answer in words} of a submission's files: those of answers.md, and of an earlier
    hand-out's answers.toml.
    """
    try:
        tables = _tables(files.get("answers.toml", b""))
    except ValueError:
        tables = {}
    prose = files.get(in_words.NAME, b"").decode("utf-8-sig", errors="replace")
    given = in_words.written(prose, tables)
    asked = in_words.questions(in_words.SCRIPTS)
    return {f"{q.number} {q.text}": given[q.number] for q in asked if q.number in given}
