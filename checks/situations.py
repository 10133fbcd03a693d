"""The situations in which every method is called, class by class.

batch                a batch of the size that the layer was built with
batch of one         another layer, built for one
another layer        what a layer keeps is its own
smaller batch        a batch of another size after one of that size
second forward       what was kept of an earlier forward no longer counts
second backward      the same once more: nothing may add up
parameters changed   in place, as an update does it
parameters replaced  by other arrays
float32              parameters and inputs of that type
"""

import numpy as np

from checks import calls, cases

N = 4  # images


def _initial(watch, dtype=np.float64):
    """Keywords for a layer whose weights and bias are given numbers."""
    return {
        "weights_initializer_fn": lambda shape, fan_in: watch.numbers(
            "weights", tuple(shape)
        ).astype(dtype),
        "bias_initializer_fn": lambda shape: watch.numbers("bias", tuple(shape)).astype(dtype),
    }


def _forward_and_backward(
    watch, situation, layer, x, is_extra=False, params_first=False, between=None
):
    """Note all that a layer returns for x, and for a gradient of the output's shape.

    between: another layer, through which something else goes before the way back.
    """
    if layer is None:
        return
    watch.call(situation, layer, "forward", x, is_extra=is_extra)
    if between is not None:
        watch.run(between, "forward", -x)
    shape = watch.shape_out(x, layer)
    grad_out = watch.numbers(f"grad {situation}", shape)
    grad_out = grad_out.astype(x.dtype)
    backward = [m for m in watch.methods if m != "forward"]
    for method in reversed(backward) if params_first else backward:
        watch.call(situation, layer, method, grad_out, is_extra=is_extra)


def _observe_layer(watch, build, x_of, has_params, batch_is_fixed=False):
    """All situations for one kind of layer.

    build(situation, x, dtype) -> a layer; x_of(name, N) -> an input for N images.
    batch_is_fixed: an error for a batch of another size means that it is not offered.
    """

    def prepared(situation, *earlier):
        layer = build(situation, x_of("x", N))
        for x in earlier if layer is not None else ():
            watch.run(layer, "forward", x)
        return layer

    x, other = x_of("x", N), x_of("other", N)
    _forward_and_backward(watch, "batch", build("batch", x), x)
    one = x_of("one", 1)
    _forward_and_backward(watch, "batch of one", build("batch of one", one), one)
    layer, another = (build("another layer", x) for _ in range(2))
    _forward_and_backward(watch, "another layer", layer, x, between=another)
    layer = prepared("smaller batch", x)
    _forward_and_backward(watch, "smaller batch", layer, x_of("small", N - 1), batch_is_fixed)

    layer = build("second forward", x)
    if layer is not None:
        first, _ = watch.run(layer, "forward", x)
        kept = np.array(first) if isinstance(first, np.ndarray) else None
        _forward_and_backward(watch, "second forward", layer, other, params_first=True)
        is_same = kept is None or np.array_equal(kept, first, equal_nan=kept.dtype.kind == "f")
        key = f"{watch.name}.forward/first output"
        watch.seen[key] = (
            "ok" if is_same else "problem: a second forward changes what the first returned"
        )
        _forward_and_backward(watch, "second backward", layer, other)
    else:
        prepared("second backward")
        watch.seen[f"{watch.name}.forward/first output"] = "ok"

    if has_params:
        _observe_parameters(watch, prepared, x)

    x = x_of("x", N).astype(np.float32)
    _forward_and_backward(watch, "float32", build("float32", x, np.float32), x)


def _observe_parameters(watch, prepared, x):
    """What a layer returns once its parameters were changed in place, and replaced."""
    layer = prepared("parameters changed", x)
    if layer is not None:
        for name in ("weights", "bias"):
            array = getattr(layer, name, None)
            if isinstance(array, np.ndarray):
                array -= watch.numbers(f"step {name}", array.shape)
    _forward_and_backward(watch, "parameters changed", layer, x)
    layer = prepared("parameters replaced", x)
    if layer is not None:
        for name in ("weights", "bias"):
            new = watch.numbers(f"new {name}", np.shape(getattr(layer, name, ())))
            setattr(layer, name, new)
    _forward_and_backward(watch, "parameters replaced", layer, x)


def observe_FC(watch):  # noqa: N802 -- the name of the class
    def build(situation, x, dtype=np.float64, outputs=5):
        return watch.build(situation, x, outputs, "fc", **_initial(watch, dtype))

    watch.shape_out = lambda x, layer: (len(x), layer.shape[1])
    _observe_layer(watch, build, lambda name, n: watch.numbers(name, (n, 6)), has_params=True)
    x = watch.numbers("square", (5, 5))  # where a product of the wrong order passes
    _forward_and_backward(watch, "square", build("square", x), x)


def observe_ReLU(watch):  # noqa: N802
    def build(situation, x, dtype=np.float64):
        return watch.build(situation, x, "relu")

    watch.shape_out = lambda x, layer: x.shape
    _observe_layer(
        watch, build, lambda name, n: watch.numbers(name, (n, 2, 3, 5)), has_params=False
    )
    x = watch.numbers("matrix", (N, 7))
    _forward_and_backward(watch, "matrix", build("matrix", x), x)
    x = cases.with_zeros(watch.seed, "relu", (N, 7))
    _forward_and_backward(watch, "zeros", build("zeros", x), x)


