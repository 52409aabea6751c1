"""Least squares after some steps of an algorithm, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcastable,
    require_count,
    require_finite,
    require_number,
    require_same_kind,
    require_tensor,
    require_values,
)
from mdtheory.convex.double_descent.features import numerical_rank, require_features
from mdtheory.convex.double_descent.filters import (
    Scalar,
    gradient_descent_filter,
    heavy_ball_filter,
    per_batch,
    ridge_filter,
)
from mdtheory.convex.mirror_maps import Euclidean, MirrorMap, dual_step


def gradient_descent_solution(
    features: Tensor,
    targets: Tensor,
    step_size: Scalar,
    steps: Scalar,
    initial: Tensor | None = None,
) -> Tensor:
    r"""Gradient descent on least squares after any number of steps: ``thm-descent-filter``.

    One singular value decomposition of ``features`` serves all step sizes and numbers of steps.

    Args:
        features: :math:`Z`, shape ``(..., n, p)``.
        targets: :math:`y`, shape ``(..., n)``; a further output is a further leading axis.
        step_size: :math:`\eta \ge 0`, a number or a tensor that broadcasts with the leading axes.
        steps: :math:`t \ge 0`, likewise; infinite for the limit, in which singular values that
            rounding cannot tell from 0 (:func:`numerical_rank`) count as 0.
        initial: :math:`\beta_0`, shape ``(..., p)``; 0 by default.

    Returns:
        :math:`\beta_t`, shape ``(..., p)``; the leading axes are all that came, broadcast.

    Raises:
        TypeError: not floating-point tensors of one dtype, or not numbers.
        ValueError: shapes that do not fit, a value out of range or not finite, or what
            :func:`gradient_descent_filter` refuses.
    """

    def share(values: Tensor) -> Tensor:
        found = gradient_descent_filter(values, step_size, steps)
        count = steps if isinstance(steps, Tensor) else values.new_full((), steps)
        return torch.where(count.isinf()[..., None] & ~numerical_rank(features, values), 0, found)

    return _filtered(features, targets, share, [step_size, steps], initial)


def ridge_solution(features: Tensor, targets: Tensor, penalty: Scalar) -> Tensor:
    r"""Ridge regression: the minimiser of :math:`|Z\beta - y|^2/2 + \lambda|\beta|^2/2`.

    Equation ``eq-ridge-filter``.

    Args:
        features: :math:`Z`, shape ``(..., n, p)``.
        targets: :math:`y`, shape ``(..., n)``.
        penalty: :math:`\lambda > 0`, a number or a tensor that broadcasts with the leading axes.

    Returns:
        Its coefficients, shape ``(..., p)``.

    Raises:
        TypeError: not floating-point tensors of one dtype, or no number.
        ValueError: shapes that do not fit, or a value out of range or not finite.
    """
    if isinstance(penalty, Tensor):
        require_values("penalty", penalty, penalty > 0, "numbers above 0")
    else:
        require_number("penalty", penalty, 0.0, strict=True)
    return _filtered(features, targets, lambda s: ridge_filter(s, penalty), [penalty])


def heavy_ball_solution(
    features: Tensor, targets: Tensor, step_size: Scalar, momentum: Scalar, steps: int | Tensor
) -> Tensor:
    r"""The heavy ball on least squares, from 0 at rest: ``eq-heavy-ball``.

    Args:
        features: :math:`Z`, shape ``(..., n, p)``.
        targets: :math:`y`, shape ``(..., n)``.
        step_size: :math:`\eta \ge 0`, a number or a tensor that broadcasts with the leading axes.
        momentum: :math:`m` in [0, 1), likewise.
        steps: whole numbers :math:`t \ge 0`, likewise.

    Returns:
        :math:`\beta_t`, shape ``(..., p)``.

    Raises:
        TypeError: not floating-point tensors of one dtype, or not numbers.
        ValueError: shapes that do not fit, or a value out of range or not finite.

    Source:
        Polyak (1964).
    """
    return _filtered(
        features, targets, lambda s: heavy_ball_filter(s, step_size, momentum, steps),
        [step_size, momentum, steps],
    )  # fmt: skip


def preconditioned_solution(
    features: Tensor, targets: Tensor, metric: Tensor, step_size: Scalar, steps: Scalar
) -> Tensor:
    r"""Mirror descent on least squares with :math:`\psi(\beta) = \beta^\top A \beta/2`, from 0.

    Proposition ``prop-preconditioning``: gradient descent on the features
    :math:`Z C^{-\top}`, where :math:`A = C C^\top`.

    Args:
        features: :math:`Z`, shape ``(..., n, p)``.
        targets: :math:`y`, shape ``(..., n)``.
        metric: :math:`A`, symmetric and positive definite, shape ``(..., p, p)``.
        step_size: :math:`\eta \ge 0`, a number or a tensor that broadcasts with the leading axes.
        steps: :math:`t \ge 0`, likewise.

    Returns:
        :math:`\beta_t`, shape ``(..., p)``.

    Raises:
        TypeError: not floating-point tensors of one dtype, or not numbers.
        ValueError: shapes that do not fit, a value out of range, or no positive definite matrix.
    """
    require_features(features)
    require_tensor("metric", metric, 2)
    require_same_kind("metric", metric, "features", features)
    if metric.shape[-1] != features.shape[-1]:
        raise ValueError(
            f"metric: expected {features.shape[-1]} columns, got shape {tuple(metric.shape)}"
        )
    root, failed = torch.linalg.cholesky_ex(metric)
    require_values("metric", failed, failed == 0, "positive definite matrices")
    turned = torch.linalg.solve_triangular(root, features.mT, upper=False).mT
    found = gradient_descent_solution(turned, targets, step_size, steps)
    back = torch.linalg.solve_triangular(root.mT, found[..., None], upper=True)
    return back[..., 0]


def cyclic_solution(
    features: Tensor, targets: Tensor, step_size: Scalar, passes: int, batch: int
) -> Tensor:
    r"""Mini-batches that come in the same order in every pass, from 0: ``eq-cyclic``.

    A pass is an affine map of the row space to itself; ``passes`` of them are its power, found by
    repeated squaring.

    Args:
        features: :math:`Z`, shape ``(..., n, p)``; row ``i`` is in batch ``i // batch``.
        targets: :math:`y`, shape ``(..., n)``.
        step_size: :math:`\eta \ge 0`, a number or a tensor that broadcasts with the leading axes.
        passes: how often all rows are seen, a whole number at least 0.
        batch: rows of a step; it divides ``n``.

    Returns:
        The coefficients after ``passes * n / batch`` steps, shape ``(..., p)``.

    Raises:
        TypeError: not floating-point tensors of one dtype, or not numbers.
        ValueError: shapes that do not fit, or a value out of range or not finite.
    """
    require_count("passes", passes, 0)
    _checked(features, targets)
    rows = features.shape[-2]
    if rows % require_count("batch", batch):
        raise ValueError(f"batch: expected a divisor of {rows}, got {batch}")
    left, values, right = torch.linalg.svd(features, full_matrices=False)
    inner = left * values[..., None, :]
    shape = torch.broadcast_shapes(features.shape[:-2], targets.shape[:-1])
    eta = per_batch("step_size", step_size, values.expand(*shape, -1))
    eta = eta[..., None] if isinstance(eta, Tensor) else eta
    # The affine map less the identity, as in the heavy ball's filter.
    change = inner.new_zeros(*shape, values.shape[-1], values.shape[-1])
    shift = inner.new_zeros(*shape, values.shape[-1], 1)
    for x, y in zip(inner.split(batch, -2), targets.split(batch, -1), strict=True):
        shift = shift - eta * (x.mT @ (x @ shift - y[..., None]))
        change = change - eta * (x.mT @ (x @ change + x))
    found = torch.zeros_like(shift)
    while passes:
        if passes % 2:
            found = found + shift + change @ found
        shift = 2 * shift + change @ shift
        change = 2 * change + change @ change
        passes //= 2
    return (right.mT @ found)[..., 0]


def descent_iterates(
    features: Tensor,
    targets: Tensor,
    step_size: float,
    steps: int,
    initial: Tensor | None = None,
    mirror_map: MirrorMap | None = None,
) -> Iterator[Tensor]:
    """Mirror descent on least squares, one step after the other: ``eq-least-squares-step``.

    Args:
        features: as in :func:`gradient_descent_solution`.
        targets: likewise.
        step_size: a number above 0.
        steps: a whole number at least 0.
        initial: where to start, shape ``(..., p)``; 0 by default.
        mirror_map: the geometry, one that carries its dual; Euclidean by default.

    Yields:
        ``steps + 1`` points, the start among them.

    Returns:
        An iterator over tensors of shape ``(..., p)``.

    Raises:
        TypeError: as :func:`gradient_descent_solution`, or no mirror map.
        ValueError: likewise, or a map that must be anchored again after each step.
    """
    geometry = Euclidean() if mirror_map is None else mirror_map
    if not isinstance(geometry, MirrorMap):
        raise TypeError(f"mirror_map: expected a MirrorMap, got {mirror_map!r}")
    if not geometry.carries_dual:
        raise ValueError(f"mirror_map: expected one that carries its dual, got {mirror_map!r}")
    start = _checked(features, targets, initial)
    eta = float(per_batch("step_size", step_size, features[..., 0]))
    count = require_count("steps", steps, 0)
    point = start.expand(*_batch(features, targets, [], start), -1)
    dual = geometry.to_dual(point)

    def run() -> Iterator[Tensor]:
        nonlocal dual, point
        yield point.clone()
        for _ in range(count):
            residual = (features @ point[..., None])[..., 0] - targets
            gradient = (features.mT @ residual[..., None])[..., 0]
            dual = dual_step(dual, gradient, eta)
            point = geometry._to_primal(dual)
            yield point.clone()

    return run()


def _filtered(
    features: Tensor,
    targets: Tensor,
    share: Callable[[Tensor], Tensor],
    scalars: list[Scalar],
    initial: Tensor | None = None,
) -> Tensor:
    r""":math:`\beta_0 + V \phi_t(S) S^{-1} U^\top (y - Z\beta_0)`."""
    start = _checked(features, targets, initial)
    batch = _batch(features, targets, scalars, start)
    left, values, right = torch.linalg.svd(features, full_matrices=False)
    shown = _times(left.mT, targets - _times(features, start))
    found = share(values.expand(*batch, -1))
    moves = torch.where(values > 0, found / values, 0) * shown
    return start + _times(right.mT, moves)


def _times(matrix: Tensor, vectors: Tensor) -> Tensor:
    """Matrices times vectors; axes that only the vectors have become columns, not copies."""
    more = vectors.ndim - matrix.ndim + 1
    if more <= 0:
        return (matrix @ vectors[..., None])[..., 0]
    columns = matrix @ vectors.flatten(0, more - 1).movedim(0, -1)
    return columns.movedim(-1, 0).unflatten(0, vectors.shape[:more])


def _batch(features: Tensor, targets: Tensor, scalars: list[Scalar], start: Tensor) -> torch.Size:
    shapes = [scalar.shape for scalar in scalars if isinstance(scalar, Tensor)]
    shapes += [features.shape[:-2], targets.shape[:-1], start.shape[:-1]]
    try:
        return torch.broadcast_shapes(*shapes)
    except RuntimeError:
        came = ", ".join(str(tuple(one)) for one in shapes)
        raise ValueError(
            f"step_size, steps, targets: expected leading axes that broadcast, got {came}"
        ) from None


def _checked(features: Tensor, targets: Tensor, initial: Tensor | None = None) -> Tensor:
    """Check them; the start, which is 0 where none came."""
    require_features(features)
    require_tensor("targets", targets)
    require_same_kind("targets", targets, "features", features)
    if targets.shape[-1] != features.shape[-2]:
        raise ValueError(
            f"targets: expected {features.shape[-2]} rows, got shape {tuple(targets.shape)}"
        )
    require_finite("targets", targets)
    require_broadcastable("targets", targets, "the rows of features", features[..., 0])
    if initial is None:
        return features.new_zeros(features.shape[-1])
    require_tensor("initial", initial)
    require_same_kind("initial", initial, "features", features)
    if initial.shape[-1] != features.shape[-1]:
        raise ValueError(
            f"initial: expected {features.shape[-1]} coefficients, got {tuple(initial.shape)}"
        )
    require_finite("initial", initial)
    return initial
