"""Each layer of the lab's MNIST network in each direction, ours against PyTorch's.

    python3 benchmarks/bench_layers.py

Batch 50, float32, all threads. PyTorch's backward pass gives the grads of inputs and parameters in
one call, so ours are added up for the comparison. Needs requirements.txt.
"""

import side_by_side
from side_by_side import Contender, available_threads, medians, np

BATCH = 50
DTYPE = np.float32
# name of the layer in train.build_net and the shape of its input
LAYERS = {
    "conv1": (BATCH, 1, 28, 28),
    "pool1": (BATCH, 16, 28, 28),
    "relu1": (BATCH, 16, 14, 14),
    "conv2": (BATCH, 16, 14, 14),
    "pool2": (BATCH, 32, 14, 14),
    "relu2": (BATCH, 32, 7, 7),
    "fc3": (BATCH, 1568),
    "relu3": (BATCH, 512),
    "logits": (BATCH, 512),
}
ROUNDS = 8


def ours(threads, name, direction):
    import fast_layers
    import train

    fast_layers.kernels.set_num_threads(threads)
    net = train.build_net(fast_layers, BATCH, np.random.default_rng(0))
    layer = next(layer for layer in net if layer.name == name)
    x = np.random.default_rng(1).standard_normal(LAYERS[name]).astype(DTYPE)
    grad_out = np.ones_like(layer.forward(x))

    def backward():
        if name != "conv1":  # nobody asks for the grad of the images
            layer.backward_inputs(grad_out)
        if layer.has_params:
            layer.backward_params(grad_out)

    return backward if direction == "backward" else lambda: layer.forward(x)


def pytorch(threads, name, direction):
    import contenders
    import torch

    torch.set_num_threads(threads)
    net = contenders.torch_net(torch.float32)
    names = [
        "conv1",
        "pool1",
        "relu1",
        "conv2",
        "pool2",
        "relu2",
        "flatten3",
        "fc3",
        "relu3",
        "logits",
    ]
    layer = net[names.index(name)]
    x = torch.randn(LAYERS[name], requires_grad=name != "conv1")
    inputs = [tensor for tensor in (x, *layer.parameters()) if tensor.requires_grad]
    out = layer(x)
    grad_out = torch.ones_like(out)

    def backward():
        torch.autograd.grad(out, inputs, grad_out, retain_graph=True)

    return backward if direction == "backward" else lambda: layer(x)


def main():
    print(side_by_side.machine("numpy", "scipy", "torch"))
    threads = available_threads()
    both = [Contender("ours", ours, threads), Contender("PyTorch", pytorch, threads)]
    rows = []
    print(f"{'layer':8}{'direction':10}{'ours':>10}{'PyTorch':>10}   ratio    (milliseconds)")
    for name in LAYERS:
        for direction in ("forward", "backward"):
            seconds = medians(both, (name, direction), ROUNDS)
            row = {"layer": name, "direction": direction}
            row |= {who: 1000 * value for who, value in seconds.items()}
            rows.append({**row, "ratio": row["ours"] / row["PyTorch"]})
            print(
                f"{name:8}{direction:10}{row['ours']:10.3f}{row['PyTorch']:10.3f}"
                f"{rows[-1]['ratio']:8.2f}",
                flush=True,
            )
    for contender in both:
        contender.close()
    side_by_side.write("bench_layers", rows)
    groups = {f"{row['layer']}\n{row['direction']}": row for row in rows}
    title = f"Layers of the lab's MNIST network, batch {BATCH}"
    side_by_side.draw_ratios("bench_layers", title, groups, ["ours", "PyTorch"], "ms")


if __name__ == "__main__":
    main()
