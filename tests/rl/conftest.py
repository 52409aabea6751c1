"""Random processes for the chapters on reinforcement learning."""

from __future__ import annotations

import pytest
import torch

from mdtheory.rl import policy_mirror_descent as pmd


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(31)


@pytest.fixture(scope="session")
def garnets() -> pmd.TabularMDP:
    """A thousand processes in one batch."""
    return pmd.garnet(8, 3, 3, 0.9, torch.Generator().manual_seed(32), (1000,))


@pytest.fixture(scope="session")
def hundred(garnets) -> pmd.TabularMDP:
    """The first hundred of them, for mutants that need many iterations."""
    return pmd.TabularMDP(garnets.transition[:100], garnets.reward[:100], garnets.discount)


@pytest.fixture(scope="session")
def few(garnets) -> pmd.TabularMDP:
    """The first twenty of them."""
    return pmd.TabularMDP(garnets.transition[:20], garnets.reward[:20], garnets.discount)


@pytest.fixture
def normal(generator):
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
