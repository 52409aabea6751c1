"""Shared by the tests of policy mirror descent."""

import pytest
import torch

from mdtheory.convex import mirror_maps as mm
from mdtheory.rl import policy_mirror_descent as pmd

F64 = torch.float64
MAPS = {
    "entropy": mm.Entropy(),
    "euclidean": mm.Euclidean(mm.Simplex()),
    "tsallis-half": mm.Tsallis(0.5),
    "tsallis-three-halves": mm.Tsallis(1.5),
}
every_map = pytest.mark.parametrize("mirror_map", MAPS.values(), ids=MAPS)


def random_policy(mdp, generator, spread=2.0):
    shape = (*mdp.batch_shape, mdp.states, mdp.actions)
    return (spread * torch.randn(shape, generator=generator, dtype=F64)).softmax(-1)


def random_law(mdp, generator):
    shape = (*mdp.batch_shape, mdp.states)
    return torch.randn(shape, generator=generator, dtype=F64).softmax(-1)


def uniform(mdp):
    return torch.full((*mdp.batch_shape, mdp.states, mdp.actions), 1 / mdp.actions, dtype=F64)


def follow(mdp, policy):
    return torch.einsum("...sa,...sat->...st", policy, mdp.transition)


def stationary(mdp, policy):
    """The law that the policy does not change: the null vector, with one equation replaced."""
    eye = torch.eye(mdp.states, dtype=F64)
    system = (eye - follow(mdp, policy)).mT.clone()
    system[..., -1, :] = 1
    right = torch.zeros(*policy.shape[:-1], dtype=F64)
    right[..., -1] = 1
    return torch.linalg.solve(system, right).clamp(min=0)  # a rounding below 0 where nobody stays


def descend(mdp, mirror_map, steps, tau=0.0, policy=None, signal=None, move=None):
    """Policies by point-to-point mirror steps: the second way, and the place for mutants."""
    policy = uniform(mdp) if policy is None else policy
    magnet = uniform(mdp)[..., :1, :].expand(policy.shape) if tau else None
    found = [policy]
    for step in steps:
        _, q = pmd.evaluate(mdp, policy, tau, mirror_map)
        q = q if signal is None else signal(mdp, q)
        if move is None:
            policy = mm.mirror_step(mirror_map, policy, -q, step, magnet, tau)
        else:
            policy = move(policy, q, step)
        found.append(policy)
    return found


def myopic(mdp, q):
    """The mutant that looks at the next reward only."""
    return mdp.reward.expand_as(q)


KNOWN = {}


ENTROPY = mm.Entropy()


def optimum(mdp, tau=0.0, mirror_map=ENTROPY):
    """An optimal policy and its value, computed once for each process."""
    key = (id(mdp), tau, repr(mirror_map) if tau else "")
    if key not in KNOWN:
        policy = (
            pmd.soft_policy_iteration(mdp, tau, 40, mirror_map=mirror_map)
            if tau
            else pmd.policy_iteration(mdp).policy
        )
        # The process is kept, so that no other one can get its id.
        KNOWN[key] = mdp, policy, pmd.evaluate(mdp, policy, tau, mirror_map)[0]
    return KNOWN[key][1:]


def mean(law, values):
    return (law * values).sum(-1)


class Path:
    """Gaps and divergences of a run: what the theorems speak about."""

    def __init__(self, mdp, policies, mirror_map, tau, law, start=None):
        """``law`` weighs the divergences, ``start`` the gaps (``law`` if it is left out)."""
        self.best, self.best_value = optimum(mdp, tau, mirror_map)
        self.values = [pmd.evaluate(mdp, policy, tau, mirror_map)[0] for policy in policies]
        start = law if start is None else start
        self.gaps = torch.stack([mean(start, self.best_value - v) for v in self.values])
        self.far = torch.stack(
            [mean(law, mirror_map.divergence(self.best, policy)) for policy in policies]
        )
        self.law = law
        self.counts = torch.arange(len(policies), dtype=F64)[:, None]


# ------------------------------------------------------------------------------ thm-pmd-sublinear


def policies_of(mdp, mirror_map, steps, tau=0.0, policy=None):
    run = pmd.policy_iterates(mdp, mirror_map, list(steps), len(steps), policy, tau)
    return [iterate.policy for iterate in run]


def sublinear(path, start_gap, steps, discount):
    """The bound after k updates, k = 0 to K - 1; the last policy is not used."""
    total = torch.tensor(steps, dtype=F64).cumsum(0)[:, None]
    largest = torch.tensor(steps, dtype=F64).cummax(0).values[:, None]
    bound = (path.far[0] + largest * start_gap) / ((1 - discount) * total)
    return path.gaps[:-1], bound


def sublinear_sides(mdp, mirror_map, steps, policies, initial):
    share = pmd.occupancy(mdp, optimum(mdp)[0], initial)
    path = Path(mdp, policies, mirror_map, 0.0, share, initial)
    start_gap = mean(share, path.best_value - path.values[0])
    return sublinear(path, start_gap, steps, mdp.discount)


# ------------------------------------------------------------------------------ thm-pmd-geometric


def geometric_sides(mdp, mirror_map, first, steps, initial, policies, mismatch):
    share = pmd.occupancy(mdp, optimum(mdp)[0], initial)
    path = Path(mdp, policies, mirror_map, 0.0, share, initial)
    start = path.gaps[0] + path.far[0] / ((1 - mdp.discount) * first * (mismatch - 1))
    return path.gaps, (1 - 1 / mismatch) ** path.counts * start


def mismatch_of(mdp, initial):
    share = pmd.occupancy(mdp, optimum(mdp)[0], initial)
    return (share / initial).amax(-1) / (1 - mdp.discount)


# ----------------------------------------------------------------------------- thm-pmd-stationary


def stationary_sides(mdp, mirror_map, first, policies, tau, law=None):
    best = optimum(mdp, tau, mirror_map)[0]
    law = stationary(mdp, best) if law is None else law
    path = Path(mdp, policies, mirror_map, tau, law)
    bound = mdp.discount * path.gaps[0] + path.far[0] / first
    return path.gaps, bound / ((1 - mdp.discount) * path.counts + mdp.discount)
