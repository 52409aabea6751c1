"""Off-policy training: MDPO on a replay buffer, and SAC as its case of equal coefficients."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from mdtheory.agents.checkpoints import load_checkpoint, save_checkpoint
from mdtheory.agents.distributions import SquashedGaussian
from mdtheory.agents.networks import Network, adam
from mdtheory.agents.replay import Replay, Transitions
from mdtheory.checks import require_count, require_number
from mdtheory.convex.mirror_maps import log_q_of_log
from mdtheory.environments import Environment, World, as_environment
from mdtheory.rl.mdpo.losses import (
    mean_over_samples,
    off_policy_actor_loss_unchecked,
)

ActorValue = Literal["least", "first"]
LOG_STD_RANGE = (-20.0, 2.0)


@dataclass(frozen=True)
class OffPolicySettings:
    r"""What an off-policy run is made of; the defaults are the paper's, but for the warm-up.

    Attributes:
        copies: environments of each seed.
        updates: gradient steps after each step of all copies.
        discount: :math:`\gamma`.
        divergence_weight: :math:`c = 1 / t`, the weight of the divergence.
        entropy_weight: :math:`\lambda`, the weight of the entropy. Equal to ``divergence_weight``
            it makes the run SAC.
        order: :math:`q` of the Tsallis logarithm; 1 is the natural one.
        old_every: steps of an environment between two copies of the policy into the old one.
        actor_value: what the actor climbs, the ``"least"`` of the two critics or the ``"first"``.
        learning_rate: of Adam, for actor and critics.
        batch: samples of a gradient step.
        capacity: transitions that the buffer keeps.
        warm_up: steps with uniform actions and without learning.
        decay: what the target critics, moving averages of the critics, keep in a step.
        hidden: units of each hidden layer.
        record_every: steps of an environment in one row of the record.
        restart_every: steps between two checkpoints, where the environments are restarted, too.
    """

    copies: int = 1
    updates: int = 1
    discount: float = 0.99
    divergence_weight: float = 1.0
    entropy_weight: float = 0.2
    order: float = 1.0
    old_every: int = 1000
    actor_value: ActorValue = "least"
    learning_rate: float = 3e-4
    batch: int = 256
    capacity: int = 1_000_000
    warm_up: int = 1000
    decay: float = 0.995
    hidden: tuple[int, ...] = (256, 256)
    record_every: int = 1000
    restart_every: int = 1000

    def __post_init__(self) -> None:
        for name in ("copies", "updates", "old_every", "batch", "capacity", "warm_up",
                     "record_every", "restart_every"):  # fmt: skip
            require_count(name, getattr(self, name))
        for name in ("learning_rate", "order"):
            require_number(name, getattr(self, name), 0.0, strict=True)
        for name in ("divergence_weight", "entropy_weight"):
            require_number(name, getattr(self, name), 0.0)
        for name in ("discount", "decay"):
            if require_number(name, getattr(self, name), 0.0) > 1:
                raise ValueError(f"{name}: expected a number in [0, 1], got {getattr(self, name)}")
        if self.actor_value not in get_args(ActorValue):
            raise ValueError(
                f"actor_value: expected one of {get_args(ActorValue)}, got {self.actor_value!r}"
            )
        for units in self.hidden:
            require_count("hidden", units)

    def sac(self) -> OffPolicySettings:
        """The same settings with both coefficients equal: soft actor-critic."""
        mine = {field.name: getattr(self, field.name) for field in fields(self)}
        return OffPolicySettings(**{**mine, "divergence_weight": self.entropy_weight})


class OffPolicyRecord(NamedTuple):
    """What a run left behind; one column a seed.

    Attributes:
        interactions: steps of all copies so far, resets not counted, int64, ``(K, seeds)``.
        returns: mean return of the episodes that ended since the last row, with sampled actions,
            undiscounted, NaN where none did, ``(K, seeds)``.
        seconds: wall-clock time of each row, all seeds together, float64, ``(K,)``.
        policy: the trained policies.
    """

    interactions: Tensor
    returns: Tensor
    seconds: Tensor
    policy: SquashedPolicy


class SquashedPolicy:
    """Squashed Gaussian policies of all seeds, whose deviation depends on the state.

    Args:
        environment: what they act in; its actions are in [-1, 1].
        seeds: number of policies.
        hidden: units of each hidden layer.
        generator: source of the weights; the policy lives on its device.
    """

    def __init__(
        self,
        environment: Environment,
        seeds: int,
        hidden: tuple[int, ...],
        generator: torch.Generator,
    ) -> None:
        self.seeds, self.actions = seeds, environment.actions
        sizes = (environment.observed, *hidden, 2 * environment.actions)
        self.network = Network(seeds, sizes, generator, activation="relu", last_gain=0.1)

    def law(self, observation: Tensor, parameters: list[Tensor] | None = None) -> SquashedGaussian:
        """Law of the action in each state.

        Args:
            observation: shape ``(seeds, n, observed)``.
            parameters: other weights of the network, such as those of the old policy.

        Returns:
            The law.
        """
        mean, log_std = self.network(observation, parameters).split(self.actions, -1)
        return SquashedGaussian(mean, log_std.clamp(*LOG_STD_RANGE))

    def act(self, observation: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions in [-1, 1]; the squashed means where no generator is given.

        Args:
            observation: shape ``(seeds, n, observed)``.
            generator: source of the actions.

        Returns:
            Actions, shape ``(seeds, n, actions)``.
        """
        with torch.no_grad():
            law = self.law(observation)
            return law.mode() if generator is None else law.sample(generator)[0].tanh()


