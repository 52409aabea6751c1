"""Optimal policies by dynamic programming and by a linear programme: the references."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_extra, require_number, values_known
from mdtheory.rl.policy_mirror_descent import sparse
from mdtheory.rl.policy_mirror_descent.mdp import F64, TabularMDP, _solve, require_mdp


class Solution(NamedTuple):
    """An optimal ``policy`` ``(..., S, A)``, its ``value`` ``(..., S)``, the ``iterations``."""

    policy: Tensor
    value: Tensor
    iterations: int


def policy_iteration(mdp: TabularMDP, iterations: int = 1000) -> Solution:
    r"""Howard's policy iteration: evaluate exactly, be greedy, until nothing changes.

    Theorem ``thm-policy-iteration`` at temperature 0: the limit :math:`\eta \to \infty` of policy
    mirror descent. An action is given up only for one that is better by more than rounding, so
    that ties do not go round for ever. All processes of the batch stop together.

    Args:
        mdp: the processes.
        iterations: at most this many.

    Returns:
        A deterministic optimal policy, its exact value, and how many evaluations it took.

    Raises:
        TypeError: ``mdp`` is no ``TabularMDP``.
        ArithmeticError: not finished after ``iterations``.

    Source:
        Howard (1960).
    """
    require_mdp(mdp)
    require_count("iterations", iterations)
    double = mdp._double()
    actions = double.reward.argmax(-1).expand((*mdp.batch_shape, mdp.states))
    for done in range(1, iterations + 1):
        value = _value_of(double, actions)
        ahead = double._look_ahead(value)
        best = ahead.max(-1)
        current = ahead.gather(-1, actions[..., None])[..., 0]
        slack = 64 * torch.finfo(F64).eps * (1 + current.abs()) / (1 - mdp.discount)
        better = best.values > current + slack
        if _settled(~better, done):
            policy = _deterministic(actions, mdp)
            return Solution(policy, value.to(mdp.reward.dtype), done)
        actions = torch.where(better, best.indices, actions)
    raise ArithmeticError(f"policy_iteration: not finished after {iterations} iterations")


def modified_policy_iteration(
    mdp: TabularMDP, tolerance: float = 1e-10, *, sweeps: int = 20, iterations: int = 100_000
) -> Solution:
    r"""Be greedy, then follow that policy for some sweeps instead of evaluating it exactly.

    The optimal value lies between :math:`T v + \frac{\gamma}{1-\gamma}\min_s (T v - v)(s)` and the
    same with the maximum (MacQueen, 1966); the iteration ends when the two are close.

    Args:
        mdp: the processes.
        tolerance: largest error of the value that is allowed, in the units of the rewards.
        sweeps: applications of the policy's operator after each greedy step.
        iterations: at most this many greedy steps.

    Returns:
        The last greedy policy, a value within ``tolerance`` of the optimal one, the greedy steps.

    Raises:
        TypeError: ``mdp`` is no ``TabularMDP``.
        ValueError: a tolerance that is not above 0.
        ArithmeticError: not finished after ``iterations``.

    Source:
        Puterman and Shin (1978).
    """
    require_mdp(mdp)
    require_number("tolerance", tolerance, 0.0, strict=True)
    require_count("sweeps", sweeps, 0)
    double, reach = mdp._double(), mdp.discount / (1 - mdp.discount)
    value = double.reward.amax(-1).expand((*mdp.batch_shape, mdp.states))
    for done in range(1, require_count("iterations", iterations) + 1):
        ahead = double._look_ahead(value)
        following = ahead.amax(-1)
        change = following - value
        low, high = change.amin(-1, keepdim=True), change.amax(-1, keepdim=True)
        close = reach * (high - low) / 2 <= tolerance
        if _settled(close, done):
            middle = following + reach * (low + high) / 2
            policy = _deterministic(ahead.argmax(-1), mdp)
            return Solution(policy, middle.to(mdp.reward.dtype), done)
        value = following
        if sweeps:
            actions = ahead.argmax(-1)
            reward = double.reward.expand(ahead.shape).gather(-1, actions[..., None])[..., 0]
            follow = _follow_actions(double, actions)
            for _ in range(sweeps):
                moved = follow @ value if mdp.is_sparse else (follow @ value[..., None])[..., 0]
                value = reward + mdp.discount * moved
    raise ArithmeticError(f"modified_policy_iteration: not finished after {iterations} iterations")


def value_iteration(
    mdp: TabularMDP, tolerance: float = 1e-10, *, iterations: int = 1_000_000
) -> Solution:
    r"""Apply the optimal Bellman operator until the value is certain.

    :func:`modified_policy_iteration` without sweeps, with the same certificate.

    Args:
        mdp: the processes.
        tolerance: largest error of the value that is allowed, in the units of the rewards.
        iterations: at most this many.

    Returns:
        As :func:`modified_policy_iteration`.

    Raises:
        TypeError: ``mdp`` is no ``TabularMDP``.
        ValueError: a tolerance that is not above 0.
        ArithmeticError: not finished after ``iterations``.

    Source:
        Bellman (1957).
    """
    return modified_policy_iteration(mdp, tolerance, sweeps=0, iterations=iterations)


def linear_program(mdp: TabularMDP) -> tuple[Tensor, Tensor]:
    r"""The optimal value by a linear programme, solved by cvxpy: a reference for small processes.

    Minimises the mean of :math:`v` under :math:`v(s) \ge r(s, a) + \gamma (P v)(s, a)`. The
    multipliers of the constraints are the shares of time of an optimal policy that starts anywhere.

    Args:
        mdp: one process.

    Returns:
        The optimal value ``(S,)``, and shares of time in each state and action ``(S, A)``, which
        sum to 1.

    Raises:
        TypeError: ``mdp`` is no ``TabularMDP``.
        ValueError: it is a batch.
        ImportError: cvxpy is not installed.
        ArithmeticError: the solver failed.

    Source:
        d'Epenoux (1963).
    """
    require_mdp(mdp)
    if mdp.batch_shape:
        raise ValueError(f"mdp: expected one process, got a batch {tuple(mdp.batch_shape)}")
    cvxpy = require_extra("cvxpy", "notebooks")
    dense = mdp.transition.to_dense() if mdp.is_sparse else mdp.transition.flatten(0, 1)
    matrix = dense.to("cpu", F64).numpy()
    reward = mdp.reward.to("cpu", F64).numpy().reshape(-1)
    value = cvxpy.Variable(mdp.states)
    here = torch.eye(mdp.states, dtype=F64).repeat_interleave(mdp.actions, 0).numpy()
    constraint = (here - mdp.discount * matrix) @ value >= reward
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(value) / mdp.states), [constraint])
    problem.solve(solver=cvxpy.SCIPY, scipy_options={"method": "highs-ds"})
    if problem.status != "optimal":
        raise ArithmeticError(f"linear_program: the solver says {problem.status}")
    shares = (1 - mdp.discount) * torch.as_tensor(constraint.dual_value, dtype=F64)
    best = torch.as_tensor(value.value, dtype=F64)
    return best.to(mdp.reward), shares.reshape(mdp.states, mdp.actions).to(mdp.reward)


def bellman_error(mdp: TabularMDP, value: Tensor) -> Tensor:
    r"""A proven bound on the distance of ``value`` from the optimal value.

    Equation ``eq-bellman-certificate``: :math:`\|T v - v\|_\infty / (1 - \gamma)`.

    Args:
        mdp: the processes.
        value: shape ``(..., S)``.

    Returns:
        Shape ``(...)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a wrong shape or a NaN.
    """
    require_mdp(mdp)
    gap = mdp.look_ahead(value).amax(-1) - value
    return gap.abs().amax(-1) / (1 - mdp.discount)


def _deterministic(actions: Tensor, mdp: TabularMDP) -> Tensor:
    zeros = mdp.reward.new_zeros((*actions.shape, mdp.actions))
    return zeros.scatter_(-1, actions[..., None], 1.0)


def _follow_actions(mdp: TabularMDP, actions: Tensor) -> Tensor:
    if mdp.is_sparse:
        return sparse.follow(mdp.transition, _deterministic(actions, mdp))
    shape = (*mdp.batch_shape, mdp.states, mdp.actions, mdp.states)
    rows = mdp.transition.expand(shape)
    return torch.take_along_dim(rows, actions[..., None, None], -2)[..., 0, :]


def _value_of(mdp: TabularMDP, actions: Tensor) -> Tensor:
    reward = mdp.reward.expand((*actions.shape, mdp.actions)).gather(-1, actions[..., None])[..., 0]
    follow = _follow_actions(mdp, actions)
    if mdp.is_sparse:
        return sparse.discounted_sum(follow, reward, mdp.discount)
    return _solve(follow, reward, mdp.discount)


def _settled(flags: Tensor, done: int) -> bool:
    """Whether all flags are set; where values cannot be read, after two iterations."""
    return bool(flags.all()) if values_known(flags) else done == 2
