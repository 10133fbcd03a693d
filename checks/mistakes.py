"""Known mistakes: each a method that makes it, put into the class of reference.py.

The id of a mistake is the name of its function or class; several ways to make one share it by
`variant`. Holds the solutions, wrong as they are: not for hand-outs.
"""

import numpy as np

from checks import reference

KNOWN = []  # (id, method, sentence, formula, attributes of the class)
ALSO_RIGHT = []  # (method, attributes)


def _attributes(method, made):
    if isinstance(made, type):
        return {k: v for k, v in vars(made).items() if not k.startswith("__")}
    return {method.partition(".")[2]: made}


def known(method, sentence, formula):
    """A mistake in a method, made by a function or by a class with several methods."""

    def register(made):
        id = made.__name__.replace("_", "-")
        KNOWN.append((id, method, sentence, formula, _attributes(method, made)))
        return made

    return register


def variant(of):
    """Another way to make the same mistake."""

    def register(made):
        id, method, sentence, formula, _ = next(
            entry for entry in KNOWN if entry[0] == of.__name__.replace("_", "-")
        )
        KNOWN.append((id, method, sentence, formula, _attributes(method, made)))
        return made

    return register


def also_right(method):
    def register(made):
        ALSO_RIGHT.append((method, _attributes(method, made)))
        return made

    return register


def fc_grads(self, grad_weights, grad_bias):
    return [[self.weights, grad_weights], [self.bias, grad_bias], self.name]


# --- FC -----------------------------------------------------------------------------------------

PRODUCT = "out[n, o] = sum over i of weights[o, i] * x[n, i] + bias[o]"
GRAD_X = "dL/dx[n, i] = sum over o of grad_out[n, o] * weights[o, i]"
GRAD_W = "dL/dweights[o, i] = sum over n of grad_out[n, o] * x[n, i]"
GRAD_B = "dL/dbias[o] = sum over n of grad_out[n, o]"


@known("FC.forward", "the bias is not added", PRODUCT)
def fc_without_bias(self, x):
    self.x = x
    return x @ self.weights.T


@known("FC.backward_params", "the gradient of the bias is not summed over the batch", GRAD_B)
def fc_bias_not_summed(self, grad_out):
    return fc_grads(self, grad_out.T @ self.x, grad_out)
