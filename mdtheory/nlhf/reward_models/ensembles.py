"""Ensembles of reward models: all seeds and members trained as one program, and what they vote."""

from __future__ import annotations

import math
from copy import copy

import torch
from torch import Tensor
from torch.nn import functional

from mdtheory.agents.networks import Network, adam
from mdtheory.checks import (
    require_broadcast,
    require_count,
    require_finite,
    require_number,
    require_same_kind,
    require_scale,
    require_shape,
    require_tensor,
    require_values,
)

# Hidden units that are computed at once, over all networks: more leave the cache.
AT_ONCE = 2**21


def bradley_terry_loss(margins: Tensor, labels: Tensor | None = None) -> Tensor:
    r"""Mean negative log-likelihood of judged pairs, :math:`-\log\sigma(\pm\Delta)`.

    Equation ``eq-bradley-terry-loss``. Sum it over members and seeds before the gradient is
    taken: a mean would divide every member's step.

    Args:
        margins: reward of the first answer less that of the second, shape ``(..., pairs)``.
        labels: whether the first one won, or how probably, in [0, 1], of a shape that broadcasts
            with it; without labels it always won.

    Returns:
        In nats, of the batch's shape.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: labels outside [0, 1], or shapes that do not broadcast.

    Source:
        Bradley and Terry (1952).
    """
    require_tensor("margins", margins)
    if labels is not None:
        require_same_kind("labels", require_tensor("labels", labels), "margins", margins)
        require_broadcast("labels", labels.shape, margins.shape, "margins")
        require_values("labels", labels, (labels >= 0) & (labels <= 1), "labels in [0, 1]")
    return _loss(margins, labels)


def _loss(margins: Tensor, labels: Tensor | None) -> Tensor:
    # -log sigma(x) = softplus(-x), and softplus(x) = softplus(-x) + x:
    # no exponential overflows.
    lost = functional.softplus(-margins)
    return (
        lost if labels is None else lost + (1 - labels) * margins
    ).mean(-1)  # fmt: skip


def ensemble_objective(
    rewards: Tensor, kind: str, weight: float | Tensor = 0.0, dim: int = 0
) -> Tensor:
    r"""One reward from those of an ensemble, equation ``eq-ensemble-objective``.

    Args:
        rewards: of the members, in one unit: normalise them first, for the penalty of UWO has
            the unit of a reward *squared*.
        kind: ``"mean"``; ``"WCO"``, worst-case optimisation: the least; or ``"UWO"``,
            uncertainty-weighted: the mean less ``weight`` times the variance over the members
            (divided by their number, not by one less).
        weight: :math:`\lambda \ge 0` of UWO, where 0 *is* the mean; the other kinds have none.
            A tensor broadcasts with the result.
        dim: the axis of the members.

    Returns:
        Without that axis.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an unknown kind, a negative weight, or an axis that is not there.

    Source:
        Coste et al. (2024).
    """
    require_tensor("rewards", rewards)
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise TypeError(f"dim: expected a whole number, got {type(dim).__name__}")
    if not -rewards.ndim <= dim < rewards.ndim or rewards.shape[dim] == 0:
        raise ValueError(f"dim: expected an axis of shape {tuple(rewards.shape)}, got {dim!r}")
    if not isinstance(kind, str):
        raise TypeError(f"kind: expected 'mean', 'WCO' or 'UWO', got {type(kind).__name__}")
    rest = rewards.shape[: dim % rewards.ndim] + rewards.shape[dim % rewards.ndim + 1 :]
    weight = require_scale("weight", weight, rewards, rest)
    name = kind.lower()
    if name == "mean":
        return rewards.mean(dim)
    if name == "wco":
        return rewards.amin(dim)
    if name == "uwo":
        return rewards.mean(dim) - weight * rewards.var(dim, correction=0)
    raise ValueError(f"kind: expected 'mean', 'WCO' or 'UWO', got {kind!r}")


