"""Imitation through physics, and a learner for which the same physics is a black box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.agents import adam, clip_gradients
from mdtheory.checks import require_count, require_number, require_scale
from mdtheory.environments.differentiable import Constants, Differentiable
from mdtheory.rl.differentiable_physics.gradients import likelihood_ratio_gradient
from mdtheory.rl.differentiable_physics.imitators import (
    Demonstration,
    Imitator,
    behaviour_cloning,
    require_demonstration,
)
from mdtheory.rl.differentiable_physics.losses import chamfer_terms, state_matching_loss
from mdtheory.rl.differentiable_physics.rollouts import rollout

Loss = Callable[[Tensor, Tensor], Tensor]
# Weights of deviation, coverage and matching; the first is multiplied by alpha.
WEIGHTS = {
    "chamfer": (1.0, 1.0, 0.0),
    "deviation": (1.0, 0.0, 0.0),
    "coverage": (0.0, 1.0, 0.0),
    "matching": (0.0, 0.0, 1.0),
}
LAST_RATE = 1e-5


class ILDRecord(NamedTuple):
    """What a run of imitation leaves.

    Attributes:
        policy: the policies after the last iteration.
        losses: mean over the rollouts, before each step, ``(iterations, seeds)``.
        gradient_norms: of all parameters before clipping, ``(iterations, seeds)``.
    """

    policy: Imitator
    losses: Tensor
    gradient_norms: Tensor


def train_ild(
    environment: Differentiable,
    demonstration: Demonstration | Tensor,
    *,
    loss: str | Sequence[str] | Loss = "chamfer",
    seeds: int,
    iterations: int,
    generator: torch.Generator | None = None,
    policy: Imitator | None = None,
    alpha: float | Tensor = 1.0,
    truncation: int | Tensor | None = 10,
    step_clip: float | Tensor = 1.0,
    gradient_clip: float = 0.3,
    copies: int = 24,
    learning_rate: float = 2e-3,
    spread: float | None = None,
    parameters: Constants | None = None,
    warm_up: int = 1500,
    hidden: Sequence[int] = (64, 64),
) -> ILDRecord:
    r"""Imitation through physics, ``alg-ild``, all seeds as one batch.

    Rows of the batch may differ in loss, weight, truncation and clip, so that a comparison of
    methods is one run: a seed is a row.

    Args:
        environment: the world.
        demonstration: one trajectory; or its states alone, and then nothing is cloned first.
        loss: ``"chamfer"``, ``"deviation"``, ``"coverage"`` or ``"matching"``, one for all or one
            for each seed; or a function of features ``(seeds, copies, steps, k)`` and the shown
            ones ``(steps, k)`` that keeps the leading axes.
        seeds: number of policies.
        iterations: gradient steps.
        generator: source of weights and starts; by default one of its own.
        policy: what to start from, left as it is; by default behaviour cloning.
        alpha: weight of the deviation, a number or one for each seed; 1 with a function, which
            weighs its terms itself.
        truncation: as for :func:`rollout`, a number or one for each seed.
        step_clip: likewise; it meets the loss of one rollout, not of the mean over them.
        gradient_clip: largest norm of a seed's parameter gradient; infinity clips nothing. A
            gradient that is not finite is left out.
        copies: rollouts of each seed in an iteration.
        learning_rate: of Adam at the start; it falls linearly to 1e-5.
        spread: of the starts, by default the world's own.
        parameters: physical constants that are not the usual ones.
        warm_up: steps of cloning.
        hidden: units of each hidden layer.

    Returns:
        The record.

    Raises:
        TypeError: a demonstration or a loss of another type.
        ValueError: an unknown loss, shapes that do not fit, a number out of range.
    """
    generator, policy, states = _prepare(
        environment, demonstration, seeds, generator, policy, warm_up, hidden
    )
    require_count("iterations", iterations, 0)
    require_count("copies", copies)
    require_number("gradient_clip", gradient_clip, 0.0, strict=True, infinite=True)
    if callable(loss):
        if isinstance(alpha, Tensor) or alpha != 1.0:
            raise ValueError(f"alpha: expected 1 with a function for the loss, got {alpha!r}")
        weights = None
    else:
        weights = _weights(loss, seeds, states, alpha)
    shown = environment.features(states)
    # One for each seed is to meet its copies.
    cut = truncation[:, None] if isinstance(truncation, Tensor) and truncation.ndim else truncation
    clip = step_clip[:, None] if isinstance(step_clip, Tensor) and step_clip.ndim else step_clip
    optimiser = _Descent(policy, learning_rate, iterations, gradient_clip)
    losses = states.new_zeros(iterations, seeds)
    norms = torch.zeros_like(losses)
    for k in range(iterations):
        start = environment.reset((seeds, copies), generator, spread)
        path = rollout(
            environment, policy, start, len(states), truncation=cut, step_clip=clip,
            parameters=parameters,
        )  # fmt: skip
        each = _judge(environment.features(path), shown, loss, weights)
        losses[k] = each.detach().mean(-1)
        norms[k] = optimiser.step(k, each.sum(), copies)
    return ILDRecord(policy, losses, norms)


def train_likelihood_ratio(
    environment: Differentiable,
    demonstration: Demonstration | Tensor,
    *,
    seeds: int,
    iterations: int,
    generator: torch.Generator | None = None,
    policy: Imitator | None = None,
    deviation: float = 0.3,
    alpha: float = 1.0,
    gradient_clip: float = 0.3,
    copies: int = 24,
    learning_rate: float = 2e-3,
    spread: float | None = None,
    parameters: Constants | None = None,
    warm_up: int = 1500,
    hidden: Sequence[int] = (64, 64),
) -> ILDRecord:
    r"""The same Chamfer loss by likelihood ratios, ``eq-likelihood-ratio``.

    Actions are :math:`\tanh(\mu + \sigma\epsilon)`. What a visited state deviates is paid when it
    is reached, the coverage at the end; each action is judged by what is paid after it, less the
    mean over the rollouts, in units of its spread.

    Args:
        environment: the world, whose gradients are not used.
        demonstration: as for :func:`train_ild`, as are the arguments that are not here.
        seeds: number of policies.
        iterations: gradient steps.
        generator: source of all randomness.
        policy: what to start from.
        deviation: :math:`\sigma > 0`, of the noise before the squashing.
        alpha: weight of the deviation term.
        gradient_clip: largest norm of a seed's gradient.
        copies: rollouts of each seed in an iteration.
        learning_rate: of Adam at the start.
        spread: of the starts.
        parameters: physical constants that are not the usual ones.
        warm_up: steps of cloning.
        hidden: units of each hidden layer.

    Returns:
        The record; its losses are those of the noisy policies.

    Raises:
        TypeError: a demonstration of another type.
        ValueError: shapes that do not fit, a number out of range.
    """
    generator, policy, states = _prepare(
        environment, demonstration, seeds, generator, policy, warm_up, hidden
    )
    require_count("iterations", iterations, 0)
    require_count("copies", copies, 2)
    require_number("deviation", deviation, 0.0, strict=True)
    require_number("alpha", alpha, 0.0)
    shown = environment.features(states)
    optimiser = _Descent(policy, learning_rate, iterations, gradient_clip)
    losses = states.new_zeros(iterations, seeds)
    norms = torch.zeros_like(losses)
    for k in range(iterations):
        here = environment.reset((seeds, copies), generator, spread)
        path, seen, drawn = [here], [], []
        with torch.no_grad():
            for _ in range(len(states) - 1):
                seen.append(environment.observe(here))
                mean = policy.before_squashing(seen[-1])
                noise = torch.randn(
                    mean.shape, generator=generator, device=mean.device, dtype=mean.dtype
                )
                drawn.append(mean + deviation * noise)
                here = environment.step(here, drawn[-1].tanh(), parameters)
                path.append(here)
            paid = _payments(environment.features(torch.stack(path, -2)), shown, alpha)
            losses[k] = paid.sum(-1).mean(-1)
            after = paid[..., 1:].flip(-1).cumsum(-1).flip(-1)
            after = after - after.mean(1, keepdim=True)
            judged = after / after.std((1, 2), keepdim=True).clamp(min=1e-8)
        # The means once more, with a graph: (seeds, copies * steps, actions).
        mean = policy.before_squashing(torch.stack(seen, -2).flatten(1, 2))
        chosen = torch.stack(drawn, -2).flatten(1, 2)
        slopes = likelihood_ratio_gradient(mean.detach(), chosen, judged.flatten(1, 2), deviation)
        # Linear in the means, with the estimate as its slopes.
        norms[k] = optimiser.step(k, (slopes * mean).sum(-1).mean(-1).sum(), 1)
    return ILDRecord(policy, losses, norms)


class _Descent:
    """Adam with a falling step, on gradients that are clipped seed by seed."""

    def __init__(self, policy: Imitator, rate: float, iterations: int, most: float) -> None:
        self.parameters = policy.network.parameters
        self.rate = require_number("learning_rate", rate, 0.0, strict=True)
        self.iterations, self.most = iterations, most
        self.optimiser = adam(self.parameters, self.rate)

    def step(self, k: int, total: Tensor, copies: int) -> Tensor:
        """One step on the mean over the copies; returns the gradients' norms."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate + (LAST_RATE - self.rate) * k / self.iterations
        self.optimiser.zero_grad()
        total.backward()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        sound = torch.stack([g.flatten(1).isfinite().all(-1) for g in gradients]).all(0)
        for gradient in gradients:
            row = sound.reshape(-1, *(1,) * (gradient.ndim - 1))
            gradient.copy_(torch.where(row, gradient / copies, 0.0))
        norms = clip_gradients(self.parameters, self.most)
        self.optimiser.step()
        return torch.where(sound, norms, torch.inf)