def observe_SoftmaxCrossEntropyWithLogits(watch):  # noqa: N802
    def logits(name, n, k=5):
        return watch.numbers(name, (n, k)), cases.one_hot(watch.seed, name, (n, k))

    def both(situation, *arrays, earlier=()):
        loss = watch.build(situation)
        if loss is None:
            return
        for pair in earlier:
            watch.run(loss, "forward", *pair)
        for method in ("forward", "backward_inputs"):
            watch.call(situation, loss, method, *arrays)

    first = logits("x", N)
    both("batch", *first)
    both("batch of one", *logits("one", 1))
    both("smaller batch", *logits("small", N - 1), earlier=[first])
    both("second forward", *logits("other", N), earlier=[first])
    both("two classes", *logits("two", N, 2))
    both("as many as classes", *logits("square", 5, 5))
    both("float32", *(array.astype(np.float32) for array in first))
    x, y = first
    both("logits around 1000", x + 1000, y)
    both("logits around -1000", x - 1000, y)
    both("rows far apart", x + 1000 * np.arange(-1.5, 2)[:, np.newaxis], y)
    sure = np.where(y == 1, 1000.0, -1000.0)
    sure[1] = -sure[1]
    both("logits of ±1000", sure + x, y)


def observe_L2Regularizer(watch):  # noqa: N802
    def both(situation, weights, weight_decay, step=None):
        regularizer = watch.build(situation, weights, weight_decay, "l2")
        if regularizer is None:
            return
        if step is not None:
            watch.run(regularizer, "forward")
            watch.run(regularizer, "backward_params")
            weights -= step
        watch.call(situation, regularizer, "forward")
        watch.call(situation, regularizer, "backward_params")

    shape = (3, 4)
    both("weights", watch.numbers("weights", shape), 0.25)
    both("other weights", watch.numbers("other", (5, 2)), 0.0625)
    both("large λ", watch.numbers("large", shape), 3.0)
    step = watch.numbers("step", shape)
    both("parameters changed", watch.numbers("changed", shape), 0.25, step)
    both("float32", watch.numbers("weights", shape).astype(np.float32), 0.25)


def observe_Convolution(watch):  # noqa: N802
    def build(situation, x, dtype=np.float64, filters=3, size=3, padding="SAME", **more):
        options = _initial(watch, dtype) | more
        is_extra = bool(more) or padding != "SAME"
        layer = watch.build(
            situation, x, filters, size, "conv", padding=padding, is_extra=is_extra, **options
        )
        watch.geometry = size, padding, more.get("stride", 1)
        refusal = calls.padding_refusal(layer, padding)
        if layer is not None and refusal:
            watch.note_all(situation, refusal)
            return None
        return layer

    def shape_out(x, layer):
        size, padding, stride = watch.geometry
        pad = {"SAME": size // 2, "VALID": 0}.get(padding, padding)
        H, W = ((n + 2 * pad - size) // stride + 1 for n in x.shape[2:])
        return len(x), len(layer.weights), H, W

    watch.shape_out = shape_out
    _observe_layer(
        watch,
        build,
        lambda name, n: watch.numbers(name, (n, 2, 4, 5)),
        has_params=True,
        batch_is_fixed=True,
    )
    for situation, shape, options in (
        ("filters of 5x5", (2, 2, 6, 5), {"size": 5}),
        ("filters of 1x1", (2, 3, 3, 4), {"size": 1}),
        ("padding 'VALID'", (2, 2, 5, 6), {"padding": "VALID"}),
        ("stride 2", (2, 2, 7, 6), {"stride": 2}),
        ("padding 2", (2, 2, 4, 5), {"padding": 2}),
    ):
        x = watch.numbers(situation, shape)
        layer = build(situation, x, **options)
        is_extra = "stride" in options or "padding" in options
        _forward_and_backward(watch, situation, layer, x, is_extra and "padding" not in options)


def observe_MaxPooling(watch):  # noqa: N802
    def build(situation, x, dtype=np.float64, size=2, stride=2, is_extra=False):
        watch.geometry = size, stride
        return watch.build(situation, x, "pool", size, stride, is_extra=is_extra)

    def shape_out(x, layer):
        size, stride = watch.geometry
        return *x.shape[:2], *((n - size) // stride + 1 for n in x.shape[2:])

    def x_of(name, n):
        return cases.distinct(watch.seed, f"pool {name}", (n, 2, 4, 6))

    watch.shape_out = shape_out
    _observe_layer(watch, build, x_of, has_params=False, batch_is_fixed=True)
    x = cases.with_ties(watch.seed, "pool", (2, 2, 4, 6), 2)
    _forward_and_backward(watch, "ties", build("ties", x), x)
    x = cases.distinct(watch.seed, "pool 3", (2, 1, 6, 9))
    _forward_and_backward(watch, "windows of 3x3", build("windows of 3x3", x, size=3, stride=3), x)
    for situation, shape, size, stride in (
        ("pixels left over", (2, 2, 5, 7), 2, 2),
        ("overlapping windows", (2, 2, 7, 5), 3, 2),
        ("gaps between windows", (2, 1, 8, 6), 2, 3),
    ):
        x = cases.distinct(watch.seed, situation, shape)
        layer = build(situation, x, size=size, stride=stride, is_extra=True)
        _forward_and_backward(watch, situation, layer, x, is_extra=False)
