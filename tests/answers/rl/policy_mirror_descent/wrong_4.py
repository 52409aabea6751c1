"""The library's own solutions, under several names; and a reward that is lost."""

import torch

import mdtheory.rl.policy_mirror_descent as pmd
from mdtheory.convex.mirror_maps import Entropy, Euclidean, Simplex
from mdtheory.rl.policy_mirror_descent import TabularMDP, bounds, evaluate
from mdtheory.rl.policy_mirror_descent import natural_policy_gradient as npg
from mdtheory.rl.policy_mirror_descent.values import evaluate as same


def action_values(transition, reward, discount, policy):
    return evaluate(TabularMDP(transition, reward, discount), policy)[1]


def gain_by_state(transition, reward, discount, new, old, initial):
    mdp = TabularMDP(transition, reward, discount)
    share = pmd.occupancy(mdp, new, initial) / (1 - discount)
    return share * ((new - old) * same(mdp, old)[1]).sum(-1)


def natural_gradient_run(transition, reward, discount, temperature, step_size, iterations):
    mdp = TabularMDP(transition, reward, discount)
    return npg(mdp, step_size, iterations, temperature=temperature).log()


def projected_run(transition, reward, discount, step_size, iterations):
    mdp = TabularMDP(transition, reward, discount)
    return pmd.policy_mirror_descent(mdp, Euclidean(Simplex()), step_size, iterations)


def growing_steps_bound(transition, reward, discount, initial, first_step, iterations):
    mdp = TabularMDP(transition, reward, discount)
    best = pmd.policy_iteration(mdp)
    even = mdp.uniform_policy()
    share = pmd.occupancy(mdp, best.policy, initial)
    theta = (share / initial).amax(-1) / (1 - discount)
    gap = (initial * (best.value - evaluate(mdp, even)[0])).sum(-1)
    far = bounds.distance(Entropy(), best.policy, even, share)
    bound = bounds.linear_rate(far, gap, theta, first_step, discount, iterations)
    return bound.movedim(0, -1)


def episodic_values(chances, targets, rewards, ends, discount):  # an outcome of the last kind wins
    shape = (*chances.shape[:-1], chances.shape[-3])
    transition = torch.zeros(shape, dtype=chances.dtype)
    transition = transition.scatter(-1, targets, chances * (1 - ends))
    value = torch.zeros(chances.shape[:-2], dtype=chances.dtype)
    for _ in range(800):
        ahead = (transition @ value[..., None, :, None])[..., 0]
        value = ((chances * rewards).sum(-1) + discount * ahead).amax(-1)
    return value
