"""Numbers on the page, and small tables of them."""

import math
import re

import numpy as np
import pytest
import torch

from mdtheory import runs
from mdtheory.runs import tables
from mdtheory.runs.numerals import POWER, as_html, as_latex, plain

M = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        (2.0, "2"),
        (0.49998, "0.500"),
        (-0.0366123, f"{M}0.0366"),
        (1200, "1,200"),
        (-5, f"{M}5"),
        (112880.038, "112,880"),
        (999.6, "1,000"),
        (7.5e10, "7.5 × 10¹⁰"),
        (4806401.05, "4.81 × 10⁶"),
        (1e-16, "10⁻¹⁶"),
        (-1e-9, f"{M}10⁻⁹"),
        (0.0009996, "1.00 × 10⁻³"),
        (1.04e-16, "1.04 × 10⁻¹⁶"),
        (0.0, "0"),
        (-0.0, "0"),
        (math.nan, "NaN"),
        (-math.inf, f"{M}∞"),
        (10**20, "10²⁰"),
        (True, "yes"),
        (np.float32(0.1), "0.1"),
        (np.int64(7000), "7,000"),
        (torch.tensor([[0.1]]), "0.1"),
        (torch.tensor(3), "3"),
    ],
)
def test_a_number_is_set_with_three_significant_digits(value, text):
    assert runs.typeset(value) == text


@pytest.mark.parametrize("digits", [1, 2, 3, 5])
def test_the_text_is_the_number_to_the_digits_asked_for(digits):
    generator = torch.Generator().manual_seed(digits)
    for value in (10 ** (24 * torch.rand(300, generator=generator).double() - 12)).tolist():
        text = runs.typeset(value, digits)
        found = POWER.search(text)
        shown = float(text.replace(",", "")) if found is None else _value(found)
        assert abs(shown - value) <= max(0.5000001 * 10.0 ** (1 - digits) * value, 0), text


def _value(power):
    factor, exponent = re.fullmatch(
        r"(.*?)(?: \\times )?10\^\{(.*)\}", as_latex(power).replace("{,}", "")
    ).groups()
    return float(factor or 1) * 10.0 ** int(exponent)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((0.5212, 0.4834, 0.5671), "0.521 [0.483, 0.567]"),
        ((-427.2, -479, -408.0), f"{M}427 [{M}479, {M}408]"),
        ((1275.3, 1100, 1400), "1,275 [1,100, 1,400]"),
        ((500, 500, 500), "500 [500, 500]"),
        ((4.2e-5, 4.1e-5, 5e-5), "(4.20 [4.10, 5.00]) × 10⁻⁵"),
        ((0.0, 0.0, 0.0), "0 [0, 0]"),
        ((-0.001, -0.4, 0.4), f"0.00 [{M}0.40, 0.40]"),
        ((1.0, 0.5, math.inf), "1 [0.5, ∞]"),
    ],
)
def test_an_interval_has_the_decimals_that_its_width_allows(value, text):
    assert runs.typeset(value) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1e-09", "10⁻⁹"),
        ("7.50e-06", "7.50 × 10⁻⁶"),
        ("-1275 [-1454, -1000]", f"{M}1275 [{M}1454, {M}1000]"),
        ("-3 to -1e-3", f"{M}3 to {M}10⁻³"),
        ("30,000", "30,000"),
        ("0.50", "0.50"),
        ("2026-11-25", "2026-11-25"),
        ("12 %", "12 %"),
        ("python -m study --rate 1e-3", "python -m study --rate 1e-3"),
        ("m = 10", "m = 10"),
        ("", ""),
    ],
)
def test_a_text_of_numerals_keeps_its_digits_and_words_stay(text, shown):
    assert runs.typeset(text) == shown


def test_powers_become_formulas():
    text = f"{M}1,200.5 × 10⁻⁹ and 10³"
    assert as_html(text) == (
        f'<span class="number">{M}1,200.5 × 10<sup>{M}9</sup></span> and '
        '<span class="number">10<sup>3</sup></span>'
    )
    latex = [as_latex(found) for found in POWER.finditer(text)]
    assert latex == [r"-1{,}200.5 \times 10^{-9}", "10^{3}"]
    assert not POWER.search("110²")


