"""Rollouts through which gradients run, and what keeps these gradients in bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcast,
    require_count,
    require_integers,
    require_scale,
    require_shape,
    require_tensor,
    require_values,
)
from mdtheory.environments.differentiable import Constants, Differentiable

Acting = Callable[[Tensor], Tensor]
# Physical constants that may be 0; the others are masses and lengths.
MAY_VANISH = ("friction", "gravity", "stiffness")


class _Clip(torch.autograd.Function):
    """The identity; backwards, cotangents along the last axis are shortened to a limit."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, limit: Tensor) -> Tensor:
        ctx.save_for_backward(limit)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        (limit,) = ctx.saved_tensors
        # What is no number says nothing about the direction.
        cotangent = torch.nan_to_num(cotangents[0], nan=0.0)
        # The length by way of the largest entry: squares of large ones would overflow.
        largest = cotangent.abs().amax(-1, keepdim=True)
        unit = torch.where(largest > 0, largest, 1.0)
        long = (cotangent / unit).norm(dim=-1, keepdim=True) * unit
        return torch.where(long > limit, cotangent * (limit / long), cotangent), None


def clip_cotangent(value: Tensor, limit: float | Tensor) -> Tensor:
    r"""The identity whose backward pass shortens the cotangent of each sample, ``eq-clip``.

    :math:`\lambda \mapsto \min(1, \kappa / \lVert\lambda\rVert)\,\lambda` along the last axis,
    entries that are not numbers first replaced by 0. Gradients of gradients are not clipped twice.

    Args:
        value: shape ``(..., n)``.
        limit: :math:`\kappa > 0`, a number or a tensor that broadcasts to the batch ``(...)``;
            infinity clips nothing.

    Returns:
        ``value``, in memory that it shares.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: a limit that is not positive, or does not broadcast.
    """
    require_tensor("value", value)
    limit = require_scale(
        "limit", limit, value, value.shape[:-1], strict=True, infinite=True, widens=False,
        trailing=1,
    )  # fmt: skip
    return _clipped(value, torch.as_tensor(limit, dtype=value.dtype, device=value.device))


def _clipped(value: Tensor, limit: Tensor) -> Tensor:
    clipped: Tensor = _Clip.apply(value, limit)  # type: ignore[no-untyped-call]
    return clipped


def rollout(
    environment: Differentiable,
    policy: Acting,
    state: Tensor,
    steps: int,
    *,
    truncation: int | Tensor | None = 10,
    step_clip: float | Tensor = 1.0,
    noise: float | Tensor | None = None,
    generator: torch.Generator | None = None,
    parameters: Constants | None = None,
) -> Tensor:
    r"""States of a policy in a world, with the gradient treatment of ``alg-ild``.

    The states are those before each step, the given one first, as ``eq-rollout`` counts them.
    A state at a cut is stored with its graph; what follows starts from it without one.

    Args:
        environment: the world.
        policy: from observations ``(..., observed)`` to actions ``(..., actions)``.
        state: where to start, shape ``(..., n)``.
        steps: number of states returned, at least 1.
        truncation: the graph is cut after every so many steps; ``None`` never. A tensor of int64
            that broadcasts to the batch gives each trajectory its own, 0 for never.
        step_clip: largest cotangent that passes a step, for each trajectory; infinity for none.
        noise: standard deviation of normal noise on the actions, a number or one for each
            trajectory.
        generator: source of the noise.
        parameters: physical constants that are not the usual ones, numbers or one for each
            trajectory.

    Returns:
        States, shape ``(..., steps, n)``.

    Raises:
        TypeError: a state or an argument of another type.
        ValueError: a wrong shape, a count below 1, a clip that is not positive, noise without a
            generator, a constant that the world has not or that is out of range.
    """
    require_world(environment)
    require_tensor("state", state)
    require_shape("state", state, (*state.shape[:-1], environment.width))
    require_count("steps", steps)
    batch = state.shape[:-1]
    cuts = _cuts(truncation, batch, state.device)
    limit = require_scale(
        "step_clip", step_clip, state, batch, strict=True, infinite=True, widens=False, trailing=1
    )
    clips = isinstance(limit, Tensor) or limit < math.inf
    bound = torch.as_tensor(limit, dtype=state.dtype, device=state.device)
    if noise is not None:
        noise = require_scale("noise", noise, state, batch, widens=False, trailing=1)
        if generator is None:
            raise ValueError("generator: expected a torch.Generator for the noise, got None")
    for name, value in (parameters or {}).items():
        require_scale(
            f"parameters[{name!r}]", value, state, batch, strict=name not in MAY_VANISH,
            widens=False,
        )  # fmt: skip
    path = [state]
    for t in range(1, steps):
        action = policy(environment.observe(state))
        if noise is not None:
            action = action + noise * torch.randn(
                action.shape, generator=generator, device=action.device, dtype=action.dtype
            )
        state = environment.step(state, action, parameters)
        if clips:
            state = _clipped(state, bound)
        path.append(state)
        # Stored before it is cut: its own loss still reaches the steps since the last cut.
        if isinstance(cuts, Tensor):
            state = torch.where((t % cuts == 0)[..., None], state.detach(), state)
        elif cuts and t % cuts == 0:
            state = state.detach()
    return torch.stack(path, -2)


def require_world(environment: object) -> None:
    """Refuse what is no differentiable world.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(environment, Differentiable):
        raise TypeError(
            f"environment: expected a differentiable world, got {type(environment).__name__}"
        )


def _cuts(truncation: int | Tensor | None, batch: torch.Size, device: torch.device) -> int | Tensor:
    """Steps between cuts; a number beyond every horizon stands for never."""
    if truncation is None:
        return 0
    if not isinstance(truncation, Tensor):
        return require_count("truncation", truncation)
    require_integers("truncation", truncation)
    require_broadcast("truncation", truncation.shape, batch, widens=False)
    if truncation.device != device:
        raise ValueError(f"truncation: expected device {device}, got {truncation.device}")
    require_values("truncation", truncation, truncation >= 0, "whole numbers >= 0")
    return torch.where(truncation > 0, truncation, torch.iinfo(torch.int64).max)
