"""Values of policies, their occupancies, and the Bellman operators."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_number, require_simplex, values_known
from mdtheory.convex.mirror_maps import Entropy, MirrorMap, Simplex
from mdtheory.rl.policy_mirror_descent import exact, sparse
from mdtheory.rl.policy_mirror_descent.mdp import F64, TabularMDP, require_mdp

# What values are regularised by where nothing else is said.
ENTROPY = Entropy()


def require_simplex_map(mirror_map: object) -> MirrorMap:
    """The map itself.

    Raises:
        TypeError: no mirror map.
        ValueError: its domain is not the simplex.
    """
    if not isinstance(mirror_map, MirrorMap):
        raise TypeError(f"mirror_map: expected a MirrorMap, got {mirror_map!r}")
    if not isinstance(mirror_map.domain, Simplex):
        raise ValueError(f"mirror_map: expected a map on the simplex, got {mirror_map!r}")
    return mirror_map


def evaluate(
    mdp: TabularMDP,
    policy: Tensor,
    temperature: float = 0.0,
    mirror_map: MirrorMap = ENTROPY,
) -> tuple[Tensor, Tensor]:
    r"""Exact values of a policy, by a linear system in float64.

    Equations ``eq-exact-evaluation`` and ``eq-regularised-values``. A sparse process is solved by
    an iteration that stops only when the residual proves the value right, see ``sparse``; where
    the discount is almost 1 the solution is refined by exact residuals, see ``exact``.

    Args:
        mdp: the processes.
        policy: probabilities, shape ``(..., S, A)``; leading axes broadcast with the batch.
        temperature: weight :math:`\tau \ge 0` of the regulariser.
        mirror_map: its divergence from the uniform policy is the regulariser; a map on the
            simplex, the entropy by default.

    Returns:
        The value ``(..., S)`` and the action value ``(..., S, A)``, in the dtype of the rewards.
        The action value holds no regulariser of its own step; it is :math:`-\infty` where an
        action is not feasible.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: ``policy`` is none, ``temperature`` is negative, or the map is not on the
            simplex.
        ArithmeticError: the value of a sparse process, or of a discount too close to 1, could
            not be certified.
    """
    require_mdp(mdp)
    mdp.check_policy("policy", policy)
    weight = require_number("temperature", temperature, 0.0)
    mirror_map = require_simplex_map(mirror_map)
    found = evaluate_unchecked(mdp._double(), policy.to(F64), weight, mirror_map)
    return found.value.to(policy.dtype), found.action_value.to(policy.dtype)


def occupancy(mdp: TabularMDP, policy: Tensor, initial: Tensor) -> Tensor:
    r"""Discounted share of time that a policy spends in each state.

    Equation ``eq-occupancy``:
    :math:`d = (1-\gamma)\,(I - \gamma P_\pi^\top)^{-1}\rho`, which sums to 1.

    Args:
        mdp: the processes.
        policy: probabilities, shape ``(..., S, A)``.
        initial: law of the first state :math:`\rho`, shape ``(..., S)``.

    Returns:
        Probabilities, shape ``(..., S)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: ``policy`` or ``initial`` is no probability, or has a wrong shape.
        ArithmeticError: the result for a sparse process could not be certified.
    """
    require_mdp(mdp)
    mdp.check_policy("policy", policy)
    require_simplex("initial", mdp.check_value("initial", initial))
    double, start = mdp._double(), (1 - mdp.discount) * initial.to(F64)
    follow = double._follow(policy.to(F64))
    if 1 - mdp.discount < exact.FAR and values_known(start, policy):
        share = exact.solve_transposed(follow.detach(), start.detach(), mdp.discount)
        if not (follow.requires_grad or start.requires_grad):
            return share.to(policy.dtype)
        plain = plain_solution(follow, start, mdp.discount, transposed=True)
        share = plain + (share - plain).detach()
    else:
        share = plain_solution(follow, start, mdp.discount, transposed=True)
    return share.to(policy.dtype)


def bellman(
    mdp: TabularMDP,
    value: Tensor,
    policy: Tensor | None = None,
    temperature: float = 0.0,
    mirror_map: MirrorMap = ENTROPY,
) -> Tensor:
    r"""One application of a Bellman operator.

    Equations ``eq-bellman-policy`` and ``eq-bellman-optimal``.

    Args:
        mdp: the processes.
        value: :math:`v`, shape ``(..., S)``.
        policy: probabilities, shape ``(..., S, A)``, for the operator of this policy; without
            one it is the optimal operator.
        temperature: weight :math:`\tau \ge 0` of the regulariser.
        mirror_map: as in :func:`evaluate`.

    Returns:
        :math:`T v`, shape ``(..., S)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a wrong shape, a policy that is none, or a negative temperature.
    """
    require_mdp(mdp)
    weight = require_number("temperature", temperature, 0.0)
    mirror_map = require_simplex_map(mirror_map)
    ahead = mdp.look_ahead(value)
    if policy is not None:
        mdp.check_policy("policy", policy)
        mean = (policy * _paid_only(mdp, ahead)).sum(-1)
        return mean - penalty(mdp, policy, weight, mirror_map) if weight else mean
    if weight == 0:
        return ahead.amax(-1)
    if mdp._mask is not None:
        best = _soft_greedy(mdp, ahead, weight, mirror_map)
        mean = (best * _paid_only(mdp, ahead)).sum(-1)
        return mean - penalty(mdp, best, weight, mirror_map)
    magnet = mirror_map._step_dual(ahead.new_full((mdp.actions,), 1 / mdp.actions))
    return weight * (mirror_map._conjugate(ahead / weight + magnet) - mirror_map._conjugate(magnet))


def greedy(
    mdp: TabularMDP,
    value: Tensor,
    temperature: float = 0.0,
    mirror_map: MirrorMap = ENTROPY,
) -> Tensor:
    r"""The policy that attains the maximum in the optimal Bellman operator.

    Equation ``eq-greedy``. Among equally good actions it takes the first, where the temperature
    is 0.

    Args:
        mdp: the processes.
        value: :math:`v`, shape ``(..., S)``.
        temperature: weight :math:`\tau \ge 0` of the regulariser.
        mirror_map: as in :func:`evaluate`.

    Returns:
        Probabilities, shape ``(..., S, A)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a wrong shape or a negative temperature.
    """
    require_mdp(mdp)
    weight = require_number("temperature", temperature, 0.0)
    mirror_map = require_simplex_map(mirror_map)
    ahead = mdp.look_ahead(value)
    if weight == 0:
        return Simplex()._minimize_linear(-ahead)
    return mirror_map.check_result("value", _soft_greedy(mdp, ahead, weight, mirror_map))


class Evaluation(NamedTuple):
    r"""A policy's ``value`` and ``action_value``, and the ``gradient`` of a step, :math:`V - Q`.

    The gradient has more digits than the difference, and is 0 where an action is not feasible.
    """

    value: Tensor
    action_value: Tensor
    gradient: Tensor


def evaluate_unchecked(
    mdp: TabularMDP, policy: Tensor, temperature: float, mirror_map: MirrorMap
) -> Evaluation:
    """:func:`evaluate` for inner loops, on arguments in float64 that were checked before.

    The arguments are those of :func:`evaluate`.

    Returns:
        Value, action value and gradient.
    """
    price = penalty(mdp, policy, temperature, mirror_map) if temperature else None
    if is_delicate(mdp) and values_known(policy) and (price is None or is_finite(price)):
        return _delicate_evaluation(mdp, policy, price)
    return _plain_evaluation(mdp, policy, price)


def _plain_evaluation(mdp: TabularMDP, policy: Tensor, price: Tensor | None) -> Evaluation:
    # A product with ones is the quicker sum along a short axis.
    reward = (policy * mdp._paid) @ policy.new_ones(mdp.actions)
    if price is not None:
        reward = reward - price
    value = plain_solution(mdp._follow(policy), reward, mdp.discount)
    ahead = mdp._look_ahead(value)
    return Evaluation(value, ahead, _paid_only(mdp, value[..., None] - ahead))


def _delicate_evaluation(mdp: TabularMDP, policy: Tensor, price: Tensor | None) -> Evaluation:
    """Values in which differences of actions keep their digits, see ``exact``."""
    units = exact.units(mdp._paid.detach(), mdp._mask)
    chances = policy.detach()
    earned = (chances * units.numbers.high).sum(-1)
    if price is not None:
        earned = earned - units.shrink(price.detach())
    follow = mdp._follow(chances).detach()
    v, error = exact.solve(follow, exact.pair(earned), mdp.discount)
    exact.require_accuracy("evaluate", error, units.size(v, mdp.discount))
    value = units.restore(v, mdp.discount)
    gain = exact.action_residual(mdp.transition.detach(), units.numbers, v, mdp.discount)
    gradient = -_paid_only(mdp, units.enlarge(gain.high))
    if policy.requires_grad or mdp._paid.requires_grad or mdp.transition.requires_grad:
        # The same numbers, with the history of the plain solution.
        plain = _plain_evaluation(mdp, policy, price)
        value = plain.value + (value - plain.value).detach()
        gradient = plain.gradient + (gradient - plain.gradient).detach()
    return Evaluation(value, mdp._look_ahead(value), gradient)


def penalty(mdp: TabularMDP, policy: Tensor, temperature: float, mirror_map: MirrorMap) -> Tensor:
    r"""The regulariser :math:`\tau\, D_\psi(\pi(\cdot \mid s), u)` in each state.

    Args:
        mdp: the processes, whose feasible actions :math:`u` is uniform on.
        policy: probabilities, shape ``(..., S, A)``.
        temperature: :math:`\tau`.
        mirror_map: a map on the simplex.

    Returns:
        Shape ``(..., S)``.
    """
    if mdp._mask is None:
        uniform = policy.new_full(policy.shape[-1:], 1 / policy.shape[-1])
        return temperature * mirror_map._divergence(policy, uniform)
    # Entries that agree add nothing to a divergence, and 1 has a dual under every map.
    uniform = mdp._mask.to(policy)
    uniform = uniform / uniform.sum(-1, keepdim=True)
    policy, uniform = (torch.where(mdp._mask, law, 1.0) for law in (policy, uniform))
    return temperature * mirror_map._divergence(policy, uniform)


def magnet_dual(mdp: TabularMDP, mirror_map: MirrorMap) -> Tensor:
    r"""A dual of the uniform policy, :math:`-\infty` where an action is not feasible.

    Args:
        mdp: processes in float64 or float32.
        mirror_map: a map on the simplex.

    Returns:
        Shape ``(A,)``, or ``(..., S, A)`` where some action is not feasible.
    """
    if mdp._mask is None:
        return mirror_map._step_dual(mdp.reward.new_full((mdp.actions,), 1 / mdp.actions))
    mask = mdp._mask.to(mdp.reward)
    uniform = torch.where(mdp._mask, mask / mask.sum(-1, keepdim=True), 1.0)
    return torch.where(mdp._mask, mirror_map._step_dual(uniform), -torch.inf)


def _soft_greedy(
    mdp: TabularMDP, ahead: Tensor, temperature: float, mirror_map: MirrorMap
) -> Tensor:
    return mirror_map._to_primal(ahead / temperature + magnet_dual(mdp, mirror_map))


def _paid_only(mdp: TabularMDP, ahead: Tensor) -> Tensor:
    """Action values with 0 in place of what is not feasible."""
    return ahead if mdp._mask is None else torch.where(mdp._mask, ahead, 0.0)


def is_delicate(mdp: TabularMDP) -> bool:
    """Whether plain values would lose more than three digits of the differences of actions.

    Args:
        mdp: the processes.

    Returns:
        True where the discount is almost 1, or all rewards have much in common.
    """
    if 1 - mdp.discount < exact.FAR:
        return True
    if not values_known(mdp._paid):
        return False
    if mdp._common is None:
        mdp._common = exact.have_much_in_common(mdp._paid.detach(), mdp._mask)
    return mdp._common


def is_finite(tensor: Tensor) -> bool:
    """Whether all entries are finite.

    Args:
        tensor: any shape.

    Returns:
        The truth value.
    """
    return bool(tensor.isfinite().all())


def plain_solution(
    follow: Tensor, right: Tensor, discount: float, *, transposed: bool = False
) -> Tensor:
    """One solution of a linear system, not refined; differentiable.

    Args:
        follow: rows of probabilities ``(..., S, S)``, or CSR.
        right: right side, shape ``(..., S)``.
        discount: below 1.
        transposed: whether the transposed matrix is meant.

    Returns:
        Shape ``(..., S)``.

    Raises:
        ArithmeticError: the solution of a sparse system cannot be certified.
    """
    if follow.layout != torch.strided:
        return sparse.discounted_sum(follow, right, discount, transposed=transposed)
    return _solve(follow.mT if transposed else follow, right, discount)


def _solve(matrix: Tensor, right: Tensor, discount: float) -> Tensor:
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    system = torch.add(eye, matrix, alpha=-discount)
    return torch.linalg.solve(system, right[..., None])[..., 0]
