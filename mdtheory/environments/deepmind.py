"""Tasks of the DeepMind Control suite behind tensors.

The chapter 'Imitation by boosting' has one in a recorded run.
"""

from __future__ import annotations

import copy
import os
from typing import Any

import torch
from torch import Tensor

from mdtheory.checks import require_count, require_extra
from mdtheory.environments.base import Environment, TimeStep, World


class DeepMindEnvironment(Environment):
    """A task of the suite by its names, such as ``("cartpole", "swingup")``.

    Episodes end by the suite's time limit alone, which is a truncation. Needs the extra ``dmc``; no
    picture is drawn, so no display is needed.

    Args:
        domain: the body, such as ``"cartpole"``.
        task: what it is to do, such as ``"swingup"``.
        repeat: control steps that one action lasts; their rewards are added up.
        dtype: of observations and rewards.

    Raises:
        ImportError: the suite is not installed.
        ValueError: no such task, actions that are not bounded, or fewer than one repetition.
    """

    discrete = False

    def __init__(
        self, domain: str, task: str, repeat: int = 1, dtype: torch.dtype = torch.float32
    ) -> None:
        require_count("repeat", repeat)
        self.domain, self.task, self.repeat, self.dtype = domain, task, repeat, dtype
        self.name = f"{domain}-{task} x{repeat}"
        single = self._load(0)
        space = single.action_spec()
        if not (abs(space.minimum) < 1e6).all() or not (abs(space.maximum) < 1e6).all():
            raise ValueError(f"task: expected bounded actions, got {space}")
        self.actions = int(space.shape[0])
        self.observed = _flat(single.reset().observation, dtype).numel()

    def start(self, seeds: int, copies: int, generator: torch.Generator) -> World:
        """Copies of the environment for each seed; see :meth:`Environment.start`."""
        return _DeepMindWorld(self, seeds, copies, generator)

    def _load(self, seed: int) -> Any:
        # No context of OpenGL is asked for: nothing is rendered.
        os.environ.setdefault("MUJOCO_GL", "disabled")
        suite = require_extra("dm_control.suite", "dmc")
        if (self.domain, self.task) not in suite.ALL_TASKS:
            raise ValueError(f"task: expected one of the suite, got {(self.domain, self.task)}")
        return suite.load(self.domain, self.task, task_kwargs={"random": seed})


class _DeepMindWorld(World):
    """One simulator for each copy, stepped in turn."""

    def __init__(
        self, given: DeepMindEnvironment, seeds: int, copies: int, generator: torch.Generator
    ) -> None:
        require_count("seeds", seeds)
        require_count("copies", copies)
        self.shape, self.dtype, self.generator = (seeds, copies), given.dtype, generator
        self.repeat = given.repeat
        drawn = torch.randint(
            2**31 - 1, (seeds * copies,), generator=generator, device=generator.device
        )
        self.worlds = [given._load(int(seed)) for seed in drawn.tolist()]
        space = self.worlds[0].action_spec()
        self.middle = (space.maximum + space.minimum) / 2
        self.reach = (space.maximum - space.minimum) / 2
        self.over = [True] * len(self.worlds)

    def reset(self) -> Tensor:
        self.over = [False] * len(self.worlds)
        return self._stack([_flat(w.reset().observation, self.dtype) for w in self.worlds], -1)

    def step(self, action: Tensor) -> TimeStep:
        orders = action.detach().flatten(0, 1).cpu().double().clamp(-1, 1).numpy()
        seen, earned, ended = [], [], []
        for k, (world, order) in enumerate(zip(self.worlds, orders, strict=True)):
            if self.over[k]:
                moment, total, last = world.reset(), 0.0, False
            else:
                moment, total = self._act(world, self.middle + self.reach * order)
                last = moment.last()
            self.over[k] = last
            seen.append(_flat(moment.observation, self.dtype))
            earned.append(torch.tensor(total, dtype=self.dtype))
            ended.append(torch.tensor(last))
        truncated = self._stack(ended)
        return TimeStep(
            self._stack(seen, -1), self._stack(earned), torch.zeros_like(truncated), truncated
        )

    def state(self) -> dict[str, Any]:
        """Simulators have no snapshot here.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("state: worlds of the DeepMind Control suite keep no snapshots")

    def close(self) -> None:
        for world in self.worlds:
            world.close()

    def _act(self, world: Any, order: Any) -> tuple[Any, float]:
        total = 0.0
        for _ in range(self.repeat):
            moment = world.step(order)
            total += float(moment.reward or 0.0)
            if moment.last():
                break
        return moment, total

    def _stack(self, parts: list[Tensor], *last: int) -> Tensor:
        return torch.stack(parts).to(self.generator.device).reshape(*self.shape, *last)


def _flat(observation: Any, dtype: torch.dtype) -> Tensor:
    """All observed numbers in one row, in the suite's order."""
    parts = [torch.as_tensor(copy.copy(part), dtype=dtype).reshape(-1)
             for part in observation.values()]  # fmt: skip
    return torch.cat(parts)
