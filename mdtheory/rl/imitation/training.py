"""Boosting from samples: the loop of AILBoost; DAC, uniform and on-policy weights as settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from mdtheory.agents import Network, Replay, Transitions, adam, evaluate
from mdtheory.checks import require_count, require_number
from mdtheory.environments import Environment, as_environment
from mdtheory.rl.imitation.demonstrations import (
    Demonstrations,
    draw_rows,
    refuse_termination,
    require_demonstrations,
)
from mdtheory.rl.imitation.discriminators import Loss, loss_unchecked, require_kind
from mdtheory.rl.imitation.occupancies import ensemble_weights
from mdtheory.rl.mdpo.off_policy import OffPolicyRun, OffPolicySettings, SquashedPolicy

Weighting = Literal["boost", "uniform", "last"]
Deploy = Literal["ensemble", "last"]
Judge = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ImitationSettings:
    r"""What a run of boosting is made of; the small defaults suit the book's two swing-ups.

    Attributes:
        rounds: weak learners after the first.
        updates: policy updates of a weak learner, one for every two transitions: its strength.
        samples: transitions of each learner that the discriminator sees; they are interactions,
            too, and its whole episodes.
        discriminator_steps: steps of the discriminator in a round.
        relabel: whether a transition's reward is computed anew at each update; else it is that of
            the day on which it was stored.
        bound: :math:`B`; outputs are :math:`B\tanh(\cdot/B)`.
        penalty: weight of the gradient penalty.
        learning_rate: of Adam, for policy, critics and discriminator.
        batch: samples of every gradient step.
        hidden: units of each hidden layer of every network.
        copies: environments of each seed while learning.
        discount: :math:`\gamma` of the weak learner.
        decay: what the target critics keep in a step.
        entropy_weight: weight of the entropy in the weak learner, soft actor-critic.
        divergence_weight: weight of the divergence from an old policy; off-policy MDPO where it is
            not ``entropy_weight``.
        old_every: interactions between two copies of the policy into the old one.
        evaluations: rows of the record after the first.
        episodes: episodes of an evaluation.
    """

    rounds: int = 24
    updates: int = 250
    samples: int = 400
    discriminator_steps: int = 50
    relabel: bool = True
    bound: float = 1.0
    penalty: float = 10.0
    learning_rate: float = 1e-3
    batch: int = 64
    hidden: tuple[int, ...] = (32, 32)
    copies: int = 4
    discount: float = 0.99
    decay: float = 0.995
    entropy_weight: float = 0.05
    divergence_weight: float = 0.05
    old_every: int = 250
    evaluations: int = 4
    episodes: int = 20

    def __post_init__(self) -> None:
        for name in ("rounds", "updates", "samples", "discriminator_steps", "batch", "copies",
                     "evaluations", "episodes"):  # fmt: skip
            require_count(name, getattr(self, name))
        require_number("bound", self.bound, 0.0, strict=True)
        require_number("penalty", self.penalty, 0.0)

    def learner(self) -> OffPolicySettings:
        """The settings of the weak learner, the off-policy loop of an earlier chapter."""
        return OffPolicySettings(
            copies=self.copies, updates=max(1, self.copies // 2), discount=self.discount,
            divergence_weight=self.divergence_weight, entropy_weight=self.entropy_weight,
            learning_rate=self.learning_rate, batch=self.batch, decay=self.decay, warm_up=1,
            hidden=self.hidden, old_every=self.old_every, record_every=10**9,
        )  # fmt: skip


class Ensemble:
    """Learners and their weights, for each seed its own.

    A learner is drawn once for an episode and plays its squashed mean.

    Args:
        policy: whose network the learners share in form.

    Attributes:
        members: parameters of the learners, in their order; memory of their own.
        weights: probability of each, float64, shape ``(seeds, n)``.
    """

    def __init__(self, policy: SquashedPolicy) -> None:
        self.policy = policy
        self.members: list[list[Tensor]] = []
        self.weights = torch.ones(policy.seeds, 0, dtype=torch.float64)

    def add(self, parameters: list[Tensor], weights: Tensor) -> None:
        """Take in a copy of a learner.

        Args:
            parameters: of its network; copied, for the network goes on learning.
            weights: probability of every learner from now on, shape ``(seeds, n + 1)``.
        """
        self.members.append([p.detach().clone() for p in parameters])
        self.weights = weights

    def draw(self, episodes: int, generator: torch.Generator) -> Drawn:
        """Draw a learner for each of some episodes that are played side by side.

        Args:
            episodes: of each seed.
            generator: source of the choices.

        Returns:
            An actor; its choice does not change, so it is good for one episode a copy.
        """
        return Drawn(self, self.choose(episodes, generator))

    def choose(self, number: int, generator: torch.Generator) -> Tensor:
        """Draw learners by their weights.

        Args:
            number: of each seed.
            generator: source of the choices.

        Returns:
            Which, int64, shape ``(seeds, number)``.
        """
        chances = self.weights.to(generator.device)
        return torch.multinomial(chances, number, replacement=True, generator=generator)


class Drawn:
    """An ensemble with a learner drawn for every episode.

    Args:
        ensemble: whose learners act.
        choice: which acts in each episode, int64, ``(seeds, episodes)``.
    """

    def __init__(self, ensemble: Ensemble, choice: Tensor) -> None:
        self.seeds, self.choice = ensemble.policy.seeds, choice
        self.network, self.actions = ensemble.policy.network, ensemble.policy.actions
        seed = torch.arange(self.seeds, device=choice.device)[:, None]
        self.parameters = [
            torch.stack(parts)[choice, seed].flatten(0, 1)
            for parts in zip(*ensemble.members, strict=True)
        ]

    def act(self, observation: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Squashed means of the drawn learners.

        Args:
            observation: shape ``(seeds, episodes, observed)``.
            generator: not used; the draw has been made.

        Returns:
            Actions in [-1, 1], shape ``(seeds, episodes, actions)``.
        """
        with torch.no_grad():
            output = self.network(observation.flatten(0, 1)[:, None], self.parameters)
        return output[:, 0, : self.actions].tanh().unflatten(0, tuple(self.choice.shape))


