"""Numbers as a careful typesetter sets them: minus signs, thousands, powers of ten, intervals.

The results are plain text, ``7.5 × 10¹⁰``; on a page of the book powers of ten become formulas.
"""

from __future__ import annotations

import html
import math
import operator
import re
from typing import SupportsFloat, SupportsIndex

from torch import Tensor

Number = float | int | Tensor | SupportsFloat | SupportsIndex

MINUS = "\N{MINUS SIGN}"
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LOWERED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
# Outside these a number is written with a power of ten.
SMALL, LARGE = 1e-3, 1e6
POWER = re.compile(
    rf"(?:(?P<factor>{MINUS}?[\d.,]+) × |(?P<sign>{MINUS}|(?<![\d.,])))10(?P<power>[⁻⁰¹²³⁴-⁹]+)"
)
MATH = re.compile(r"\$([^$]+)\$")
# A text that holds numbers and nothing else: "1e-9 to 2e-3", "-0.5 [-0.7, -0.1]", "-3 %".
NUMERAL = r"[-+]?(?:\d[\d,]*)?\.?\d+(?:e[-+]?\d+)?"
BETWEEN = r"(?:\s*(?:to|and|[\[\](),;/×±%])\s*)+"
NUMERIC = re.compile(rf"\s*[\[(<>≤≥≈±]*{NUMERAL}(?:{BETWEEN}(?:{NUMERAL})?)*\s*")


def typeset(value: Number | str | tuple[Number, Number, Number], digits: int = 3) -> str:
    """A number, an interval or a text as it stands on the page.

    Args:
        value: a number, a tensor with one entry, or ``(value, low, high)``. A text that consists
            of numerals keeps its digits and gets its signs and powers; any other stays as it is.
        digits: significant digits, at least 1. A number that needs fewer is shown exactly, and
            digits before the point are never rounded away below a million.

    Returns:
        Such as ``−0.0366``, ``1,200``, ``7.5 × 10¹⁰`` or ``0.52 [0.48, 0.57]``.

    Raises:
        TypeError: the value is none of these.
        ValueError: digits below 1, a tensor with several entries, or an interval without order.
    """
    if digits < 1:
        raise ValueError(f"digits: expected at least 1, got {digits!r}")
    if isinstance(value, str):
        return _typeset_text(value)
    if isinstance(value, tuple):
        if len(value) != 3:
            raise ValueError(f"value: expected (value, low, high), got {len(value)} numbers")
        middle, low, high = (float(plain(part)) for part in value)
        return _typeset_interval(middle, low, high, digits)
    number = plain(value)
    if isinstance(number, bool):
        return "yes" if number else "no"
    if isinstance(number, int):
        return _grouped(number, 0) if abs(number) < 10**15 else _powered(float(number), digits)
    return _typeset_float(number, digits)


def plain(value: Number) -> float | int:
    """A number as Python's own, from one, from NumPy's or from a tensor with one entry.

    Args:
        value: the number.

    Returns:
        A ``bool``, an ``int`` or a ``float``.

    Raises:
        TypeError: it is no number.
        ValueError: a tensor with more than one entry.
    """
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"value: expected one entry, got shape {tuple(value.shape)}")
        return value.item()
    if isinstance(value, bool | int):
        return value
    if isinstance(value, SupportsIndex):
        return operator.index(value)
    if isinstance(value, str) or not isinstance(value, SupportsFloat):
        raise TypeError(f"value: expected a number, got {type(value).__name__}")
    return float(value)  # NumPy's float64 is one too, with a name in its text


def as_html(text: str) -> str:
    """A text for an HTML output: escaped, powers raised, ``$...$`` as a formula.

    Args:
        text: what :func:`typeset` returned, or words with formulas between dollars.

    Returns:
        HTML that reads the same in JupyterLab and on the page.
    """
    pieces = MATH.split(text)
    for at, piece in enumerate(pieces):
        safe = html.escape(piece)
        if at % 2:
            pieces[at] = f'<span class="math notranslate nohighlight">\\({safe}\\)</span>'
        else:
            pieces[at] = POWER.sub(_raised, safe)
    return "".join(pieces)


