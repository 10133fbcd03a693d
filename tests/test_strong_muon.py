import pytest
import torch

from strong import muon


@pytest.mark.parametrize("shape", [(8, 8), (4, 27), (30, 5), (1, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_vectors_stay_and_singular_values_become_one(shape, dtype, rng):
    matrix = torch.from_numpy(rng.standard_normal(shape))
    U, _, Vh = torch.linalg.svd(matrix, full_matrices=False)
    result = muon.orthogonalized(matrix.to(dtype)[None])[0].double()
    inside = U.T @ result @ Vh.T
    assert inside.diagonal().min() > 0.6
    assert inside.diagonal().max() < 1.3
    off_diagonal = inside - torch.diag(inside.diagonal())
    # 24 products, whose roundings the first iterations multiply by up to 3.4
    assert off_diagonal.abs().max() < 24 * 3.4 * torch.finfo(dtype).eps


def test_the_scale_of_a_gradient_does_not_matter_and_nothing_stays_nothing(rng):
    matrix = torch.from_numpy(rng.standard_normal((1, 3, 5)))
    assert torch.allclose(muon.orthogonalized(1000 * matrix), muon.orthogonalized(matrix))
    assert torch.equal(muon.orthogonalized(0 * matrix), 0 * matrix)


def test_two_steps_by_hand():
    """With one filter of one weight the matrix is a number: a step is that of its sign."""
    weights = torch.nn.Parameter(torch.tensor([[[[-5.0]]]]))
    optimizer = muon.Muon([weights], lr=0.1, momentum=0.5)
    sign_of_one = muon.orthogonalized(torch.ones(1, 1, 1)).item()
    weights.grad = torch.full_like(weights, 2.0)
    optimizer.step()  # momentum 2, ahead 2 + 0.5 * 2; the weight is first brought to length 1
    assert weights.item() == pytest.approx(-1 - 0.1 * sign_of_one)
    weights.grad = torch.full_like(weights, -0.5)
    optimizer.step()  # momentum 0.5 * 2 - 0.5 = 0.5, ahead -0.5 + 0.5 * 0.5 < 0
    assert weights.item() == pytest.approx(-1 + 0.1 * sign_of_one)


def test_a_step_of_many_filters(rng):
    weights = torch.nn.Parameter(torch.from_numpy(rng.standard_normal((6, 4, 3, 3))))
    before = weights.detach().clone()
    weights.grad = torch.from_numpy(rng.standard_normal(weights.shape))
    muon.Muon([weights], lr=0.2).step()
    expected = before * 6**0.5 / before.norm()
    expected -= 0.2 * muon.orthogonalized(weights.grad.reshape(1, 6, 36)).view_as(before)
    assert torch.allclose(weights, expected)
    moved = (weights.detach() - before * 6**0.5 / before.norm()).norm().item()
    assert moved == pytest.approx(0.2 * 6**0.5, rel=0.3)


def test_filters_of_one_shape_do_not_know_of_each_other(rng):
    shapes = [(6, 4, 3, 3), (5, 4, 3, 3), (6, 4, 3, 3), (40, 4, 3, 3), (6, 4, 3, 3)]
    values, gradients = (
        [torch.from_numpy(rng.standard_normal(shape)) for shape in shapes] for _ in range(2)
    )
    together, alone = ([torch.nn.Parameter(value.clone()) for value in values] for _ in range(2))
    optimizers = [muon.Muon(together, lr=0.2), *(muon.Muon([one], lr=0.2) for one in alone)]
    for _ in range(2):
        for both in zip(together, alone, gradients, strict=True):
            for weights in both[:2]:
                weights.grad = both[2].clone()
        for optimizer in optimizers:
            optimizer.step()
    for ours, theirs in zip(together, alone, strict=True):
        assert torch.allclose(ours, theirs)
