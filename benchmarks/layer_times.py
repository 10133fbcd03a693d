"""What each layer of the lab's MNIST network takes in a training step, and what zeros save."""

import time

import side_by_side
from side_by_side import np

BATCH = 50
EPOCHS = (1, 8)
ROUNDS = 40


def show(threads):
    """Train on MNIST, or on generated digits, and print a table after each of EPOCHS; returns rows.

    zeros: the share of the grads that reach the layer. dense: the same with all shortcuts off.
    """
    from support import data
    from support.options import CommonConfig

    import fast_layers
    import nn
    import train

    mnist = data.load_mnist(CommonConfig().data_dir, "auto")
    y = data.one_hot(mnist.train_y, 10)
    loss = fast_layers.SoftmaxCrossEntropyWithLogits()
    fast_layers.kernels.set_num_threads(threads)
    net = train.build_net(fast_layers, BATCH, np.random.default_rng(0))
    print(f"\nLayers, batch {BATCH}, float32, {threads} thread(s), {mnist.provenance} data")
    rows = []
    for epoch in range(1, max(EPOCHS) + 1):
        lr = [rate for first, rate in sorted(train.LR_POLICY.items()) if first <= epoch][-1]
        for start in range(0, len(y), BATCH):
            batch = slice(start, start + BATCH)
            logits = nn.forward_pass(net, mnist.train_x[batch])
            fast_layers.sgd_update_params(nn.backward_pass(net, loss, logits, y[batch]), lr)
        if epoch in EPOCHS:
            rows += _table(f"epoch {epoch}", net, loss, mnist.train_x[:BATCH], y[:BATCH])
    return rows


def _table(when, net, loss, x, y):
    seconds, zeros = {}, {}
    for _ in range(ROUNDS):
        for way in ("ours", "dense"):
            _shortcuts(way == "ours")
            for call, value in _step(net, loss, x, y, zeros).items():
                seconds.setdefault(call, {}).setdefault(way, []).append(value)
    _shortcuts(True)
    print(f"{when:40}{'ms':>9}{'dense':>9}{'gain':>7}{'zeros':>8}")
    rows = []
    for layer, direction in seconds:
        ours, dense = (1000 * np.median(seconds[layer, direction][w]) for w in ("ours", "dense"))
        share = zeros.get((layer, direction))
        shown = "" if share is None else f"{share:8.1%}"
        name = f"{layer} {direction}"
        print(f"{name:40}{ours:9.3f}{dense:9.3f}{dense / ours:7.2f}{shown}", flush=True)
        row = {"when": when, "layer": layer, "direction": direction}
        rows.append({**row, "ms": ours, "dense ms": dense, "gain": dense / ours, "zeros": share})
    return rows


def _shortcuts(on):
    import kernels

    when = "where it pays" if on else "never"
    kernels.set_skip_zeros(when)
    kernels.set_winograd(when)


def _step(net, loss, x, y, zeros):
    """Seconds of each call of a forward and a backward pass; into zeros, the shares."""
    seconds = {}

    def timed(layer, direction, function, *arguments):
        start = time.perf_counter()
        result = function(*arguments)
        seconds[layer.name, direction] = time.perf_counter() - start
        return result

    out = x
    for layer in net:
        out = timed(layer, "forward", layer.forward, out)
    grad = loss.backward_inputs(out, y)
    for layer in reversed(net):
        if layer.has_params:
            zeros[layer.name, "params"] = np.mean(grad == 0)
            timed(layer, "params", layer.backward_params, grad)
        if layer is not net[0]:
            zeros[layer.name, "inputs"] = np.mean(grad == 0)
            grad = timed(layer, "inputs", layer.backward_inputs, grad)
    return seconds


if __name__ == "__main__":
    show(side_by_side.available_threads())
