"""What an executed cell hands to its page: numbers for the prose, checks for the ledger.

All of it goes into the output of the cell, so the book needs no file beside the executed
notebook. Outside a notebook the functions only compute.
"""

from __future__ import annotations

import html
import math
import sys
from typing import Any

import torch
from torch import Tensor

from mdtheory.checks import require_broadcastable
from mdtheory.runs.numerals import Number, as_html, plain, typeset

GLUE_PREFIX = "application/papermill.record/"


def glue(
    name: str, value: Number | str | tuple[Number, Number, Number], *, digits: int = 3
) -> None:
    """Hand a number of a cell to the page, where ``{glue:text}`` shows it, :func:`typeset`.

    The notebook keeps every digit, and a format on the page, ``{glue:text}`name:.2f```, overrules
    the default.

    Args:
        name: its name on the page, unique in the chapter.
        value: a number, a text, a tensor with one entry, or ``(value, low, high)``, such as
            :func:`bootstrap_interval` returns: the page shows ``value [low, high]``.
        digits: significant digits where the page gives no format.

    Raises:
        TypeError: the value is none of these.
        ValueError: a tensor with more than one entry, or ends that are not in order.
    """
    text = typeset(value, digits)
    if isinstance(value, tuple):
        value = text
    elif not isinstance(value, str):
        value = plain(value)
    show(
        {GLUE_PREFIX + "text/plain": repr(value)},
        {"scrapbook": {"name": name, "mime_prefix": GLUE_PREFIX}, "mdtheory_text": text},
    )


def check_bound(label: str, left: Tensor, right: Tensor, *, tolerance: float = 1e-9) -> float:
    r"""Check ``left <= right`` on every instance, and tell the page and the ledger.

    The page shows one line for all checks of a label in a cell; a click opens their figures.

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
    positive = right > 0
    ratios = left[positive] / right[positive]
    _report(label, "bound", left.numel(), ratios, tolerance)
    return ratios.max().item() if len(ratios) else math.nan


def check_identity(label: str, left: Tensor, right: Tensor, *, tolerance: float = 1e-12) -> float:
    """Check ``left == right`` on every instance, and tell the page and the ledger.

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
    _report(label, "identity", left.numel(), difference, tolerance)
    return difference.max().item()


def show(
    data: dict[str, Any],
    metadata: dict[str, Any] | None = None,
    *,
    place: str | None = None,
    again: bool = False,
) -> None:
    """Show a bundle of formats in the cell that is running; outside a notebook, do nothing.

    Args:
        data: MIME type to content.
        metadata: the output's metadata.
        place: a name under which the output can be replaced.
        again: replace what was shown at that place.
    """
    if running_shell() is not None:
        from IPython.display import display

        where = {} if place is None else {"display_id": place, "update": again}
        display(data, raw=True, metadata=metadata, **where)


def running_shell() -> Any:
    """IPython's shell where one runs.

    Returns:
        The shell; ``None`` outside.
    """
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def _pair(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    require_broadcastable("right", right, "left", left)
    left, right = torch.broadcast_tensors(left.detach(), right.detach())
    if left.numel() == 0:
        raise ValueError(f"left: expected at least one instance, got shape {tuple(left.shape)}")
    return left.flatten(), right.flatten()


# The statements that the running cell has checked: label to what was found, one entry a call.
_checked: dict[str, list[dict[str, Any]]] = {}
_cell: list[object] = []


def _report(label: str, kind: str, instances: int, values: Tensor, tolerance: float) -> None:
    """Show the line of a statement, with what earlier calls of the same cell found."""
    shell = running_shell()
    cell = [shell, getattr(shell, "execution_count", None)]
    if shell is None or cell != _cell:
        _checked.clear()
        _cell[:] = cell
    entries = _checked.setdefault(label, [])
    entries.append(
        {
            "label": label,
            "kind": kind,
            "instances": instances,
            "worst": values.max().item() if len(values) else math.nan,
            "median": values.median().item() if len(values) else math.nan,
            "tolerance": tolerance,
        }
    )
    show(
        {"text/html": _check_html(label, entries), "text/plain": f"{label}: {_summary(entries)}"},
        {"mdtheory_check": list(entries)},
        place=f"mdtheory-check-{cell[1]}-{label}",
        again=len(entries) > 1,
    )


def _summary(entries: list[dict[str, Any]]) -> str:
    """The line of a statement: how many instances, and the worst of them."""
    total = sum(entry["instances"] for entry in entries)
    words = [f"{typeset(total)} instance{'s' * (total != 1)}"]
    ratios = [entry["worst"] for entry in entries if entry["kind"] == "bound"]
    if ratios:
        known = [ratio for ratio in ratios if not math.isnan(ratio)]
        words.append(f"worst ratio {typeset(max(known))}" if known else "no positive bound")
    off = [entry["worst"] for entry in entries if entry["kind"] == "identity"]
    if off:
        both = "identities " if ratios else ""
        words.append(both + (f"off by at most {typeset(max(off), 2)}" if max(off) else "exact"))
    return ", ".join(words)


def _check_html(label: str, entries: list[dict[str, Any]]) -> str:
    """The folded line; what it opens to says what the line does not."""
    line = f"{label_html(label)}: {as_html(_summary(entries))}"
    if len(entries) == 1:
        median = f": median {as_html(typeset(entries[0]['median'], 2))}"
        opened = f"<p>{_condition(entries[0], median)}</p>"
    else:
        head = "".join(f"<th>{name}</th>" for name in ("check", "instances", "worst", "median"))
        body = "".join(
            f"<tr><td>{entry['kind']}</td><td>{typeset(entry['instances'])}</td>"
            f"<td>{as_html(typeset(entry['worst'], 2))}</td>"
            f"<td>{as_html(typeset(entry['median'], 2))}</td></tr>"
            for entry in entries
        )
        opened = f'<table class="table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    opened += "".join(f"<p>{words}</p>" for words in dict.fromkeys(map(_condition, entries)))
    return f'<details class="check"><summary>{line}</summary>{opened}</details>'


def _condition(entry: dict[str, Any], median: str = "") -> str:
    """What was compared, and what was asked of each instance."""
    slack = as_html(typeset(entry["tolerance"]))
    if entry["kind"] == "bound":
        return f"Ratio of the two sides{median}; each left ≤ right + {slack} (1 + |right|)."
    return f"Difference over max(1, |left|, |right|){median}; each at most {slack}."


def label_html(label: str) -> str:
    """A label in an output, which the site replaces by the name and number of its statement."""
    return f'<code class="statement">{html.escape(label)}</code>'
