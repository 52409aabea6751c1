"""Small networks for all seeds at once: every weight has a leading axis, one slice a seed.

The chapter 'Mirror descent policy optimisation' explains it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

Activation = Literal["tanh", "relu"]


class Network:
    """Multilayer perceptrons, ``copies`` of them side by side, on batches of their own.

    Args:
        copies: number of independent networks.
        sizes: inputs, hidden units of each layer, outputs.
        generator: source of the weights; the network lives on its device.
        activation: ``"tanh"`` or ``"relu"``.
        last_gain: scale of the last layer's weights; small ones start a policy near uniform.
        dtype: of the weights.
    """

    def __init__(
        self,
        copies: int,
        sizes: Sequence[int],
        generator: torch.Generator,
        *,
        activation: Activation = "tanh",
        last_gain: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.activation: Activation = activation
        self.parameters: list[Tensor] = []
        for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
            gain = last_gain if layer == len(sizes) - 2 else math.sqrt(2)
            weight = gain * _orthogonal(copies, inputs, outputs, generator, dtype)
            bias = torch.zeros(copies, 1, outputs, dtype=dtype, device=generator.device)
            self.parameters += [weight.requires_grad_(), bias.requires_grad_()]

    def __call__(self, inputs: Tensor, parameters: Sequence[Tensor] | None = None) -> Tensor:
        """Outputs ``(copies, batch, out)`` for inputs ``(copies, batch, in)``.

        Args:
            inputs: shape ``(copies, batch, in)``.
            parameters: others to use in place of the network's own, of the same shapes.

        Returns:
            Outputs, shape ``(copies, batch, out)``.
        """
        parameters = self.parameters if parameters is None else parameters
        last = len(parameters) - 2
        for k in range(0, len(parameters), 2):
            inputs = torch.baddbmm(parameters[k + 1], inputs, parameters[k])
            if k < last:
                inputs = inputs.tanh() if self.activation == "tanh" else inputs.relu()
        return inputs

    def push(self, inputs: Tensor, directions: Sequence[Tensor]) -> Tensor:
        """How fast the outputs change when the parameters move along ``directions``.

        Args:
            inputs: shape ``(copies, batch, in)``.
            directions: one for each parameter, of its shape.

        Returns:
            Derivative of the outputs, shape ``(copies, batch, out)``.
        """
        last = len(self.parameters) - 2
        change: Tensor | None = None
        for k in range(0, len(self.parameters), 2):
            weight, bias = self.parameters[k : k + 2]
            moved = torch.baddbmm(directions[k + 1], inputs, directions[k])
            change = moved if change is None else torch.baddbmm(moved, change, weight)
            inputs = torch.baddbmm(bias, inputs, weight)
            if k < last:
                if self.activation == "tanh":
                    inputs = inputs.tanh()
                    change = change * (1 - inputs.square())
                else:
                    change = change * (inputs > 0)
                    inputs = inputs.relu()
        assert change is not None
        return change


def _orthogonal(
    copies: int, inputs: int, outputs: int, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """Weights ``(copies, inputs, outputs)`` whose shorter side is orthonormal."""
    tall = (copies, max(inputs, outputs), min(inputs, outputs))
    drawn = torch.randn(tall, generator=generator, device=generator.device, dtype=dtype)
    frame, upper = torch.linalg.qr(drawn)
    frame = frame * upper.diagonal(dim1=-2, dim2=-1).sign()[:, None]
    return (frame if inputs >= outputs else frame.mT).contiguous()


def clip_gradients(parameters: Sequence[Tensor], most: float) -> Tensor:
    """Scale the gradients of each copy so that their joint norm is at most ``most``.

    Args:
        parameters: tensors with gradients and a leading axis of copies.
        most: the largest norm allowed.

    Returns:
        The norms before, shape ``(copies,)``.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    rows = [g.flatten(1) for g in gradients]
    norms = torch.linalg.vector_norm(torch.stack([_norm(row) for row in rows]), dim=0)
    limits = torch.finfo(norms.dtype)
    usual = norms.device.type == "cpu" and bool(
        ((norms > limits.tiny**0.5 / limits.eps) & norms.isfinite()).all()
    )
    if not usual:  # squares may have overflowed or vanished, or to ask would wait for a device
        each = torch.stack([row.abs().amax(-1) for row in rows]).amax(0)
        unit = torch.where(each > 0, each, 1.0)
        scaled = torch.stack([_norm(row / unit[:, None]) for row in rows])
        norms = torch.linalg.vector_norm(scaled, dim=0) * unit
    scale = (most / (norms + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(scale.reshape(-1, *(1,) * (gradient.ndim - 1)))
    return norms


def _norm(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=-1)


def adam(parameters: list[Tensor], learning_rate: float, epsilon: float = 1e-8) -> torch.optim.Adam:
    """Adam in one fused kernel; it works coordinate by coordinate, so copies never meet.

    Args:
        parameters: what to optimise.
        learning_rate: length of a step.
        epsilon: added to the root of the second moment.

    Returns:
        The optimiser.
    """
    return torch.optim.Adam(parameters, lr=learning_rate, eps=epsilon, fused=True)
