"""The fast half of the framework: convolution, products, pooling and ReLU, compiled by Cython.

fast_layers.py is what calls them. Shapes and errors stand in the docstrings of the modules.
"""

from threadpoolctl import ThreadpoolController

from kernels.convolution import conv_backward_inputs, conv_backward_params, conv_forward
from kernels.elementwise import add_scaled, relu_backward, relu_forward
from kernels.losses import cross_entropy, cross_entropy_grad
from kernels.machine import (
    MAX_THREADS,
    aligned,
    empty,
    get_instruction_set,
    get_num_threads,
    instruction_sets,
    set_instruction_set,
    set_num_threads,
)
from kernels.pooling import pool_backward, pool_forward
from kernels.products import matmul
from kernels.sparse import set_skip_zeros
from kernels.winograd import set_winograd

__all__ = [
    "MAX_THREADS",
    "add_scaled",
    "aligned",
    "conv_backward_inputs",
    "conv_backward_params",
    "conv_forward",
    "cross_entropy",
    "cross_entropy_grad",
    "empty",
    "get_instruction_set",
    "get_num_threads",
    "instruction_sets",
    "matmul",
    "pool_backward",
    "pool_forward",
    "relu_backward",
    "relu_forward",
    "set_instruction_set",
    "set_num_threads",
    "set_skip_zeros",
    "set_winograd",
]

# The kernels share a batch out among threads of their own; the threads of BLAS would only fight
# those for the cores.
ThreadpoolController().limit(limits=1, user_api="blas")
