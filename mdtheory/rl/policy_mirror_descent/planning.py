"""Optimal policies by dynamic programming and by a linear programme: the references."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_extra, require_number, values_known
from mdtheory.rl.policy_mirror_descent import exact, sparse
from mdtheory.rl.policy_mirror_descent.mdp import F64, TabularMDP, require_mdp
from mdtheory.rl.policy_mirror_descent.sparse import times_power
from mdtheory.rl.policy_mirror_descent.values import plain_solution

# How often a linear programme is asked about what its last answer left.
REFINEMENTS = 10


class Solution(NamedTuple):
    """An optimal ``policy`` ``(..., S, A)``, its ``value`` ``(..., S)``, the ``iterations``."""

    policy: Tensor
    value: Tensor
    iterations: int


def policy_iteration(mdp: TabularMDP, iterations: int = 1000) -> Solution:
    r"""Howard's policy iteration: evaluate exactly, be greedy, until nothing is better.

    Theorem ``thm-policy-iteration`` at temperature 0: the limit :math:`\eta \to \infty` of policy
    mirror descent, from the policy that is greedy for the rewards. An action is given up only for
    one that is certainly better, so that ties do not go round for ever. Rewards are scaled first,
    and where rounding hides which action is better, the values are found to 30 digits. It ends
    with the certificate ``eq-bellman-certificate``: the policy's value is the optimal one up to
    rounding. All processes of the batch stop together.

    Args:
        mdp: the processes.
        iterations: at most this many.

    Returns:
        A deterministic optimal policy, its exact value, and how many evaluations it took.

    Raises:
        TypeError: ``mdp`` is no ``TabularMDP``.
        ArithmeticError: not finished after ``iterations``, the value overflows, or the discount is
            so close to 1 that the policy cannot be certified; the message names the accuracy.

    Source:
        Howard (1960).
    """
    require_mdp(mdp)
    require_count("iterations", iterations)
    double = mdp._double()
    units = exact.units(double._paid.detach(), mdp._mask)
    reward = _masked(units.numbers.high, mdp).expand((*mdp.batch_shape, mdp.states, mdp.actions))
    actions = reward.argmax(-1)
    for done in range(1, iterations + 1):
        better, choice, scaled = _improvements(double, units, reward, actions)
        if _settled(~better, done):
            value = _value_of(double, units, actions, scaled)
            return Solution(_deterministic(actions, mdp), value.to(mdp.reward.dtype), done)
        actions = torch.where(better, choice, actions)
    raise ArithmeticError(f"policy_iteration: not finished after {iterations} iterations")


def _improvements(
    mdp: TabularMDP, units: exact.Units, reward: Tensor, actions: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Where another action is certainly better, which one, and the plain value in scaled units."""
    horizon = 1 / (1 - mdp.discount)
    if values_known(reward) and horizon * exact.FAR > 1:
        return *_fine_improvements(mdp, units, actions), None
    value = _plain_value(mdp, reward.detach(), actions)
    ahead = _ahead(mdp, reward, value)
    best = ahead.max(-1)
    current = ahead.gather(-1, actions[..., None])[..., 0]
    slack = 64 * exact.EPS * (1 + value.abs()) * horizon
    better = best.values > current + slack
    if not values_known(reward) or bool(better.any()):
        return better, best.indices, value
    # Nothing is certainly better; is everything else certainly worse?
    others = ahead.scatter(-1, actions[..., None], -torch.inf).amax(-1)
    unclear = (others >= current - slack).any(-1)
    if not bool(unclear.any()):
        return better, best.indices, value
    if not mdp.batch_shape:
        return *_fine_improvements(mdp, units, actions), value
    # Only the processes in which rounding decides.
    better[unclear], best.indices[unclear] = _fine_improvements(
        *_some(mdp, units, actions, unclear)
    )
    return better, best.indices, value


def _fine_improvements(
    mdp: TabularMDP, units: exact.Units, actions: Tensor
) -> tuple[Tensor, Tensor]:
    """The same with 30 digits; certifies what it calls optimal."""
    shape = (*actions.shape, mdp.actions)
    reward = exact.Pair(*(part.expand(shape) for part in units.numbers))
    chosen = exact.Pair(*(part.gather(-1, actions[..., None])[..., 0] for part in reward))
    v, _ = exact.solve(_follow_actions(mdp, actions).detach(), chosen, mdp.discount)
    advantage = _masked(
        exact.action_residual(mdp.transition.detach(), reward, v, mdp.discount).high, mdp
    )
    own = advantage.gather(-1, actions[..., None])[..., 0]
    best = advantage.scatter(-1, actions[..., None], -torch.inf).max(-1)
    scale = v.high.abs().amax(-1)
    # What is left of the policy's own advantage, which would be 0, and of rounding.
    noise = 8 * (own.abs().amax(-1) + exact.ROUNDING * scale)
    better = best.values > noise[..., None]
    if not bool(better.any()):
        lost = torch.maximum(best.values.amax(-1), own.amax(-1)).clamp(min=0) - own.amin(-1)
        lost = (lost + exact.ROUNDING * scale) / (1 - mdp.discount)
        exact.require_accuracy("policy_iteration", lost, units.size(v, mdp.discount))
    return better, best.indices


