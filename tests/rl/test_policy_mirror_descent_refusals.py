"""Policy mirror descent: what cannot be meant is refused, with the name of what was wrong."""

import math

import pytest
import torch

from mdtheory.convex.mirror_maps import Ball, Entropy, Euclidean, LogBarrier, VonNeumann
from mdtheory.rl import policy_mirror_descent as pmd

F64 = torch.float64
ENTROPY = Entropy()


def seeded():
    return torch.Generator().manual_seed(0)


MDP = pmd.garnet(4, 2, 2, 0.9, seeded())
SPARSE = pmd.garnet(4, 2, 2, 0.9, seeded(), sparse=True)
BATCH = pmd.garnet(4, 2, 2, 0.9, seeded(), (3,))
POLICY = MDP.uniform_policy()
NUMBER = torch.ones(3, dtype=F64)
APART = pmd.TabularMDP(  # two states that never meet
    torch.eye(2, dtype=F64)[:, None], torch.zeros(2, 1, dtype=F64), 0.9
)
NAN = torch.full((4,), math.nan, dtype=F64)


def mdp(transition=None, reward=None, discount=0.9):
    transition = MDP.transition if transition is None else transition
    return pmd.TabularMDP(transition, MDP.reward if reward is None else reward, discount)


def descend(process=MDP, mirror_map=ENTROPY, step_size=1.0, iterations=2, **more):
    return pmd.policy_mirror_descent(process, mirror_map, step_size, iterations, **more)