class RewardEnsemble:
    """Reward networks with axes of batch and members, on answers that they may share.

    Args:
        network: one copy for each member of each place in the batch, members fastest.
        batch: the batch's shape, such as seeds and levels of noise.
        members: networks in each place.
        center: what is subtracted from rewards, shape ``(*batch, members)``; nothing by default.
        scale: what they are divided by then, of that shape.
    """

    def __init__(
        self,
        network: Network,
        batch: tuple[int, ...],
        members: int,
        center: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> None:
        self.network, self.batch, self.members = network, batch, members
        self.center, self.scale = center, scale

    @torch.no_grad()
    def __call__(self, answers: Tensor) -> Tensor:
        """Rewards of answers.

        Args:
            answers: features, shape ``(..., n, features)``, whose batch broadcasts to the
                ensemble's.

        Returns:
            Shape ``(*batch, members, n)``.

        Raises:
            TypeError: of another dtype than the networks.
            ValueError: another device, number of features, or batch.
        """
        weight = self.network.parameters[0]
        require_same_kind("answers", require_tensor("answers", answers), "the networks", weight)
        require_shape("answers", answers, (*answers.shape[:-1], weight.shape[-2]))
        require_broadcast("answers", answers.shape[:-2], self.batch, widens=False)
        answers = answers.expand(*self.batch, *answers.shape[-2:])[..., None, :, :]
        lead = (*self.batch, self.members)
        width = max(p.shape[-1] for p in self.network.parameters)
        chunk = max(AT_ONCE // (math.prod(lead) * width), 1)
        rewards = torch.cat(
            [
                self.network(part.expand(*lead, -1, -1).flatten(0, -3))[..., 0]
                for part in answers.split(chunk, -2)
            ],
            -1,
        ).unflatten(0, lead)
        if self.center is not None and self.scale is not None:
            rewards = (rewards - self.center[..., None]) / self.scale[..., None]
        return rewards

    def first(self, members: int) -> RewardEnsemble:
        """The first members of each place in the batch.

        Args:
            members: how many, from 1 to all.

        Returns:
            A smaller ensemble, with weights of its own.

        Raises:
            TypeError: not a whole number.
            ValueError: more than there are.
        """
        if require_count("members", members) > self.members:
            raise ValueError(
                f"members: expected a whole number from 1 to {self.members}, got {members!r}"
            )
        network, lead = copy(self.network), (*self.batch, self.members)
        network.parameters = [
            p.detach().unflatten(0, lead).narrow(len(self.batch), 0, members).flatten(0, -3).clone()
            for p in self.network.parameters
        ]
        units = [None if u is None else u[..., :members].clone() for u in (self.center, self.scale)]
        return RewardEnsemble(network, self.batch, members, *units)

    def normalized(self, reference: Tensor) -> RewardEnsemble:
        """The same networks in units of the reference: mean 0, standard deviation 1 on it.

        Args:
            reference: answers of the reference policy, as in a call.

        Returns:
            Another ensemble; the networks are shared.

        Raises:
            ValueError: a network that gives all of them the same reward.
        """
        plain = RewardEnsemble(self.network, self.batch, self.members)
        rewards = plain(reference)
        scale = rewards.std(-1)
        require_values("reference", scale, scale > 0, "answers with different rewards")
        return RewardEnsemble(self.network, self.batch, self.members, rewards.mean(-1), scale)


def train_reward_ensemble(
    first: Tensor,
    second: Tensor,
    labels: Tensor,
    *,
    members: int,
    epochs: int,
    step_size: float,
    generator: torch.Generator,
    shared: bool = True,
    hidden: tuple[int, ...] = (64, 64),
    batch: int = 64,
    first_weights: float = 1.0,
) -> RewardEnsemble:
    r"""Fit an ensemble of reward networks to judged pairs, all members and seeds as one program.

    Adam on :func:`bradley_terry_loss`. Members differ in their first weights and in the order in
    which they see the pairs.

    Args:
        first: features of one answer of each pair, shape ``(..., pairs, features)``.
        second: features of the other one; the batches of the three tensors broadcast.
        labels: whether the first one won, or how probably, shape ``(..., pairs)``.
        members: networks for each place of the batch.
        epochs: passes through the pairs.
        step_size: of Adam.
        generator: source of weights and orders, on the device of the data.
        shared: whether all members see all pairs. If not, each has an equal part of its own, and
            their number must divide that of the pairs.
        hidden: units of the hidden layers.
        batch: pairs in a minibatch; the last one of an epoch may be smaller.
        first_weights: scale of the weights that training starts from; at 1 those of a layer with
            ``k`` inputs are uniform between plus and minus :math:`1/\sqrt k`.

    Returns:
        The ensemble, in no unit: see :meth:`RewardEnsemble.normalized`.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: shapes that do not fit, labels outside [0, 1], features that are not finite,
            or parts that are not equal.

    Source:
        Coste et al. (2024), section 3.
    """
    shape = _require_pairs(first, second, labels)
    require_count("members", members)
    require_count("batch", batch)
    require_number("step_size", step_size, 0.0, strict=True)
    pairs, features = first.shape[-2:]
    if not shared and pairs % members:
        raise ValueError(
            f"members: expected a divisor of {pairs} pairs where shared is False, got {members!r}"
        )
    copies = math.prod(shape) * members
    sizes = [features, *(require_count("hidden", width) for width in hidden), 1]
    network = Network(copies, sizes, generator, activation="relu", dtype=first.dtype)
    _start(network, require_number("first_weights", first_weights, 0.0, strict=True), generator)
    optimizer = adam(network.parameters, step_size)
    both = torch.stack(torch.broadcast_tensors(first, second), -2)
    rows, judged = _rows(both.shape[:-3], shape, members), _rows(labels.shape[:-1], shape, members)
    rows, judged = rows.to(first.device), judged.to(first.device)
    both, labels = both.reshape(-1, *both.shape[-3:]), labels.reshape(-1, pairs)
    own = pairs if shared else pairs // members
    part = torch.arange(members, device=first.device).repeat(math.prod(shape)) * own
    begin = torch.zeros_like(part) if shared else part
    for _ in range(require_count("epochs", epochs)):
        order = torch.rand(copies, own, generator=generator, device=first.device).argsort(-1)
        for pick in (order + begin[:, None]).split(batch, -1):
            answers = both[rows[:, None], pick].flatten(1, 2)
            rewards = network(answers)[..., 0].unflatten(-1, (-1, 2))
            margins = rewards[..., 0] - rewards[..., 1]
            loss = _loss(margins, labels[judged[:, None], pick]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return RewardEnsemble(network, shape, members)


@torch.no_grad()
def _start(network: Network, scale: float, generator: torch.Generator) -> None:
    """Weights and biases as the networks of preferences have them, times the scale."""
    for weight, bias in zip(network.parameters[::2], network.parameters[1::2], strict=True):
        bound = scale * weight.shape[-2] ** -0.5
        weight.uniform_(-bound, bound, generator=generator)
        bias.uniform_(-bound, bound, generator=generator)


def _require_pairs(first: Tensor, second: Tensor, labels: Tensor) -> tuple[int, ...]:
    """The batch of all three."""
    require_tensor("labels", labels)
    for name, answers in (("first", first), ("second", second)):
        require_same_kind(name, require_tensor(name, answers), "labels", labels)
        if answers.ndim < 2:
            raise ValueError(
                f"{name}: expected shape (..., pairs, features), got {tuple(answers.shape)}"
            )
        require_finite(name, answers)
    require_shape("second", second, (*second.shape[:-2], *first.shape[-2:]))
    require_shape("labels", labels, (*labels.shape[:-1], first.shape[-2]))
    require_values("labels", labels, (labels >= 0) & (labels <= 1), "labels in [0, 1]")
    shape = require_broadcast("second", second.shape[:-2], first.shape[:-2], "first")
    return require_broadcast("labels", labels.shape[:-1], shape)


def _rows(own: torch.Size, shape: tuple[int, ...], members: int) -> Tensor:
    """For each network the row of a flattened tensor that it reads; nothing is copied."""
    rows = torch.arange(math.prod(own)).view(own).expand(shape)
    return rows.reshape(-1).repeat_interleave(members)
