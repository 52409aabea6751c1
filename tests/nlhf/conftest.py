"""Fixtures that several files of this part ask for."""

import pytest
import torch

from mdtheory.nlhf.games import MatrixGame, kuhn_poker, leduc_poker
from tests.nlhf.mirror_prox_cases import SIZES, Games


@pytest.fixture(params=SIZES)
def games(request):
    return Games(request.param)


@pytest.fixture(scope="module")
def poker():
    return {"kuhn": kuhn_poker(), "leduc": leduc_poker()}


@pytest.fixture(scope="module")
def many():
    payoff = torch.rand(500, 4, 5, generator=torch.Generator().manual_seed(12), dtype=torch.float64)
    return MatrixGame(2 * payoff - 1)


@pytest.fixture(scope="module")
def inner():
    """Games whose equilibrium has full support, with it."""
    g = torch.Generator().manual_seed(13)
    noise = 2 * torch.rand(500, 4, 4, generator=g, dtype=torch.float64) - 1
    x, y = (torch.randn(500, 4, generator=g, dtype=torch.float64).softmax(-1) for _ in range(2))
    noise = noise - noise @ y[..., None]
    noise = noise - x[..., None, :] @ noise
    game = MatrixGame(noise / noise.abs().amax((-2, -1), keepdim=True))
    return game, (x.log(), y.log())


@pytest.fixture(scope="module")
def kuhn():
    return kuhn_poker()
