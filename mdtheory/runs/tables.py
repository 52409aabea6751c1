"""A small table of numbers on the page, from rows of a cell."""

from __future__ import annotations

from collections.abc import Sequence

from mdtheory.runs.numerals import Number, as_html, typeset
from mdtheory.runs.page import show

Entry = Number | str | tuple[Number, Number, Number]

FIGURE_SPACE, POINT_SPACE = "\N{FIGURE SPACE}", "\N{PUNCTUATION SPACE}"


def table(
    rows: Sequence[Sequence[Entry]],
    columns: Sequence[str],
    *,
    caption: str,
    units: Sequence[str] | None = None,
    align: str | None = None,
    digits: int = 3,
) -> None:
    """Show a small table: for more than three numbers that belong together.

    Numbers are set by :func:`typeset` and stand point under point; the first column, where it
    holds texts, names the rows. Texts may hold formulas between dollars.

    Args:
        rows: one sequence of entries a row: numbers, texts, or ``(value, low, high)``.
        columns: the names of the columns.
        caption: what the table shows, and what to see in it.
        units: the unit of each column, empty where it has none.
        align: a letter a column, ``l`` or ``r``; by default texts are left, numbers right.
        digits: significant digits.

    Raises:
        ValueError: no rows, a row, units or letters that are not one a column, an empty caption.
    """
    width = len(columns)
    if not caption.strip():
        raise ValueError("caption: expected what the table shows, got an empty text")
    if not rows or any(len(row) != width for row in rows):
        found = sorted({len(row) for row in rows})
        raise ValueError(f"rows: expected rows of {width} entries, got rows of {found}")
    units = [""] * width if units is None else units
    if len(units) != width:
        raise ValueError(f"units: expected {width} texts, got {len(units)}")
    texts = [[typeset(entry, digits) for entry in row] for row in rows]
    numeric = [not any(isinstance(row[at], str) for row in rows) for at in range(width)]
    if align is None:
        align = "".join("r" if is_number else "l" for is_number in numeric)
    if len(align) != width or set(align) - {"l", "r"}:
        raise ValueError(f"align: expected {width} letters l or r, got {align!r}")
    for at in range(width):
        if numeric[at] and align[at] == "r":
            for row, text in zip(texts, _under_the_point([row[at] for row in texts]), strict=True):
                row[at] = text
    names = [
        name + (f" ({unit})" if unit else "") for name, unit in zip(columns, units, strict=True)
    ]
    show(
        {
            "text/html": _html(names, texts, align, caption, row_heads=not numeric[0]),
            "text/plain": _plain([names, *texts], align, caption),
        }
    )


def _under_the_point(texts: list[str]) -> list[str]:
    """Texts of one column, filled up on the right so that their points stand in one line."""
    if any(set(text) - set("−0123456789,.") for text in texts):
        return texts
    most = max(len(text.partition(".")[2]) for text in texts)
    filled = []
    for text in texts:
        missing = most - len(text.partition(".")[2])
        point = POINT_SPACE if most and "." not in text else ""
        filled.append(text + point + FIGURE_SPACE * missing)
    return filled


def _html(
    names: list[str], texts: list[list[str]], align: str, caption: str, *, row_heads: bool
) -> str:
    """The table, in a box of its own that scrolls where a screen is narrow."""
    side = {"l": ' class="text"', "r": ' class="number"'}
    head = "".join(
        f'<th scope="col"{side[a]}>{as_html(name)}</th>'
        for name, a in zip(names, align, strict=True)
    )
    body = []
    for row in texts:
        cells = []
        for at, (text, a) in enumerate(zip(row, align, strict=True)):
            tag, scope = ("th", ' scope="row"') if row_heads and at == 0 else ("td", "")
            cells.append(f"<{tag}{scope}{side[a]}>{as_html(text)}</{tag}>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    # A caption outside the table does not grow with it.
    return (
        f'<figure class="numbers"><figcaption>{as_html(caption)}</figcaption>'
        f'<div class="scroll" tabindex="0"><table class="table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div></figure>"
    )


def _plain(lines: list[list[str]], align: str, caption: str) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = (
        "  ".join(
            text.ljust(width) if a == "l" else text.rjust(width)
            for text, width, a in zip(line, widths, align, strict=True)
        ).rstrip()
        for line in lines
    )
    return "\n".join([caption, *rows])