class ImitationRecord(NamedTuple):
    """What a run left behind; one column a seed.

    Attributes:
        interactions: steps of the environment so far, of each seed, int64, ``(K,)``.
        last: mean return of the newest policy (its mean actions), ``(K, seeds)``.
        ensemble: mean return of the ensemble, one learner an episode, ``(K, seeds)``.
        divergence: what the loss ``"reverse_kl"`` says about the divergence, a running mean of 1
            less the loss, nats, ``(K, seeds)``; NaN for the other loss.
        members: the ensemble.
        policy: what is deployed, ``members`` or the newest policy.
    """

    interactions: Tensor
    last: Tensor
    ensemble: Tensor
    divergence: Tensor
    members: Ensemble
    policy: Ensemble | SquashedPolicy


def train_ail_boost(
    environment: Environment | str,
    demonstrations: Demonstrations,
    generator: torch.Generator,
    *,
    seeds: int,
    weighting: Weighting | Sequence[Weighting] = "boost",
    step: float | Sequence[float] = 0.05,
    loss: Loss | Sequence[Loss] = "reverse_kl",
    deploy: Deploy = "ensemble",
    settings: ImitationSettings | None = None,
) -> ImitationRecord:
    r"""Adversarial imitation by boosting, all seeds as one tensor program.

    Algorithm ``alg-ail-boost``: in every round a *copy* of the policy joins the ensemble and is
    rolled out, the weights move (``eq-ensemble-weights``), the discriminator takes steps on the
    loss ``eq-discriminator`` with its penalty ``eq-gradient-penalty``, learners drawn by their
    weights, and the policy, warm, takes its updates with the discriminator's output as reward,
    which is computed anew at every update.

    DAC in this frame is ``weighting="uniform", loss="logistic", deploy="last"``. ``weighting``,
    ``step`` and ``loss`` may be sequences with one entry a seed: methods side by side, one program.

    Args:
        environment: what to act in, or its name in gymnasium; continuous actions, and episodes that
            only a time limit ends.
        demonstrations: of the expert, one set a seed.
        generator: source of all randomness; everything lives on its device.
        seeds: independent runs, which share nothing but the program.
        weighting: weights of the learners in the discriminator's data and in the ensemble:
            ``"boost"``; ``"uniform"``, 1/n; ``"last"``, the newest alone.
        step: :math:`\eta` in [0, 1] of ``"boost"``.
        loss: of the discriminator, see :func:`discriminator_loss`.
        deploy: what the record calls its policy; both are evaluated.
        settings: everything else.

    Returns:
        The record.

    Raises:
        ImportError: gymnasium, or what the environment needs, is not installed.
        TypeError: an argument of a wrong type.
        ValueError: discrete actions, demonstrations that do not fit, a number out of range, or an
            episode that ended in a terminal state.

    Source:
        Chang, Sreenivas, Huang, Brantley and Sun (2024), algorithm 1; Kostrikov, Agrawal, Dwibedi,
        Levine and Tompson (2019) for DAC.
    """
    run = ImitationRun(environment, demonstrations, generator, seeds, weighting, step, loss,
                       settings)  # fmt: skip
    if deploy not in get_args(Deploy):
        raise ValueError(f"deploy: expected one of {get_args(Deploy)}, got {deploy!r}")
    try:
        for _ in range(run.plan.rounds):
            run.boost()
            run.learn()
        run.boost()
    finally:
        run.world.close()
    spent, last, mixed, divergence = (torch.stack(part) for part in zip(*run.rows, strict=True))
    chosen: Ensemble | SquashedPolicy = run.ensemble if deploy == "ensemble" else run.policy
    return ImitationRecord(spent, last, mixed, divergence, run.ensemble, chosen)


