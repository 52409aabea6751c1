"""Formulas on students' pages: MathML, of known elements only."""

import re

import pytest

from mdtheory.course.classroom import CONFIG
from mdtheory.course.formulas import ATTRIBUTES, ELEMENTS, LONGEST, mathml, typeset
from tools.project import ROOT

STATEMENTS = sorted(ROOT.glob("exercises/*/*.md"))


def bare(element: str) -> str:
    """Without what stands around its content."""
    return re.sub(r'<math xmlns="[^"]*"[^>]*>|</math>|<math[^>]*>|\s', "", element)


@pytest.mark.parametrize("path", STATEMENTS, ids=[path.stem for path in STATEMENTS])
def test_every_formula_of_an_assignment_is_understood(path):
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    found = re.findall(r"\$\$(.+?)\$\$|\$(.+?)\$", text, re.DOTALL)
    assert len(found) > 5
    for block, inline in found:
        made = mathml(block or inline, bool(block))
        assert made is not None, block or inline
        assert set(re.findall(r"<(\w+)", made)) <= ELEMENTS
        assert "operatorname" not in made
        assert "\\" not in made


def test_an_index_stands_beside_an_accented_letter_and_below_an_operator():
    made = bare(mathml(r"\hat x_t", block=False))
    assert re.match(r"<msub><mover><mi>x</mi><mo[^>]*>.</mo></mover><mi>t</mi></msub>$", made)
    made = bare(mathml(r"\operatorname*{arg\,min}_{u \in X} u", block=True))
    assert re.match(r"<munder>.*arg.?min.*</munder>", made)
    assert bare(mathml(r"\sum_{i=1}^n i", block=True)).startswith("<munderover><mo")


def test_formulas_are_found_in_text_and_nowhere_else():
    page = "<p>A $x &lt; y$, and\n$$a^2$$ <code>$x$</code></p><pre>$$y$$</pre> 5$ or 6$"
    made = typeset(page)
    assert made.count("<math") == 2
    assert "<mo>&lt;</mo>" in made
    assert 'display="block"' in made
    assert made.endswith(" <code>$x$</code></p><pre>$$y$$</pre> 5$ or 6$")


@pytest.mark.parametrize(
    "formula",
    [
        r"\text{<script>alert(1)</script>}",
        r"\text{<img src=x onerror=alert(1)>}",
        r"\mathrm{</mtext><style><a title='</style><img src=x onerror=alert(1)>'>}",
        r"\operatorname{<b onclick=x>}",
        r"\href{javascript:alert(1)}{x}",
        r'\color{red" onclick="x}{a}',
        r"\style{x}{y} \class{a}{b} \unicode{60}",
        r"\begin{matrix} <a & b> \\ c \end{matrix}",
        "x" * (LONGEST + 1),
        r"\frac{",
        "{" * 300,
    ],
)
def test_no_formula_makes_an_element_that_is_not_one_of_formulas(formula):
    escaped = formula.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    made = typeset(f"<p>${escaped}$</p>")
    elements = re.findall(r"<(\w+)((?:\s+[^>]*)?)>", made)
    assert {name for name, _ in elements} <= ELEMENTS | {"p"}
    for name, attributes in elements:
        given = set(re.findall(r'([\w-]+)="[^"]*"', attributes))
        assert given <= ATTRIBUTES | {"xmlns"}, (name, attributes)
    if "<math" not in made:
        assert made == f"<p>${escaped}$</p>"


def test_pages_that_nbgrader_makes_itself_run_nothing_either():
    import nbformat
    from traitlets.utils.importstring import import_item

    exporter = import_item(re.search(r'exporter_class = "(.+)"', CONFIG)[1])
    text = "<script>alert(1)</script><img src=x onerror=alert(1)> $x_1$"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    page, _ = exporter().from_notebook_node(notebook)
    head, body = page.split("</head>")
    assert "<script" not in head
    assert "<script>alert" not in body
    assert "<img src" not in body
    assert "<msub><mi>x</mi><mn>1</mn></msub>" in re.sub(r">\s+<", "><", page)
    assert "default-src 'none'" in head


def test_text_that_all_have_is_made_once_and_what_differs_is_made_again(monkeypatch):
    import nbformat

    import mdtheory.course.gradebook as gradebook

    made = []
    monkeypatch.setattr(gradebook, "typeset", lambda page: made.append(page) or typeset(page))
    exporter = gradebook.SafeExporter

    def page(text, picture=None, **options):
        cell = nbformat.v4.new_markdown_cell(text, id="one")
        if picture:
            cell["attachments"] = {"a.png": {"image/png": picture}}
        return exporter(**options).from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))[0]

    text, pictured = "# Once $x_1$", "![picture](attachment:a.png)"
    first, again = page(text), page(text)
    assert first == again
    assert len(made) == 1
    # The same words with other pictures, or under other settings, are other pages.
    assert "base64,QQ" in page(pictured, "QQ==")
    assert "base64,Qg" in page(pictured, "Qg==")
    assert ">here</a>" not in first
    assert ">here</a>" in page(text, anchor_link_text="here")
    assert len(made) == 4