def test_html_is_escaped_and_formulas_are_marked():
    assert as_html("a < b & $x < 1$") == (
        'a &lt; b &amp; <span class="math notranslate nohighlight">\\(x &lt; 1\\)</span>'
    )


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (torch.zeros(2), ValueError, r"value: expected one entry, got shape \(2,\)"),
        ((1.0, 2.0), ValueError, r"value: expected \(value, low, high\), got 2 numbers"),
        ((1.0, 2.0, 1.0), ValueError, "value: expected low <= high, got 2.0 and 1.0"),
        ([1.0], TypeError, "value: expected a number, got list"),
        (None, TypeError, "value: expected a number, got NoneType"),
    ],
)
def test_what_is_no_number_is_refused(value, error, words):
    with pytest.raises(error, match=f"^{words}"):
        runs.typeset(value)


def test_digits_and_plain_numbers_are_checked():
    with pytest.raises(ValueError, match=r"^digits: expected at least 1, got 0"):
        runs.typeset(1.0, 0)
    with pytest.raises(TypeError, match=r"^value: expected a number, got str"):
        plain("1")


# ----------------------------------------------------------------------------------------- tables


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(tables, "show", outputs.append)
    return outputs


ROWS = [["Hedge", 0.5, 1200], ["$\\ell_1$ & more", 0.0366, 7]]


def test_a_table_has_its_caption_its_units_and_its_heads(shown):
    runs.table(ROWS, ["method", "gap", "rounds"], caption="The gap.", units=["", "nats", ""])
    [data] = shown
    text = data["text/html"]
    assert "<figcaption>The gap.</figcaption>" in text
    assert '<th scope="col" class="number">gap (nats)</th>' in text
    assert '<th scope="row" class="text">Hedge</th>' in text
    assert '<span class="math notranslate nohighlight">\\(\\ell_1\\)</span> &amp; more' in text
    assert '<td class="number">1,200</td>' in text
    assert data["text/plain"].splitlines()[0] == "The gap."
    assert data["text/plain"].splitlines()[2].split() == ["Hedge", "0.5", "1,200"]


def test_numbers_stand_point_under_point(shown):
    runs.table([[0.25], [12.5], [300]], ["x"], caption="c")
    cells = re.findall('<td class="number">(.*?)</td>', shown[0]["text/html"])
    visible = str.maketrans({tables.FIGURE_SPACE: "_", tables.POINT_SPACE: "."})
    assert [cell.translate(visible) for cell in cells] == ["0.25", "12.5_", "300.__"]


def test_intervals_texts_and_powers_stand_in_tables(shown):
    rows = [[1, (0.5, 0.4, 0.6), "never"], [2, (0.7, 0.6, 0.8), 3e-9]]
    runs.table(rows, ["n", "win", "first"], caption="c", align="rlr")
    text = shown[0]["text/html"]
    assert '<td class="text">0.50 [0.40, 0.60]</td>' in text
    assert '<td class="number"><span class="number">3 × 10<sup>−9</sup></span></td>' in text
    assert '<td class="number">never</td>' in text
    assert '<th scope="row"' not in text


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([], {}, r"rows: expected rows of 1 entries, got rows of \[\]"),
        ([[1, 2]], {}, r"rows: expected rows of 1 entries, got rows of \[2\]"),
        ([[1]], {"caption": " "}, "caption: expected what the table shows"),
        ([[1]], {"units": []}, "units: expected 1 texts, got 0"),
        ([[1]], {"align": "c"}, "align: expected 1 letters l or r, got 'c'"),
        ([[1]], {"align": "ll"}, "align: expected 1 letters l or r, got 'll'"),
    ],
)
def test_tables_refuse_by_name(rows, options, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        runs.table(rows, ["x"], **({"caption": "c"} | options))
