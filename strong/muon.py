"""Muon: an optimizer that moves a layer's filters in all directions alike.

A gradient is a matrix in which a few directions are far larger than the others, and SGD moves along
those only. Muon replaces the matrix by the nearest one with orthogonal rows: if G = U S V^T, it
moves along U V^T, where all singular values are 1. An iteration that multiplies matrices, and no
decomposition, gets there:

    X = G / ||G||,  then five times  X <- a X + b (X X^T) X + c (X X^T)² X

With a, b, c as below each singular value of X climbs to between 0.68 and 1.21, which is near
enough; only those that were smaller than 0.0015 stay below.
PyTorch's own torch.optim.Muon (since 2.9) takes matrices only, not the filters of convolutions, and
does not keep their length, on which this network's rates rest; so it is not used here.

Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024.
"""

from collections import defaultdict

import torch

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # a, b, c: from the source


def orthogonalized(matrices, iterations=5):
    """Matrices with the singular vectors of the given ones, and singular values about 1.

    Shape: (N, R, C).
    """
    a, b, c = COEFFICIENTS
    are_tall = matrices.shape[1] > matrices.shape[2]
    X = matrices.mT if are_tall else matrices
    X = X / (X.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        A = X @ X.mT
        polynomial = torch.baddbmm(A, A, A, beta=b, alpha=c)  # b A + c A A
        X = torch.baddbmm(X, polynomial, X, beta=a)  # a X + (b A + c A A) X
    return X.mT if are_tall else X


class Muon(torch.optim.Optimizer):
    """Muon for filters, tensors of shape (F, ...), each of which counts as F rows.

    Normalisation follows the layer, so the length of its filters does not matter, only their
    direction. Each tensor is kept at length sqrt(F), that of F orthonormal rows, and lr is then the
    relative length of a step. bfloat16: iterate in that type.
    """

    def __init__(self, filters, lr, momentum=0.6, bfloat16=False):
        super().__init__(filters, {"lr": lr, "momentum": momentum})
        self.bfloat16 = bfloat16

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            ahead = defaultdict(list)  # tensors of one shape are multiplied in one call
            for weights in group["params"]:
                state = self.state[weights]
                if not state:
                    state["momentum"] = torch.zeros_like(weights)
                state["momentum"].mul_(group["momentum"]).add_(weights.grad)
                gradient = weights.grad.add(state["momentum"], alpha=group["momentum"])
                ahead[weights.shape].append((weights, gradient))
            for pairs in ahead.values():
                tensors, gradients = zip(*pairs, strict=True)
                rows = torch.stack(gradients).flatten(start_dim=2)
                updates = orthogonalized(rows.bfloat16() if self.bfloat16 else rows)
                for weights, update in zip(tensors, updates.to(rows.dtype), strict=True):
                    weights.mul_(len(weights) ** 0.5 / weights.norm())
                    weights.add_(update.view_as(weights), alpha=-group["lr"])