def modified_policy_iteration(
    mdp: TabularMDP,
    tolerance: float | None = None,
    *,
    sweeps: int = 20,
    iterations: int = 100_000,
) -> Solution:
    r"""Be greedy, then follow that policy for some sweeps instead of evaluating it exactly.

    The optimal value lies between :math:`T v + \frac{\gamma}{1-\gamma}\min_s (T v - v)(s)` and the
    same with the maximum (MacQueen, 1966); the iteration ends when the two are close. As a
    constant that is added to :math:`v` changes neither the policies nor the distance of the two,
    the largest value is taken away after every greedy step, so that digits are not lost to it.

    Args:
        mdp: the processes.
        tolerance: largest error of the value that is allowed, in the units of the rewards; by
            default :math:`10^{-10}` times the largest difference of two rewards.
        sweeps: applications of the policy's operator after each greedy step.
        iterations: at most this many greedy steps.

    Returns:
        The last greedy policy, a value within ``tolerance`` of the optimal one, the greedy steps.

    Raises:
        TypeError: ``mdp`` is no ``TabularMDP``.
        ValueError: a tolerance that is not above 0.
        ArithmeticError: not finished after ``iterations``, or rounding does not allow the
            tolerance; the message names what it allows.

    Source:
        Puterman and Shin (1978).
    """
    require_mdp(mdp)
    if tolerance is not None:
        require_number("tolerance", tolerance, 0.0, strict=True)
    require_count("sweeps", sweeps, 0)
    double, reach = mdp._double(), mdp.discount / (1 - mdp.discount)
    units = exact.units(double._paid.detach(), mdp._mask)
    goal = units.numbers.high.amax((-2, -1)) * 1e-10
    if tolerance is not None:
        goal = units.shrink(goal.new_full((1,), tolerance))[..., 0]
    goal = goal[..., None]
    paid = units.numbers.high.expand((*mdp.batch_shape, mdp.states, mdp.actions))
    reward = _masked(paid, mdp)
    value = reward.amax(-1)
    for done in range(1, require_count("iterations", iterations) + 1):
        ahead = _ahead(double, reward, value)
        following = ahead.amax(-1)
        change = following - value
        low, high = change.amin(-1, keepdim=True), change.amax(-1, keepdim=True)
        off = reach * (high - low) / 2
        if _settled(off <= goal, done):
            middle = exact.pair(following).plus(exact.pair(reach * (low + high) / 2))
            policy = _deterministic(ahead.argmax(-1), mdp)
            whole = units.restore(middle, mdp.discount)
            return Solution(policy, whole.to(mdp.reward.dtype), done)
        if values_known(off):
            noise = 4 * exact.EPS * reach * (1 + value.abs().amax(-1, keepdim=True))
            stuck = (off > goal) & (off <= noise)
            if bool(stuck.any()):
                raise ArithmeticError(
                    "modified_policy_iteration: expected a tolerance that rounding allows, "
                    f"{units.enlarge(noise[..., None]).max().item():.1e} at least"
                )
        value = following - following.amax(-1, keepdim=True)
        if sweeps:
            actions = ahead.argmax(-1)
            gain = paid.gather(-1, actions[..., None])[..., 0]
            follow = _follow_actions(double, actions)
            for _ in range(sweeps):
                moved = (
                    sparse.product(follow, value)
                    if mdp.is_sparse
                    else (follow @ value[..., None])[..., 0]
                )
                value = gain + mdp.discount * moved
    raise ArithmeticError(f"modified_policy_iteration: not finished after {iterations} iterations")


def value_iteration(
    mdp: TabularMDP, tolerance: float | None = None, *, iterations: int = 1_000_000
) -> Solution:
    r"""Apply the optimal Bellman operator until the value is certain.

    :func:`modified_policy_iteration` without sweeps, with the same certificate.

    Args:
        mdp: the processes.
        tolerance: as in :func:`modified_policy_iteration`.
        iterations: at most this many.

    Returns:
        As :func:`modified_policy_iteration`.

    Raises:
        TypeError: ``mdp`` is no ``TabularMDP``.
        ValueError: a tolerance that is not above 0.
        ArithmeticError: as in :func:`modified_policy_iteration`.

    Source:
        Bellman (1957).
    """
    return modified_policy_iteration(mdp, tolerance, sweeps=0, iterations=iterations)


