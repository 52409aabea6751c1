"""Training on answers that may be old: all algorithms and all seeds as one tensor program."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.agents import Network, adam, clip_gradients
from mdtheory.agents.networks import Activation
from mdtheory.checks import require_count, require_number
from mdtheory.rl.group_relative.advantages import (
    RedKind,
    group_advantages_unchecked,
    red_weights_unchecked,
)
from mdtheory.rl.group_relative.arithmetic import Products, imitate, repeated
from mdtheory.rl.group_relative.losses import (
    EDGES,
    Clip,
    Form,
    opmd_loss_unchecked,
    rec_loss_unchecked,
)


class Answers(NamedTuple):
    """A batch of groups: log-probabilities now and when they were given, rewards, and chance.

    Attributes:
        log_prob: of each token, shape ``(..., prompts, K, L)``.
        old_log_prob: under the policy that acted, likewise.
        rewards: shape ``(..., prompts, K)``.
        generator: source of the draw of RED-Drop.
    """

    log_prob: Tensor
    old_log_prob: Tensor
    rewards: Tensor
    generator: torch.Generator


Loss = Callable[[Answers], Tensor]


def _rec(
    kind: Clip = "none",
    importance: bool = False,
    *,
    normalize: bool = False,
    shift: float = 0.0,
    edges: tuple[float, float, float, float] = EDGES,
) -> Loss:
    def loss(batch: Answers) -> Tensor:
        advantage = group_advantages_unchecked(batch.rewards, normalize, shift)
        return rec_loss_unchecked(*_flat(batch, advantage), None, kind, importance, edges)

    return loss


def _opmd(form: Form, coefficient: float = 0.1) -> Loss:
    def loss(batch: Answers) -> Tensor:
        advantage = group_advantages_unchecked(batch.rewards)
        # Whole answers over their length, so that one learning rate suits both forms.
        length = batch.log_prob.shape[-1] if form == "paper" else 1
        parts = _flat(batch, advantage)
        return opmd_loss_unchecked(*parts, None, coefficient, form) / length

    return loss


def _red(kind: RedKind) -> Loss:
    def loss(batch: Answers) -> Tensor:
        factor, baseline = red_weights_unchecked(batch.rewards, kind, 1.0, batch.generator)
        advantage = factor * (batch.rewards - baseline)
        return rec_loss_unchecked(*_flat(batch, advantage), None, "none", False)

    return loss


def _flat(batch: Answers, advantage: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All groups of a batch side by side."""
    return batch.log_prob.flatten(-3, -2), batch.old_log_prob.flatten(-3, -2), advantage.flatten(-2)


# The name of an algorithm, and its loss of a batch.
ALGORITHMS: dict[str, Loss] = {
    "REINFORCE": _rec(),
    "GRPO": _rec("one_side", True, normalize=True),
    "REC-1S-IS": _rec("one_side", True),
    "REC-1S": _rec("one_side"),
    "REC-1S wide": _rec("one_side", edges=(0.6, 2.0, 0.6, 2.0)),
    "REC-2S-IS": _rec("two_side", True),
    "REC-2S": _rec("two_side"),
    "REC-Ring-IS": _rec("ring", True),
    "REC-Ring": _rec("ring"),
    "OPMD-Kimi": _opmd("kimi"),
    "OPMD-paper": _opmd("paper"),
    "AsymRE": _rec(shift=0.1),
    "RED-Weight": _red("weight"),
    "RED-Weight centred": _red("weight_centred"),
    "RED-Drop": _red("drop"),
}


