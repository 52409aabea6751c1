"""Tabular Markov decision processes: their values, their occupancies, their Bellman operators."""

from __future__ import annotations

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcastable,
    require_finite,
    require_number,
    require_same_kind,
    require_shape,
    require_simplex,
    require_tensor,
    require_values,
    sum_tolerance,
    values_known,
)
from mdtheory.convex.mirror_maps import Entropy, MirrorMap, Simplex
from mdtheory.rl.policy_mirror_descent import sparse

F64 = torch.float64
# States times actions, up to which a chain is summed action by action.
TINY = 32


class TabularMDP:
    r"""Finite Markov decision processes with discounted rewards, one or a whole batch.

    Definition ``def-mdp``. With ``S`` states and ``A`` actions, leading axes are independent
    processes, which share the discount.

    Args:
        transition: probabilities :math:`P(s' \mid s, a)`, shape ``(..., S, A, S)``; or for one
            large process a sparse matrix (CSR or COO) of shape ``(S * A, S)``, whose row
            ``s * A + a`` belongs to state ``s`` and action ``a``.
        reward: mean rewards :math:`r(s, a)`, shape ``(..., S, A)``, of any finite size; its
            leading axes broadcast with those of ``transition``.
        discount: :math:`\gamma`, at least 0 and below 1.

    Attributes:
        transition: as given; a sparse matrix as CSR.
        reward: as given.
        discount: as given.

    Raises:
        TypeError: a tensor is not of a floating-point type, or the dtypes differ.
        ValueError: a wrong shape, rows that are no probabilities, a reward that is not finite, or
            a discount outside [0, 1).
    """

    def __init__(self, transition: Tensor, reward: Tensor, discount: float) -> None:
        require_tensor("reward", reward)
        if reward.ndim < 2:
            raise ValueError(f"reward: expected shape (..., S, A), got {tuple(reward.shape)}")
        require_finite("reward", reward)
        self.discount = require_number("discount", discount, 0.0)
        if self.discount >= 1:
            raise ValueError(f"discount: expected a number below 1, got {discount!r}")
        if isinstance(transition, Tensor) and transition.layout != torch.strided:
            transition = _checked_sparse(transition, reward)
        else:
            _check_dense(transition, reward)
        require_same_kind("reward", reward, "transition", transition)
        self.transition, self.reward = transition, reward

    def __repr__(self) -> str:
        kind = "sparse, " if self.is_sparse else ""
        return (
            f"TabularMDP({kind}batch {tuple(self.batch_shape)}, states {self.states}, "
            f"actions {self.actions}, discount {self.discount})"
        )

    @property
    def states(self) -> int:
        """Number of states, ``S``."""
        return self.reward.shape[-2]

    @property
    def actions(self) -> int:
        """Number of actions, ``A``."""
        return self.reward.shape[-1]

    @property
    def is_sparse(self) -> bool:
        """Whether the transition matrix is sparse."""
        return self.transition.layout != torch.strided

    @property
    def batch_shape(self) -> torch.Size:
        """Leading axes: one process for each entry."""
        mine = self.reward.shape[:-2]
        return mine if self.is_sparse else torch.broadcast_shapes(self.transition.shape[:-3], mine)

    def uniform_policy(self) -> Tensor:
        """The policy that takes every action with the same probability.

        Returns:
            Probabilities, shape ``(..., S, A)``.
        """
        shape = (*self.batch_shape, self.states, self.actions)
        return self.reward.new_full(shape, 1 / self.actions)

    def look_ahead(self, value: Tensor) -> Tensor:
        r"""Action values of one step and then ``value``: :math:`r + \gamma P v`.

        Args:
            value: one number for each state, shape ``(..., S)``, of the dtype of the rewards.

        Returns:
            Shape ``(..., S, A)``.

        Raises:
            TypeError: ``value`` is no tensor of that dtype.
            ValueError: a wrong shape or a NaN.
        """
        return self._look_ahead(self.check_value("value", value))

    def check_value(self, name: str, value: Tensor) -> Tensor:
        """Refuse what is no value function of these processes.

        Args:
            name: the argument's name, for the message.
            value: what came.

        Returns:
            ``value`` itself.

        Raises:
            TypeError: no tensor of the dtype of the rewards.
            ValueError: a wrong shape, a NaN or an infinity.
        """
        require_tensor(name, value)
        require_same_kind(name, value, "reward", self.reward)
        if value.shape[-1] != self.states:
            raise ValueError(f"{name}: expected shape (..., {self.states}), got "
                             f"{tuple(value.shape)}")  # fmt: skip
        self._check_batch(name, value, 1)
        require_finite(name, value)
        return value

    def check_policy(self, name: str, policy: Tensor) -> Tensor:
        """Refuse what is no policy of these processes.

        Args:
            name: the argument's name, for the message.
            policy: what came.

        Returns:
            ``policy`` itself.

        Raises:
            TypeError: no tensor of the dtype of the rewards.
            ValueError: a wrong shape, or rows that are no probabilities.
        """
        require_tensor(name, policy)
        require_same_kind(name, policy, "reward", self.reward)
        if policy.shape[-2:] != self.reward.shape[-2:]:
            raise ValueError(
                f"{name}: expected shape (..., {self.states}, {self.actions}), "
                f"got {tuple(policy.shape)}"
            )
        self._check_batch(name, policy, 2)
        require_simplex(name, policy)
        return policy

    def _check_batch(self, name: str, value: Tensor, trailing: int) -> None:
        batch = value.shape[: value.ndim - trailing]
        if self.is_sparse:
            require_shape(name, value, tuple(value.shape[-trailing:]))
        else:
            like = self.reward.new_empty(self.batch_shape)
            require_broadcastable(name, value.new_empty(batch), "the batch of the MDP", like)

    def _double(self) -> TabularMDP:
        """These processes in float64, in which all that is solved is solved."""
        if self.reward.dtype == F64:
            return self
        double = object.__new__(TabularMDP)
        double.transition, double.reward = self.transition.to(F64), self.reward.to(F64)
        double.discount = self.discount
        return double

    def _look_ahead(self, value: Tensor) -> Tensor:
        if self.is_sparse:
            ahead = (self.transition @ value).reshape(self.reward.shape)
        else:
            rows = self.transition.flatten(-3, -2)
            ahead = (rows @ value[..., None])[..., 0].unflatten(-1, self.reward.shape[-2:])
        return torch.add(self.reward, ahead, alpha=self.discount)

    def _follow(self, policy: Tensor) -> Tensor:
        r"""Transition matrix :math:`P_\pi` under a policy, ``(..., S, S)`` or sparse."""
        if self.is_sparse:
            return sparse.follow(self.transition, policy)
        if self.states * self.actions > TINY:
            return (policy[..., None, :] @ self.transition)[..., 0, :]
        # A batch of tiny products costs more than passes over all of them.
        follow = policy[..., :1] * self.transition[..., 0, :]
        for action in range(1, self.actions):
            weight = policy[..., action, None]
            follow = torch.addcmul(follow, weight, self.transition[..., action, :])
        return follow