def linear_program(mdp: TabularMDP) -> tuple[Tensor, Tensor]:
    r"""The optimal value by a linear programme, solved by cvxpy: a reference for small processes.

    Minimises the mean of :math:`v` under :math:`v(s) \ge r(s, a) + \gamma (P v)(s, a)`. The
    multipliers of the constraints are the shares of time of an optimal policy that starts anywhere.
    Rewards are scaled to [0, 1] before the solver sees them. From its answer the constraints that
    hold with equality are taken; they are solved to 30 digits for the value and the shares, and the
    gap is what the other constraints are then violated by, over :math:`1-\gamma`. Where there is
    one, the solver is asked again about what is left, magnified.

    Args:
        mdp: one process.

    Returns:
        The optimal value ``(S,)``, and shares of time in each state and action ``(S, A)``, which
        sum to 1.

    Raises:
        TypeError: ``mdp`` is no ``TabularMDP``.
        ValueError: it is a batch.
        ImportError: cvxpy is not installed.
        ArithmeticError: the solver failed, or its answer has a gap; the message names it.

    Source:
        d'Epenoux (1963); Gleixner, Steffy and Wolter (2016) for the refinement.
    """
    require_mdp(mdp)
    if mdp.batch_shape:
        raise ValueError(f"mdp: expected one process, got a batch {tuple(mdp.batch_shape)}")
    double = mdp._double()
    units = exact.units(double._paid.detach(), mdp._mask)
    asked = units.numbers.high
    unit = 1 - mdp.discount
    for _ in range(REFINEMENTS):
        actions = _basis(double, asked, unit)
        value, gap, advantage = _certificate(double, units, actions)
        if bool(gap <= 16 * exact.EPS * units.size(value, mdp.discount)):
            break
        # A value that is too low by little: the same programme for what is missing.
        asked, unit = advantage / advantage.amax(), 1.0
    else:
        lost = units.enlarge(gap.reshape(1, 1, 1)).item()
        raise ArithmeticError(f"linear_program: expected a gap of rounding, got {lost:.3e}")
    uniform = value.high.new_full((mdp.states,), (1 - mdp.discount) / mdp.states)
    share = exact.solve_transposed(_follow_actions(double, actions), uniform, mdp.discount)
    shares = _deterministic(actions, double) * share[:, None]
    best = units.restore(value, mdp.discount)
    return best.to(mdp.reward), shares.to(mdp.reward)


def _basis(mdp: TabularMDP, reward: Tensor, unit: float) -> Tensor:
    """The action of each state whose constraint is tight, by one solution of the programme."""
    cvxpy = require_extra("cvxpy", "notebooks")
    dense = mdp.transition.to_dense() if mdp.is_sparse else mdp.transition.flatten(0, 1)
    horizon = 1 / (1 - mdp.discount)
    kept = (reward > -horizon).flatten()
    if mdp._mask is not None:
        kept = kept & mdp._mask.flatten()
    eye = torch.eye(mdp.states, dtype=F64, device=dense.device)
    here = eye.repeat_interleave(mdp.actions, 0)
    matrix = (here - mdp.discount * dense)[kept].detach()
    # Rows of one size: a state that only leads to itself has an entry of 1 - discount.
    size = matrix.abs().amax(-1)
    left = (matrix / size[:, None]).cpu().numpy()
    right = (unit * reward.flatten()[kept] / size).cpu().numpy()
    value = cvxpy.Variable(mdp.states)
    constraint = left @ value >= right
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(value) / mdp.states), [constraint])
    problem.solve(solver=cvxpy.SCIPY, scipy_options={"method": "highs-ds"})
    if problem.status != "optimal":
        raise ArithmeticError(f"linear_program: the solver says {problem.status}")
    weight = torch.as_tensor(constraint.dual_value, dtype=F64, device=dense.device)
    shares = torch.full_like(kept, -1, dtype=F64).masked_scatter(kept, weight / size)
    return shares.reshape(mdp.states, mdp.actions).argmax(-1)


