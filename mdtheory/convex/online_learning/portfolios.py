"""Online portfolio selection: wealth, the universal portfolio and the best constant one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mdtheory.checks import (
    require_broadcastable,
    require_count,
    require_number,
    require_same_kind,
    require_shape,
    require_simplex,
    require_tensor,
    require_values,
    values_known,
)
from mdtheory.convex.online_learning.adaptive import simplex_quadratic

# Numbers in one block of (portfolios, days) of the universal portfolio.
BLOCK = 4 * 1024 * 1024


def log_wealth(relatives: Tensor, decisions: Tensor) -> Tensor:
    r"""Logarithm of the wealth after each day, :math:`\sum_{s\le t}\log\langle r_s, x_s\rangle`.

    Args:
        relatives: :math:`r_t > 0`, shape ``(T, d)``, or ``(T, ..., d)``.
        decisions: the portfolio of each day, shape ``(T, ..., d)``, or a constant rebalanced
            portfolio, shape ``(d,)``.

    Returns:
        Shape ``(T, ...)``, in nats; the start is 1.

    Raises:
        TypeError: no floating-point tensors, or different dtypes.
        ValueError: shapes that do not fit, a relative that is not positive, or a portfolio that
            is no probability vector.
    """
    _check_market(relatives)
    require_tensor("decisions", decisions)
    require_same_kind("decisions", decisions, "relatives", relatives)
    require_simplex("decisions", decisions)
    if decisions.ndim == 1:
        require_shape("decisions", decisions, (relatives.shape[-1],))
    elif decisions.shape[-1] != relatives.shape[-1] or len(decisions) != len(relatives):
        raise ValueError(
            f"decisions: expected shape (T, ..., d) with the T and d of the relatives "
            f"{tuple(relatives.shape)}, got {tuple(decisions.shape)}"
        )
    else:
        # New batch axes go behind the days.
        missing = decisions.ndim - relatives.ndim
        days = len(relatives)
        relatives = relatives.reshape(days, *(1,) * missing, *relatives.shape[1:])
        decisions = decisions.reshape(days, *(1,) * -missing, *decisions.shape[1:])
        require_broadcastable("decisions", decisions, "relatives", relatives)
    return (relatives * decisions).sum(-1).log().cumsum(0)


def dirichlet(
    count: tuple[int, ...],
    assets: int,
    generator: torch.Generator,
    *,
    concentration: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    r"""Portfolios drawn from a symmetric Dirichlet distribution.

    Args:
        count: shape of the draws, such as ``(seeds, samples)``.
        assets: :math:`d`.
        generator: source of the randomness; its device is the result's.
        concentration: 1 for the uniform distribution on the simplex, or 1/2.
        dtype: of the result.

    Returns:
        Probability vectors, shape ``(*count, d)``.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: ``assets`` below 1, or a concentration that is neither 1 nor 1/2.
    """
    require_count("assets", assets)
    concentration = require_number("concentration", concentration)
    shape = (*count, assets)
    device = generator.device
    # Gamma variables of shape 1 and 1/2: an exponential one, and half the square of a normal one.
    if concentration == 1:
        weights = torch.empty(shape, dtype=dtype, device=device).exponential_(generator=generator)
    elif concentration == 0.5:
        weights = torch.randn(shape, dtype=dtype, device=device, generator=generator) ** 2
    else:
        raise ValueError(f"concentration: expected 1 or 0.5, got {concentration!r}")
    return weights / weights.sum(-1, keepdim=True)


def universal_portfolio(
    relatives: Tensor, samples: Tensor, log_weights: Tensor | None = None
) -> Tensor:
    r"""Logarithm of the wealth of Cover's universal portfolio after each day, from samples.

    Equation ``eq-universal``: the universal portfolio shares the money out over constant
    rebalanced portfolios once and lets each run, so its wealth is the mean of theirs. It is Hedge
    with step size 1 over the samples, whose losses are :math:`-\log\langle r_t, b\rangle`.

    Args:
        relatives: :math:`r_t > 0`, shape ``(T, d)``.
        samples: constant rebalanced portfolios, shape ``(..., N, d)``; leading axes are
            independent sets, one universal portfolio each.
        log_weights: logarithms of the shares of the samples, shape ``(N,)``, up to a constant;
            equal shares if ``None``. The nodes and weights of a quadrature make the integral
            exact for few stocks.

    Returns:
        Shape ``(T, ...)``, in nats; the start is 1.

    Raises:
        TypeError: no floating-point tensors, or different dtypes.
        ValueError: shapes that do not fit, a relative that is not positive, a sample that is no
            probability vector, or a NaN.
    """
    _check_market(relatives)
    require_tensor("samples", samples)
    if relatives.ndim != 2 or samples.ndim < 2 or samples.shape[-1] != relatives.shape[-1]:
        raise ValueError(
            f"samples: expected shape (..., N, {relatives.shape[-1]}) beside relatives of shape "
            f"(T, d), got {tuple(samples.shape)} beside {tuple(relatives.shape)}"
        )
    require_same_kind("samples", samples, "relatives", relatives)
    require_simplex("samples", samples)
    require_count("the number of samples", samples.shape[-2])
    shares = samples.new_zeros(samples.shape[-2]) if log_weights is None else log_weights
    require_tensor("log_weights", shares)
    require_shape("log_weights", shares, (samples.shape[-2],))
    require_same_kind("log_weights", shares, "samples", samples)
    total = shares.logsumexp(0)
    require_values("log_weights", total, total.isfinite(), "logarithms of finite shares")
    start = (shares - shares.logsumexp(0)).expand(samples.shape[:-1])
    # Within a block of days wealth is a plain product; no block is so long that a product can
    # leave the range of the numbers.
    spread = relatives.log().abs().max().item()
    reach = 0.4 * math.log(torch.finfo(relatives.dtype).max)
    days = max(1, min(64, int(reach / spread) if spread > 0 else 64))
    part = max(1, BLOCK // days // max(1, math.prod(samples.shape[:-2])))
    pieces = [
        _shares_run(relatives, some, logs, days)
        for some, logs in zip(samples.split(part, -2), start.split(part, -1), strict=True)
    ]
    return torch.stack(pieces).logsumexp(0)


def best_constant_gap(relatives: Tensor, portfolio: Tensor) -> Tensor:
    r"""How far a constant rebalanced portfolio can be from the best one: a certificate.

    Proposition ``prop-best-constant``: no portfolio :math:`u` has a log wealth above that of
    :math:`x` by more than :math:`T\log\max_i\frac1T\sum_t r_{t,i}/\langle r_t,x\rangle`, and the
    best one makes it 0.

    Args:
        relatives: :math:`r_t > 0`, shape ``(T, ..., d)``.
        portfolio: :math:`x`, of a shape that broadcasts with ``(..., d)``.

    Returns:
        The gap in nats, shape ``(...)``; at least 0 up to rounding.

    Raises:
        TypeError: no floating-point tensors, or different dtypes.
        ValueError: shapes that do not fit, a relative that is not positive, or a portfolio that
            is no probability vector.
    """
    _check_market(relatives)
    require_tensor("portfolio", portfolio)
    require_same_kind("portfolio", portfolio, "relatives", relatives)
    if portfolio.shape[-1] != relatives.shape[-1]:
        raise ValueError(
            f"portfolio: expected shape (..., {relatives.shape[-1]}), got {tuple(portfolio.shape)}"
        )
    require_broadcastable("portfolio", portfolio, "a day of relatives", relatives[0])
    require_simplex("portfolio", portfolio)
    return _gap(_scaled_relatives(relatives, portfolio))


def best_constant_portfolio(
    relatives: Tensor, *, tolerance: float = 1e-9, max_steps: int = 200
) -> Tensor:
    r"""Best constant rebalanced portfolio in hindsight, with a certificate.

    Damped Newton steps on :math:`-\sum_t\log\langle r_t, x\rangle`, which is self-concordant; each
    is a quadratic problem on the simplex (:func:`simplex_quadratic`). It ends when the
    certificate of :func:`best_constant_gap` is below the tolerance.

    Args:
        relatives: :math:`r_t > 0`, shape ``(T, ..., d)``.
        tolerance: largest distance from the best log wealth that is allowed, in nats.
        max_steps: Newton steps after which it gives up.

    Returns:
        Portfolios, shape ``(..., d)``.

    Raises:
        TypeError: ``relatives`` is no floating-point tensor.
        ValueError: a wrong shape, a relative that is not positive, or the tolerance is not
            reached.
    """
    _check_market(relatives)
    require_number("tolerance", tolerance, 0.0, strict=True)
    require_count("max_steps", max_steps)
    d = relatives.shape[-1]
    eye = torch.eye(d, dtype=relatives.dtype, device=relatives.device)
    point = torch.full_like(relatives[0], 1 / d)
    for _ in range(max_steps):
        scaled = _scaled_relatives(relatives, point)
        if not values_known(scaled) or bool((_gap(scaled) <= tolerance).all()):
            return point
        rows = scaled.movedim(0, -2)
        hessian = rows.mT @ rows
        # A little of the identity, so that stocks that move together leave one solution.
        trace = hessian.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
        hessian = hessian + 1e-12 * trace * eye
        linear = (hessian @ point[..., None])[..., 0] + scaled.sum(0)
        move = simplex_quadratic(hessian, linear, point) - point
        length = (move * (hessian @ move[..., None])[..., 0]).sum(-1, keepdim=True).sqrt()
        point = point + torch.where(length > 0.25, 1 / (1 + length), 1.0) * move
        point = point / point.sum(-1, keepdim=True)
    raise ValueError(f"tolerance: expected one that is reached in {max_steps} steps")


def _scaled_relatives(relatives: Tensor, portfolio: Tensor) -> Tensor:
    # A day's relatives may be in any unit: neither they nor their mean leave the numbers' range.
    relatives = relatives / relatives.amax(-1, keepdim=True)
    return relatives / (relatives * portfolio).sum(-1, keepdim=True)


def _gap(scaled: Tensor) -> Tensor:
    return len(scaled) * scaled.mean(0).amax(-1).log()


def _shares_run(relatives: Tensor, samples: Tensor, logs: Tensor, days: int) -> Tensor:
    """Log of the summed wealth of some samples after each day, shape ``(T, ...)``."""
    paths = []
    for block in relatives.split(days):
        products = (samples @ block.mT).cumprod(-1)
        top = logs.amax(-1, keepdim=True)
        wealth = ((logs - top).exp()[..., None, :] @ products)[..., 0, :]
        paths.append((wealth.log() + top).movedim(-1, 0))
        logs = logs + products[..., -1].log()
    return torch.cat(paths)


def _check_market(relatives: Tensor) -> None:
    require_tensor("relatives", relatives)
    if relatives.ndim < 2 or relatives.shape[0] == 0:
        raise ValueError(
            f"relatives: expected shape (T, ..., d) with T >= 1, got {tuple(relatives.shape)}"
        )
    valid = (relatives > 0) & relatives.isfinite()
    require_values("relatives", relatives, valid, "positive finite values")
