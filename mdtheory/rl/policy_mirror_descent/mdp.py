"""Tabular Markov decision processes: transitions, rewards, and which actions there are."""

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
    require_truths,
    require_values,
    sum_tolerance,
    values_known,
)
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
        feasible: which actions there are, truth values of a shape that broadcasts with
            ``reward``; all by default. A reward of :math:`-\infty` says the same of its action.
            Every state needs one. Rewards and transitions of other actions play no part, whatever
            they hold; policies give these actions the probability 0, their action values are
            :math:`-\infty`.

    Attributes:
        transition: as given; a sparse matrix as CSR. Without the rows that no process uses.
        reward: as given; :math:`-\infty` where an action is not feasible.
        discount: as given.

    Raises:
        TypeError: a tensor is not of a floating-point type, ``feasible`` is no truth values, or
            the dtypes differ.
        ValueError: a wrong shape, rows that are no probabilities, a reward that is NaN or positive
            infinity, a state without an action, or a discount outside [0, 1).
    """

    def __init__(
        self,
        transition: Tensor,
        reward: Tensor,
        discount: float,
        feasible: Tensor | None = None,
    ) -> None:
        require_tensor("reward", reward)
        if reward.ndim < 2 or 0 in reward.shape:
            raise ValueError(
                f"reward: expected shape (..., S, A) without an empty axis, got "
                f"{tuple(reward.shape)}"
            )
        self.discount = require_number("discount", discount, 0.0)
        if self.discount >= 1:
            raise ValueError(f"discount: expected a number below 1, got {discount!r}")
        self._mask = _mask_of(reward, feasible)
        if self._mask is not None:
            reward = torch.where(self._mask, reward, -torch.inf)
        # Rewards with 0 in place of what cannot be had, so that a probability of 0 silences it.
        self._paid = reward if self._mask is None else torch.where(self._mask, reward, 0.0)
        require_finite("reward", self._paid)
        if isinstance(transition, Tensor) and transition.layout != torch.strided:
            transition = _checked_sparse(transition, reward, self._mask)
        else:
            transition = _checked_dense(transition, reward, self._mask)
        require_same_kind("reward", reward, "transition", transition)
        self.transition, self.reward = transition, reward
        self._common: bool | None = None  # see `values.is_delicate`

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

    @property
    def feasible(self) -> Tensor:
        """Which actions there are, truth values of shape ``(..., S, A)``."""
        shape = (*self.batch_shape, self.states, self.actions)
        if self._mask is None:
            return torch.ones(shape, dtype=torch.bool, device=self.reward.device)
        return self._mask.expand(shape).clone()

    def uniform_policy(self) -> Tensor:
        """The policy that takes every feasible action with the same probability.

        Returns:
            Probabilities, shape ``(..., S, A)``.
        """
        shape = (*self.batch_shape, self.states, self.actions)
        if self._mask is None:
            return self.reward.new_full(shape, 1 / self.actions)
        mask = self._mask.to(self.reward)
        return (mask / mask.sum(-1, keepdim=True)).expand(shape).clone()

    def look_ahead(self, value: Tensor) -> Tensor:
        r"""Action values of one step and then ``value``: :math:`r + \gamma P v`.

        Args:
            value: one number for each state, shape ``(..., S)``, of the dtype of the rewards.

        Returns:
            Shape ``(..., S, A)``; :math:`-\infty` where an action is not feasible.

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
            ValueError: a wrong shape, rows that are no probabilities, or a positive probability
                of an action that is not feasible.
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
        if self._mask is not None:
            allowed = self._mask | (policy == 0)
            require_values(name, policy.expand(allowed.shape), allowed,
                           "the probability 0 where an action is not feasible")  # fmt: skip
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
        double.reward, double._paid = self.reward.to(F64), self._paid.to(F64)
        double.discount, double._mask, double._common = self.discount, self._mask, None
        # Rows whose sums are 1 in a shorter type are not yet laws in a longer one.
        if self.is_sparse:
            double.transition = sparse.rows_of_sum_one(self.transition)
        else:
            rows = self.transition.to(F64)
            total = rows.sum(-1, keepdim=True)
            double.transition = rows / torch.where(total > 0, total, 1.0)
        return double

    def _look_ahead(self, value: Tensor) -> Tensor:
        if self.is_sparse:
            ahead = sparse.product(self.transition, value).reshape(self.reward.shape)
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


def require_mdp(mdp: object) -> None:
    """Refuse what is no ``TabularMDP``.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(mdp, TabularMDP):
        raise TypeError(f"mdp: expected a TabularMDP, got {type(mdp).__name__}")


def _mask_of(reward: Tensor, feasible: Tensor | None) -> Tensor | None:
    """Which actions are feasible, or ``None`` where all are."""
    mask = None
    if values_known(reward):
        mask = reward != -torch.inf
    if feasible is not None:
        require_truths("feasible", feasible)
        if feasible.device != reward.device:
            raise ValueError(
                f"feasible: expected device {reward.device} like reward, got {feasible.device}"
            )
        if feasible.shape[-2:] != reward.shape[-2:]:
            raise ValueError(
                f"feasible: expected shape (..., {reward.shape[-2]}, {reward.shape[-1]}) like "
                f"reward, got {tuple(feasible.shape)}"
            )
        require_broadcastable("feasible", feasible, "reward", reward)
        mask = feasible.clone() if mask is None else feasible & mask
    if mask is None or not values_known(mask):
        return mask
    if bool(mask.all()):
        # A mask may still bring the batch that the rewards do not have.
        return None if mask.shape == reward.shape else mask
    alone = ~mask.any(-1)
    if bool(alone.any()):
        first = tuple(alone.nonzero()[0].tolist())
        place = f"state {first[-1]}" + (f" of process {first[:-1]}" if first[:-1] else "")
        raise ValueError(f"feasible: expected an action in every state, got none in {place}")
    return mask


def _checked_dense(transition: Tensor, reward: Tensor, mask: Tensor | None) -> Tensor:
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
    if mask is None:
        require_simplex("transition", transition)
        return transition
    # A row counts where one of the processes that share it has its action.
    used = mask
    while used.ndim > transition.ndim - 1:
        used = used.any(0)
    for axis, size in enumerate(transition.shape[-used.ndim - 1 : -3]):
        if size == 1:
            used = used.any(axis, keepdim=True)
    filled = torch.where(used[..., None], transition, 1 / states)
    require_simplex("transition", filled)
    return torch.where(used[..., None], transition, 0.0)


def _checked_sparse(transition: Tensor, reward: Tensor, mask: Tensor | None) -> Tensor:
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
    if mask is not None:
        transition = sparse.keep_rows(transition, mask.flatten())
    entries = sparse.entries_of(transition).detach()
    require_values("transition", entries, entries >= 0, "nonnegative probabilities")
    if values_known(entries):
        total = transition.detach() @ entries.new_ones(states)
        off = (total - 1).abs()
        if mask is not None:
            off = torch.where(mask.flatten(), off, 0.0)
        if not bool((off <= sum_tolerance(total)).all()):
            raise ValueError(
                "transition: expected rows that sum to 1, got a sum of "
                f"{total[off.argmax()].item()!r}"
            )
    return transition