def stale_versions(steps: int, interval: float, offset: int = 0) -> list[int]:
    r"""Which version of the policy gave the answers of each step.

    Equation ``eq-stale-versions``: version 0 before ``offset``, then
    :math:`n\lfloor(k - m)/n\rfloor` with the interval :math:`n` and the offset :math:`m`.
    Version ``k`` is the policy before step ``k``, so an interval of 1 without offset is on-policy.

    Args:
        steps: number of steps, at least 0.
        interval: steps between two copies of the policy, a whole number >= 1; ``math.inf`` is
            offline.
        offset: steps before the first copy may be taken, at least 0.

    Returns:
        One version a step.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number out of range.

    Source:
        Yao et al. (2026), after the scheduler of the authors' code.
    """
    require_count("steps", steps, 0)
    require_count("offset", offset, 0)
    if isinstance(interval, float) and math.isinf(interval):
        require_number("interval", interval, 1.0, infinite=True)
        return [0] * steps
    if isinstance(interval, float) and interval.is_integer():
        interval = int(interval)
    whole = require_count("interval", interval)  # type: ignore[arg-type]
    return [max(0, (k - offset) // whole * whole) for k in range(steps)]


class GroupRecord(NamedTuple):
    r"""Curves of a training run, every one of shape ``(points, algorithms, seeds)``, float32.

    Attributes:
        steps: the steps at which the points lie, the start and the end among them.
        value: expected reward, exactly.
        greedy: share of right answers when the likeliest digits are taken.
        entropy: of a digit, in nats.
        drift: mean :math:`|\log\rho|` of the tokens of the step before; 0 at the start.
    """

    steps: list[int]
    value: Tensor
    greedy: Tensor
    entropy: Tensor
    drift: Tensor


def train_group_relative(
    algorithms: Sequence[str],
    versions: Sequence[int],
    seeds: int,
    generator: torch.Generator,
    *,
    task: Products | None = None,
    hidden: Sequence[int] = (32, 32),
    activation: Activation = "relu",
    base_steps: int = 300,
    noise: float = 0.3,
    prompts: int = 8,
    group: int = 8,
    learning_rate: float = 3e-3,
    every: int = 20,
    clip: float = 1.0,
) -> GroupRecord:
    """Train policies on the products of two numbers, every algorithm for every seed at once.

    Each seed has a base policy of its own, taught by noisy imitation, with which all its
    algorithms begin. In step ``k`` the version ``versions[k]`` of each policy answers ``prompts``
    prompts ``group`` times, and the policy takes one step of Adam on its algorithm's loss. Prompts
    and the draws behind the answers are common to all algorithms of a seed.

    Args:
        algorithms: names in ``ALGORITHMS``.
        versions: such as :func:`stale_versions` makes them; ``versions[k]`` is at most ``k`` and
            never falls.
        seeds: how many.
        generator: source of all chance; everything lives on its device.
        task: what is asked; the products of two digits by default.
        hidden: units of the policies' hidden layers.
        activation: of these, ``"relu"`` or ``"tanh"``.
        base_steps: steps of imitation before.
        noise: how wrong the imitated answers are, as in :func:`imitate`.
        prompts: in a batch.
        group: :math:`K`, answers to each prompt, at least 2.
        learning_rate: of Adam, above 0.
        every: steps between two points of the curves.
        clip: largest norm of a policy's gradient, above 0.

    Returns:
        The curves.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an unknown algorithm, versions that do not exist yet, or numbers out of range.
    """
    _check_training(algorithms, versions, seeds, prompts, group, every)
    require_number("learning_rate", learning_rate, 0.0, strict=True)
    require_number("clip", clip, 0.0, strict=True)
    device, copies = generator.device, len(algorithms)
    task = Products(device=device) if task is None else task
    base = task.policy(seeds, generator, hidden=hidden, activation=activation)
    imitate(task, base, base_steps, generator, noise=noise)
    network = repeated(base, copies)
    # A source of its own, so that RED-Drop changes nobody else's draws.
    own = torch.Generator(device)
    own.manual_seed(int(torch.randint(2**62, (), generator=generator, device=device)))
    optimizer = adam(network.parameters, learning_rate)
    wanted = set(versions)
    kept = {0: _still(network)}
    curve = [(0, task.measure(network), torch.zeros(copies * seeds, device=device))]
    for k, version in enumerate(versions):
        asked = torch.randint(task.prompts, (seeds, prompts), generator=generator, device=device)
        draws = (seeds, prompts * group, task.length)
        uniform = torch.rand(draws, generator=generator, device=device).repeat(copies, 1, 1)
        asked = asked.repeat_interleave(group, 1).repeat(copies, 1)
        tokens, old, rows = task.sample(network, asked, uniform, kept[version])
        log_prob = task.log_probs(network, rows).gather(-1, tokens[..., None])[..., 0]
        if version == k:  # the same policy: without the rounding of another program
            old = log_prob.detach()
        now, then, rewards = (
            part.unflatten(0, (copies, seeds)).unflatten(2, (prompts, group))
            for part in (log_prob, old, task.reward(asked, tokens))
        )
        losses = [
            ALGORITHMS[name](Answers(now[i], then[i], rewards[i], own)).sum()
            for i, name in enumerate(algorithms)
        ]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        clip_gradients(network.parameters, clip)
        optimizer.step()
        kept = {v: parameters for v, parameters in kept.items() if v >= version}
        if k + 1 in wanted:
            kept[k + 1] = _still(network)
        if (k + 1) % every == 0 or k + 1 == len(versions):
            drift = (log_prob.detach() - old).abs().mean((1, 2))
            curve.append((k + 1, task.measure(network), drift))
    steps, measures, drifts = zip(*curve, strict=True)
    table = [
        torch.stack(list(part)).unflatten(1, (copies, seeds))
        for part in (*zip(*measures, strict=True), drifts)
    ]
    return GroupRecord(list(steps), *table)


def _still(network: Network) -> list[Tensor]:
    """The parameters as they are now."""
    return [p.detach().clone() for p in network.parameters]


def _check_training(
    algorithms: Sequence[str],
    versions: Sequence[int],
    seeds: int,
    prompts: int,
    group: int,
    every: int,
) -> None:
    if isinstance(algorithms, str) or not algorithms:
        raise ValueError(f"algorithms: expected a sequence of names, got {algorithms!r}")
    for name in algorithms:
        if name not in ALGORITHMS:
            raise ValueError(f"algorithms: expected names of {list(ALGORITHMS)}, got {name!r}")
    for name, number in (("seeds", seeds), ("prompts", prompts), ("every", every)):
        require_count(name, number)
    require_count("group", group, 2)
    before = 0
    for k, version in enumerate(versions):
        require_count("versions", version, before)
        if version > k:
            raise ValueError(f"versions: expected at most {k} in step {k}, got {version}")
        before = version
