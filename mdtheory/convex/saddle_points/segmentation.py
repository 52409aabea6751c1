"""Training a segmentation network with seven ways of weighing its samples."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mdtheory.checks import require_count, require_integers, require_number, require_values
from mdtheory.convex.mirror_maps import dual_step
from mdtheory.convex.saddle_points.network import UNet
from mdtheory.convex.saddle_points.weights import require_order

ARMS = (
    "erm",
    "pair",
    "trim",
    "trim_ratio",
    "reweight",
    "consistency",
    "adawac",
    "pseudo",
)
TRIMMED = 0.42  # share of a batch that "trim_ratio" drops
TURN = math.pi / 9  # largest angle of a view


class SegmentationRecord(NamedTuple):
    r"""What a training run leaves.

    Attributes:
        network: the trained networks.
        weights: :math:`b`, shape ``([seeds,] n)``, float64: 1/2 unless the arm moves them.
        supervised: :math:`\ell` of every sample drawn, shape ``(steps, [seeds,] batch)``, float64.
        consistency: :math:`\rho`, likewise; NaN for the arm that sees one view.
        used: the weight that each of them met, likewise.
        drawn: which samples they are, int64, likewise.
    """

    network: UNet
    weights: Tensor
    supervised: Tensor
    consistency: Tensor
    used: Tensor
    drawn: Tensor


def train_segmentation(
    images: Tensor,
    labels: Tensor,
    arm: str,
    *,
    consistency_weight: float = 4.0,
    weight_step_size: float = 50.0,
    warm_start: int | UNet = 200,
    generator: torch.Generator,
    steps: int = 200,
    batch: int = 16,
    learning_rate: float = 0.005,
    falling: bool = True,
    overlap_share: float = 0.5,
    noise: float = 1.0,
    order: str = "weights_first",
) -> SegmentationRecord:
    r"""Train a UNet for every seed: AdaWAC, algorithm ``alg-adawac``, and six arms beside it.

    A step draws a batch, makes two views of each image (a flip and a turn of its own, gain,
    offset and noise), and steps with Adam on ``overlap_share`` times the overlap loss of the
    batch, which no arm weighs, plus the rest times the arm's mean:

    - ``"erm"``: the cross-entropy of one view; ``"pair"``: :math:`\ell`, the mean of both;
    - ``"trim"``: :math:`\ell` of the labelled samples; ``"trim_ratio"``: of those in the batch
      with the largest, 58 % of it;
    - ``"reweight"``: :math:`\ell` under weights that entropic ascent moves towards the larger
      loss, normalised in every batch;
    - ``"consistency"``: :math:`(\ell + \rho)/2`;
    - ``"adawac"``: :math:`b\ell + (1 - b)\rho`, with ``eq-weight-step`` on :math:`b`;
    - ``"pseudo"``: :math:`\ell` where a label has a target, else :math:`\rho`.

    Here :math:`\rho` is ``consistency_weight`` times the mean squared difference of the latents.

    Args:
        images: shape ``([seeds,] n, channels, h, w)``, with sides that are multiples of 4.
        labels: whole numbers from 0, the background, shape ``([seeds,] n, h, w)``.
        arm: one of the names above.
        consistency_weight: :math:`\lambda \ge 0`.
        weight_step_size: :math:`\eta_B \ge 0`.
        warm_start: steps of ``"pair"`` with a constant rate that come first, or the networks to
            begin from, which are copied.
        generator: the source of chance, on the CPU.
        steps: number of steps after the warm start.
        batch: samples in a step.
        learning_rate: of Adam, above 0.
        falling: whether the rate falls to 0 along a cosine after the warm start.
        overlap_share: between 0 and 1.
        noise: strength of gain, offset and noise of a view.
        order: whether the weights move before the networks see them (``"weights_first"``, as in
            the authors' code) or after (``"simultaneous"``).

    Returns:
        The record of the steps after the warm start; without the axis of seeds if the images have
        none.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an unknown arm or order, shapes that do not fit, labels or numbers out of range.

    Source:
        Dong, Xie and Ward (2023).
    """
    single = images.ndim == 4 and labels.ndim == 3
    if single:
        images, labels = images[None], labels[None]
    _check_data(images, labels)
    if arm not in ARMS:
        raise ValueError(f"arm: expected one of {ARMS}, got {arm!r}")
    if require_number("overlap_share", overlap_share, 0.0) > 1:
        raise ValueError(f"overlap_share: expected a number in [0, 1], got {overlap_share!r}")
    run = _Run(
        images, labels, require_number("consistency_weight", consistency_weight, 0.0),
        require_number("weight_step_size", weight_step_size, 0.0), require_count("batch", batch),
        require_number("learning_rate", learning_rate, 0.0, strict=True), overlap_share,
        require_number("noise", noise, 0.0), require_order(order) == "weights_first", generator,
    )  # fmt: skip
    require_count("steps", steps)
    if isinstance(warm_start, UNet):
        classes = int(labels.max()) + 1
        wanted = (images.shape[0], images.shape[2])
        if (warm_start.seeds, warm_start.channels) != wanted or warm_start.classes < classes:
            raise ValueError(f"warm_start: expected networks for {wanted}, got {warm_start.seeds}")
        network = copy.deepcopy(warm_start)
    else:
        classes = max(2, int(labels.max()) + 1)
        network = UNet(images.shape[0], images.shape[2], classes, generator=generator)
        network = network.to(images.device)
        if require_count("warm_start", warm_start, 0):
            run.train(network, "pair", warm_start, falling=False)
    record = run.train(network, arm, steps, falling=falling)
    if single:
        record = SegmentationRecord(network, record.weights[0], *(log[:, 0] for log in record[2:]))
    return record


def segment(network: UNet, images: Tensor) -> Tensor:
    """The most probable class of every pixel.

    Args:
        network: trained networks.
        images: shape ``([seeds,] n, channels, h, w)``; without seeds for a single network.

    Returns:
        Classes, int64, shape ``([seeds,] n, h, w)``.

    Raises:
        ValueError: the shape does not fit the networks.
    """
    single = images.ndim == 4
    batch = images[None] if single else images
    if batch.ndim != 5 or batch.shape[0] != network.seeds or batch.shape[2] != network.channels:
        raise ValueError(
            f"images: expected {network.seeds} seeds and {network.channels} channels, got shape "
            f"{tuple(images.shape)}"
        )
    with torch.no_grad():
        found: Tensor = network(batch)[0].argmax(2)
    return found[0] if single else found


def logged_weights(record: SegmentationRecord) -> Tensor:
    """The weights after every step, each sample keeping its own until it is drawn again.

    Args:
        record: of the arm ``"adawac"``.

    Returns:
        Shape ``(steps, [seeds,] n)``: the weights that the last draw of each sample met.
    """
    now = torch.full_like(record.weights, 0.5)
    rows = []
    for drawn, used in zip(record.drawn, record.used, strict=True):
        now = now.scatter(-1, drawn, used)
        rows.append(now)
    return torch.stack(rows)


def latent_distance(network: UNet, images: Tensor, generator: torch.Generator) -> Tensor:
    r"""Mean squared difference of the latents of two views: :math:`\rho/\lambda`.

    Args:
        network: networks.
        images: shape ``(seeds, n, channels, h, w)``.
        generator: the source of the views, on the CPU.

    Returns:
        Shape ``(seeds, n)``.
    """
    empty = torch.zeros(images.shape[:2] + images.shape[3:], dtype=torch.int64)
    views = [_view(images, empty.to(images.device), 1.0, generator)[0] for _ in range(2)]
    with torch.no_grad():
        first, second = (network(view)[1] for view in views)
    return (first - second).square().mean((2, 3, 4))


class _Run(NamedTuple):
    """All that stays the same from step to step."""

    images: Tensor
    labels: Tensor
    consistency_weight: float
    weight_step_size: float
    batch: int
    learning_rate: float
    overlap_share: float
    noise: float
    weights_first: bool
    generator: torch.Generator

    def train(self, network: UNet, arm: str, steps: int, *, falling: bool) -> SegmentationRecord:
        seeds, count = self.images.shape[:2]
        optimizer = torch.optim.Adam(network.parameters(), self.learning_rate)
        weighed = torch.zeros(seeds, count, dtype=torch.float64, device=self.images.device)
        seed = torch.arange(seeds, device=self.images.device)[:, None]
        logs: list[tuple[Tensor, ...]] = []
        queue: list[Tensor] = []
        for step in range(steps):
            if falling:
                share = 0.5 * (1 + math.cos(math.pi * step / steps))
                optimizer.param_groups[0]["lr"] = self.learning_rate * share
            if not queue:
                order = torch.rand(seeds, count, generator=self.generator).argsort(-1)
                whole = max(1, count // self.batch)
                queue = list(order.to(self.images.device).split(self.batch, 1))[:whole]
            drawn = queue.pop()
            images, labels = self.images[seed, drawn], self.labels[seed, drawn]
            logits, seen, supervised, consistency = self._losses(
                network, images, labels, 1 if arm == "erm" else 2
            )
            told = supervised.detach().double(), consistency.detach().double()
            before = weighed.gather(1, drawn)
            if arm == "adawac":
                moved = dual_step(before, told[1] - told[0], self.weight_step_size)
                weighed.scatter_(1, drawn, moved)
                used = (moved if self.weights_first else before).sigmoid()
                value = used.to(supervised) * supervised + (1 - used).to(supervised) * consistency
            elif arm == "reweight":
                moved = dual_step(before, -told[0], self.weight_step_size)
                moved = moved.log_softmax(1)
                weighed.scatter_(1, drawn, moved)
                used = moved.exp()
                value = used.to(supervised) * supervised * drawn.shape[1]
            else:
                used = torch.full_like(before, 0.5)
                value = _weighed(arm, supervised, consistency, labels)
            loss = (1 - self.overlap_share) * value.mean(1)
            if self.overlap_share:
                loss = loss + self.overlap_share * _overlap_loss(logits, seen)
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            logs.append((*told, used, drawn))
        rows = [torch.stack(column) for column in zip(*logs, strict=True)]
        final = weighed.sigmoid() if arm == "adawac" else torch.full_like(weighed, 0.5)
        return SegmentationRecord(network, final, *rows)

    def _losses(
        self, network: UNet, images: Tensor, labels: Tensor, views: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits and labels of all views, and the two losses of each sample."""
        pairs = [_view(images, labels, self.noise, self.generator) for _ in range(views)]
        seen = torch.cat([pair[1] for pair in pairs], 1)
        logits, latent = network(torch.cat([pair[0] for pair in pairs], 1))
        entropy = functional.cross_entropy(
            logits.flatten(0, 1), seen.flatten(0, 1), reduction="none"
        )
        each = entropy.mean((1, 2)).unflatten(0, (images.shape[0], views, -1))
        supervised = each.mean(1)
        if views == 1:
            return logits, seen, supervised, torch.full_like(supervised, torch.nan)
        first, second = latent.chunk(2, 1)
        distance = (first - second).square().mean((2, 3, 4))
        return logits, seen, supervised, self.consistency_weight * distance


def _weighed(arm: str, supervised: Tensor, consistency: Tensor, labels: Tensor) -> Tensor:
    """What the mean over the batch is taken of, for the arms whose weights do not learn."""
    if arm == "consistency":
        return (supervised + consistency) / 2
    labelled = (labels > 0).flatten(2).any(2)
    if arm == "pseudo":
        return torch.where(labelled, supervised, consistency)
    if arm == "trim":
        return supervised * _shared(labelled)
    if arm == "trim_ratio":
        return supervised * _shared(supervised > supervised.quantile(TRIMMED, 1, keepdim=True))
    return supervised


def _shared(kept: Tensor) -> Tensor:
    """Weights of mean 1 on the samples that are kept; none where none is."""
    return kept / kept.double().mean(1, keepdim=True).clamp(min=1 / kept.shape[1]).float()


def _overlap_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """One minus the overlap of probabilities and labels over a whole batch, mean of the classes."""
    chance = logits.softmax(2)
    truth = functional.one_hot(labels, logits.shape[2]).movedim(-1, 2).to(chance)
    both, sizes = (chance * truth).sum((1, 3, 4)), (chance**2 + truth**2).sum((1, 3, 4))
    return (1 - (2 * both + 1e-5) / (sizes + 1e-5)).mean(1)


def _view(
    images: Tensor, labels: Tensor, noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A flip half of the time and a turn of up to 20 degrees; gain, offset and noise."""
    seeds, n = images.shape[:2]
    h, w = images.shape[-2:]
    u = torch.rand(4, seeds * n, generator=generator)
    angle, flip = TURN * (2 * u[0] - 1), torch.where(u[1] < 0.5, -1.0, 1.0)
    c, s, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # In units of half a side, so that a turn of an oblong image is one.
    rows = [torch.stack([c * flip, -s * h / w, zero], -1),
            torch.stack([s * flip * w / h, c, zero], -1)]  # fmt: skip
    matrix = torch.stack(rows, 1).to(images)
    flat = images.flatten(0, 1)
    grid = functional.affine_grid(matrix, list(flat.shape), align_corners=False)
    turned = functional.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    moved = functional.grid_sample(
        labels.flatten(0, 1)[:, None].to(images), grid, mode="nearest", align_corners=False
    )
    gain, offset = (0.4 * noise * (2 * u[2:] - 1)).to(images)[..., None, None, None]
    grain = torch.randn(turned.shape, generator=generator).to(images)
    turned = turned * (1 + gain) + offset + 0.25 * noise * grain
    return turned.unflatten(0, (seeds, n)), moved[:, 0].long().unflatten(0, (seeds, n))


def _check_data(images: Tensor, labels: Tensor) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise TypeError("images: expected a floating-point tensor")
    require_integers("labels", labels)
    if images.ndim != 5 or 0 in images.shape or images.shape[-1] % 4 or images.shape[-2] % 4:
        raise ValueError(
            "images: expected shape ([seeds,] n, channels, h, w) with sides that are multiples of "
            f"4, got {tuple(images.shape)}"
        )
    wanted = images.shape[:2] + images.shape[3:]
    if labels.shape != wanted:
        raise ValueError(f"labels: expected shape {tuple(wanted)}, got {tuple(labels.shape)}")
    require_values("images", images, images.isfinite(), "finite values")
    require_values("labels", labels, labels >= 0, "classes >= 0")
