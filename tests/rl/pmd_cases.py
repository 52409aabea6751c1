"""Shared by the tests of pmd."""

import torch

from mdtheory.convex import mirror_maps as mm
from mdtheory.rl import policy_mirror_descent as pmd

F64 = torch.float64
ENTROPY = mm.Entropy()


def close(left, right, tolerance=1e-12):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def one(mdp, index=0):
    return pmd.TabularMDP(mdp.transition[index], mdp.reward[index], mdp.discount)


def drawn(mdp, generator):
    shape = (*mdp.batch_shape, mdp.states, mdp.actions)
    return torch.randn(shape, generator=generator, dtype=F64).softmax(-1)