class ImitationRun(OffPolicyRun):
    """The state of :func:`train_ail_boost`: the book's off-policy loop with a learned reward.

    Args:
        environment: as there.
        demonstrations: as there.
        generator: as there.
        seeds: as there.
        weighting: as there.
        step: as there.
        loss: as there.
        settings: as there.
    """

    def __init__(
        self,
        environment: Environment | str,
        demonstrations: Demonstrations,
        generator: torch.Generator,
        seeds: int,
        weighting: Weighting | Sequence[Weighting] = "boost",
        step: float | Sequence[float] = 0.05,
        loss: Loss | Sequence[Loss] = "reverse_kl",
        settings: ImitationSettings | None = None,
    ) -> None:
        self.plan = plan = ImitationSettings() if settings is None else settings
        self.environment = environment = as_environment(environment)
        require_count("seeds", seeds)
        require_demonstrations(demonstrations, environment, seeds, generator.device)
        self.weightings = _each("weighting", weighting, seeds)
        for kind in self.weightings:
            if kind not in get_args(Weighting):
                raise ValueError(f"weighting: expected one of {get_args(Weighting)}, got {kind!r}")
        self.steps = _each("step", step, seeds)
        for size in self.steps:
            require_number("step", size, 0.0, maximum=1.0)
        losses: list[str] = _each("loss", loss, seeds)
        for name in losses:
            require_kind(name)
        marks = [name == "logistic" for name in losses]
        self.logistic = torch.tensor(marks, device=generator.device)
        # A learner is two transitions an update and its own episodes.
        total = plan.rounds * (2 * plan.updates + 2 * plan.samples)
        super().__init__(environment, total, generator, seeds, plan.learner())
        self.shown = torch.cat([demonstrations.observation, demonstrations.action], -1)
        sizes = (environment.observed + environment.actions, *plan.hidden, 1)
        self.discriminator = Network(seeds, sizes, generator, activation="relu", last_gain=0.1)
        self.discriminator_optimizer = adam(self.discriminator.parameters, plan.learning_rate)
        if not plan.relabel:
            like, room = self.target[0], self.replay.rows.shape[1]
            self.replay = _DatedReplay(seeds, room, environment.observed, environment.actions, like)
            self.replay.judge = self.judge
        self.ensemble = Ensemble(self.policy)
        self.pool: list[Tensor] = []
        self.spent, self.divergence = 0, torch.zeros(seeds, device=generator.device)
        self.rows: list[tuple[Tensor, ...]] = []

    def weights_of(self, n: int) -> Tensor:
        """Weights of ``n`` learners, float64, shape ``(seeds, n)``."""
        kinds = zip(self.weightings, self.steps, strict=True)
        sizes = [size if kind == "boost" else 1.0 for kind, size in kinds]
        weights = ensemble_weights(n, torch.tensor(sizes, dtype=torch.float64))
        equal = torch.tensor([kind == "uniform" for kind in self.weightings])
        return torch.where(equal[:, None], 1 / n, weights)

    def judge(self, pairs: Tensor) -> Tensor:
        r"""The discriminator :math:`g`, which is the reward.

        Args:
            pairs: observations and actions, ``(seeds, n, observed + actions)``.

        Returns:
            Outputs in [-B, B], ``(seeds, n)``.
        """
        bound = self.plan.bound
        return bound * torch.tanh(self.discriminator(pairs)[..., 0] / bound)

    def boost(self) -> None:
        """A copy of the policy joins, is rolled out, and the discriminator learns of it."""
        number = len(self.ensemble.members) + 1
        self.ensemble.add(self.policy.network.parameters, self.weights_of(number))
        self.pool.append(self.roll_out())
        for _ in range(self.plan.discriminator_steps):
            self.improve_discriminator()
        round_now, every = number - 1, max(1, self.plan.rounds // self.plan.evaluations)
        if round_now % every == 0 or round_now == self.plan.rounds:
            self.note()

    def roll_out(self) -> Tensor:
        """Episodes of the newest learner: its pairs ``(seeds, samples, width)``, a copy.

        They are experience of the policy's, too; the replay buffer keeps rows of its own.
        """
        world, pairs, left = None, [], self.plan.samples
        while left > 0:
            if world is None:
                world = self.environment.start(self.seeds, 1, self.generator)
                observation, over = world.reset().clone(), False
            action = self.policy.act(observation, self.generator)
            moment = world.step(action).own()
            refuse_termination(moment.terminated)
            if not over:
                pairs.append(torch.cat([observation, action], -1))
                left -= 1
                zero = torch.zeros_like(moment.reward)
                self.replay.add(Transitions(
                    observation, action, zero, moment.observation, zero, zero + 1
                ))  # fmt: skip
            over = bool(moment.truncated.all())
            observation = moment.observation
        if world is not None:
            world.close()
        self.spent += self.plan.samples
        return torch.cat(pairs, 1)

    def draw_pairs(self, number: int) -> Tensor:
        """Pairs of the weighted mixture: a learner by its weight, then one of its samples.

        Args:
            number: of each seed.

        Returns:
            Shape ``(seeds, number, width)``.
        """
        who = self.ensemble.choose(number, self.generator)
        pool = torch.cat(self.pool, 1)
        which = torch.randint(
            self.plan.samples, who.shape, generator=self.generator, device=who.device
        )
        return draw_rows((pool,), who * self.plan.samples + which)[0]

    def improve_discriminator(self) -> None:
        """One step on the loss and the gradient penalty."""
        plan, device = self.plan, self.generator.device
        shape = (self.seeds, plan.batch)
        index = torch.randint(self.shown.shape[1], shape, generator=self.generator, device=device)
        (expert,), learner = draw_rows((self.shown,), index), self.draw_pairs(plan.batch)
        out = self.judge(torch.cat([expert, learner], 1))
        shown, played = out[:, : plan.batch], out[:, plan.batch :]
        boosting, logistic = (loss_unchecked(shown, played, kind) for kind in get_args(Loss))
        value = torch.where(self.logistic, logistic, boosting)
        penalty = gradient_penalty(self.judge, expert, learner, self.generator)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        (value + plan.penalty * penalty).sum().backward()
        self.discriminator_optimizer.step()
        seen = torch.where(self.logistic, torch.nan, 1 - value.detach())
        self.divergence = torch.lerp(self.divergence, seen, 0.1)

    def improve_critic(self, batch: Transitions) -> None:
        """As in :class:`OffPolicyRun`, with the reward of today's discriminator."""
        if self.plan.relabel:
            batch = _judged(self.judge, batch)
        super().improve_critic(batch)

    def learn(self) -> None:
        """The updates of one weak learner."""
        # An iteration is a step of all copies and its gradient steps.
        steps = max(1, self.plan.updates // self.settings.updates)
        for _ in range(steps):
            self.iterate()
        self.spent += steps * self.settings.copies

    def note(self) -> None:
        """A row of the record: the newest policy and the ensemble, on fresh episodes."""
        episodes, random = self.plan.episodes, self.generator
        drawn = self.ensemble.draw(episodes, random)
        self.rows.append((
            torch.tensor(self.spent),
            evaluate(self.policy, self.environment, random, episodes=episodes),
            evaluate(drawn, self.environment, random, episodes=episodes),
            self.divergence,
        ))  # fmt: skip


def _each(name: str, value: object, seeds: int) -> list[Any]:
    """One entry for each seed."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [value] * seeds
    if len(value) != seeds:
        raise ValueError(f"{name}: expected {seeds} entries, one a seed, got {len(value)}")
    return [*value]


def _judged(judge: Judge, steps: Transitions) -> Transitions:
    """Transitions with the discriminator's output as their reward."""
    with torch.no_grad():
        return steps._replace(reward=judge(torch.cat([steps.observation, steps.action], -1)))


class _DatedReplay(Replay):
    """A replay that keeps the rewards of the day."""

    judge: Judge

    def add(self, steps: Transitions) -> None:
        super().add(_judged(self.judge, steps))


def gradient_penalty(
    judge: Judge, expert: Tensor, learner: Tensor, generator: torch.Generator
) -> Tensor:
    r"""Mean of :math:`(\lVert\nabla g\rVert - 1)^2` between the samples of both sides.

    Equation ``eq-gradient-penalty``.

    Args:
        judge: :math:`g`, from pairs ``(seeds, n, width)`` to outputs ``(seeds, n)``.
        expert: pairs of the expert, ``(seeds, n, width)``.
        learner: pairs of the mixture, same shape.
        generator: source of the places between.

    Returns:
        One penalty for each seed, shape ``(seeds,)``.

    Source:
        Gulrajani, Ahmed, Arjovsky, Dumoulin and Courville (2017).
    """
    place = torch.rand(
        *expert.shape[:2], 1, generator=generator, device=expert.device, dtype=expert.dtype
    )
    between = torch.lerp(learner, expert, place).detach().requires_grad_()
    (slope,) = torch.autograd.grad(judge(between).sum(), between, create_graph=True)
    return (slope.norm(dim=-1) - 1).square().mean(-1)