def train_off_policy(
    environment: Environment | str,
    total_steps: int,
    generator: torch.Generator,
    *,
    seeds: int = 5,
    settings: OffPolicySettings | None = None,
    checkpoint: Path | None = None,
    on_iteration: Callable[[int, int], None] | None = None,
) -> OffPolicyRecord:
    r"""Train policies by off-policy MDPO, all seeds as one tensor program.

    Algorithm ``alg-mdpo-off-policy``: after each step of the environment, two critics descend
    their squared error to :math:`r + \gamma (\min_i \bar Q_i(s', a') - \lambda \log_q
    \pi_\theta(a' | s'))`, and the policy descends ``eq-off-policy-loss`` against an old policy
    that is renewed every ``old_every`` steps.

    Args:
        environment: what to act in, or its name in gymnasium; its actions must be continuous.
        total_steps: steps of the environments for each seed.
        generator: source of all randomness; everything lives on its device.
        seeds: independent runs, which share nothing but the program.
        settings: everything else; ``OffPolicySettings(...).sac()`` is soft actor-critic.
        checkpoint: file to save to every ``restart_every`` steps and to take up from; a killed
            run that is started again gives the same numbers as one that was not killed.
        on_iteration: called with the steps done and their number after each step.

    Returns:
        The record.

    Raises:
        ImportError: gymnasium, or what the environment needs, is not installed.
        TypeError: an argument of a wrong type.
        ValueError: discrete actions, a number out of range, or a checkpoint of another run.

    Source:
        Tomar, Shani, Efroni and Ghavamzadeh (2022), algorithm 2; its state-value network is
        replaced by target copies of the two critics, as in later versions of SAC.
    """
    run = OffPolicyRun(environment, total_steps, generator, seeds, settings, checkpoint)
    try:
        while run.done < run.iterations:
            run.iterate()
            if on_iteration is not None:
                on_iteration(run.done, run.iterations)
    finally:
        run.world.close()
    return run.record()


