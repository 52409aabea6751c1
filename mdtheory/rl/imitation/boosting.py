"""Boosting over occupancies: Frank-Wolfe on the reverse KL, and the mirror step beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number, require_scale, require_values
from mdtheory.convex.mirror_maps import Entropy, entropy_step
from mdtheory.rl.imitation.occupancies import (
    divergence_unchecked,
    gap_unchecked,
    initial_law,
    require_both,
    require_pairs,
    state_action_occupancy,
)
from mdtheory.rl.policy_mirror_descent import TabularMDP, policy_iteration, policy_mirror_descent

Oracle = Callable[[TabularMDP, Tensor], Tensor]
Size = float | Tensor
Step = Size | str | Sequence[Size] | Callable[[int], Size]
# Rounding of a law of the first state that was computed back from an occupancy.
FLOW_TOLERANCE = 1e-7
HALVINGS = 60


class BoostRecord(NamedTuple):
    """What boosting did; ``T`` is the number of rounds, leading axes are independent runs.

    Attributes:
        mixture: occupancy of the ensemble after each round and before the first,
            ``(T + 1, ..., S, A)``.
        learners: occupancies of the learners, the starting one first, same shape.
        policies: the learners themselves, same shape.
        divergence: KL of the mixture from the expert, nats, ``(T + 1, ...)``.
        last: KL of the newest learner alone, nats, ``(T + 1, ...)``.
        gap: what the linear model promised in each round, nats, ``(T, ...)``.
        change: KL from each mixture to the next, nats, ``(T, ...)``.
        step: step sizes, ``(T, ...)``.
    """

    mixture: Tensor
    learners: Tensor
    policies: Tensor
    divergence: Tensor
    last: Tensor
    gap: Tensor
    change: Tensor
    step: Tensor

    def weights(self) -> Tensor:
        """Weights of the learners at the end, in their order, shape ``(..., T + 1)``."""
        kept = torch.ones_like(self.step[0])
        shares = []
        for size in self.step.flip(0):
            shares.append(kept * size)
            kept = kept * (1 - size)
        return torch.stack([kept, *shares[::-1]], -1)


def boost_occupancies(
    mdp: TabularMDP,
    expert: Tensor,
    oracle: Oracle,
    step: Step,
    rounds: int,
    *,
    start: Tensor | None = None,
    initial: Tensor | None = None,
) -> BoostRecord:
    r"""Boosting with exact occupancies: Frank-Wolfe on :math:`d \mapsto \mathrm{KL}(d \,\|\, e)`.

    Algorithm ``alg-boost``. In every round the oracle is shown the processes with the rewards
    :math:`\log(e/d)` of equation ``eq-boost-reward`` and its own last policy; the occupancy
    :math:`v` of what it answers is mixed in, :math:`d \leftarrow (1 - \eta) d + \eta v`.

    Args:
        mdp: the processes with a dense transition; their rewards play no part.
        expert: occupancy of the expert :math:`e`, positive, shape ``(..., S, A)``.
        oracle: takes the processes with the round's rewards and the last learner's policy, returns
            a policy ``(..., S, A)``: :func:`best_learner`, :func:`mirror_learner` or one's own.
        step: :math:`\eta` in [0, 1]: a number or a tensor of the batch's shape, a sequence with one
            for each round, a function of the round (from 0), or ``"line_search"``, the best one.
        rounds: number of learners after the first.
        start: policy of the first learner, shape ``(..., S, A)``; uniform by default. More leading
            axes than the processes have are more runs.
        initial: law of the first state, shape ``(..., S)``; by default that which makes ``expert``
            an occupancy.

    Returns:
        The record, in the dtype of the rewards.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a wrong shape, an expert with zeros or one that is no occupancy of these
            processes, a step size outside [0, 1]; or a mixture that has lost a pair which the
            expert visits, where the next reward would be infinite.

    Source:
        Chang, Sreenivas, Huang, Brantley and Sun (2024), with exact occupancies; Frank and Wolfe
        (1956).
    """
    require_pairs("expert", expert)
    require_values("expert", expert, expert > 0, "an occupancy that is positive everywhere")
    require_count("rounds", rounds)
    if initial is None:
        initial = initial_law(mdp, expert)
        require_values("expert", initial, initial >= -FLOW_TOLERANCE,
                       "an occupancy of these processes")  # fmt: skip
        initial = initial.clamp(min=0)
        initial = initial / initial.sum(-1, keepdim=True)
    policy = mdp.uniform_policy() if start is None else mdp.check_policy("start", start)
    d = state_action_occupancy(mdp, policy, initial)
    batch = torch.broadcast_shapes(d.shape, expert.shape)
    d, policy, expert = d.expand(batch), policy.expand(batch), expert.expand(batch)
    sizes = _step_sizes(step, rounds, d)
    mixtures, learners, policies, gaps, changes, steps = [d], [d], [policy], [], [], []
    for t in range(rounds):
        require_values("step", d, d > 0, "mixtures without zeros: the next reward is infinite")
        shown = TabularMDP(mdp.transition, expert.log() - d.log(), mdp.discount)
        policy = oracle(shown, policy)
        v = state_action_occupancy(shown, policy, initial)
        gaps.append(gap_unchecked(d, v, expert))
        size = line_search(d, v, expert) if sizes is None else sizes[t]
        after = mix(d, v, size)
        changes.append(divergence_unchecked(after, d))
        d = after
        mixtures.append(d)
        learners.append(v)
        policies.append(policy)
        steps.append(size)
    mixture, learner = torch.stack(mixtures), torch.stack(learners)
    return BoostRecord(
        mixture, learner, torch.stack(policies), divergence_unchecked(mixture, expert),
        divergence_unchecked(learner, expert), torch.stack(gaps), torch.stack(changes),
        torch.stack(steps),
    )  # fmt: skip


def best_learner(mdp: TabularMDP, policy: Tensor) -> Tensor:
    """The exact linear oracle: a policy that is best for the round's rewards.

    Equation ``eq-boost-oracle``.

    Args:
        mdp: the processes with the round's rewards.
        policy: the last learner, which plays no part.

    Returns:
        A deterministic policy, shape ``(..., S, A)``.
    """
    return policy_iteration(mdp).policy


def mirror_learner(steps: int, step_size: float) -> Oracle:
    r"""A weak oracle: a few steps of policy mirror descent from the last learner.

    Equation ``eq-pmd-step`` on the round's rewards, with the entropy: natural policy gradient with
    a warm start.

    Args:
        steps: steps in each round.
        step_size: of each of them, positive.

    Returns:
        The oracle.

    Raises:
        TypeError: no numbers.
        ValueError: fewer than one step, or a step size that is not positive.
    """
    require_count("steps", steps)
    require_number("step_size", step_size, 0.0, strict=True)

    def learn(mdp: TabularMDP, policy: Tensor) -> Tensor:
        return policy_mirror_descent(mdp, Entropy(), step_size, steps, policy)

    return learn


def mirror_occupancies(start: Tensor, expert: Tensor, step: float | Tensor, rounds: int) -> Tensor:
    r"""The mirror step of the entropy on the same objective, without the flow constraint.

    Equation ``eq-imitation-mirror``: :math:`x' \propto x^{1-\eta} e^{\eta}`, a geometric mixture
    where boosting has an arithmetic one. Its iterates need not be occupancies.

    Args:
        start: positive law over pairs :math:`x_1`, shape ``(..., S, A)``.
        expert: :math:`e`, positive, of a shape that broadcasts with it.
        step: :math:`\eta` in [0, 1], a number or a tensor of the batch's shape.
        rounds: number of steps.

    Returns:
        All iterates, ``(rounds + 1, ..., S, A)``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: no laws, zeros in them, or a step size outside [0, 1].
    """
    require_both(start=start, expert=expert)
    require_values("start", start, start > 0, "a law that is positive everywhere")
    require_values("expert", expert, expert > 0, "a law that is positive everywhere")
    require_count("rounds", rounds)
    size = require_scale("step", step, start, start.shape[:-2], maximum=1.0, trailing=1)
    shape = torch.broadcast_shapes(start.shape, expert.shape)
    goal = expert.log().flatten(-2)
    points = [start.log().flatten(-2).expand(*shape[:-2], -1)]
    for _ in range(rounds):
        # The gradient of KL(x || e) is log(x / e), up to a constant that the simplex ignores.
        points.append(entropy_step(points[-1], points[-1] - goal, size))
    return torch.stack(points).exp().unflatten(-1, shape[-2:])


def mix(d: Tensor, v: Tensor, step: Tensor) -> Tensor:
    r"""One boosting step, equation ``eq-boost-step``: :math:`(1 - \eta) d + \eta v`.

    Args:
        d: the mixture, ``(..., S, A)``.
        v: occupancy of the new learner, same shape.
        step: :math:`\eta`, shape ``(...)``.

    Returns:
        The next mixture; a weight of 0 forgets its side.
    """
    return torch.lerp(d, v, step[..., None, None])


def line_search(d: Tensor, v: Tensor, expert: Tensor) -> Tensor:
    r"""The :math:`\eta` in [0, 1] whose mixture is nearest to the expert, by halving.

    Args:
        d: the mixture, ``(..., S, A)``.
        v: occupancy of the new learner, same shape.
        expert: :math:`e`, same shape.

    Returns:
        Step sizes, shape ``(...)``.
    """
    low = torch.zeros(d.shape[:-2], dtype=d.dtype, device=d.device)
    high = torch.ones_like(low)
    toward = v - d
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        point = mix(d, v, middle)
        # The derivative of the divergence along the segment; it is convex.
        slope = torch.where(toward == 0, 0.0, toward * (point.log() - expert.log())).sum((-2, -1))
        low, high = torch.where(slope < 0, middle, low), torch.where(slope < 0, high, middle)
    return (low + high) / 2


def _step_sizes(step: Step, rounds: int, like: Tensor) -> Tensor | None:
    """One for each round, shape ``(rounds, ...)``; ``None`` for the line search."""
    if isinstance(step, str):
        if step == "line_search":
            return None
        raise ValueError(
            f"step: expected numbers, a function of the round or 'line_search', got {step!r}"
        )
    entries: list[Size]
    if callable(step):
        entries = [step(t) for t in range(rounds)]
    elif isinstance(step, Sequence):
        entries = [*step]
    else:
        entries = [step] * rounds
    if len(entries) != rounds:
        raise ValueError(f"step: expected {rounds} numbers, one a round, got {len(entries)}")
    batch = like.shape[:-2]
    sizes = []
    for size in entries:
        require_scale("step", size, like, batch, maximum=1.0, widens=False)
        one = size if isinstance(size, Tensor) else like.new_full((), size)
        sizes.append(one.expand(batch))
    return torch.stack(sizes)