def evaluate(
    mdp: TabularMDP,
    policy: Tensor,
    temperature: float = 0.0,
    mirror_map: MirrorMap | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Exact values of a policy, by a linear system in float64.

    Equations ``eq-exact-evaluation`` and ``eq-regularised-values``. A sparse process is solved by
    an iteration that stops only when the residual proves the value right, see ``sparse``.

    Args:
        mdp: the processes.
        policy: probabilities, shape ``(..., S, A)``; leading axes broadcast with the batch.
        temperature: weight :math:`\tau \ge 0` of the regulariser.
        mirror_map: its divergence from the uniform policy is the regulariser; a map on the
            simplex, the entropy by default.

    Returns:
        The value ``(..., S)`` and the action value ``(..., S, A)``, in the dtype of the rewards.
        The action value holds no regulariser of its own step.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: ``policy`` is none, ``temperature`` is negative, or the map is not on the
            simplex.
        ArithmeticError: the value of a sparse process could not be certified.
    """
    require_mdp(mdp)
    mdp.check_policy("policy", policy)
    weight = require_number("temperature", temperature, 0.0)
    mirror_map = require_simplex_map(mirror_map)
    value, action_value = evaluate_unchecked(mdp._double(), policy.to(F64), weight, mirror_map)
    return value.to(policy.dtype), action_value.to(policy.dtype)


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
    if mdp.is_sparse:
        share = sparse.discounted_sum(sparse.transpose(follow), start, mdp.discount, order=1)
    else:
        share = _solve(follow.mT, start, mdp.discount)
    return share.to(policy.dtype)


def bellman(
    mdp: TabularMDP,
    value: Tensor,
    policy: Tensor | None = None,
    temperature: float = 0.0,
    mirror_map: MirrorMap | None = None,
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
        mean = (policy * ahead).sum(-1)
        return mean - penalty(policy, weight, mirror_map) if weight else mean
    if weight == 0:
        return ahead.amax(-1)
    magnet = mirror_map._to_dual(ahead.new_full((mdp.actions,), 1 / mdp.actions))
    return weight * (mirror_map._conjugate(ahead / weight + magnet) - mirror_map._conjugate(magnet))


def greedy(
    mdp: TabularMDP,
    value: Tensor,
    temperature: float = 0.0,
    mirror_map: MirrorMap | None = None,
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
        return Simplex().minimize_linear(-ahead)
    uniform = ahead.new_full((mdp.actions,), 1 / mdp.actions)
    return mirror_map.to_primal(ahead / weight + mirror_map._to_dual(uniform))


def evaluate_unchecked(
    mdp: TabularMDP, policy: Tensor, temperature: float, mirror_map: MirrorMap
) -> tuple[Tensor, Tensor]:
    """:func:`evaluate` for inner loops, on arguments in float64 that were checked before.

    Args:
        mdp: as in :func:`evaluate`.
        policy: as in :func:`evaluate`.
        temperature: as in :func:`evaluate`.
        mirror_map: as in :func:`evaluate`.

    Returns:
        Value and action value.
    """
    # A product with ones is the quicker sum along a short axis.
    reward = (policy * mdp.reward) @ policy.new_ones(mdp.actions)
    if temperature:
        reward = reward - penalty(policy, temperature, mirror_map)
    follow = mdp._follow(policy)
    if mdp.is_sparse:
        value = sparse.discounted_sum(follow, reward, mdp.discount)
    else:
        value = _solve(follow, reward, mdp.discount)
    return value, mdp._look_ahead(value)


def penalty(policy: Tensor, temperature: float, mirror_map: MirrorMap) -> Tensor:
    r"""The regulariser :math:`\tau\, D_\psi(\pi(\cdot \mid s), u)` in each state.

    Args:
        policy: probabilities, shape ``(..., S, A)``.
        temperature: :math:`\tau`.
        mirror_map: a map on the simplex.

    Returns:
        Shape ``(..., S)``.
    """
    uniform = policy.new_full(policy.shape[-1:], 1 / policy.shape[-1])
    return temperature * mirror_map._divergence(policy, uniform)


def require_mdp(mdp: object) -> None:
    """Refuse what is no ``TabularMDP``.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(mdp, TabularMDP):
        raise TypeError(f"mdp: expected a TabularMDP, got {type(mdp).__name__}")


def require_simplex_map(mirror_map: MirrorMap | None) -> MirrorMap:
    """The map itself, or the entropy in place of ``None``.

    Raises:
        TypeError: no mirror map.
        ValueError: its domain is not the simplex.
    """
    if mirror_map is None:
        return Entropy()
    if not isinstance(mirror_map, MirrorMap):
        raise TypeError(f"mirror_map: expected a MirrorMap, got {mirror_map!r}")
    if not isinstance(mirror_map.domain, Simplex):
        raise ValueError(f"mirror_map: expected a map on the simplex, got {mirror_map!r}")
    return mirror_map


def _solve(matrix: Tensor, right: Tensor, discount: float) -> Tensor:
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    system = torch.add(eye, matrix, alpha=-discount)
    return torch.linalg.solve(system, right[..., None])[..., 0]


def _check_dense(transition: Tensor, reward: Tensor) -> None:
    require_tensor("transition", transition)
    states, actions = reward.shape[-2:]
    if transition.shape[-3:] != (states, actions, states):
        raise ValueError(
            f"transition: expected shape (..., {states}, {actions}, {states}) for a reward of "
            f"shape {tuple(reward.shape)}, got {tuple(transition.shape)}"
        )
    batch = reward.new_empty(reward.shape[:-2])
    require_broadcastable(
        "transition", reward.new_empty(transition.shape[:-3]), "the batch of reward", batch
    )
    require_simplex("transition", transition)


def _checked_sparse(transition: Tensor, reward: Tensor) -> Tensor:
    if not transition.is_floating_point():
        raise TypeError(f"transition: expected a floating-point tensor, got {transition.dtype}")
    if transition.layout not in (torch.sparse_csr, torch.sparse_coo):
        raise ValueError(f"transition: expected the layout CSR or COO, got {transition.layout}")
    states, actions = reward.shape[-2:]
    if reward.ndim != 2:
        raise ValueError(
            "reward: expected shape (S, A) beside a sparse transition, which is one process, "
            f"got {tuple(reward.shape)}"
        )
    require_shape("transition", transition, (states * actions, states))
    transition = sparse.to_csr(transition)
    entries = transition.values()
    require_values("transition", entries, entries >= 0, "nonnegative probabilities")
    if values_known(entries):
        total = transition @ entries.new_ones(states)
        off = (total - 1).abs()
        if not bool((off <= sum_tolerance(total)).all()):
            raise ValueError(
                "transition: expected rows that sum to 1, got a sum of "
                f"{total[off.argmax()].item()!r}"
            )
    return transition
