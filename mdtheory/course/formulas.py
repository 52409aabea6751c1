"""Formulas on students' pages, as MathML: they need no script and no network.

Nbconvert leaves formulas to MathJax, which asks a server for scripts that it evaluates; a page that
runs nothing of a student's cannot allow that.
"""

from __future__ import annotations

import html
import re
from xml.etree import ElementTree

from mdtheory.checks import require_extra

NAMESPACE = "http://www.w3.org/1998/Math/MathML"
# All that formulas are made of; links and actions are not among it.
ELEMENTS = frozenset(
    re.findall(
        r"\w+",
        "math menclose mfrac mi mn mo mover mpadded mphantom mroot mrow mspace msqrt mstyle msub "
        "msubsup msup mtable mtd mtext mtr munder munderover",
    )
)
ATTRIBUTES = frozenset(
    re.findall(
        r"\w+",
        "accent accentunder class columnalign columnspacing display displaystyle fence form "
        "height largeop linethickness lspace mathvariant maxsize minsize movablelimits notation "
        "rowspacing rspace scriptlevel separator stretchy symmetric voffset width",
    )
)
# What holds formulas, or must not be looked into for any.
_PIECES = re.compile(r"(<pre\b.*?</pre>|<code\b.*?</code>|<[^>]*>)", re.DOTALL)
_FORMULAS = re.compile(r"\$\$(.+?)\$\$|\$([^\s$](?:[^$]*[^\s$])?)\$", re.DOTALL)
_BRACES = r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
LONGEST = 5_000  # characters of a formula


def typeset(page: str) -> str:
    """Replace the formulas in a piece of HTML, between dollars, by MathML.

    Args:
        page: HTML as it comes from Markdown.

    Returns:
        The same with MathML; a formula that is not understood stays as it is written.
    """
    pieces = _PIECES.split(page)
    # At odd places are elements; formulas hold none of them.
    return "".join(
        piece if place % 2 else _FORMULAS.sub(_replaced, piece)
        for place, piece in enumerate(pieces)
    )


def _replaced(found: re.Match[str]) -> str:
    block = found[1] is not None
    made = mathml(html.unescape(found[1] if block else found[2]), block)
    return found[0] if made is None else made


def mathml(formula: str, block: bool) -> str | None:
    """A formula as MathML.

    Args:
        formula: TeX.
        block: whether it stands on lines of its own.

    Returns:
        The element ``math``, made of known elements and attributes only; None where the formula
        is not understood.
    """
    converter = require_extra("docutils.utils.math.latex2mathml", "course")
    if len(formula) > LONGEST:
        return None
    try:
        made = converter.tex2mathml(_plain_tex(formula), as_block=block)
        root = ElementTree.fromstring(made.replace("&ApplyFunction;", "\u2061"))
    except Exception:  # docutils raises what it happens to stumble over
        return None
    for element in root.iter():
        name = element.tag.removeprefix(f"{{{NAMESPACE}}}")
        if name not in ELEMENTS or element.tag == name:
            return None
        element.tag = name
        for attribute in set(element.attrib) - ATTRIBUTES:
            del element.attrib[attribute]
    for element in list(root.iter("munderover")):
        letter, index, accent = element
        if letter.tag == "mi" and accent.tag == "mo":  # the index belongs beside the letter
            accented = ElementTree.Element("mover")
            accented.extend([letter, accent])
            element[:] = [accented, index]
            element.tag = "msub"
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _plain_tex(formula: str) -> str:
    """In the commands that docutils knows."""
    formula = re.sub(r"\\dots(?![A-Za-z])", r"\\ldots", formula)
    formula = re.sub(r"\\(big|Big|bigg|Bigg)(?![A-Za-z])", r"\\\1l", formula)
    formula = re.sub(r"\\([dt]?frac)(\d)(\d)", r"\\\1{\2}{\3}", formula)
    below = re.compile(rf"\\operatorname\*{_BRACES}_(?:{_BRACES}|(\w))")
    formula = below.sub(
        lambda f: rf"\underset{{{f[2] or f[3]}}}{{\operatorname{{{f[1]}}}}}", formula
    )
    formula = formula.replace(r"\operatorname*", r"\operatorname")
    named = re.compile(rf"\\operatorname{_BRACES}")
    return named.sub(lambda f: f[0].replace(r"\,", "\u2009"), formula)
