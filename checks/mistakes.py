"""The known mistakes: each a method that makes it, put into the class of reference.py.

The id of a mistake is the name of its function or class; several ways to make one share it by
`variant`. They stand in mistakes_*.py, by class. Hold the solutions, wrong as they are: not
for hand-outs.
"""

import re

KNOWN = []  # (id, method, sentence, formula, attributes of the class)
ALSO_RIGHT = []  # (method, attributes): where more than one number is right


def known(method, sentence, formula):
    """A mistake in a method, made by a function, or by a class with what else it changes."""

    def register(made):
        KNOWN.append((_id(made), method, sentence, formula, _attributes(method, made)))
        return made

    return register


def variant(of):
    """Another way to make the same mistake."""

    def register(made):
        name = _id(of)
        _, method, sentence, formula, _ = next(entry for entry in KNOWN if entry[0] == name)
        KNOWN.append((name, method, sentence, formula, _attributes(method, made)))
        return made

    return register


def also_right(method):
    def register(made):
        ALSO_RIGHT.append((method, _attributes(method, made)))
        return made

    return register


def _id(made):
    """some_function, SomeClass -> some-function, some-class"""
    return re.sub(r"_|(?<=[a-z])(?=[A-Z])", "-", made.__name__).lower()


def _attributes(method, made):
    if isinstance(made, type):
        return {name: value for name, value in vars(made).items() if callable(value)}
    return {method.partition(".")[2]: made}


def pairs(self, grad_weights, grad_bias):
    return [[self.weights, grad_weights], [self.bias, grad_bias], self.name]
