"""The lab's MNIST network by its several makers, each as a function that does one step."""

import numpy as np

LR = 1e-3


def _batch(batch_size, dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch_size, 1, 28, 28)).astype(dtype)
    return x, rng.integers(10, size=batch_size)


def _numpy_step(net, mode, batch_size, dtype, layers):
    import nn

    update = getattr(layers, "sgd_update_params", nn.sgd_update_params)
    x, labels = _batch(batch_size, dtype)
    y = np.eye(10, dtype=dtype)[labels]
    loss = layers.SoftmaxCrossEntropyWithLogits()

    def infer():
        return nn.forward_pass(net, x)

    def step():
        logits = infer()
        loss.forward(logits, y)
        update(nn.backward_pass(net, loss, logits, y), {"lr": LR})

    return step if mode == "step" else infer


def ours(threads, mode, batch_size, dtype):
    import fast_layers
    import train

    fast_layers.kernels.set_num_threads(threads)
    net = train.build_net(fast_layers, batch_size, np.random.default_rng(0), np.dtype(dtype))
    return _numpy_step(net, mode, batch_size, np.dtype(dtype), fast_layers)


def plain(threads, mode, batch_size, dtype):
    """layers.py, in NumPy on im2col_cython."""
    from threadpoolctl import threadpool_limits

    import layers
    import train

    threadpool_limits(threads, "blas")
    net = train.build_net(layers, batch_size, np.random.default_rng(0), np.dtype(dtype))
    return _numpy_step(net, mode, batch_size, np.dtype(dtype), layers)


def exercise(threads, mode, batch_size, dtype):
    """The exercise's arrangement: im2col of the whole batch on one thread, then one product on the
    threads of BLAS; pooling and ReLU in NumPy."""
    from threadpoolctl import threadpool_limits

    import layers
    import train

    threadpool_limits(threads, "blas")
    net = train.build_net(layers, batch_size, np.random.default_rng(0), np.dtype(dtype))
    kinds = {
        layers.Convolution: _whole_batch_convolution(),
        layers.MaxPooling: _reshaped_pooling(),
        layers.ReLU: _numpy_relu(),
        layers.FC: _numpy_fc(),
    }
    for layer in net:
        layer.__class__ = kinds.get(type(layer), type(layer))
    return _numpy_step(net, mode, batch_size, np.dtype(dtype), layers)


def _whole_batch_convolution():
    import layers
    from im2col_cython import col2im_cython, im2col_cython

    class WholeBatchConvolution(layers.Convolution):
        def forward(self, x):
            k = self.kernel_size
            self.x_shape = x.shape
            self.cols = im2col_cython(x, k, k, self.pad, 1)
            out = self.weights @ self.cols + self.bias[:, np.newaxis]
            return out.reshape(len(out), *x.shape[2:], len(x)).transpose(3, 0, 1, 2)

        def backward_inputs(self, grad_out):
            k = self.kernel_size
            rows = grad_out.transpose(1, 2, 3, 0).reshape(len(self.weights), -1)
            cols = self.weights.T @ rows
            return col2im_cython(cols, *self.x_shape, k, k, self.pad, 1)

        def backward_params(self, grad_out):
            rows = grad_out.transpose(1, 2, 3, 0).reshape(len(self.weights), -1)
            grads = [self.weights, rows @ self.cols.T], [self.bias, rows.sum(axis=1)]
            return [*grads, self.name]

    return WholeBatchConvolution


def _reshaped_pooling():
    import layers

    class ReshapedPooling(layers.MaxPooling):
        def forward(self, x):
            N, C, H, W = x.shape
            self.windows = x.reshape(N, C, H // 2, 2, W // 2, 2)
            self.out = self.windows.max(axis=3).max(axis=4)
            return self.out

        def backward_inputs(self, grad_out):
            N, C, H, _, W, _ = self.windows.shape
            is_max = self.windows == self.out[:, :, :, np.newaxis, :, np.newaxis]
            grad = np.where(is_max, grad_out[:, :, :, np.newaxis, :, np.newaxis], 0)
            grad /= is_max.sum(axis=(3, 5), keepdims=True, dtype=grad.dtype)
            return grad.reshape(N, C, 2 * H, 2 * W)

    return ReshapedPooling


def _numpy_relu():
    import layers

    class NumpyReLU(layers.ReLU):
        def forward(self, x):
            self.x = x
            return np.maximum(x, 0)

        def backward_inputs(self, grad_out):
            return np.where(self.x > 0, grad_out, 0)

    return NumpyReLU


def _numpy_fc():
    import layers

    class NumpyFC(layers.FC):
        def forward(self, x):
            self.x = x
            return x @ self.weights.T + self.bias

        def backward_inputs(self, grad_out):
            return grad_out @ self.weights

        def backward_params(self, grad_out):
            grads = [self.weights, grad_out.T @ self.x], [self.bias, grad_out.sum(axis=0)]
            return [*grads, self.name]

    return NumpyFC


def torch_net(dtype):
    """The same network in PyTorch; dtype: a torch one."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(16, 32, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(),
        nn.Linear(1568, 512), nn.ReLU(), nn.Linear(512, 10),
    ).to(dtype)  # fmt: skip


def _torch_step(threads, mode, batch_size, dtype, channels_last, compiled):
    import torch

    torch.set_num_threads(threads)
    x, labels = _batch(batch_size, np.dtype(dtype))
    x, y = torch.tensor(x), torch.tensor(labels)
    net = torch_net(x.dtype)
    if channels_last:
        net, x = (what.to(memory_format=torch.channels_last) for what in (net, x))
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)

    def infer():
        with torch.inference_mode():
            return model(x)

    def loss():
        return torch.nn.functional.cross_entropy(net(x), y)

    loss_of_step = torch.compile(loss) if compiled else loss
    model = torch.compile(net) if compiled else net

    def step():
        optimizer.zero_grad()
        loss_of_step().backward()
        optimizer.step()

    return step if mode == "step" else infer


def torch_eager(threads, *case):
    return _torch_step(threads, *case, channels_last=False, compiled=False)


def torch_channels_last(threads, *case):
    return _torch_step(threads, *case, channels_last=True, compiled=False)


def torch_compiled(threads, *case):
    return _torch_step(threads, *case, channels_last=False, compiled=True)


def torch_compiled_channels_last(threads, *case):
    return _torch_step(threads, *case, channels_last=True, compiled=True)


def product(threads, mode, batch_size, dtype):
    """The largest product: what BLAS can do at best, for the share of the peak."""
    from threadpoolctl import threadpool_limits

    if mode != "peak":
        return None
    threadpool_limits(threads, "blas")
    a = np.random.default_rng(0).standard_normal((batch_size, batch_size)).astype(dtype)
    return lambda: a @ a


ALL = {
    "ours": ours,
    "eager": torch_eager,
    "channels_last": torch_channels_last,
    "compiled": torch_compiled,
    "compiled channels_last": torch_compiled_channels_last,
    "exercise": exercise,
    "plain": plain,
}
