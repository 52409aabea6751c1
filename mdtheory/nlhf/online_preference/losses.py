"""Losses of pairs and of single answers, from log-probabilities of a policy and of a reference.

Every function takes tensors of any shapes that broadcast, gives one number a pair (or an answer),
and can be differentiated; a row ``(n,)`` beside a column ``(n, 1)`` is refused, for the table that
they make is never meant. Who is differentiated decides the caller: pass what was sampled, and the
log-probabilities of the policy with their graph. Nothing is averaged.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from mdtheory.checks import (
    require_broadcastable,
    require_finite,
    require_number,
    require_same_kind,
    require_scale,
    require_tensor,
    require_truths,
    require_values,
)

PairLoss = Callable[..., Tensor]


def log_ratio_margin(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor
) -> Tensor:
    r"""How much more than the reference a policy prefers one answer to another.

    Equation ``eq-margin``: :math:`h = \log\frac{\pi(y^+)}{\mu(y^+)} -
    \log\frac{\pi(y^-)}{\mu(y^-)}`.

    Args:
        chosen: :math:`\log\pi(y^+)`, any shape.
        rejected: :math:`\log\pi(y^-)`, a shape that broadcasts with it.
        reference_chosen: :math:`\log\mu(y^+)`, likewise.
        reference_rejected: :math:`\log\mu(y^-)`, likewise.

    Returns:
        :math:`h`, of the broadcast shape.

    Raises:
        TypeError: no floating-point tensors, or dtypes differ.
        ValueError: shapes do not broadcast, or an entry is not finite.

    Source:
        Rafailov et al. (2023).
    """
    _require_logs(
        chosen=chosen, rejected=rejected, reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
    )  # fmt: skip
    return (chosen - reference_chosen) - (rejected - reference_rejected)


def ipo_loss(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    temperature: float | Tensor,
) -> Tensor:
    r"""Identity preference optimisation: :math:`\bigl(h - \tfrac{1}{2\tau}\bigr)^2`.

    Equation ``eq-ipo-loss``. Offline on pairs from a data set, online on pairs from the policy.

    Args:
        chosen: :math:`\log\pi(y^+)`, any shape.
        rejected: :math:`\log\pi(y^-)`, a shape that broadcasts with it.
        reference_chosen: :math:`\log\mu(y^+)`, likewise.
        reference_rejected: :math:`\log\mu(y^-)`, likewise.
        temperature: :math:`\tau > 0`, a number or a tensor that broadcasts.

    Returns:
        One loss a pair.

    Raises:
        TypeError: as :func:`log_ratio_margin`.
        ValueError: likewise, or a temperature that is not above 0.

    Source:
        Azar et al. (2024), section 5; Calandriello et al. (2024).
    """
    h = log_ratio_margin(chosen, rejected, reference_chosen, reference_rejected)
    tau = _require_positive("temperature", temperature, h)
    return (h - 1 / (2 * tau)) ** 2


def ipo_contrast_loss(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    temperature: float | Tensor,
) -> Tensor:
    r"""The same up to a factor: :math:`-\log\tfrac{\pi(y^+)}{\pi(y^-)} + \tau h^2`.

    It is :math:`\tau` times :func:`ipo_loss` up to a constant of the pair, equation
    ``eq-ipo-contrast``.

    Args:
        chosen: :math:`\log\pi(y^+)`, any shape.
        rejected: :math:`\log\pi(y^-)`, a shape that broadcasts with it.
        reference_chosen: :math:`\log\mu(y^+)`, likewise.
        reference_rejected: :math:`\log\mu(y^-)`, likewise.
        temperature: :math:`\tau > 0`, a number or a tensor that broadcasts.

    Returns:
        One loss a pair.

    Raises:
        TypeError: as :func:`log_ratio_margin`.
        ValueError: likewise, or a temperature that is not above 0.

    Source:
        Calandriello et al. (2024).
    """
    h = log_ratio_margin(chosen, rejected, reference_chosen, reference_rejected)
    tau = _require_positive("temperature", temperature, h)
    return tau * h**2 - (chosen - rejected)


def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    temperature: float | Tensor,
) -> Tensor:
    r"""Direct preference optimisation: :math:`-\log\sigma(\tau h)`.

    Args:
        chosen: :math:`\log\pi(y^+)`, any shape.
        rejected: :math:`\log\pi(y^-)`, a shape that broadcasts with it.
        reference_chosen: :math:`\log\mu(y^+)`, likewise.
        reference_rejected: :math:`\log\mu(y^-)`, likewise.
        temperature: :math:`\tau > 0`, a number or a tensor that broadcasts.

    Returns:
        One loss a pair.

    Raises:
        TypeError: as :func:`log_ratio_margin`.
        ValueError: likewise, or a temperature that is not above 0.

    Source:
        Rafailov et al. (2023), equation (7).
    """
    h = log_ratio_margin(chosen, rejected, reference_chosen, reference_rejected)
    tau = _require_positive("temperature", temperature, h)
    return -logsigmoid(tau * h)


def slic_loss(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    temperature: float | Tensor,
    margin: float = 1.0,
) -> Tensor:
    r"""Sequence likelihood calibration: :math:`\max(0, \delta - \tau h)`.

    The hinge with the reference in the margin, as it is used beside DPO. The original has no
    reference there (pass zeros) and adds the likelihood of reference answers.

    Args:
        chosen: :math:`\log\pi(y^+)`, any shape.
        rejected: :math:`\log\pi(y^-)`, a shape that broadcasts with it.
        reference_chosen: :math:`\log\mu(y^+)`, likewise.
        reference_rejected: :math:`\log\mu(y^-)`, likewise.
        temperature: :math:`\tau > 0`, a number or a tensor that broadcasts.
        margin: :math:`\delta > 0`, where the hinge begins.

    Returns:
        One loss a pair.

    Raises:
        TypeError: as :func:`log_ratio_margin`.
        ValueError: likewise, or a temperature or a margin that is not above 0.

    Source:
        Zhao et al. (2023).
    """
    h = log_ratio_margin(chosen, rejected, reference_chosen, reference_rejected)
    tau = _require_positive("temperature", temperature, h)
    delta = require_number("margin", margin, 0.0, strict=True)
    return relu(delta - tau * h)


def kto_loss(
    log_policy: Tensor,
    reference: Tensor,
    desirable: Tensor,
    temperature: float | Tensor,
    baseline: float | Tensor = 0.0,
) -> Tensor:
    r"""Kahneman-Tversky optimisation: :math:`1 - \sigma\bigl(\pm\tau(\log\tfrac\pi\mu - z)\bigr)`.

    One answer at a time, plus for the desirable ones; both kinds have weight 1.

    Args:
        log_policy: :math:`\log\pi(y)`, any shape.
        reference: :math:`\log\mu(y)`, a shape that broadcasts with it.
        desirable: whether the answer is liked, truth values that broadcast.
        temperature: :math:`\tau > 0`, a number or a tensor that broadcasts.
        baseline: :math:`z`, an estimate of :math:`\mathrm{KL}(\pi\|\mu)` without a graph.

    Returns:
        One loss an answer.

    Raises:
        TypeError: as :func:`log_ratio_margin`, or ``desirable`` holds no truth values.
        ValueError: likewise, a temperature that is not above 0, or a baseline that is not finite.

    Source:
        Ethayarajh et al. (2024).
    """
    _require_logs(log_policy=log_policy, reference=reference)
    ratio = log_policy - reference
    require_broadcastable("desirable", require_truths("desirable", desirable), "log_policy", ratio)
    _require_together(desirable=desirable, log_policy=ratio)
    tau = _require_positive("temperature", temperature, ratio)
    if isinstance(baseline, Tensor):
        _require_logs(log_policy=ratio, baseline=baseline)
    else:
        require_number("baseline", baseline)
    value = tau * (ratio - baseline)
    return torch.where(desirable, (-value).sigmoid(), value.sigmoid())


def sppo_loss(log_policy: Tensor, previous: Tensor, preferred: Tensor, step_size: float) -> Tensor:
    r"""SPPO: :math:`\bigl(\log\tfrac{\pi}{\pi_t} - \eta(P(y\succ\pi_t) - \tfrac12)\bigr)^2`.

    Args:
        log_policy: :math:`\log\pi(y)`, any shape.
        previous: :math:`\log\pi_t(y)`, a shape that broadcasts with it.
        preferred: :math:`P(y \succ \pi_t)`, how often the answer is preferred to the last policy's.
        step_size: :math:`\eta > 0`.

    Returns:
        One loss an answer.

    Raises:
        TypeError: as :func:`log_ratio_margin`.
        ValueError: likewise, a preference outside [0, 1], or a step that is not above 0.

    Source:
        Wu et al. (2024).
    """
    _require_logs(log_policy=log_policy, previous=previous, preferred=preferred)
    eta = require_number("step_size", step_size, 0.0, strict=True)
    require_values("preferred", preferred, (preferred >= 0) & (preferred <= 1), "values in [0, 1]")
    return (log_policy - previous - eta * (preferred - 0.5)) ** 2


def inpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    temperature: float,
    previous_chosen: Tensor,
    previous_rejected: Tensor,
    step_size: float,
) -> Tensor:
    r"""Iterative Nash policy optimisation: :math:`\bigl(h_t - \tfrac\eta2\bigr)^2`.

    Here :math:`h_t` is the margin of the pair with :math:`\eta\tau\log\mu +
    (1 - \eta\tau)\log\pi_t` in the place of the reference.

    Args:
        chosen: :math:`\log\pi(y^+)`, any shape.
        rejected: :math:`\log\pi(y^-)`, a shape that broadcasts with it.
        reference_chosen: :math:`\log\mu(y^+)`, likewise.
        reference_rejected: :math:`\log\mu(y^-)`, likewise.
        temperature: :math:`\tau > 0`.
        previous_chosen: :math:`\log\pi_t(y^+)`, the policy from which the pair came, likewise.
        previous_rejected: :math:`\log\pi_t(y^-)`, likewise.
        step_size: :math:`\eta`, with :math:`0 < \eta\tau \le 1`.

    Returns:
        One loss a pair.

    Raises:
        TypeError: as :func:`log_ratio_margin`.
        ValueError: likewise, or a temperature or a step outside its range.

    Source:
        Zhang et al. (2024), with their step written as :math:`1/\eta`.
    """
    _require_logs(
        chosen=chosen, rejected=rejected, reference_chosen=reference_chosen,
        reference_rejected=reference_rejected, previous_chosen=previous_chosen,
        previous_rejected=previous_rejected,
    )  # fmt: skip
    tau = require_number("temperature", temperature, 0.0, strict=True)
    eta = require_number("step_size", step_size, 0.0, strict=True)
    if eta * tau > 1:
        raise ValueError(f"step_size: expected at most 1/temperature = {1 / tau!r}, got {eta!r}")
    weight = eta * tau
    anchor_chosen = weight * reference_chosen + (1 - weight) * previous_chosen
    anchor_rejected = weight * reference_rejected + (1 - weight) * previous_rejected
    h = (chosen - anchor_chosen) - (rejected - anchor_rejected)
    return (h - eta / 2) ** 2


def xpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    temperature: float | Tensor,
    sampled_reference: Tensor,
    optimism: float,
) -> Tensor:
    r"""Exploratory preference optimisation: :math:`-\log\sigma(\tau h) + \alpha\log\pi(y_\mu)`.

    One answer of the pair is from the policy, the other, :math:`y_\mu`, from the reference; the
    second term takes probability away from what the reference says.

    Args:
        chosen: :math:`\log\pi(y^+)`, any shape.
        rejected: :math:`\log\pi(y^-)`, a shape that broadcasts with it.
        reference_chosen: :math:`\log\mu(y^+)`, likewise.
        reference_rejected: :math:`\log\mu(y^-)`, likewise.
        temperature: :math:`\tau > 0`, a number or a tensor that broadcasts.
        sampled_reference: :math:`\log\pi(y_\mu)` of the answer that came from the reference.
        optimism: :math:`\alpha \ge 0`.

    Returns:
        One loss a pair.

    Raises:
        TypeError: as :func:`log_ratio_margin`.
        ValueError: likewise, a temperature that is not above 0, or an optimism below 0.

    Source:
        Xie et al. (2024).
    """
    fit = dpo_loss(chosen, rejected, reference_chosen, reference_rejected, temperature)
    _require_logs(chosen=fit, sampled_reference=sampled_reference)
    alpha = require_number("optimism", optimism, 0.0)
    return fit + alpha * sampled_reference


def soft_label(
    loss: PairLoss,
    preferred: Tensor,
    first: Tensor,
    second: Tensor,
    reference_first: Tensor,
    reference_second: Tensor,
    temperature: float | Tensor,
) -> Tensor:
    r"""The mean over the label: :math:`P\,\ell(y, y') + (1 - P)\,\ell(y', y)`.

    With a preference model in place of a rater no coin has to be thrown.

    Args:
        loss: a loss of pairs, such as :func:`ipo_loss`.
        preferred: :math:`P(y \succ y')` in [0, 1], any shape.
        first: :math:`\log\pi(y)`, a shape that broadcasts with it.
        second: :math:`\log\pi(y')`, likewise.
        reference_first: :math:`\log\mu(y)`, likewise.
        reference_second: :math:`\log\mu(y')`, likewise.
        temperature: :math:`\tau > 0`, a number or a tensor that broadcasts.

    Returns:
        One loss a pair.

    Raises:
        TypeError: as :func:`log_ratio_margin`.
        ValueError: likewise, or a preference outside [0, 1].

    Source:
        Calandriello et al. (2024).
    """
    _require_logs(
        first=first, second=second, reference_first=reference_first,
        reference_second=reference_second, preferred=preferred,
    )  # fmt: skip
    require_values("preferred", preferred, (preferred >= 0) & (preferred <= 1), "values in [0, 1]")
    one = loss(first, second, reference_first, reference_second, temperature)
    other = loss(second, first, reference_second, reference_first, temperature)
    return preferred * one + (1 - preferred) * other


def _require_logs(**named: Tensor) -> None:
    """Finite floating-point tensors of one kind that broadcast."""
    (first_name, first), *others = named.items()
    require_finite(first_name, require_tensor(first_name, first, 0))
    for name, value in others:
        require_tensor(name, value, 0)
        require_same_kind(name, value, first_name, first)
        require_broadcastable(name, value, first_name, first)
        require_finite(name, value)
    _require_together(**named)


def _require_together(**named: Tensor) -> None:
    """Shapes that broadcast, and not by accident: a row and a column of one length make a table."""
    shapes = [tuple(value.shape) for value in named.values()]
    came = ", ".join(map(str, shapes))
    try:
        torch.broadcast_shapes(*shapes)
    except RuntimeError:
        raise ValueError(
            f"{', '.join(named)}: expected shapes that broadcast, got {came}"
        ) from None
    if any((*shape, 1) in shapes for shape in shapes if shape and shape[-1] > 1):
        raise ValueError(
            f"{', '.join(named)}: expected the same axes, not those of one with a last axis of 1 "
            f"behind them, got {came}"
        )


def _require_positive(name: str, value: float | Tensor, like: Tensor) -> float | Tensor:
    tau = require_scale(name, value, like, like.shape, strict=True)
    if isinstance(tau, Tensor):
        _require_together(**{name: tau, "the pairs": like})
    return tau
