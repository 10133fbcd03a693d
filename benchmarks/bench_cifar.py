"""An epoch of Task 4's network at batch 50, evaluation included: ours against the lab's own loop.

    python3 benchmarks/bench_cifar.py

The lab's loop shuffles a NumPy copy, makes float tensors of it and trains in the default layout,
with an evaluation in batches of 50. In between: ours with one of its differences taken back, each
in turn, and ours compiled. 5,000 images, no jitter.
"""

import side_by_side
from side_by_side import Contender, available_threads, medians, np

NUM_IMAGES, BATCH = 5_000, 50
ROUNDS = 3


def build(
    threads, in_memory, channels_last, fused, bfloat16, pool_first, evaluation_batch, compiled
):
    """A function that trains for an epoch and evaluates.

    in_memory: tensors made once, indexed; channels_last: memory format; fused: SGD's update;
    bfloat16: where the device is fast at it; pool_first: ReLU after the pooling, not before.
    """
    from support import torch_training

    import torch
    from torch.nn import functional

    import pytorch_cifar

    class LabOrder(pytorch_cifar.ConvolutionalModel):
        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                h = functional.max_pool2d(self.conv1(x).relu(), 3, stride=2)
                h = functional.max_pool2d(self.conv2(h).relu(), 3, stride=2)
                h = self.fc2(self.fc1(h.flatten(start_dim=1)).relu()).relu()
                return self.fc_logits(h).float()

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((NUM_IMAGES, 3, 32, 32)).astype(np.float32)
    labels = rng.integers(10, size=NUM_IMAGES)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    make = pytorch_cifar.ConvolutionalModel if pool_first else LabOrder
    bfloat16 = bfloat16 and torch_training.has_fast_bfloat16(torch.device("cpu"))
    model = make(rng, bfloat16).to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, fused=fused or None)
    x, y = torch.from_numpy(images).to(memory_format=layout), torch.from_numpy(labels)
    called = torch.compile(model) if compiled else model

    def batches():
        order = rng.permutation(NUM_IMAGES)
        if in_memory:
            for part in torch.from_numpy(order).split(BATCH):
                yield x[part], y[part]
        else:
            shuffled, targets = np.ascontiguousarray(images[order]), labels[order]
            shuffled, targets = torch.FloatTensor(shuffled), torch.LongTensor(targets)
            for start in range(0, NUM_IMAGES, BATCH):
                part = slice(start, start + BATCH)
                yield shuffled[part].to(memory_format=layout), targets[part]

    def epoch():
        for inputs, targets in batches():
            loss = functional.cross_entropy(called(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.inference_mode():
            for part in x.split(evaluation_batch):
                called(part)

    return epoch


def contender(threads, name):
    return build(threads, **{**OURS, **CONTENDERS[name]})


OURS = {
    "in_memory": True,
    "channels_last": True,
    "fused": True,
    "bfloat16": True,
    "pool_first": True,
    "evaluation_batch": 500,
    "compiled": False,
}
CONTENDERS = {
    "ours": {},
    "in float32": {"bfloat16": False},
    "default layout": {"channels_last": False},
    "ReLU before pooling": {"pool_first": False},
    "update not fused": {"fused": False},
    "evaluation batch 50": {"evaluation_batch": 50},
    "copied each epoch": {"in_memory": False},
    "compiled": {"compiled": True},
    "the lab's loop": {
        **dict.fromkeys(OURS, False),
        "evaluation_batch": BATCH,
    },
}


class Named(Contender):
    """A contender whose only case is its own name."""

    def prepare(self):
        return super().prepare(self.name)


def main():
    print(side_by_side.machine("numpy", "torch"))
    threads = available_threads()
    everyone = [Named(name, contender, threads) for name in CONTENDERS]
    seconds = medians(everyone, (), ROUNDS)
    for one in everyone:
        one.close()
    rows = [{"name": name, "seconds": value} for name, value in seconds.items()]
    for row in rows:
        row["ratio of ours to it"] = seconds["ours"] / row["seconds"]
        print(f"{row['name']:22}{row['seconds']:8.2f} s  {row['ratio of ours to it']:6.2f}")
    side_by_side.write("bench_cifar", rows)


if __name__ == "__main__":
    main()