def _certificate(
    mdp: TabularMDP, units: exact.Units, actions: Tensor
) -> tuple[exact.Pair, Tensor, Tensor]:
    """Value of a policy in scaled units, the gap of its certificate, and the advantages."""
    numbers = units.numbers
    chosen = exact.Pair(*(part.gather(-1, actions[..., None])[..., 0] for part in numbers))
    v, _ = exact.solve(_follow_actions(mdp, actions).detach(), chosen, mdp.discount)
    found = exact.action_residual(mdp.transition.detach(), numbers, v, mdp.discount)
    advantage = _masked(found.high, mdp)
    own = advantage.gather(-1, actions[..., None])
    scale = exact.ROUNDING * v.high.abs().amax()
    gap = (advantage.amax() - own.amin() + scale) / (1 - mdp.discount)
    return v, gap, advantage


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
    mdp.check_value("value", value)
    double = mdp._double()
    if not values_known(value, mdp._paid):
        gap = double._look_ahead(value.to(F64)).amax(-1) - value
        return (gap.abs().amax(-1) / (1 - mdp.discount)).to(value.dtype)
    v = value.detach().to(F64)
    shape = (*torch.broadcast_shapes(v.shape[:-1], mdp.batch_shape), mdp.states, mdp.actions)
    # A power of two, so that nothing overflows.
    size = torch.maximum(v.abs().amax(), double._paid.abs().amax())
    size = torch.frexp(size).exponent
    reward = exact.pair(times_power(double._paid.detach(), -size).expand(shape))
    scaled = exact.pair(times_power(v, -size).expand(shape[:-1]))
    gain = exact.action_residual(double.transition.detach(), reward, scaled, mdp.discount).high
    most = _masked(gain, mdp).amax(-1).abs().amax(-1)
    bound = times_power((most + exact.ROUNDING) * (1 + 4 * exact.EPS) / (1 - mdp.discount), size)
    shorter = bound.to(value.dtype)
    return torch.where(shorter < bound, shorter.nextafter(shorter + torch.inf), shorter)


def _masked(gain: Tensor, mdp: TabularMDP) -> Tensor:
    """Minus infinity where an action is not feasible."""
    return gain if mdp._mask is None else torch.where(mdp._mask, gain, -torch.inf)


def _ahead(mdp: TabularMDP, reward: Tensor, value: Tensor) -> Tensor:
    """Action values for rewards that need not be the process's own."""
    if mdp.is_sparse:
        return reward + mdp.discount * sparse.product(mdp.transition, value).reshape(reward.shape)
    rows = mdp.transition.flatten(-3, -2)
    ahead = (rows @ value[..., None])[..., 0].unflatten(-1, reward.shape[-2:])
    return torch.add(reward, ahead, alpha=mdp.discount)


def _deterministic(actions: Tensor, mdp: TabularMDP) -> Tensor:
    zeros = mdp.reward.new_zeros((*actions.shape, mdp.actions))
    return zeros.scatter_(-1, actions[..., None], 1.0)


def _follow_actions(mdp: TabularMDP, actions: Tensor) -> Tensor:
    if mdp.is_sparse:
        return sparse.follow(mdp.transition, _deterministic(actions, mdp))
    rows = mdp.transition.expand(*actions.shape, mdp.actions, mdp.states)
    chosen = actions[..., None, None].expand(*actions.shape, 1, mdp.states)
    return rows.gather(-2, chosen)[..., 0, :]


def _plain_value(mdp: TabularMDP, reward: Tensor, actions: Tensor) -> Tensor:
    gain = reward.expand((*actions.shape, mdp.actions)).gather(-1, actions[..., None])[..., 0]
    return plain_solution(_follow_actions(mdp, actions), gain, mdp.discount)


def _value_of(
    mdp: TabularMDP, units: exact.Units, actions: Tensor, scaled: Tensor | None
) -> Tensor:
    """The value of a deterministic policy, in the units of the rewards; differentiable."""
    if scaled is not None:
        value = units.restore(exact.pair(scaled.detach()), mdp.discount)
    else:
        value = units.restore(_certificate(mdp, units, actions)[0], mdp.discount)
    if not (mdp._paid.requires_grad or mdp.transition.requires_grad):
        return value
    plain = _plain_value(mdp, mdp._paid, actions)
    return plain + (value - plain).detach()


def _some(
    mdp: TabularMDP, units: exact.Units, actions: Tensor, chosen: Tensor
) -> tuple[TabularMDP, exact.Units, Tensor]:
    """Some processes of a batch."""
    batch = mdp.batch_shape
    part = object.__new__(TabularMDP)
    part.discount, part._common = mdp.discount, None
    part.transition = mdp.transition.detach().expand((*batch, *mdp.transition.shape[-3:]))[chosen]
    part.reward = mdp.reward.detach().expand((*batch, *mdp.reward.shape[-2:]))[chosen]
    part._paid, part._mask = part.reward, None
    if mdp._mask is not None:
        part._mask = mdp._mask.expand((*batch, *mdp.reward.shape[-2:]))[chosen]
        part._paid = torch.where(part._mask, part.reward, 0.0)
    numbers = exact.Pair(*(n.expand((*batch, *n.shape[-2:]))[chosen] for n in units.numbers))
    scales = (u.expand((*batch, 1))[chosen] for u in units[1:])
    return part, exact.Units(numbers, *scales), actions[chosen]


def _settled(flags: Tensor, done: int) -> bool:
    """Whether all flags are set; where values cannot be read, after two iterations."""
    return bool(flags.all()) if values_known(flags) else done == 2
