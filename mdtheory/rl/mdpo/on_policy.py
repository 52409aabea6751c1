"""On-policy training: MDPO, with PPO and TRPO in the same loop, all seeds as one program."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from mdtheory.agents.advantages import standardize, temporal_sums
from mdtheory.agents.checkpoints import load_checkpoint, save_checkpoint
from mdtheory.agents.minibatches import minibatches
from mdtheory.agents.networks import Network, adam, clip_gradients
from mdtheory.agents.normalization import RewardScale
from mdtheory.agents.policies import Policy
from mdtheory.checks import require_count, require_number
from mdtheory.environments import Environment, World, as_environment
from mdtheory.rl.mdpo.losses import mdpo_loss_unchecked, mean_over_samples, ppo_loss_unchecked
from mdtheory.rl.mdpo.schedules import Schedule, schedule
from mdtheory.rl.mdpo.trust_region import trust_region_step

Algorithm = Literal["mdpo", "ppo", "trpo"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
Direction = Literal["new-old", "old-new"]


@dataclass(frozen=True)
class OnPolicySettings:
    r"""What an on-policy run is made of; the defaults are those of the chapter's CartPole.

    Attributes:
        copies: environments of each seed, side by side.
        horizon: steps of each environment in a rollout; a batch has ``copies * horizon`` samples.
        discount: :math:`\gamma`.
        gae_lambda: :math:`\lambda` of the advantages.
        policy_steps: :math:`m`, passes over the batch for the policy; TRPO makes one step.
        policy_batch: samples of a policy step; ``None`` is the full batch, as MDPO wants it.
        policy_learning_rate: of Adam, for the policy.
        step_size: :math:`t_0` of MDPO.
        schedule: how :math:`t_k` falls, see :func:`schedule`.
        order: :math:`q` of the Tsallis divergence; 1 is the KL.
        direction: which policy stands first in MDPO's divergence; ``"old-new"`` is for the
            comparison on the page only.
        clip_range: PPO's :math:`\epsilon`.
        radius: TRPO's largest divergence.
        conjugate_steps: TRPO's products with the Fisher matrix for a direction.
        critic_epochs: passes over the batch for the critic.
        critic_batch: samples of a critic step; ``None`` is the full batch.
        critic_learning_rate: of Adam, for the critic.
        value_clip: how far the critic may move from its old value and still be paid for it;
            ``None`` leaves the squared error alone.
        max_gradient: largest norm of a gradient, for each seed and network.
        hidden: units of each hidden layer, for policy and critic.
        normalize: whether observations and rewards are standardised by running moments.
        restart_every: iterations between two restarts of the environments where a checkpoint is
            kept; an environment's inner state is not saved, so a run that goes on and one that is
            taken up both start new episodes there, and agree.
    """

    copies: int = 16
    horizon: int = 128
    discount: float = 0.99
    gae_lambda: float = 0.95
    policy_steps: int = 10
    policy_batch: int | None = None
    policy_learning_rate: float = 3e-4
    step_size: float = 1.0
    schedule: Schedule = "annealed"
    order: float = 1.0
    direction: Direction = "new-old"
    clip_range: float = 0.2
    radius: float = 0.01
    conjugate_steps: int = 10
    critic_epochs: int = 5
    critic_batch: int | None = 128
    critic_learning_rate: float = 1e-3
    value_clip: float | None = None
    max_gradient: float = 0.5
    hidden: tuple[int, ...] = (64, 64)
    normalize: bool = False
    restart_every: int = 10

    def __post_init__(self) -> None:
        for name in ("copies", "horizon", "policy_steps", "conjugate_steps", "critic_epochs",
                     "restart_every"):  # fmt: skip
            require_count(name, getattr(self, name))
        for name in ("policy_batch", "critic_batch"):
            if getattr(self, name) is not None:
                require_count(name, getattr(self, name))
        for name in (
            "policy_learning_rate",
            "step_size",
            "radius",
            "critic_learning_rate",
            "max_gradient",
        ):
            require_number(name, getattr(self, name), 0.0, strict=True)
        for name in ("discount", "gae_lambda"):
            if require_number(name, getattr(self, name), 0.0) > 1:
                raise ValueError(f"{name}: expected a number in [0, 1], got {getattr(self, name)}")
        if require_number("clip_range", self.clip_range, 0.0, strict=True) >= 1:
            raise ValueError(f"clip_range: expected a number in (0, 1), got {self.clip_range!r}")
        require_number("order", self.order, 1.0)
        if self.value_clip is not None:
            require_number("value_clip", self.value_clip, 0.0, strict=True)
        if self.direction not in get_args(Direction):
            raise ValueError(
                f"direction: expected one of {get_args(Direction)}, got {self.direction!r}"
            )
        schedule(self.schedule, self.step_size, 0, 1)
        for units in self.hidden:
            require_count("hidden", units)


class OnPolicyRecord(NamedTuple):
    """What a run left behind; one column a seed.

    Attributes:
        interactions: steps of the environments so far, resets not counted, int64, ``(K, seeds)``.
        returns: mean return of the episodes that ended in each iteration, undiscounted, NaN where
            none did, shape ``(K, seeds)``.
        divergences: mean KL(new, old) over the states of each iteration, nats, ``(K, seeds)``.
        seconds: wall-clock time of each iteration, all seeds together, float64, shape ``(K,)``.
        policy: the trained policies, with their frozen statistics.
    """

    interactions: Tensor
    returns: Tensor
    divergences: Tensor
    seconds: Tensor
    policy: Policy


class Batch(NamedTuple):
    """A rollout laid out for learning: seeds first, then all samples of a seed."""

    seen: Tensor
    action: Tensor
    advantage: Tensor
    target: Tensor
    value: Tensor
    weight: Tensor


def train_on_policy(
    environment: Environment | str,
    total_steps: int,
    generator: torch.Generator,
    *,
    algorithm: Algorithm = "mdpo",
    seeds: int = 5,
    settings: OnPolicySettings | None = None,
    checkpoint: Path | None = None,
    on_iteration: Callable[[int, int], None] | None = None,
) -> OnPolicyRecord:
    r"""Train policies by MDPO, PPO or TRPO, all seeds as one tensor program.

    Algorithm ``alg-mdpo``. Each iteration lets the policies act, estimates advantages by
    ``eq-gae``, and then changes policy and critic on that batch: MDPO descends ``eq-mdpo-loss`` by
    ``policy_steps`` full-batch steps of Adam, PPO its clipped surrogate ``eq-ppo-loss``, TRPO
    takes the step ``eq-trpo-step``.

    Args:
        environment: what to act in, or its name in gymnasium.
        total_steps: steps of the environments for each seed; rounded down to whole iterations.
        generator: source of all randomness; everything lives on its device.
        algorithm: of :data:`ALGORITHMS`.
        seeds: independent runs, which share nothing but the program.
        settings: everything else.
        checkpoint: file to save to every ``restart_every`` iterations and to take up from; a
            killed run that is started again gives the same numbers as one that was not killed.
        on_iteration: called with the iterations done and their number, as by
            :class:`mdtheory.runs.ProgressBar`.

    Returns:
        The record.

    Raises:
        ImportError: gymnasium, or what the environment needs, is not installed.
        TypeError: an argument of a wrong type.
        ValueError: an unknown algorithm, a number out of range, or a checkpoint of another run.

    Source:
        Tomar, Shani, Efroni and Ghavamzadeh (2022), algorithm 1.
    """
    run = OnPolicyRun(environment, total_steps, generator, algorithm, seeds, settings, checkpoint)
    try:
        while run.done < run.iterations:
            run.iterate()
            if on_iteration is not None:
                on_iteration(run.done, run.iterations)
    finally:
        run.world.close()
    return run.record()


class OnPolicyRun:
    """The state of :func:`train_on_policy`, one iteration at a time.

    Args:
        environment: as there.
        total_steps: as there.
        generator: as there.
        algorithm: as there.
        seeds: as there.
        settings: as there.
        checkpoint: as there.
    """

    def __init__(
        self,
        environment: Environment | str,
        total_steps: int,
        generator: torch.Generator,
        algorithm: Algorithm = "mdpo",
        seeds: int = 5,
        settings: OnPolicySettings | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        self.settings = s = OnPolicySettings() if settings is None else settings
        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm: expected one of {ALGORITHMS}, got {algorithm!r}")
        require_count("seeds", seeds)
        require_count("total_steps", total_steps, s.copies * s.horizon)
        environment = as_environment(environment)
        self.algorithm, self.seeds, self.generator = algorithm, seeds, generator
        self.iterations, self.done = total_steps // (s.copies * s.horizon), 0
        self.policy = Policy(environment, seeds, s.hidden, generator, normalize=s.normalize)
        sizes = (environment.observed, *s.hidden, 1)
        self.critic = Network(seeds, sizes, generator)
        self.policy_optimizer = adam(self.policy.parameters, s.policy_learning_rate, 1e-5)
        self.critic_optimizer = adam(self.critic.parameters, s.critic_learning_rate, 1e-5)
        self.world: World = environment.start(seeds, s.copies, generator)
        like = self.critic.parameters[0].detach()
        self.rewards = RewardScale(seeds, s.copies, s.discount, like)
        self.history: dict[str, list[Tensor]] = {
            name: [] for name in ("interactions", "returns", "divergences", "seconds")
        }
        self.checkpoint = checkpoint
        shown = {f.name: getattr(s, f.name) for f in fields(s)}
        name = getattr(environment, "name", type(environment).__name__)
        self.identity = repr((name, algorithm, seeds, self.iterations, sorted(shown.items())))
        self.restart()
        if checkpoint is not None and checkpoint.exists():
            self.load(checkpoint)

    def restart(self) -> None:
        """Start new episodes everywhere."""
        self.observation = self.world.reset().clone()
        self.over = torch.zeros_like(self.observation[..., 0], dtype=torch.bool)
        self.earned = torch.zeros_like(self.observation[..., 0])
        self.rewards.forget()

    def iterate(self) -> None:
        """Act, learn, and keep what happened."""
        begin = time.perf_counter()
        if self.checkpoint is not None and self.done % self.settings.restart_every == 0:
            self.save(self.checkpoint)
            self.restart()
        batch, raw, counted, returns = self.collect()
        with torch.no_grad():
            old = self.policy.law(batch.seen)
        self.improve_policy(batch)
        self.improve_critic(batch)
        with torch.no_grad():
            moved = self.policy.law(batch.seen).kl(old)  # type: ignore[arg-type]
        if self.policy.moments is not None:
            self.policy.moments.update(raw, batch.weight)
        self.done += 1
        before = self.history["interactions"][-1] if self.done > 1 else torch.zeros_like(counted)
        spent = torch.tensor(time.perf_counter() - begin, dtype=torch.float64)
        self.history["interactions"].append(before + counted)
        self.history["returns"].append(returns)
        self.history["divergences"].append(mean_over_samples(moved, batch.weight))
        self.history["seconds"].append(spent)

    @torch.no_grad()
    def collect(self) -> tuple[Batch, Tensor, Tensor, Tensor]:
        """A rollout: batch, raw observations, steps that count, and mean returns of episodes."""
        s, observation = self.settings, self.observation
        raw, seen, actions, rewards, ends, falls, resets = [], [], [], [], [], [], []
        finished = torch.zeros_like(self.earned)
        number = torch.zeros_like(self.over, dtype=torch.int64)
        for _ in range(s.horizon):
            here = self.policy.see(observation)
            action = self.policy.law(here).sample(self.generator)
            raw.append(observation)
            seen.append(here)
            actions.append(action)
            resets.append(self.over)
            observation, reward, terminated, truncated = self.world.step(action).own()
            self.over = terminated | truncated
            self.earned = self.earned + reward
            finished = finished + self.earned * self.over
            number = number + self.over
            self.earned = self.earned * ~self.over
            rewards.append(reward)
            falls.append(terminated)
            ends.append(self.over)
        self.observation = observation
        seen.append(self.policy.see(observation))
        reset, ended = torch.stack(resets), torch.stack(ends)
        reward, looked = torch.stack(rewards), torch.stack(seen)
        weight = (~reset).to(reward)
        if s.normalize:
            reward = self.rewards.scale(reward, ended, weight)
        values = self.critic(_rows(looked))[..., 0].reshape(self.seeds, -1, s.copies).movedim(1, 0)
        advantage = temporal_sums(
            reward, values, torch.stack(falls), ended, s.discount, s.gae_lambda, reset
        )
        weights = _rows(weight)
        batch = Batch(
            _rows(looked[:-1]), _rows(torch.stack(actions)),
            standardize(_rows(advantage), weights), _rows(advantage + values[:-1]),
            _rows(values[:-1]), weights,
        )  # fmt: skip
        episodes = number.sum(-1)
        mean = finished.sum(-1) / episodes  # NaN where no episode ended
        return batch, _rows(torch.stack(raw)), (~reset).sum((0, 2)), mean

    def improve_policy(self, batch: Batch) -> None:
        """Change the policy on a batch."""
        s = self.settings
        if self.algorithm == "trpo":
            trust_region_step(
                self.policy, batch.seen, batch.action, batch.advantage, batch.weight,
                radius=s.radius, iterations=s.conjugate_steps,
            )  # fmt: skip
            return
        step_size = schedule(s.schedule, s.step_size, self.done, self.iterations)
        with torch.no_grad():
            old = self.policy.law(batch.seen)
            old_log_prob = old.log_prob(batch.action)
        fixed = (batch.seen, batch.action, batch.advantage, batch.weight, old_log_prob, *old)
        for seen, action, advantage, weight, old_logs, *parts in minibatches(
            fixed, s.policy_steps, s.policy_batch, self.generator
        ):
            law = self.policy.law(seen)
            log_prob = law.log_prob(action)
            if self.algorithm == "ppo":
                loss = ppo_loss_unchecked(log_prob, old_logs, advantage, s.clip_range, weight)
            else:
                past = type(law)(*parts)
                first, second = (law, past) if s.direction == "new-old" else (past, law)
                distance = first.divergence(second, s.order)  # type: ignore[arg-type]
                loss = mdpo_loss_unchecked(
                    log_prob, old_logs, advantage, distance, step_size, weight
                )
            _descend(self.policy_optimizer, self.policy.parameters, loss, s.max_gradient)

    def improve_critic(self, batch: Batch) -> None:
        """Fit the critic to the value targets of a batch."""
        s = self.settings
        fixed = (batch.seen, batch.target, batch.value, batch.weight)
        for seen, target, before, weight in minibatches(
            fixed, s.critic_epochs, s.critic_batch, self.generator
        ):
            value = self.critic(seen)[..., 0]
            error = (value - target).square()
            if s.value_clip is not None:
                near = before + (value - before).clamp(-s.value_clip, s.value_clip)
                error = torch.maximum(error, (near - target).square())
            loss = 0.5 * mean_over_samples(error, weight)
            _descend(self.critic_optimizer, self.critic.parameters, loss, s.max_gradient)

    def record(self) -> OnPolicyRecord:
        """What happened so far."""
        stacked = {name: torch.stack(parts) for name, parts in self.history.items()}
        return OnPolicyRecord(**stacked, policy=self.policy)

    def save(self, path: Path) -> None:
        """Write a checkpoint, atomically."""
        moments = self.policy.moments
        save_checkpoint(path, self.identity, {
            "done": self.done,
            "generator": self.generator.get_state(),
            "policy": [p.detach() for p in self.policy.parameters],
            "critic": [p.detach() for p in self.critic.parameters],
            "policy_optimizer": self.policy_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "moments": {} if moments is None else moments.state(),
            "rewards": self.rewards.moments.state(),
            "history": self.history,
        })  # fmt: skip

    def load(self, path: Path) -> None:
        """Take up a checkpoint of the same run."""
        state = load_checkpoint(path, self.identity, self.generator.device)
        self.done, self.history = state["done"], state["history"]
        self.generator.set_state(state["generator"].cpu())
        with torch.no_grad():
            for name, network in (("policy", self.policy), ("critic", self.critic)):
                for parameter, value in zip(network.parameters, state[name], strict=True):
                    parameter.copy_(value)
        self.policy_optimizer.load_state_dict(state["policy_optimizer"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        if self.policy.moments is not None:
            self.policy.moments.load(state["moments"])
        self.rewards.moments.load(state["rewards"])


def _rows(steps: Tensor) -> Tensor:
    """From ``(T, seeds, copies, ...)`` to ``(seeds, T * copies, ...)``."""
    return steps.transpose(0, 1).flatten(1, 2).contiguous()


def _descend(
    optimizer: torch.optim.Adam, parameters: list[Tensor], loss: Tensor, most: float
) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.sum().backward()
    clip_gradients(parameters, most)
    optimizer.step()
