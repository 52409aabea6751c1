"""Rivals without an ensemble: behaviour cloning, ValueDICE and IQ-Learn, all seeds at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.agents import Network, Transitions, adam
from mdtheory.checks import require_count, require_number
from mdtheory.environments import Environment, as_environment
from mdtheory.rl.imitation.demonstrations import (
    Demonstrations,
    draw_rows,
    require_demonstrations,
)
from mdtheory.rl.imitation.training import ImitationSettings, gradient_penalty
from mdtheory.rl.mdpo.off_policy import OffPolicyRun, SquashedPolicy


def behaviour_clone(
    environment: Environment | str,
    demonstrations: Demonstrations,
    generator: torch.Generator,
    *,
    seeds: int,
    steps: int = 1500,
    settings: ImitationSettings | None = None,
) -> SquashedPolicy:
    r"""Behaviour cloning: regression of the expert's action on its observation; no interaction.

    Equation ``eq-behaviour-cloning``: the squashed mean descends
    :math:`\mathbb{E}_e\lVert\tanh\mu_\theta(s) - a\rVert^2`.

    Args:
        environment: whose sizes the policy has.
        demonstrations: of the expert, one set a seed.
        generator: source of all randomness.
        seeds: independent runs.
        steps: gradient steps.
        settings: batch, hidden units and learning rate are used.

    Returns:
        The policies; evaluate their mean actions, the deviation is not learned.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: discrete actions, demonstrations that do not fit, or no step.

    Source:
        Pomerleau (1989).
    """
    plan, policy, pick = _offline(environment, demonstrations, generator, seeds, settings)
    optimizer = adam(policy.network.parameters, plan.learning_rate)
    for _ in range(require_count("steps", steps)):
        observation, action, _ = pick()
        away = policy.law(observation).mode() - action
        optimizer.zero_grad(set_to_none=True)
        away.square().mean((1, 2)).sum().backward()
        optimizer.step()
    return policy


def value_dice(
    environment: Environment | str,
    demonstrations: Demonstrations,
    generator: torch.Generator,
    *,
    seeds: int,
    steps: int = 1500,
    settings: ImitationSettings | None = None,
) -> SquashedPolicy:
    r"""ValueDICE without interaction: a saddle point of a policy and one function :math:`\nu`.

    Equation ``eq-value-dice``: :math:`\nu` climbs the objective on minibatches, under a gradient
    penalty, the policy goes down. Every state of the expert serves as a first one, as in the paper.

    Args:
        environment: whose sizes the policy has.
        demonstrations: of the expert, one set a seed.
        generator: source of all randomness.
        seeds: independent runs.
        steps: gradient steps of each player.
        settings: batch, hidden units, learning rate, discount and penalty are used.

    Returns:
        The policies.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: discrete actions, demonstrations that do not fit, or no step.

    Source:
        Kostrikov, Nachum and Tompson (2020).
    """
    plan, policy, pick = _offline(environment, demonstrations, generator, seeds, settings)
    sizes = (demonstrations.observation.shape[-1] + policy.actions, *plan.hidden, 1)
    nu = Network(seeds, sizes, generator, activation="relu")
    climbing = adam(nu.parameters, plan.learning_rate)
    falling = adam(policy.network.parameters, plan.learning_rate)

    def act(observation: Tensor) -> Tensor:
        return policy.law(observation).sample(generator)[0].tanh()

    def value(observation: Tensor, action: Tensor, parameters: list[Tensor] | None) -> Tensor:
        return nu(torch.cat([observation, action], -1), parameters)[..., 0]

    for _ in range(require_count("steps", steps)):
        (s, a, after), (first, _, _) = pick(), pick()

        def objective(
            new: Tensor, ahead: Tensor, parameters: list[Tensor] | None = None,
            s: Tensor = s, a: Tensor = a, after: Tensor = after, first: Tensor = first,
        ) -> Tensor:  # fmt: skip
            x = value(s, a, parameters) - plan.discount * value(after, ahead, parameters)
            inside = x.logsumexp(-1) - math.log(x.shape[-1])
            return (1 - plan.discount) * value(first, new, parameters).mean(-1) - inside

        with torch.no_grad():
            new, ahead = act(first), act(after)
        penalty = gradient_penalty(
            lambda pairs: nu(pairs)[..., 0],
            torch.cat([s, a], -1), torch.cat([first, new], -1), generator,
        )  # fmt: skip
        climbing.zero_grad(set_to_none=True)
        (plan.penalty * penalty - objective(new, ahead)).sum().backward()
        climbing.step()
        falling.zero_grad(set_to_none=True)
        fixed = [p.detach() for p in nu.parameters]
        objective(act(first), act(after), fixed).sum().backward()
        falling.step()
    return policy


def iq_learn(
    environment: Environment | str,
    demonstrations: Demonstrations,
    generator: torch.Generator,
    *,
    seeds: int,
    alpha: float = 0.5,
    settings: ImitationSettings | None = None,
) -> SquashedPolicy:
    r"""IQ-Learn: the critic itself is what the expert's behaviour is fitted with.

    Equation ``eq-iq-learn``: with :math:`r = Q(s, a) - \gamma V(s')` the critics descend
    :math:`-\mathbb{E}_e\,r + \mathbb{E}[V(s) - \gamma V(s')] + \mathbb{E}\,r^2/(4\alpha)`, the last
    two means over expert and replay together, :math:`V` the soft value under the policy, which
    climbs the critics as in soft actor-critic.

    Args:
        environment: what to act in, or its name in gymnasium.
        demonstrations: of the expert, one set a seed.
        generator: source of all randomness.
        seeds: independent runs.
        alpha: :math:`\alpha > 0` of the chi-square regulariser.
        settings: sizes and rates; it interacts as often as boosting with the same settings.

    Returns:
        The policies.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: discrete actions, demonstrations that do not fit, or a number out of range.

    Source:
        Garg, Chakraborty, Cundy, Song and Ermon (2021).
    """
    plan = ImitationSettings() if settings is None else settings
    environment = as_environment(environment)
    require_count("seeds", seeds)
    require_demonstrations(demonstrations, environment, seeds, generator.device)
    require_number("alpha", alpha, 0.0, strict=True)
    run = _InverseRun(environment, demonstrations, generator, seeds, alpha, plan)
    try:
        while run.done < run.iterations:
            run.iterate()
    finally:
        run.world.close()
    return run.policy


class _InverseRun(OffPolicyRun):
    """The off-policy loop whose critics fit the expert in place of a reward."""

    def __init__(
        self,
        environment: Environment,
        demonstrations: Demonstrations,
        generator: torch.Generator,
        seeds: int,
        alpha: float,
        plan: ImitationSettings,
    ) -> None:
        total = plan.rounds * (2 * plan.updates + plan.samples)
        super().__init__(environment, total, generator, seeds, plan.learner())
        self.shown, self.alpha = demonstrations, alpha

    def improve_critic(self, batch: Transitions) -> None:
        """One step of both critics; the replay's half and the expert's side by side."""
        s = self.settings
        shape = (self.seeds, batch.observation.shape[1])
        index = torch.randint(
            self.shown.observation.shape[1], shape,
            generator=self.generator, device=self.generator.device,
        )  # fmt: skip
        expert = draw_rows(self.shown[:3], index)
        here, done, after = (
            torch.cat(pair, 1)
            for pair in zip(expert, (batch.observation, batch.action, batch.after), strict=True)
        )
        with torch.no_grad():
            (now, log_now), (ahead, log_ahead) = (
                self.policy.law(seen).sample(self.generator) for seen in (here, after)
            )
        soft = self._values(here, now.tanh()) - s.entropy_weight * log_now[:, None]
        soft_ahead = self._values(after, ahead.tanh()) - s.entropy_weight * log_ahead[:, None]
        reward = self._values(here, done) - s.discount * soft_ahead
        # A step that only reset its environment is no experience.
        weight = torch.cat([torch.ones_like(batch.weight), batch.weight], 1)[:, None]
        count = weight.sum(-1)
        rest = soft - s.discount * soft_ahead + reward.square() / (4 * self.alpha)
        half = index.shape[1]
        loss = (weight * rest).sum(-1) / count - reward[..., :half].mean(-1)
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()
        self.critic_optimizer.step()


def _offline(
    environment: Environment | str,
    demonstrations: Demonstrations,
    generator: torch.Generator,
    seeds: int,
    settings: ImitationSettings | None,
) -> tuple[ImitationSettings, SquashedPolicy, _Pick]:
    """The checked arguments of a rival that does not interact, and a fresh policy."""
    plan = ImitationSettings() if settings is None else settings
    environment = as_environment(environment)
    require_count("seeds", seeds)
    require_demonstrations(demonstrations, environment, seeds, generator.device)
    policy = SquashedPolicy(environment, seeds, plan.hidden, generator)
    return plan, policy, _Pick(demonstrations, plan.batch, generator)


class _Pick:
    """Minibatches of an expert's steps: observations, actions, observations after."""

    def __init__(
        self, demonstrations: Demonstrations, batch: int, generator: torch.Generator
    ) -> None:
        self.parts, self.batch, self.generator = demonstrations[:3], batch, generator

    def __call__(self) -> tuple[Tensor, ...]:
        seeds, steps = self.parts[0].shape[:2]
        index = torch.randint(
            steps, (seeds, self.batch), generator=self.generator, device=self.generator.device
        )
        return draw_rows(self.parts, index)