REFUSALS = {
    "a list for rewards": (lambda: mdp(reward=[[1.0]]), TypeError, "reward"),
    "whole rewards": (lambda: mdp(reward=torch.ones(4, 2, dtype=torch.int64)), TypeError, "reward"),
    "rewards of one axis": (lambda: mdp(reward=torch.ones(4, dtype=F64)), ValueError, "reward"),
    "an infinite reward": (lambda: mdp(reward=MDP.reward / 0), ValueError, "reward"),
    "a discount of 1": (lambda: mdp(discount=1.0), ValueError, "discount"),
    "a negative discount": (lambda: mdp(discount=-0.1), ValueError, "discount"),
    "a discount in words": (lambda: mdp(discount="0.9"), TypeError, "discount"),
    "a square transition": (lambda: mdp(MDP.transition[0]), ValueError, "transition"),
    "rows of 2": (lambda: mdp(2 * MDP.transition), ValueError, "transition"),
    "negative rows": (lambda: mdp(-MDP.transition), ValueError, "transition"),
    "another dtype": (lambda: mdp(MDP.transition.float()), TypeError, "reward"),
    "a batch that does not fit": (
        lambda: pmd.TabularMDP(BATCH.transition, MDP.reward.expand(2, 4, 2), 0.9),
        ValueError, "transition",
    ),
    "sparse: whole numbers": (
        lambda: mdp(torch.ones(8, 4, dtype=torch.int64).to_sparse_coo()), TypeError, "transition",
    ),
    "sparse: a batch": (
        lambda: pmd.TabularMDP(SPARSE.transition, BATCH.reward, 0.9), ValueError, "reward",
    ),
    "sparse: a wrong shape": (
        lambda: mdp(torch.ones(4, 4, dtype=F64).to_sparse_coo()), ValueError, "transition",
    ),
    "sparse: rows of 2": (
        lambda: mdp((2 * SPARSE.transition.to_dense()).to_sparse_coo()), ValueError, "sum to 1",
    ),
    "sparse: negative rows": (
        lambda: mdp((-SPARSE.transition.to_dense()).to_sparse_coo()), ValueError, "transition",
    ),
    "sparse: by columns": (
        lambda: mdp(SPARSE.transition.to_dense().to_sparse_csc()), ValueError, "layout",
    ),
    "sparse: many policies": (
        lambda: pmd.evaluate(SPARSE, POLICY.expand(3, 4, 2)), ValueError, "policy",
    ),
    "no MDP": (lambda: pmd.evaluate(POLICY, POLICY), TypeError, "mdp"),
    "a policy of another shape": (lambda: pmd.evaluate(MDP, POLICY.T), ValueError, "policy"),
    "a policy that sums to 2": (lambda: pmd.evaluate(MDP, 2 * POLICY), ValueError, "policy"),
    "a policy with a NaN": (lambda: pmd.evaluate(MDP, POLICY * math.nan), ValueError, "policy"),
    "a policy of another dtype": (lambda: pmd.evaluate(MDP, POLICY.float()), TypeError, "policy"),
    "a batch of other size": (
        lambda: pmd.evaluate(BATCH, POLICY.expand(2, 4, 2)), ValueError, "policy",
    ),
    "a negative temperature": (
        lambda: pmd.evaluate(MDP, POLICY, -1.0), ValueError, "temperature",
    ),
    "a map on a ball": (
        lambda: pmd.evaluate(MDP, POLICY, 1.0, Euclidean(Ball(1.0))), ValueError, "mirror_map",
    ),
    "a map on matrices": (lambda: descend(mirror_map=VonNeumann()), ValueError, "mirror_map"),
    "a name of a map": (lambda: descend(mirror_map="entropy"), TypeError, "mirror_map"),
    "no map": (lambda: descend(mirror_map=None), TypeError, "mirror_map"),
    "no map for a regulariser": (
        lambda: pmd.evaluate(MDP, POLICY, 1.0, None), TypeError, "mirror_map",
    ),
    "a start that is no law": (lambda: pmd.occupancy(MDP, POLICY, NAN), ValueError, "initial"),
    "a start of other states": (
        lambda: pmd.occupancy(MDP, POLICY, torch.full((3,), 1 / 3, dtype=F64)),
        ValueError, "initial",
    ),
    "a value with a NaN": (lambda: pmd.bellman(MDP, NAN), ValueError, "value"),
    "a value of another dtype": (lambda: MDP.look_ahead(torch.zeros(4)), TypeError, "value"),
    "a value of other states": (
        lambda: pmd.bellman_error(MDP, torch.zeros(5, dtype=F64)), ValueError, "value",
    ),
    "a step of 0": (lambda: descend(step_size=0.0), ValueError, "step_size"),
    "a negative step": (lambda: descend(step_size=-1.0), ValueError, "step_size"),
    "an infinite step without a magnet": (
        lambda: descend(step_size=math.inf), ValueError, "step_size",
    ),
    "a step that is no number": (lambda: descend(step_size="big"), TypeError, "step_size"),
    "too few steps": (lambda: descend(step_size=[1.0]), ValueError, "step_size"),
    "too many axes of steps": (
        lambda: descend(step_size=torch.ones(2, 2, dtype=F64)), ValueError, "step_size",
    ),
    "steps of whole numbers": (
        lambda: descend(step_size=torch.ones(2, dtype=torch.int64)), TypeError, "step_size",
    ),
    "a step of NaN": (
        lambda: descend(step_size=torch.full((2,), math.nan, dtype=F64)), ValueError, "step_size",
    ),
    "steps for another batch": (
        lambda: descend(BATCH, step_size=[torch.ones(2, dtype=F64)] * 2), ValueError, "step_size",
    ),
    "half an iteration": (lambda: descend(iterations=1.5), TypeError, "iterations"),
    "minus one iteration": (lambda: descend(iterations=-1), ValueError, "iterations"),
    "zeros where the map knows none": (
        lambda: descend(mirror_map=LogBarrier(), policy=pmd.policy_iteration(MDP).policy),
        ValueError, "policy",
    ),
    "iterates: refused at the call": (
        lambda: pmd.policy_iterates(MDP, ENTROPY, -1.0, 2), ValueError, "step_size",
    ),
    "a natural step that is too long": (
        lambda: pmd.natural_policy_gradient(MDP, 1.0, 2, temperature=1.0), ValueError, "at most",
    ),
    "natural: a discount of 1": (lambda: pmd.natural_step(0.1, 1.0), ValueError, "discount"),
    "soft iteration without a temperature": (
        lambda: pmd.soft_policy_iteration(MDP, 0.0, 2), ValueError, "temperature",
    ),
    "steps that shrink": (lambda: pmd.geometric_steps(1.0, 0.5, 3), ValueError, "ratio"),
    "steps without end": (lambda: pmd.geometric_steps(1.0, 1e200, 3), ValueError, "ratio"),
    "a scale of 0": (lambda: pmd.trust_region_steps(3, 0.0, 0.0), ValueError, "scale"),
    "a tolerance of 0": (lambda: pmd.value_iteration(MDP, 0.0), ValueError, "tolerance"),
    "minus one sweep": (
        lambda: pmd.modified_policy_iteration(MDP, sweeps=-1), ValueError, "sweeps",
    ),
    "a programme for a batch": (lambda: pmd.linear_program(BATCH), ValueError, "mdp"),
    "garnet: more ways than states": (
        lambda: pmd.garnet(3, 2, 4, 0.9, seeded()), ValueError, "branching",
    ),
    "garnet: no states": (lambda: pmd.garnet(0, 2, 1, 0.9, seeded()), ValueError, "states"),
    "garnet: a seed": (lambda: pmd.garnet(3, 2, 2, 0.9, 0), TypeError, "generator"),
    "garnet: sparse and many": (
        lambda: pmd.garnet(3, 2, 2, 0.9, seeded(), (2,), sparse=True), ValueError, "batch",
    ),
    "garnet: an empty batch": (
        lambda: pmd.garnet(3, 2, 2, 0.9, seeded(), (0,)), ValueError, "batch",
    ),
    "grid: one text": (lambda: pmd.gridworld("SG", 0.9), TypeError, "rows"),
    "grid: ragged": (lambda: pmd.gridworld(["SG", "."], 0.9), ValueError, "rows"),
    "grid: slippery": (lambda: pmd.gridworld(["SG"], 0.9, slip=1.5), ValueError, "slip"),
    "bounds: a sparse process": (
        lambda: pmd.bounds.stationary_law(SPARSE, POLICY), ValueError, "mdp",
    ),
    "bounds: two stationary laws": (
        lambda: pmd.bounds.stationary_law(APART, APART.uniform_policy()), ValueError, "stationary",
    ),
    "bounds: no steps": (
        lambda: pmd.bounds.mean_rate(NUMBER, NUMBER, [], 0.9), ValueError, "steps",
    ),
    "bounds: a discount of 1": (
        lambda: pmd.bounds.contraction(NUMBER, 1.0, 3), ValueError, "discount",
    ),
    "bounds: no temperature": (
        lambda: pmd.bounds.regularised_rate(NUMBER, NUMBER, 1.0, 0.0, 0.9, 3),
        ValueError, "temperature",
    ),
    "bounds: a step that is too long": (
        lambda: pmd.bounds.natural_rate(NUMBER, NUMBER, 1.0, 1.0, 0.9, 3), ValueError, "step_size",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_meant_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_solver_that_fails_says_so(monkeypatch):
    import cvxpy

    monkeypatch.setattr(cvxpy.Problem, "solve", lambda self, **options: None)
    with pytest.raises(ArithmeticError, match="solver"):
        pmd.linear_program(MDP)
