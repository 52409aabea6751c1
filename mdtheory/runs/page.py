"""What an executed cell hands to its page: numbers for the prose, checks for the ledger.

All of it goes into the output of the cell, so the book needs no file beside the executed
notebook. Outside a notebook the functions only compute.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from mdtheory.checks import require_broadcastable

GLUE_PREFIX = "application/papermill.record/"


def glue(name: str, value: float | str | Tensor) -> None:
    """Hand a number of a cell to the page, where ``{glue:text}`` shows it.

    Args:
        name: its name on the page, unique in the chapter.
        value: a number, a text or a tensor with one entry.

    Raises:
        ValueError: a tensor with more than one entry.
    """
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"value: expected one entry, got shape {tuple(value.shape)}")
        value = value.item()
    if isinstance(value, float):
        value = float(value)  # NumPy's float64 is one too, with a name in its text
    show(
        {GLUE_PREFIX + "text/plain": repr(value)},
        {"scrapbook": {"name": name, "mime_prefix": GLUE_PREFIX}},
    )


def check_bound(label: str, left: Tensor, right: Tensor, *, tolerance: float = 1e-9) -> float:
    r"""Check ``left <= right`` on every instance, and tell the ledger.

    Args:
        label: the theorem's label in the book.
        left: the side that must be the smaller, any shape.
        right: the bound, of a shape that broadcasts with ``left``.
        tolerance: ``left`` may exceed ``right`` by ``tolerance * (1 + |right|)``.

    Returns:
        The worst ratio ``left / right`` over the instances with a positive bound
        (NaN where there is none); 1 means that the bound is attained.

    Raises:
        AssertionError: an instance breaks the bound, or a side is NaN.
        ValueError: the shapes do not broadcast or there is no instance.
    """
    left, right = _pair(left, right)
    excess = left - right - tolerance * (1 + right.abs())
    if not bool((excess <= 0).all()):  # written so that a NaN fails
        at = int(torch.nan_to_num(excess, nan=torch.inf).argmax())
        raise AssertionError(f"{label}: broken, {left[at].item()!r} > {right[at].item()!r}")
    tight = right > 0
    worst = (left[tight] / right[tight]).max().item() if bool(tight.any()) else float("nan")
    _report(label, "bound", left.numel(), worst, "worst ratio of the two sides")
    return worst


def check_identity(label: str, left: Tensor, right: Tensor, *, tolerance: float = 1e-12) -> float:
    """Check ``left == right`` on every instance, and tell the ledger.

    Args:
        label: the statement's label in the book.
        left: one side, any shape.
        right: the other side, of a shape that broadcasts with ``left``.
        tolerance: largest difference allowed, relative to ``max(1, |left|, |right|)``.

    Returns:
        The largest relative difference.

    Raises:
        AssertionError: an instance breaks the identity, or a side is NaN.
        ValueError: the shapes do not broadcast or there is no instance.
    """
    left, right = _pair(left, right)
    scale = torch.maximum(left.abs(), right.abs()).clamp(min=1)
    difference = (left - right).abs() / scale
    if not bool((difference <= tolerance).all()):
        at = int(torch.nan_to_num(difference, nan=torch.inf).argmax())
        raise AssertionError(f"{label}: broken, {left[at].item()!r} != {right[at].item()!r}")
    worst = difference.max().item()
    _report(label, "identity", left.numel(), worst, "largest relative difference")
    return worst


def show(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
    """Show a bundle of formats in the cell that is running; outside a notebook, do nothing.

    Args:
        data: MIME type to content.
        metadata: the output's metadata.
    """
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        from IPython.display import display

        display(data, raw=True, metadata=metadata)


def _pair(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    require_broadcastable("right", right, "left", left)
    left, right = torch.broadcast_tensors(left.detach(), right.detach())
    if left.numel() == 0:
        raise ValueError(f"left: expected at least one instance, got shape {tuple(left.shape)}")
    return left.flatten(), right.flatten()


def _report(label: str, kind: str, instances: int, worst: float, words: str) -> None:
    entry = {"label": label, "kind": kind, "instances": instances, "worst": worst}
    counted = "1 instance" if instances == 1 else f"{instances:,} instances"
    text = f"{label}: {counted}, {words} {worst:.3g}"
    show({"text/plain": text}, {"mdtheory_check": entry})
