"""Discriminators: the variational form of the divergence, and the loss of DAC beside it."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mdtheory.checks import (
    require_broadcastable,
    require_count,
    require_number,
    require_same_kind,
    require_tensor,
    require_values,
)
from mdtheory.rl.imitation.occupancies import initial_law, require_both, require_pairs
from mdtheory.rl.policy_mirror_descent import TabularMDP

Loss = Literal["reverse_kl", "logistic"]


def discriminator_loss(
    expert: Tensor,
    learner: Tensor,
    kind: Loss = "reverse_kl",
    *,
    expert_weight: Tensor | None = None,
    learner_weight: Tensor | None = None,
) -> Tensor:
    r"""Loss of a discriminator :math:`g`; what it learns is the imitator's reward.

    Equation ``eq-discriminator`` for ``"reverse_kl"``:
    :math:`\mathbb{E}_e\,e^{-g} + \mathbb{E}_d\,g`, whose least value is
    :math:`1 - \mathrm{KL}(d \| e)`. Equation ``eq-dac-loss`` for ``"logistic"``, the loss of DAC:
    :math:`\mathbb{E}_e\log(1 + e^{-g}) + \mathbb{E}_d\log(1 + e^{g})`. The minimiser of both is
    :math:`g^* = \log(e/d)`.

    Args:
        expert: outputs :math:`g` on samples of the expert, ``(..., n)``.
        learner: outputs on samples of the mixture, ``(..., m)``.
        kind: which loss.
        expert_weight: probability of each sample, such as a table's occupancy, summing to 1 along
            the last axis, of a shape that broadcasts with ``expert``; equal by default.
        learner_weight: the same for ``learner``.

    Returns:
        One loss for each leading index, shape ``(...)``.

    Raises:
        TypeError: no floating-point tensors, or of different dtypes.
        ValueError: an unknown kind, or shapes that do not broadcast.

    Source:
        Nguyen, Wainwright and Jordan (2010) for the first; Kostrikov, Agrawal, Dwibedi, Levine and
        Tompson (2019) for the second.
    """
    require_tensor("expert", expert)
    require_tensor("learner", learner)
    require_same_kind("learner", learner, "expert", expert)
    require_kind(kind)
    for name, weight, values in (
        ("expert_weight", expert_weight, expert), ("learner_weight", learner_weight, learner)
    ):  # fmt: skip
        if weight is not None:
            require_tensor(name, weight)
            require_same_kind(name, weight, name.split("_")[0], values)
            require_broadcastable(name, weight, name.split("_")[0], values)
    return loss_unchecked(expert, learner, kind, expert_weight, learner_weight)


def loss_unchecked(
    expert: Tensor,
    learner: Tensor,
    kind: Loss,
    expert_weight: Tensor | None = None,
    learner_weight: Tensor | None = None,
) -> Tensor:
    """The same, unchecked. The arguments are those of :func:`discriminator_loss`.

    Returns:
        One loss for each leading index.
    """
    if kind == "reverse_kl":
        return _mean((-expert).exp(), expert_weight) + _mean(learner, learner_weight)
    return _mean(softplus(-expert), expert_weight) + _mean(softplus(learner), learner_weight)


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return values.mean(-1)
    # A weight of 0 silences its sample, whatever it holds.
    return torch.where(weight > 0, weight * values, 0.0).sum(-1)


def fit_discriminator(
    expert: Tensor,
    d: Tensor,
    kind: Loss = "reverse_kl",
    *,
    bound: float = float("inf"),
    steps: int = 200,
) -> Tensor:
    r"""The best discriminator with one free number for each pair, by Newton's method on its loss.

    Proposition ``prop-discriminator``: it is :math:`\log(e/d)`, cut off at :math:`\pm B` where
    outputs are bounded. Nothing here computes that logarithm; only the loss is descended.

    Args:
        expert: occupancy of the expert, positive, ``(..., S, A)``.
        d: the mixture, positive, of a shape that broadcasts with it.
        kind: which loss.
        bound: :math:`B > 0`; infinite by default.
        steps: Newton steps, each at most 1 long.

    Returns:
        The table :math:`g`, of the broadcast shape.

    Raises:
        TypeError: no floating-point tensors, or of different dtypes.
        ValueError: no laws, zeros in them, an unknown kind, or a bound that is not positive.
    """
    require_both(expert=expert, d=d)
    require_values("expert", expert, expert > 0, "an occupancy that is positive everywhere")
    require_values("d", d, d > 0, "an occupancy that is positive everywhere")
    require_kind(kind)
    require_number("bound", bound, 0.0, strict=True, infinite=True)
    g = torch.zeros_like(expert + d)
    for _ in range(require_count("steps", steps)):
        if kind == "reverse_kl":
            curve = expert * (-g).exp()
            slope = d - curve
        else:
            chance = g.sigmoid()
            curve = (expert + d) * chance * (-g).sigmoid()
            slope = (expert + d) * chance - expert
        g = (g - (slope / curve).clamp(-1, 1)).clamp(-bound, bound)
    return g


def dice_objective(mdp: TabularMDP, policy: Tensor, values: Tensor, expert: Tensor) -> Tensor:
    r"""ValueDICE's objective on tables, for one function :math:`\nu` and one policy.

    Equation ``eq-value-dice``: :math:`(1-\gamma)\,\mathbb{E}_\rho\,\nu(s_0, \pi) - \log\mathbb{E}_e
    e^{x}`, :math:`x = \nu - \gamma P^\pi\nu`. Its maximum over :math:`\nu` is
    :math:`\mathrm{KL}(d_\pi \| e)`.

    Args:
        mdp: the processes.
        policy: probabilities, ``(..., S, A)``.
        values: :math:`\nu`, ``(..., S, A)``.
        expert: occupancy of the expert, ``(..., S, A)``; its law of the first state is used.

    Returns:
        Shape ``(...)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a wrong shape, or no law where one is expected.
    """
    require_pairs("expert", expert)
    mdp.check_policy("policy", policy)
    mean = (policy * values).sum(-1)
    start = (initial_law(mdp, expert) * mean).sum(-1)
    x = residual(mdp, policy, values)
    inside = (expert.log() + x).flatten(-2).logsumexp(-1)
    return (1 - mdp.discount) * start - inside


def residual(mdp: TabularMDP, policy: Tensor, values: Tensor) -> Tensor:
    r"""The change of variables :math:`x = \nu - \gamma P^\pi\nu` of ValueDICE.

    Args:
        mdp: the processes.
        policy: probabilities, ``(..., S, A)``.
        values: :math:`\nu`, ``(..., S, A)``.

    Returns:
        Shape ``(..., S, A)``.
    """
    mean = (policy * values).sum(-1)
    ahead = torch.einsum("...sat,...t->...sa", mdp.transition, mean)
    return values - mdp.discount * ahead


def dice_values(mdp: TabularMDP, policy: Tensor, x: Tensor) -> Tensor:
    r"""The :math:`\nu` whose :func:`residual` is ``x``: a discounted sum of ``x``.

    Args:
        mdp: the processes.
        policy: probabilities, ``(..., S, A)``.
        x: shape ``(..., S, A)``.

    Returns:
        Shape ``(..., S, A)``.
    """
    states, actions = x.shape[-2:]
    follow = mdp.transition[..., None] * policy[..., None, None, :, :]
    size = states * actions
    matrix = follow.flatten(-2).flatten(-3, -2)
    eye = torch.eye(size, dtype=x.dtype, device=x.device)
    found = torch.linalg.solve(eye - mdp.discount * matrix, x.flatten(-2)[..., None])
    return found[..., 0].unflatten(-1, (states, actions))


def require_kind(kind: str) -> None:
    """Refuse an unknown loss.

    Raises:
        ValueError: it is none of :data:`Loss`.
    """
    if kind not in get_args(Loss):
        raise ValueError(f"kind: expected one of {get_args(Loss)}, got {kind!r}")
