"""Two-layer networks of several widths and seeds, trained together as one tensor program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mdtheory.checks import (
    require_count,
    require_finite,
    require_number,
    require_same_kind,
    require_tensor,
)

OPTIMIZERS = ("descent", "momentum", "adam")
MOMENTUM, ADAM_DECAY, ADAM_GUARD = 0.9, (0.9, 0.999), 1e-8
# Added to the variance of a unit before the root, so that a unit that is always off stays at 0.
VARIANCE_GUARD = 1e-6


class TwoLayerNetwork(NamedTuple):
    """Networks of several widths, padded with units whose weights are all 0.

    Such a unit puts out 0, and its weights have the gradient 0, so it stays as it is.

    Attributes:
        hidden: weights of the hidden units, the bias last, shape ``(W, ..., d + 1, h)``.
        output: weights of the outputs, the bias last, shape ``(W, ..., h + 1, c)``.
        location: what is taken from a unit's input, shape ``(W, ..., 1, h)``; 0 unless normalised.
        scale: what its input is divided by, likewise; 1 unless normalised.
    """

    hidden: Tensor
    output: Tensor
    location: Tensor
    scale: Tensor

    def __call__(self, inputs: Tensor) -> Tensor:
        """The outputs for ``inputs`` of shape ``(..., m, d)``, shape ``(W, ..., m, c)``."""
        units = ((_with_one(inputs) @ self.hidden - self.location) / self.scale).relu()
        return units @ self.output[..., :-1, :] + self.output[..., -1:, :]

    def parameter_counts(self, widths: Sequence[int]) -> list[int]:
        """How many weights the network of each width has, biases among them."""
        inputs, outputs = self.hidden.shape[-2], self.output.shape[-1]
        return [width * (inputs + outputs) + outputs for width in widths]


class TwoLayerRecord(NamedTuple):
    """What :func:`train_two_layer` returns.

    Attributes:
        widths: the widths, in the order of the first axis of the networks.
        marks: the steps at which the training was looked at.
        train_losses: the squared error summed over the outputs, its mean over the rows, at each
            mark, shape ``(M, W, ...)``; not finite where the training diverged.
        networks: the networks at each mark.
    """

    widths: tuple[int, ...]
    marks: tuple[int, ...]
    train_losses: Tensor
    networks: list[TwoLayerNetwork]


def train_two_layer(
    inputs: Tensor,
    targets: Tensor,
    widths: Sequence[int],
    *,
    optimizer: str,
    step_size: float,
    steps: int,
    marks: Sequence[int],
    generator: torch.Generator,
    output_scale: float = 0.1,
    batch: int | None = None,
    normalize: bool = False,
) -> TwoLayerRecord:
    r"""Train both layers of ReLU networks on squared errors, all widths and seeds together.

    Equation ``eq-two-layer``. Hidden weights start as normal numbers of variance 2, output weights
    of variance ``output_scale**2 / h``, biases at 0; a narrower network starts with the first units
    of a wider one. The loss is half the squared error, summed over the outputs, its mean over rows.

    Args:
        inputs: training rows, shape ``(..., n, d)``; the leading axes are seeds.
        targets: shape ``(..., n, c)``.
        widths: numbers of hidden units.
        optimizer: ``"descent"``, ``"momentum"`` (heavy ball with 0.9) or ``"adam"``.
        step_size: above 0. The first two divide it by ``1 + L``, where ``L`` is the largest
            eigenvalue of the hidden units' second moments at the start: one step for all widths
            makes the wide ones diverge.
        steps: number of steps.
        marks: steps after which the networks are kept, at most ``steps``, ascending.
        generator: source of the start and of the batches, on the device of ``inputs``.
        output_scale: size of the output weights at the start, at least 0.
        batch: rows of a step, drawn with replacement; ``None`` takes all.
        normalize: whether the inputs of hidden units are standardised over the rows of the step
            (at a mark, over all rows).

    Returns:
        Losses and networks at the marks.

    Raises:
        TypeError: not floating-point tensors of one dtype, or a count that is no whole number.
        ValueError: shapes that do not fit, an unknown optimiser, or a number out of range.
    """
    inputs, targets = _checked(inputs, targets)
    chosen = tuple(require_count("widths", width) for width in widths)
    looked = tuple(require_count("marks", mark, 0) for mark in marks)
    require_count("steps", steps, 0)
    if not chosen or not looked or list(looked) != sorted(set(looked)) or looked[-1] > steps:
        raise ValueError(
            f"widths, marks: expected widths, and ascending marks up to {steps}, got {widths!r} "
            f"and {marks!r}"
        )
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer: expected one of {OPTIMIZERS}, got {optimizer!r}")
    require_number("step_size", step_size, 0.0, strict=True)
    require_number("output_scale", output_scale, 0.0)
    if batch is not None:
        require_count("batch", batch)
    rows = _with_one(inputs)
    weights = _start(rows, targets.shape[-1], chosen, generator, output_scale)
    rate: float | Tensor = step_size
    if optimizer != "adam":
        rate = step_size / (1 + _sharpness(rows @ weights[0], normalize))
    memory = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight in weights]
    losses, networks = [], []
    for done in range(steps + 1):
        if done in looked:
            here = _network(rows, weights, normalize)
            losses.append((here(inputs) - targets).square().sum(-1).mean(-1))
            networks.append(here)
        if done < steps:
            x, y = rows, targets
            if batch is not None:
                x, y = _draw(rows, targets, batch, generator)
            _move(optimizer, rate, weights, _gradients(x, y, weights, normalize), memory, done + 1)
    return TwoLayerRecord(chosen, looked, torch.stack(losses), networks)


def _gradients(x: Tensor, y: Tensor, weights: list[Tensor], normalize: bool) -> list[Tensor]:
    """Of half the squared error, summed over the outputs, its mean over the rows."""
    hidden, output = weights
    before = x @ hidden
    if normalize:
        location, scale = _moments(before)
        before = (before - location) / scale
    units = before.relu()
    error = (units @ output[..., :-1, :] + output[..., -1:, :] - y) / x.shape[-2]
    back = (error @ output[..., :-1, :].mT) * (before > 0)
    if normalize:
        along = (back * before).mean(-2, keepdim=True)
        back = (back - back.mean(-2, keepdim=True) - before * along) / scale
    slope = torch.cat([units.mT @ error, error.sum(-2, keepdim=True)], -2)
    return [x.mT @ back, slope]


def _move(
    optimizer: str,
    rate: float | Tensor,
    weights: list[Tensor],
    slopes: list[Tensor],
    memory: list[tuple[Tensor, Tensor]],
    count: int,
) -> None:
    """Step number ``count`` of an optimiser, in place: of the weights and of its memory."""
    decay, square_decay = ADAM_DECAY
    for weight, slope, (mean, square) in zip(weights, slopes, memory, strict=True):
        if optimizer == "descent":
            weight -= rate * slope
        elif optimizer == "momentum":
            mean.mul_(MOMENTUM).add_(slope)
            weight -= rate * mean
        else:
            mean.lerp_(slope, 1 - decay)
            square.lerp_(slope.square(), 1 - square_decay)
            size = (square / (1 - square_decay**count)).sqrt_().add_(ADAM_GUARD)
            weight.addcdiv_(mean, size, value=-float(rate) / (1 - decay**count))


def _start(
    rows: Tensor, outputs: int, widths: Sequence[int], generator: torch.Generator, scale: float
) -> list[Tensor]:
    """Hidden and output weights, shapes ``(W, ..., d + 1, h)`` and ``(W, ..., h + 1, c)``."""
    batch, columns, most = rows.shape[:-2], rows.shape[-1], max(widths)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=rows.dtype, device=rows.device)

    # Units come first, so that the first units of all widths are the same numbers.
    hidden = normal(most, *batch, columns - 1) * 2**0.5
    output = normal(most, *batch, outputs) * scale
    width = torch.tensor(widths, device=rows.device)
    used = (torch.arange(most, device=rows.device) < width[:, None]).to(rows.dtype)
    used = used.reshape(len(widths), *(1,) * len(batch), most, 1)
    hidden = (hidden.movedim(0, -1) * used.mT).expand(len(widths), *batch, columns - 1, most)
    share = width.to(rows.dtype).rsqrt().reshape(-1, *(1,) * (len(batch) + 2))
    output = (output.movedim(0, -2) * used * share).expand(len(widths), *batch, most, outputs)
    return [_padded(hidden), _padded(output)]


def _padded(weights: Tensor) -> Tensor:
    """With biases of 0 below."""
    return torch.cat([weights, torch.zeros_like(weights[..., :1, :])], -2)


def _with_one(inputs: Tensor) -> Tensor:
    return torch.cat([inputs, torch.ones_like(inputs[..., :1])], -1)


def _moments(before: Tensor) -> tuple[Tensor, Tensor]:
    variance = before.var(-2, correction=0, keepdim=True)
    return before.mean(-2, keepdim=True), (variance + VARIANCE_GUARD).sqrt()


def _network(rows: Tensor, weights: list[Tensor], normalize: bool) -> TwoLayerNetwork:
    """A copy of the weights, with the moments of all rows where they are asked for."""
    hidden, output = (weight.clone() for weight in weights)
    if normalize:
        return TwoLayerNetwork(hidden, output, *_moments(rows @ hidden))
    none = torch.zeros_like(hidden[..., :1, :])
    return TwoLayerNetwork(hidden, output, none, torch.ones_like(none))


def _sharpness(before: Tensor, normalize: bool) -> Tensor:
    """Largest eigenvalue of the second moments of the units, shape ``(W, ..., 1, 1)``."""
    if normalize:
        location, scale = _moments(before)
        before = (before - location) / scale
    norms = torch.linalg.matrix_norm(before.relu(), 2, keepdim=True)
    return norms.square() / before.shape[-2]


def _draw(
    rows: Tensor, targets: Tensor, batch: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rows of one step, other ones for every seed and the same for all widths."""
    count = rows.shape[-2]
    shape = (*rows.shape[:-2], batch, 1)
    at = torch.randint(count, shape, generator=generator, device=rows.device)
    return torch.take_along_dim(rows, at, -2), torch.take_along_dim(targets, at, -2)


def _checked(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    require_tensor("inputs", inputs)
    require_tensor("targets", targets)
    require_same_kind("targets", targets, "inputs", inputs)
    if inputs.ndim < 2 or targets.shape[:-1] != inputs.shape[:-1] or inputs.shape[-2] == 0:
        raise ValueError(
            "inputs, targets: expected shapes (..., n, d) and (..., n, c), got "
            f"{tuple(inputs.shape)} and {tuple(targets.shape)}"
        )
    require_finite("inputs", inputs)
    require_finite("targets", targets)
    return inputs, targets
