"""Shared by the tests of imitation."""

from functools import cache

import torch

from mdtheory.convex.mirror_maps import Entropy
from mdtheory.environments.base import Environment, TensorWorld
from mdtheory.rl import imitation as im
from mdtheory.rl import policy_mirror_descent as pmd

F64 = torch.float64


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def processes(count=50, states=6, actions=3, seed=0, spread=1.0):
    """Garnets, the occupancy of a random expert in each, and the law of the first state."""
    generator = draws(seed)
    mdp = pmd.garnet(states, actions, 3, 0.9, generator, (count,))
    initial = torch.full((states,), 1 / states, dtype=F64)
    policy = law(mdp, generator, spread)
    return mdp, im.state_action_occupancy(mdp, policy, initial), initial


def law(mdp, generator, spread=1.0):
    shape = (*mdp.batch_shape, mdp.states, mdp.actions)
    return (spread * torch.randn(shape, generator=generator, dtype=F64)).softmax(-1)


def pairs(mdp, initial, generator, spread=1.0):
    return im.state_action_occupancy(mdp, law(mdp, generator, spread), initial)


@cache
def room(discount=0.95, temperature=0.1):
    """The page's grid: 5 x 5, a move slips, reward in the last corner; a soft expert."""
    side, size = 5, 25
    moves = ((-1, 0), (1, 0), (0, -1), (0, 1))
    transition = torch.zeros(size, 4, size, dtype=F64)
    for state in range(size):
        for action in range(4):
            for k, (down, right) in enumerate(moves):
                row = min(max(state // side + down, 0), side - 1)
                column = min(max(state % side + right, 0), side - 1)
                chance = 0.8 if k == action else 0.2 / 3
                transition[state, action, row * side + column] += chance
    reward = torch.zeros(size, 4, dtype=F64)
    reward[-1] = 1
    mdp = pmd.TabularMDP(transition, reward, discount)
    policy = pmd.policy_mirror_descent(mdp, Entropy(), float("inf"), 300, temperature=temperature)
    initial = torch.zeros(size, dtype=F64)
    initial[0] = 1
    return mdp, im.state_action_occupancy(mdp, policy, initial)


def bandit(actions=2):
    """One state without a future: every law over the actions is an occupancy."""
    transition = torch.ones(1, actions, 1, dtype=F64)
    return pmd.TabularMDP(transition, torch.zeros(1, actions, dtype=F64), 0.0)


def plain_kl(p, q):
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).flatten(-2).sum(-1)


class Line(Environment):
    """A point on a line that the action moves; five steps an episode, reward minus the distance."""

    observed, actions, discrete, terminates = 1, 1, False, False

    def start(self, seeds, copies, generator):
        world = _LineWorld(seeds, copies, generator, torch.float32)
        world.fatal = self.terminates
        return world


class Deadly(Line):
    terminates = True


class _LineWorld(TensorWorld):
    limit, width = 5, 1

    def _first(self):
        return self._uniform()

    def _move(self, state, action):
        after = state + 0.3 * action
        lost = (after[..., 0] > 0.5) & self.fatal
        return after, -after[..., 0].abs(), lost

    def _observe(self, state):
        return state


def homeward(observation):
    return (-observation / 0.3).clamp(-1, 1)