def _prepare(
    environment: Differentiable,
    demonstration: Demonstration | Tensor,
    seeds: int,
    generator: torch.Generator | None,
    policy: Imitator | None,
    warm_up: int,
    hidden: Sequence[int],
) -> tuple[torch.Generator, Imitator, Tensor]:
    """A generator, policies to be trained, and the shown states."""
    require_count("seeds", seeds)
    if generator is None:
        first = demonstration[0] if isinstance(demonstration, Demonstration) else demonstration
        place = first.device if isinstance(first, Tensor) else "cpu"
        generator = torch.Generator(place).manual_seed(0)
    states, actions = require_demonstration(demonstration, environment, generator.device)
    if policy is not None:
        if policy.seeds != seeds:
            raise ValueError(f"policy: expected {seeds} seeds, got {policy.seeds}")
        policy = policy.rows(slice(None))
    elif actions is None:
        policy = Imitator(environment, seeds, generator, environment.observe(states), hidden)
    else:
        policy = behaviour_cloning(
            environment, Demonstration(states, actions), generator, seeds=seeds, steps=warm_up,
            hidden=hidden,
        )  # fmt: skip
    return generator, policy, states


def _weights(loss: object, seeds: int, states: Tensor, alpha: float | Tensor) -> tuple[Tensor, ...]:
    """Weights of the three terms, shape ``(seeds, 1)`` each."""
    names = [loss] * seeds if isinstance(loss, str) else loss
    if not isinstance(names, Sequence):
        raise TypeError(f"loss: expected a name, names or a function, got {type(loss).__name__}")
    if len(names) != seeds:
        raise ValueError(f"loss: expected one for each of {seeds} seeds, got {len(names)}")
    for name in names:
        if name not in WEIGHTS:
            raise ValueError(f"loss: expected one of {tuple(WEIGHTS)}, got {name!r}")
    rows = states.new_tensor([WEIGHTS[name] for name in names])
    weight = require_scale("alpha", alpha, states, (seeds,), widens=False)
    chosen = rows[:, 0] * weight, rows[:, 1], rows[:, 2]
    return tuple(part[:, None] for part in chosen)


def _judge(
    features: Tensor, shown: Tensor, loss: object, weights: tuple[Tensor, ...] | None
) -> Tensor:
    """Losses of the rollouts, ``(seeds, copies)``; terms that nobody weighs are left out."""
    if weights is None:
        assert callable(loss)
        judged: Tensor = loss(features, shown)
        return judged
    total = features.new_zeros(features.shape[:-2])
    if bool((weights[0] > 0).any() or (weights[1] > 0).any()):
        for weight, term in zip(weights, chamfer_terms(features, shown), strict=False):
            total = total + weight * term
    if bool((weights[2] > 0).any()):
        total = total + weights[2] * state_matching_loss(features, shown)
    return total


def _payments(features: Tensor, shown: Tensor, alpha: float) -> Tensor:
    """What each visited state is charged, ``(seeds, copies, steps)``; the sum is the loss."""
    wide = shown.expand(*features.shape[:2], *shown.shape)
    apart = torch.cdist(features, wide) / features.shape[-1] ** 0.5
    charged: Tensor = alpha * apart.amin(-1) / features.shape[-2]
    charged[..., -1] += apart.amin(-2).mean(-1)
    return charged
