"""Policy mirror descent: the one update of the book, once in every state."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number, require_values
from mdtheory.convex.mirror_maps import (
    Entropy,
    Euclidean,
    MirrorMap,
    Simplex,
    dual_step,
)
from mdtheory.rl.policy_mirror_descent.mdp import F64, TabularMDP, require_mdp
from mdtheory.rl.policy_mirror_descent.values import (
    ENTROPY,
    Evaluation,
    evaluate_unchecked,
    magnet_dual,
    require_simplex_map,
)

StepSize = float | Tensor | Sequence[float | Tensor]


class Iterate(NamedTuple):
    """What policy mirror descent knows in one iteration, all in float64.

    The ``policy`` ``(..., S, A)``, its ``dual`` ``(..., S, A)``, ``value`` ``(..., S)`` and
    ``action_value`` ``(..., S, A)``. The dual is right up to a constant in each state, and under a
    steep map stays exact where a probability is too small for its type.
    """

    policy: Tensor
    dual: Tensor
    value: Tensor
    action_value: Tensor


def policy_mirror_descent(
    mdp: TabularMDP,
    mirror_map: MirrorMap,
    step_size: StepSize,
    iterations: int,
    policy: Tensor | None = None,
    temperature: float = 0.0,
) -> Tensor:
    r"""Policy mirror descent with exact values.

    Equation ``eq-pmd-step``: in every state the next policy maximises
    :math:`\langle Q^k_\tau(s, \cdot), p\rangle - \tau D_\psi(p, u) - D_\psi(p, \pi_k)/\eta_k`,
    where :math:`u` is the uniform policy. In dual coordinates this is ``eq-dual-step`` with the
    gradient :math:`-Q^k_\tau`, the magnet :math:`u` and its weight :math:`\tau`.

    Args:
        mdp: the processes, all of which are run at once.
        mirror_map: the geometry, a map on the simplex.
        step_size: :math:`\eta > 0`, for values in the units of the rewards: a number, or one for
            each iteration as a sequence or a tensor of shape ``(iterations,)``. An entry of a
            sequence may be a tensor of the batch's shape. Infinite is allowed where the
            temperature is positive.
        iterations: number of steps.
        policy: where it starts, probabilities ``(..., S, A)``; uniform by default. Its leading
            axes broadcast with the batch.
        temperature: :math:`\tau \ge 0`, the weight of the divergence from the uniform policy.

    Returns:
        The last policy, shape ``(..., S, A)``, in the dtype of the rewards.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a wrong shape, a step size or temperature out of range, a policy that is none
            (or has zeros where the map knows none), or steps so large that the dual overflows.
        ArithmeticError: values of a discount too close to 1 cannot be certified.

    Source:
        Lan (2023), Xiao (2022); Shani, Efroni and Mannor (2020) for the exact model.
    """
    start = _start(mdp, mirror_map, step_size, iterations, policy, temperature)
    *_, (here, _, _) = deque(start.run(), maxlen=1)
    last = _checked(here).to(mdp.reward.dtype)
    return last if start.steps else last.clone(memory_format=torch.contiguous_format)


def policy_iterates(
    mdp: TabularMDP,
    mirror_map: MirrorMap,
    step_size: StepSize,
    iterations: int,
    policy: Tensor | None = None,
    temperature: float = 0.0,
) -> Iterator[Iterate]:
    r"""The policies of :func:`policy_mirror_descent` one by one, with their values.

    The arguments are those of :func:`policy_mirror_descent`. Where the temperature is positive, the
    values are the regularised ones.

    Returns:
        An iterator over ``iterations + 1`` iterates, the first and the last policy included. Each
        owns its memory.

    Raises:
        TypeError: as in :func:`policy_mirror_descent`, when it is called.
        ValueError: likewise.
    """
    start = _start(mdp, mirror_map, step_size, iterations, policy, temperature)
    # Arguments are checked at the call, not at the first iterate.
    return (
        _iterate(here, dual, start.evaluate(_checked(here)) if found is None else found)
        for here, dual, found in start.run()
    )


def natural_policy_gradient(
    mdp: TabularMDP,
    step_size: float,
    iterations: int,
    policy: Tensor | None = None,
    temperature: float = 0.0,
) -> Tensor:
    r"""Natural policy gradient of softmax policies, plain or with entropy.

    Equations ``eq-npg`` and ``eq-regularised-npg``: policy mirror descent under the entropy with
    the step of :func:`natural_step`.

    Args:
        mdp: the processes.
        step_size: :math:`\alpha`, the step along the natural gradient; at most
            :math:`(1 - \gamma)/\tau`.
        iterations: number of steps.
        policy: where it starts; uniform by default.
        temperature: :math:`\tau \ge 0`, the weight of the entropy.

    Returns:
        The last policy, shape ``(..., S, A)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: as :func:`policy_mirror_descent`, or a step above :math:`(1 - \gamma)/\tau`.

    Source:
        Kakade (2001), Agarwal et al. (2021); Cen et al. (2022) with entropy.
    """
    require_mdp(mdp)
    step = natural_step(step_size, mdp.discount, temperature)
    return policy_mirror_descent(mdp, Entropy(), step, iterations, policy, temperature)


def projected_q_ascent(
    mdp: TabularMDP,
    step_size: StepSize,
    iterations: int,
    policy: Tensor | None = None,
    temperature: float = 0.0,
) -> Tensor:
    r"""Add the action values to the policy and project on the simplex.

    Policy mirror descent in the Euclidean geometry.

    Args:
        mdp: the processes.
        step_size: as in :func:`policy_mirror_descent`.
        iterations: number of steps.
        policy: where it starts; uniform by default.
        temperature: weight of half the squared distance from the uniform policy.

    Returns:
        The last policy, shape ``(..., S, A)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: as :func:`policy_mirror_descent`.

    Source:
        Xiao (2022), section 4.
    """
    return policy_mirror_descent(
        mdp, Euclidean(Simplex()), step_size, iterations, policy, temperature
    )


def soft_policy_iteration(
    mdp: TabularMDP,
    temperature: float,
    iterations: int,
    policy: Tensor | None = None,
    mirror_map: MirrorMap = ENTROPY,
) -> Tensor:
    r"""Evaluate, then take the policy :math:`\pi \propto e^{Q_\tau/\tau}`.

    Policy mirror descent with an infinite step; theorem ``thm-policy-iteration``.

    Args:
        mdp: the processes.
        temperature: :math:`\tau > 0`.
        iterations: number of steps.
        policy: where it starts; uniform by default.
        mirror_map: the geometry, the entropy by default; another one gives the maximiser of
            :math:`\langle Q_\tau, p\rangle - \tau D_\psi(p, u)`.

    Returns:
        The last policy, shape ``(..., S, A)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a temperature that is not above 0, or as :func:`policy_mirror_descent`.

    Source:
        Haarnoja et al. (2018), with exact values.
    """
    require_number("temperature", temperature, 0.0, strict=True)
    chosen = require_simplex_map(mirror_map)
    return policy_mirror_descent(mdp, chosen, math.inf, iterations, policy, temperature)


def adaptive_trust_region(
    mdp: TabularMDP,
    iterations: int,
    policy: Tensor | None = None,
    temperature: float = 0.0,
    scale: float = 1.0,
) -> Tensor:
    r"""Adaptive trust-region policy optimisation with exact values.

    Policy mirror descent under the entropy with the steps of :func:`trust_region_steps`.

    Args:
        mdp: the processes.
        iterations: number of steps.
        policy: where it starts; uniform by default.
        temperature: :math:`\tau \ge 0`.
        scale: the first step, where the temperature is 0.

    Returns:
        The last policy, shape ``(..., S, A)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: as :func:`policy_mirror_descent`.

    Source:
        Shani, Efroni and Mannor (2020).
    """
    steps = trust_region_steps(iterations, temperature, scale)
    return policy_mirror_descent(mdp, Entropy(), steps, iterations, policy, temperature)


def natural_step(step_size: float, discount: float, temperature: float = 0.0) -> float:
    r"""The mirror step :math:`\eta` that a natural-gradient step :math:`\alpha` is.

    Equation ``eq-regularised-npg``: :math:`\eta = \alpha / (1 - \gamma - \tau\alpha)`.

    Args:
        step_size: :math:`\alpha`, above 0 and at most :math:`(1 - \gamma)/\tau`, where the mirror
            step is infinite.
        discount: :math:`\gamma`, in [0, 1).
        temperature: :math:`\tau \ge 0`.

    Returns:
        The mirror step.

    Raises:
        TypeError: an argument is no number.
        ValueError: out of range.
    """
    alpha = require_number("step_size", step_size, 0.0, strict=True)
    tau = require_number("temperature", temperature, 0.0)
    if require_number("discount", discount, 0.0) >= 1:
        raise ValueError(f"discount: expected a number below 1, got {discount!r}")
    left = 1 - tau * alpha / (1 - discount)
    if abs(left) <= 4 * torch.finfo(F64).eps:
        return math.inf
    if left < 0:
        raise ValueError(
            f"step_size: expected at most (1 - discount) / temperature = {(1 - discount) / tau!r}, "
            f"got {step_size!r}"
        )
    return alpha / (1 - discount) / left


def trust_region_steps(
    iterations: int, temperature: float = 0.0, scale: float = 1.0
) -> list[float]:
    r"""The mirror steps of adaptive TRPO.

    Equation ``eq-trpo-steps``: :math:`\eta_k = 1/(\tau (k+1))` with a temperature, which is the
    weight :math:`1/(\tau(k+2))` on the action values, and ``scale`` times
    :math:`1/\sqrt{k+1}` without one.

    Args:
        iterations: how many.
        temperature: :math:`\tau \ge 0`.
        scale: the first step, where the temperature is 0.

    Returns:
        One step for each iteration.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: out of range.

    Source:
        Shani, Efroni and Mannor (2020).
    """
    count = require_count("iterations", iterations, 0)
    tau = require_number("temperature", temperature, 0.0)
    first = require_number("scale", scale, 0.0, strict=True)
    if tau:
        return [1 / (tau * (k + 1)) for k in range(count)]
    return [first / math.sqrt(k + 1) for k in range(count)]


def geometric_steps(first: float, ratio: float, iterations: int) -> list[float]:
    """Steps that grow by a factor, as in ``thm-pmd-geometric``.

    Args:
        first: the first step, above 0.
        ratio: the factor, at least 1.
        iterations: how many.

    Returns:
        One step for each iteration.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: out of range, or the last step is not finite.
    """
    start = require_number("first", first, 0.0, strict=True)
    factor = require_number("ratio", ratio, 1.0)
    steps = []
    for _ in range(require_count("iterations", iterations, 0)):
        steps.append(require_number("ratio (the last step)", start))
        start *= factor
    return steps


class _Start(NamedTuple):
    """Arguments that were checked, in float64, and the step."""

    mdp: TabularMDP
    mirror_map: MirrorMap
    steps: list[float | Tensor]
    policy: Tensor
    dual: Tensor
    temperature: float
    magnet: Tensor | None

    def evaluate(self, policy: Tensor) -> Evaluation:
        return evaluate_unchecked(self.mdp, policy, self.temperature, self.mirror_map)

    def run(self) -> Iterator[tuple[Tensor, Tensor, Evaluation | None]]:
        """Every policy with its dual and, but for the last one, its values."""
        here, dual = self.policy, self.dual
        for step in self.steps:
            found, following, next_dual = self.advance(here, dual, step)
            yield here, dual, found
            here, dual = following, next_dual
        yield here, dual, None

    def advance(
        self, policy: Tensor, dual: Tensor, step: float | Tensor
    ) -> tuple[Evaluation, Tensor, Tensor]:
        """Values of a policy, the next policy and the next dual."""
        found = self.evaluate(policy)
        # The advantage differs from the action value by a constant in each
        # state, which no map on the simplex sees, and keeps more digits.
        dual = dual_step(dual, found.gradient, step, self.magnet, self.temperature)
        dual = self.without_infeasible(dual)
        following = self.mirror_map._to_primal(dual)
        if self.mirror_map.carries_dual:
            dual = dual - dual.amax(-1, keepdim=True)
        else:
            dual = self.without_infeasible(self.mirror_map._step_dual(following))
        return found, following, dual

    def without_infeasible(self, dual: Tensor) -> Tensor:
        """A dual of minus infinity keeps an action at probability 0."""
        mask = self.mdp._mask
        return dual if mask is None else torch.where(mask, dual, -torch.inf)


def _iterate(policy: Tensor, dual: Tensor, found: Evaluation) -> Iterate:
    own = torch.contiguous_format
    return Iterate(
        policy.clone(memory_format=own),
        dual.clone(memory_format=own),
        found.value,
        found.action_value,
    )


def _start(
    mdp: TabularMDP,
    mirror_map: MirrorMap,
    step_size: StepSize,
    iterations: int,
    policy: Tensor | None,
    temperature: float,
) -> _Start:
    require_mdp(mdp)
    require_simplex_map(mirror_map)
    tau = require_number("temperature", temperature, 0.0)
    steps = _steps(step_size, require_count("iterations", iterations, 0), mdp, tau)
    if policy is None:
        policy = mdp.uniform_policy()
    mdp.check_policy("policy", policy)
    if mdp._mask is None:
        mirror_map.check_point("policy", policy)
    else:
        # The map is asked about a law whose other entries are positive.
        filled = torch.where(mdp._mask, policy, 1.0)
        mirror_map.check_point("policy", filled / filled.sum(-1, keepdim=True))
    batch = torch.broadcast_shapes(policy.shape[:-2], mdp.batch_shape)
    here = policy.to(F64).expand((*batch, *policy.shape[-2:]))
    double = mdp._double()
    magnet = magnet_dual(double, mirror_map) if tau else None
    start = _Start(double, mirror_map, steps, here, here, tau, magnet)
    if mdp._mask is None:
        dual = mirror_map._step_dual(here)
    else:
        dual = start.without_infeasible(mirror_map._step_dual(torch.where(mdp._mask, here, 1.0)))
    return start._replace(dual=dual)


def _steps(
    step_size: StepSize, iterations: int, mdp: TabularMDP, temperature: float
) -> list[float | Tensor]:
    if isinstance(step_size, Tensor):
        if step_size.ndim > 1:
            raise ValueError(
                f"step_size: expected a number or shape ({iterations},), got "
                f"{tuple(step_size.shape)}"
            )
        each: list[float | Tensor] = list(step_size) if step_size.ndim else [step_size] * iterations
    elif isinstance(step_size, Sequence) and not isinstance(step_size, str):
        each = list(step_size)
    else:
        each = [step_size] * iterations
    if len(each) != iterations:
        raise ValueError(f"step_size: expected {iterations} steps, got {len(each)}")
    return [_one_step(step, mdp, temperature) for step in each]


def _one_step(step: float | Tensor, mdp: TabularMDP, temperature: float) -> float | Tensor:
    words = "steps > 0, infinite only where the temperature is positive"
    if not isinstance(step, (Tensor, Real)):
        raise TypeError(f"step_size: expected a number, got {type(step).__name__}")
    if isinstance(step, Tensor):
        if not step.is_floating_point():
            raise TypeError(f"step_size: expected floating-point steps, got {step.dtype}")
        valid = (step > 0) & (step.isfinite() | (temperature > 0))
        require_values("step_size", step, valid, words)
        try:
            torch.broadcast_shapes(step.shape, mdp.batch_shape)
        except RuntimeError:
            raise ValueError(
                f"step_size: expected the batch shape {tuple(mdp.batch_shape)}, got "
                f"{tuple(step.shape)}"
            ) from None
        return step.to(F64)[..., None, None]
    if step == math.inf and temperature > 0:
        return math.inf
    return require_number("step_size", step, 0.0, strict=True)


def _checked(policy: Tensor) -> Tensor:
    finite = policy.isfinite()
    require_values("step_size", policy, finite, "steps that leave the dual finite")
    return policy