def as_latex(power: re.Match[str]) -> str:
    r"""A power of ten found by ``POWER`` as a formula, such as ``7.5 \times 10^{10}``.

    Args:
        power: the match.

    Returns:
        LaTeX for inside a formula.
    """
    factor = (power["factor"] or "").replace(MINUS, "-").replace(",", "{,}")
    sign = (power["sign"] or "").replace(MINUS, "-")
    exponent = power["power"].translate(LOWERED)
    return f"{factor} \\times 10^{{{exponent}}}" if factor else f"{sign}10^{{{exponent}}}"


def _raised(power: re.Match[str]) -> str:
    factor = f"{power['factor']} × " if power["factor"] else power["sign"]
    exponent = power["power"].translate(LOWERED).replace("-", MINUS)
    return f'<span class="number">{factor}10<sup>{exponent}</sup></span>'


def _typeset_float(number: float, digits: int) -> str:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "∞" if number > 0 else f"{MINUS}∞"
    if number == 0:
        return "0"
    if not SMALL <= abs(number) < LARGE:
        return _powered(number, digits)
    exact = _short(number)
    if len(exact.lstrip("-0.").replace(".", "")) <= digits:
        decimals = len(exact.partition(".")[2])
    else:
        decimals = _decimals(number, digits)
    return _grouped(number, decimals)


def _typeset_interval(value: float, low: float, high: float, digits: int) -> str:
    """Decimals that show two digits of the interval's width, and a common power of ten."""
    if not low <= high:
        raise ValueError(f"value: expected low <= high, got {low!r} and {high!r}")
    parts = (value, low, high)
    if not all(math.isfinite(part) for part in parts):
        first, *ends = (_typeset_float(part, digits) for part in parts)
        return f"{first} [{ends[0]}, {ends[1]}]"
    largest = max(abs(part) for part in parts)
    power = 0 if largest == 0 or SMALL <= largest < LARGE else math.floor(math.log10(largest))
    scaled = [part / 10.0**power for part in parts]
    width = scaled[2] - scaled[1]
    if width > 0:
        decimals = max(0, 1 - math.floor(math.log10(width)))
    else:
        exact = _short(scaled[0]).partition(".")[2]
        decimals = min(len(exact), max(0, _decimals(scaled[0], digits)))
    first, *ends = (_grouped(part, min(decimals, 15)) for part in scaled)
    text = f"{first} [{ends[0]}, {ends[1]}]"
    return f"({text}) × 10{str(power).translate(RAISED)}" if power else text


def _typeset_text(text: str) -> str:
    """Signs and powers of a text made of numerals; the digits stay those that it has."""
    if not NUMERIC.fullmatch(text):
        return text

    def set_one(found: re.Match[str]) -> str:
        factor, _, power = found[0].partition("e")
        factor = factor.replace("-", MINUS)
        if not power:
            return factor
        raised = str(int(power)).translate(RAISED)
        if factor.lstrip(MINUS + "+") == "1":
            return f"{factor[:-1]}10{raised}"
        return f"{factor} × 10{raised}"

    # A hyphen inside a date or a range is none of a number.
    return re.sub(rf"(?<![\w.]){NUMERAL}", set_one, text)


def _powered(number: float, digits: int) -> str:
    exact = f"{number:.6e}".partition("e")[0].rstrip("0").rstrip(".")
    figures = len(exact.lstrip("-").replace(".", ""))
    factor, _, power = f"{number:.{min(figures, digits) - 1}e}".partition("e")
    raised = str(int(power)).translate(RAISED)
    factor = factor.replace("-", MINUS)
    return f"{factor[:-1]}10{raised}" if factor in ("1", f"{MINUS}1") else f"{factor} × 10{raised}"


def _short(number: float) -> str:
    """Seven digits without closing zeros: what was 0.1 in single precision is 0.1 again."""
    text = f"{number:.7g}"
    return f"{float(text):.15g}" if "e" in text else text


def _decimals(number: float, digits: int) -> int:
    """Places after the point that give so many significant digits, after rounding to them."""
    if number == 0:
        return 0
    power = int(f"{number:.{digits - 1}e}".partition("e")[2])
    return max(0, digits - 1 - power)


def _grouped(number: float, decimals: int) -> str:
    text = f"{number:,.{decimals}f}"
    if not any(figure in text for figure in "123456789"):
        text = text.lstrip("-")  # no negative zero
    return text.replace("-", MINUS)
