"""Imitation of an expert in an environment: the states are dear, steps of the model are cheap.

The learner acts, the expert says what it would have done in the states that the learner saw
(data set aggregation without the aggregation), and the learner moves towards that. Each round
needs new steps of the environment for its gradient; the inner steps of the target-based method
need none. Section 'Imitating an expert' of the chapter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_number
from mdtheory.convex.mirror_maps import MirrorMap
from mdtheory.convex.target_surrogates.algorithms import target_step
from mdtheory.convex.target_surrogates.baselines import BETAS, EPSILON
from mdtheory.convex.target_surrogates.inner import Armijo, over_parameters, squared_norm
from mdtheory.convex.target_surrogates.losses import SoftmaxLoss
from mdtheory.convex.target_surrogates.models import LinearModel, Model, TorchModel
from mdtheory.convex.target_surrogates.surrogates import Coordinates, positive_tensor
from mdtheory.environments import (
    CartPole,
    Environment,
    Pendulum,
    TimeStep,
    World,
    balance_pole,
    swing_up,
)

Imitator = Literal["sso", "sgd", "adam", "adagrad"]
IMITATORS: tuple[Imitator, ...] = get_args(Imitator)


@dataclass(frozen=True)
class Task:
    """A world in which finitely many actions are imitated, and an expert for it.

    Args:
        environment: the world; its actions are finitely many, or one coordinate in [-1, 1].
        expert: takes observations ``(..., observed)``, returns actions ``(...)``, int64.
        levels: what action 0, 1, ... is where the world's actions are coordinates.
    """

    environment: Environment
    expert: Callable[[Tensor], Tensor]
    levels: tuple[float, ...] | None = None

    @property
    def observed(self) -> int:
        """Numbers in an observation."""
        return self.environment.observed

    @property
    def actions(self) -> int:
        """Number of actions."""
        return self.environment.actions if self.levels is None else len(self.levels)

    def act(self, action: Tensor, world: World) -> TimeStep:
        """Act in a world that has one copy a configuration.

        Args:
            action: int64, shape ``(...)``.
            world: copies of the environment, as many as there are actions.

        Returns:
            What came of it, without axes of its own for seeds and copies.
        """
        each = action.flatten()[:, None]
        if self.levels is not None:
            each = torch.tensor(self.levels, device=action.device)[each][..., None]
        step = world.step(each)
        shape = action.shape
        return TimeStep(
            step.observation.reshape(*shape, -1),
            *(part.reshape(shape) for part in (step.reward, step.terminated, step.truncated)),
        )


class ImitationRecord(NamedTuple):
    """What imitation left behind; the configurations are ``(..., seeds)``.

    Attributes:
        interactions: steps of the environment before each evaluation, int64, shape ``(K,)``.
        returns: mean return of the greedy policy then, shape ``(K, ..., seeds)``.
        losses: cross-entropy of each round's states before its step, ``(rounds, ..., seeds)``.
        parameters: the last parameters.
        products: products with the transposed Jacobian, shape ``(..., seeds)``.
        expert: mean return of the expert on the starts of the evaluations, shape ``(seeds,)``.
    """

    interactions: Tensor
    returns: Tensor
    losses: Tensor
    parameters: Tensor
    products: Tensor
    expert: Tensor


CARTPOLE = Task(CartPole(torch.float64), balance_pole)
PENDULUM = Task(Pendulum(torch.float64), swing_up, (-1.0, -0.5, 0.0, 0.5, 1.0))


class Stage(NamedTuple):
    """Starts on which policies are compared.

    Attributes:
        world: where they act.
        state: its snapshot at the starts.
        observation: what is seen there, ``(n, 1, observed)``.
    """

    world: World
    state: dict[str, Any]
    observation: Tensor


def fixed_start(task: Task, number: int, generator: torch.Generator) -> Stage:
    """Starts that stay the same however often they are played.

    Args:
        task: the world.
        number: how many.
        generator: source of the starts; what is played there draws from another.

    Returns:
        The stage.
    """
    own = torch.Generator(generator.device)
    seed = torch.randint(2**31, (), generator=generator, device=generator.device)
    world = task.environment.start(number, 1, own.manual_seed(int(seed)))
    observation = world.reset()
    return Stage(world, world.state(), observation)


def imitate(
    task: Task,
    step_size: float | Tensor,
    rounds: int,
    generator: torch.Generator,
    *,
    method: Imitator = "sso",
    inner_steps: float | Tensor = 10,
    inner_step: float | Tensor | Armijo | None = None,
    hidden: int = 0,
    rows: int = 200,
    expert_share: float = 0.0,
    seeds: int = 5,
    episodes: int = 5,
    every: int = 1,
    mirror_map: MirrorMap | None = None,
    coordinates: Coordinates = "primal",
) -> ImitationRecord:
    r"""Imitate an expert, all configurations at once.

    A round resets the environment, lets the policy act until ``rows`` states have been seen,
    labels them by the expert, takes the gradient of the cross-entropy in the logits there, and
    makes one step of the method. The policy draws its actions from the softmax of its logits; it
    is evaluated greedily, on starts that are the same each time and are not counted. All
    configurations of a seed have the same first weights and are evaluated on the same starts.

    Args:
        task: environment and expert.
        step_size: :math:`\eta > 0`, a number or a tensor ``(...)`` of configurations; seeds are
            one more axis, the last.
        rounds: T.
        generator: source of randomness of the policy and of the worlds, which live on its device.
        method: of :data:`IMITATORS`.
        inner_steps: :math:`m` for ``"sso"``, as in :func:`target_step`; broadcasts with
            ``step_size``.
        inner_step: for ``"sso"``, as in :func:`target_step`; by default a line search for a
            network.
        hidden: units of the policy's hidden layer; 0 is a linear policy.
        rows: states of a round, for each configuration.
        expert_share: probability with which the expert acts in a step: 0 is the learner's own
            policy, 1 is behaviour cloning.
        seeds: independent runs of each configuration.
        episodes: episodes of an evaluation.
        every: rounds between two evaluations; the last round always has one.
        mirror_map: for ``"sso"``, as in :func:`target_step`.
        coordinates: for ``"sso"``, as in :func:`target_step`.

    Returns:
        The record.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: a wrong shape, an unknown method or a number out of range.

    Source:
        Lavington, Vaswani, Babanezhad, Schmidt and Le Roux (2023), section 5; Ross, Gordon and
        Bagnell (2011).
    """
    if method not in IMITATORS:
        raise ValueError(f"method: expected one of {IMITATORS}, got {method!r}")
    if require_number("expert_share", expert_share, 0.0) > 1:
        raise ValueError(f"expert_share: expected a number in [0, 1], got {expert_share!r}")
    for name, count in {
        "rounds": rounds, "rows": rows, "seeds": seeds, "episodes": episodes, "every": every,
    }.items():  # fmt: skip
        require_count(name, count)
    if hidden != 0:
        require_count("hidden", hidden)
    like = torch.zeros((), dtype=torch.float64, device=generator.device)
    if isinstance(step_size, Tensor):
        like = step_size.new_zeros(())
    step = positive_tensor("step_size", step_size, like)[..., None]
    number = inner_steps
    if isinstance(inner_steps, Tensor):
        number = inner_steps[..., None]
    shape = number.shape if isinstance(number, Tensor) else ()
    batch = torch.broadcast_shapes(step.shape, shape, (seeds,))
    policy = _Policy(task.observed + 1, hidden, task.actions)
    current = policy.start((seeds,), generator, like)
    current = current.expand(*batch, *current.shape[1:])
    model = policy.model(current.new_zeros(*batch, 1, task.observed + 1))
    first, second = torch.zeros_like(current), torch.zeros_like(current)
    energy, products = current.new_zeros(batch), current.new_zeros(batch)
    marks, returns, losses = [0], [], []
    world = task.environment.start(math.prod(batch), 1, generator)
    stage = fixed_start(task, seeds * episodes, generator)
    expert = play(task, task.expert, stage, like.new_zeros(seeds, episodes)).mean(-1)

    def judge() -> Tensor:
        """Returns of all configurations, one after the other on the same starts."""
        one_by_one = current.reshape(-1, seeds, *current.shape[len(batch) :])
        found = [evaluate(task, policy.model, one, stage) for one in one_by_one]
        return torch.stack(found).reshape(batch)

    returns.append(judge())
    for t in range(1, rounds + 1):
        seen = collect(
            task, policy.model, current, world, rows, generator,
            expert_share=expert_share,
        )  # fmt: skip
        model = policy.model(_features(seen))
        advice = torch.nn.functional.one_hot(task.expert(seen), task.actions).to(current.dtype)
        loss = SoftmaxLoss(advice)
        targets, pull = model.linearize(current)
        losses.append(loss._row_values(targets).mean(-1))
        if method == "sso":
            rule = Armijo() if hidden and inner_step is None else inner_step
            end = target_step(
                loss, model, current, step, number,
                inner_step=rule, mirror_map=mirror_map, coordinates=coordinates,
            )  # fmt: skip
            current, products = end.parameters, products + end.products
        else:
            gradient = pull(loss._gradient(targets))
            products = products + 1
            length, move = step, gradient
            if method == "adam":
                first = BETAS[0] * first + (1 - BETAS[0]) * gradient
                second = BETAS[1] * second + (1 - BETAS[1]) * gradient.square()
                scale = (second / (1 - BETAS[1] ** t)).sqrt() + EPSILON
                length, move = step / (1 - BETAS[0] ** t), first / scale
            elif method == "adagrad":
                energy = energy + squared_norm(gradient, model)
                length = step / torch.where(energy > 0, energy, 1.0).sqrt()
            current = current - over_parameters(length, model) * move
        if t % every == 0 or t == rounds:
            marks.append(t * rows)
            returns.append(judge())
    world.close()
    stage.world.close()
    return ImitationRecord(
        torch.stack([like.new_full((), mark, dtype=torch.int64) for mark in marks]),
        torch.stack(returns),
        torch.stack(losses),
        current,
        products,
        expert,
    )


def collect(
    task: Task,
    policy: Callable[[Tensor], Model],
    parameters: Tensor,
    world: World,
    rows: int,
    generator: torch.Generator,
    *,
    expert_share: float = 0.0,
) -> Tensor:
    """States that the policy sees, from a reset on.

    The step after the last one of an episode only resets and ignores its action: such steps are
    left out. Each configuration has one copy of the world and ends with its last row; what it does
    while the others are not yet done is thrown away.

    Args:
        task: environment and expert.
        policy: takes features ``(..., n, e)``, returns the model with these inputs.
        parameters: of the policy, with the leading axes of all configurations.
        world: one copy a configuration.
        rows: states of each configuration.
        generator: source of the actions.
        expert_share: probability with which the expert acts in a step.

    Returns:
        Observations, shape ``(..., rows, observed)``.
    """
    batch = _leading(parameters, policy, task)
    observation = world.reset().reshape(*batch, -1)
    over = parameters.new_zeros(batch, dtype=torch.bool)
    count = torch.zeros_like(over, dtype=torch.int64)
    kept, valid = [], []
    while bool((count < rows).any()):
        state = observation.to(parameters)
        kept.append(state)
        valid.append(~over)
        count = count + ~over
        chance = policy(_features(state)[..., None, :])(parameters)[..., 0, :].softmax(-1)
        dice = torch.rand(batch, generator=generator, device=generator.device).to(chance)
        action = (chance.cumsum(-1)[..., :-1] < dice[..., None]).sum(-1)
        if expert_share > 0:
            guided = torch.rand(batch, generator=generator, device=generator.device) < expert_share
            action = torch.where(guided, task.expert(state), action)
        observation, _, terminated, truncated = task.act(action, world)
        over = terminated | truncated
    states, good = torch.stack(kept, -2), torch.stack(valid, -1)
    # A stable sort keeps the order of time among the states that count.
    first = torch.sort(good.long(), dim=-1, descending=True, stable=True).indices[..., :rows]
    return states.take_along_dim(first[..., None], -2)


def evaluate(
    task: Task,
    policy: Callable[[Tensor], Model],
    parameters: Tensor,
    stage: Stage,
) -> Tensor:
    """Mean return of the greedy policy over one episode from each start of a stage.

    Args:
        task: the environment.
        policy: as in :func:`collect`.
        parameters: of the policy, with the leading axes of all configurations.
        stage: starts, a multiple of the number of configurations.

    Returns:
        Mean returns, shape ``(...)``.
    """
    batch = _leading(parameters, policy, task)
    episodes = len(stage.observation) // math.prod(batch)

    def greedy(state: Tensor) -> Tensor:
        return policy(_features(state))(parameters).argmax(-1)

    return play(task, greedy, stage, parameters.new_zeros(*batch, episodes)).mean(-1)


def play(
    task: Task,
    act: Callable[[Tensor], Tensor],
    stage: Stage,
    like: Tensor,
) -> Tensor:
    """Return of one episode from each start of a stage.

    Args:
        task: the environment.
        act: takes observations ``(..., observed)``, returns actions ``(...)``, int64.
        stage: the starts.
        like: gives shape, dtype and device of the result; one entry for each start.

    Returns:
        Returns, shape of ``like``.
    """
    stage.world.restore(stage.state)
    observation = stage.observation.reshape(*like.shape, -1)
    total, running = torch.zeros_like(like), torch.ones_like(like, dtype=torch.bool)
    while bool(running.any()):
        action = act(observation.to(like))
        observation, reward, terminated, truncated = task.act(action, stage.world)
        total = total + running * reward.to(total)
        running = running & ~(terminated | truncated)
    return total


@dataclass(frozen=True)
class _Policy:
    """Logits of the actions, linear or with one hidden layer."""

    inputs: int
    hidden: int
    outputs: int

    def model(self, features: Tensor) -> Model:
        return TorchModel(self._network, features) if self.hidden else LinearModel(features)

    def start(self, batch: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
        """Logits 0; the weights into the hidden layer are drawn."""
        if not self.hidden:
            return like.new_zeros(*batch, self.inputs, self.outputs)
        shape = (*batch, self.inputs * self.hidden)
        drawn = torch.randn(shape, generator=generator, device=generator.device).to(like)
        last = like.new_zeros(*batch, (self.hidden + 1) * self.outputs)
        return torch.cat([drawn, last], -1)

    def _network(self, parameters: Tensor, inputs: Tensor) -> Tensor:
        cut = self.inputs * self.hidden
        into = parameters[..., :cut].unflatten(-1, (self.inputs, self.hidden))
        out = parameters[..., cut:].unflatten(-1, (self.hidden + 1, self.outputs))
        return (inputs @ into).tanh() @ out[..., 1:, :] + out[..., :1, :]


def _features(observation: Tensor) -> Tensor:
    """Observations and a 1."""
    return torch.cat([observation, torch.ones_like(observation[..., :1])], -1)


def _leading(parameters: Tensor, policy: Callable[[Tensor], Model], task: Task) -> tuple[int, ...]:
    """Shape of the configurations."""
    dims = policy(parameters.new_zeros(1, task.observed + 1)).parameter_dims
    return tuple(parameters.shape[: parameters.ndim - dims])
