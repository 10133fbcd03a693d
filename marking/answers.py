"""The answers of a submission, compared with the lab's network as our own layers build it."""

import tomllib

from support.framework import load_layers

import numpy as np

import nn
from checks import answers
from marking.train_inside import BATCH_SIZE, build_net


def judge(content):
    """(verdicts, {question: answer in words}) of the bytes of an answers.toml.

    Raises: ValueError if it is no TOML.
    """
    try:
        given = tomllib.loads(content.decode())
    except RecursionError as error:
        raise ValueError("answers.toml is nested too deeply") from error
    net = build_net(load_layers("layers"), np.float32)
    words = given.get("words")
    words = {name: text for name, text in words.items() if text} if isinstance(words, dict) else {}
    return answers.judge(given, net, nn.size_rows(net), BATCH_SIZE), words
