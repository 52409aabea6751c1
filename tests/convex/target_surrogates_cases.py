"""Shared by the tests of target surrogates."""

import itertools

import pytest
import torch

from mdtheory.convex.target_surrogates import (
    LinearModel,
    LogisticLoss,
    SoftmaxLoss,
    SquaredLoss,
    TorchModel,
)

F64 = torch.float64
N, D, K = 12, 4, 3


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def square(targets: torch.Tensor) -> torch.Tensor:
    """The squared norm of the space of targets."""
    return targets.square().sum(-1).mean(-1)


def hard_labels(n: int = N, seed: int = 1) -> torch.Tensor:
    return (normal(n, 1, seed=seed) > 0).to(F64)


def one_hot(n: int = N, seed: int = 2) -> torch.Tensor:
    index = torch.randint(K, (n,), generator=seeded(seed))
    return torch.nn.functional.one_hot(index, K).to(F64)


X = normal(N, D, seed=3) * torch.tensor([1.0, 0.5, 0.2, 0.1], dtype=F64)
LINE = LinearModel(X)
NET = TorchModel(
    lambda w, x: (
        torch.tanh(x @ w[..., : 5 * D].unflatten(-1, (D, 5)))
        @ w[..., 5 * D :].unflatten(-1, (5, -1))
    ),
    X,
)
LOSSES = {
    "squared": SquaredLoss(normal(N, 1, seed=4)),
    "logistic": LogisticLoss(hard_labels()),
    "ridge": LogisticLoss(hard_labels(), ridge=0.1),
    "softmax": SoftmaxLoss(one_hot()),
}
WIDTH = {"squared": 1, "logistic": 1, "ridge": 1, "softmax": K}
EVERY = pytest.mark.parametrize("name", LOSSES)


def draw(model, name: str, count: int, seed: int = 5, scale: float = 3.0) -> torch.Tensor:
    k = WIDTH[name]
    shape = (D, k) if model is LINE else (5 * D + 5 * k,)
    return scale * normal(count, *shape, seed=seed)


def slope(loss, model, parameters: torch.Tensor) -> torch.Tensor:
    """The gradient of h by autograd."""
    leaf = parameters.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss.value(model(leaf)).sum(), leaf)
    return gradient


def best_targets(loss, model, k: int) -> torch.Tensor:
    """Targets of the minimiser, by Newton's method on the whole Hessian."""
    here = torch.zeros(model.features.shape[-1] * k, dtype=F64)

    def h(flat):
        return loss.value(model(flat.unflatten(0, (-1, k))))

    for _ in range(40):
        leaf = here.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(h(leaf), leaf)
        bend = torch.autograd.functional.hessian(h, here)
        here = here - torch.linalg.pinv(bend) @ gradient
    return model(here.unflatten(0, (-1, k)))


# Mini-batches, all rows in the proximity term.


def all_batches(n: int, b: int) -> torch.Tensor:
    """Every subset, int64, shape (count, b)."""
    return torch.tensor(list(itertools.combinations(range(n), b)))
