"""Shared by the tests of target surrogates run."""

import torch

from mdtheory.convex.target_surrogates import (
    LinearCost,
    LinearModel,
    LogisticLoss,
    SoftmaxLoss,
    SquaredLoss,
    TorchModel,
)

F64 = torch.float64
N, D, K = 10, 4, 3


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def same(left, right, tolerance=1e-12):
    right = torch.as_tensor(right, dtype=left.dtype)
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


X = normal(N, D, seed=1)
HARD = (normal(N, 1, seed=2) > 0).to(F64)
SOFT = normal(N, K, seed=3).softmax(-1)
LINE = LinearModel(X)
NET = TorchModel(
    lambda w, x: (
        torch.tanh(x @ w[..., :20].unflatten(-1, (D, 5))) @ w[..., 20:].unflatten(-1, (5, -1))
    ),
    X,
)
LOSSES = {
    "squared": SquaredLoss(normal(N, K, seed=4)),
    "logistic": LogisticLoss(SOFT),
    "ridge": LogisticLoss(SOFT, ridge=0.3),
    "softmax": SoftmaxLoss(SOFT),
    "cost": LinearCost(normal(N, K, seed=5)),
}
ONE = LogisticLoss(HARD, ridge=0.05)  # one number a row