class OffPolicyRun:
    """The state of :func:`train_off_policy`, one step at a time.

    Args:
        environment: as there.
        total_steps: as there.
        generator: as there.
        seeds: as there.
        settings: as there.
        checkpoint: as there.
    """

    def __init__(
        self,
        environment: Environment | str,
        total_steps: int,
        generator: torch.Generator,
        seeds: int = 5,
        settings: OffPolicySettings | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        self.settings = s = OffPolicySettings() if settings is None else settings
        require_count("seeds", seeds)
        require_count("total_steps", total_steps, s.copies)
        environment = as_environment(environment)
        if environment.discrete:
            raise ValueError("environment: expected continuous actions, got discrete ones")
        self.seeds, self.generator = seeds, generator
        self.iterations, self.done = total_steps // s.copies, 0
        self.policy = SquashedPolicy(environment, seeds, s.hidden, generator)
        self.old = [p.detach().clone() for p in self.policy.network.parameters]
        sizes = (environment.observed + environment.actions, *s.hidden, 1)
        self.critic = Network(2 * seeds, sizes, generator, activation="relu")
        self.target = [p.detach().clone() for p in self.critic.parameters]
        self.policy_optimizer = adam(self.policy.network.parameters, s.learning_rate)
        self.critic_optimizer = adam(self.critic.parameters, s.learning_rate)
        self.world: World = environment.start(seeds, s.copies, generator)
        room = min(s.capacity, total_steps)
        like = self.target[0]
        self.replay = Replay(seeds, room, environment.observed, environment.actions, like)
        self.history: dict[str, list[Tensor]] = {
            name: [] for name in ("interactions", "returns", "seconds")
        }
        self.counted = torch.zeros(seeds, dtype=torch.int64, device=generator.device)
        self.finished = torch.zeros(seeds, dtype=like.dtype, device=generator.device)
        self.episodes = torch.zeros_like(self.counted)
        self.clock = time.perf_counter()
        self.checkpoint = checkpoint
        shown = {f.name: getattr(s, f.name) for f in fields(s)}
        name = getattr(environment, "name", type(environment).__name__)
        self.identity = repr((name, seeds, self.iterations, sorted(shown.items())))
        self.restart()
        if checkpoint is not None and checkpoint.exists():
            self.load(checkpoint)

    def restart(self) -> None:
        """Start new episodes everywhere."""
        self.observation = self.world.reset().clone()
        self.over = torch.zeros_like(self.observation[..., 0], dtype=torch.bool)
        self.earned = torch.zeros_like(self.observation[..., 0])

    def iterate(self) -> None:
        """One step of every environment, then the gradient steps."""
        s = self.settings
        if self.checkpoint is not None and self.done % s.restart_every == 0:
            self.save(self.checkpoint)
            self.restart()
        learning = self.done * s.copies >= s.warm_up
        if learning:
            action = self.policy.act(self.observation, self.generator)
        else:
            shape = (*self.over.shape, self.policy.actions)
            drawn = torch.rand(shape, generator=self.generator, device=self.generator.device)
            action = (2 * drawn - 1).to(self.observation)
        fresh = self.over
        after, reward, terminated, truncated = self.world.step(action).own()
        self.replay.add(Transitions(
            self.observation, action, reward, after,
            terminated.to(reward), (~fresh).to(reward),
        ))  # fmt: skip
        self.over = terminated | truncated
        self.earned = self.earned + reward
        self.finished = self.finished + (self.earned * self.over).sum(-1)
        self.episodes = self.episodes + self.over.sum(-1)
        self.counted = self.counted + (~fresh).sum(-1)
        self.earned = self.earned * ~self.over
        self.observation = after
        if self.done * s.copies % s.old_every < s.copies:
            self.old = [p.detach().clone() for p in self.policy.network.parameters]
        if learning:
            for _ in range(s.updates):
                batch = self.replay.sample(s.batch, self.generator)
                self.improve_critic(batch)
                self.improve_policy(batch)
        self.done += 1
        if self.done % s.record_every == 0 or self.done == self.iterations:
            self._note()

    def improve_critic(self, batch: Transitions) -> None:
        """One step of both critics, and their targets after them."""
        s = self.settings
        with torch.no_grad():
            raw, log_prob = self.policy.law(batch.after).sample(self.generator)
            ahead = self._values(batch.after, raw.tanh(), self.target).amin(1)
            soft = ahead - s.entropy_weight * log_q_of_log(log_prob, s.order)
            goal = batch.reward + s.discount * (1 - batch.terminated) * soft
        value = self._values(batch.observation, batch.action)
        error = 0.5 * (value - goal[:, None]).square()
        self.critic_optimizer.zero_grad(set_to_none=True)
        mean_over_samples(error, batch.weight[:, None]).sum().backward()
        self.critic_optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.target, self.critic.parameters, 1 - s.decay)

    def improve_policy(self, batch: Transitions) -> None:
        """One step of the policy."""
        s = self.settings
        raw, log_prob = self.policy.law(batch.observation).sample(self.generator)
        # The critics stay as they are: no gradient of their weights is computed.
        fixed = [p.detach() for p in self.critic.parameters]
        values = self._values(batch.observation, raw.tanh(), fixed)
        value = values.amin(1) if s.actor_value == "least" else values[:, 0]
        old = None
        if s.divergence_weight != s.entropy_weight:
            old = self.policy.law(batch.observation, self.old).log_prob(raw)
        loss = off_policy_actor_loss_unchecked(
            log_prob, old, value, s.divergence_weight, s.entropy_weight, s.order, batch.weight
        )
        self.policy_optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()
        self.policy_optimizer.step()

    def record(self) -> OffPolicyRecord:
        """What happened so far."""
        stacked = {name: torch.stack(parts) for name, parts in self.history.items()}
        return OffPolicyRecord(**stacked, policy=self.policy)

    def _values(
        self, observation: Tensor, action: Tensor, parameters: list[Tensor] | None = None
    ) -> Tensor:
        """Both critics' values, shape ``(seeds, 2, n)``."""
        inputs = torch.cat([observation, action], -1).repeat_interleave(2, 0)
        return self.critic(inputs, parameters)[..., 0].unflatten(0, (self.seeds, 2))

    def _note(self) -> None:
        now = time.perf_counter()
        self.history["interactions"].append(self.counted)
        self.history["returns"].append(self.finished / self.episodes)
        self.history["seconds"].append(torch.tensor(now - self.clock, dtype=torch.float64))
        self.clock = now
        self.finished = torch.zeros_like(self.finished)
        self.episodes = torch.zeros_like(self.episodes)

    def save(self, path: Path) -> None:
        """Write a checkpoint, atomically."""
        save_checkpoint(path, self.identity, {
            "done": self.done,
            "generator": self.generator.get_state(),
            "policy": [p.detach() for p in self.policy.network.parameters],
            "old": self.old,
            "critic": [p.detach() for p in self.critic.parameters],
            "target": self.target,
            "policy_optimizer": self.policy_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "replay": self.replay.state(),
            "counts": [self.counted, self.finished, self.episodes],
            "history": self.history,
        })  # fmt: skip

    def load(self, path: Path) -> None:
        """Take up a checkpoint of the same run."""
        state = load_checkpoint(path, self.identity, self.generator.device)
        self.done, self.history = state["done"], state["history"]
        self.generator.set_state(state["generator"].cpu())
        with torch.no_grad():
            for name, parameters in (
                ("policy", self.policy.network.parameters), ("critic", self.critic.parameters)
            ):  # fmt: skip
                for parameter, value in zip(parameters, state[name], strict=True):
                    parameter.copy_(value)
        self.old, self.target = state["old"], state["target"]
        self.policy_optimizer.load_state_dict(state["policy_optimizer"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.replay.load(state["replay"])
        self.counted, self.finished, self.episodes = state["counts"]
