"""What the site makes of outputs: typeset numbers, pictures as files, links from checks."""

import base64
import contextlib

from docutils import nodes

from mdtheory.runs.page import label_html
from tools import outputs


def test_powers_of_ten_are_formulas_and_the_rest_is_text():
    found = outputs.number_nodes("0.52 to 7.5 × 10¹⁰ or more")
    assert [type(node) for node in found] == [nodes.Text, nodes.math, nodes.Text]
    assert [node.astext() for node in found] == ["0.52 to ", r"7.5 \times 10^{10}", " or more"]
    assert [node.astext() for node in outputs.number_nodes("1,200")] == ["1,200"]
    assert [node.astext() for node in outputs.number_nodes("")] == [""]


def test_pictures_in_a_page_become_files_each_once(tmp_path):
    dots, lines = base64.b64encode(b"dots").decode(), base64.b64encode(b"<svg/>").decode()
    body = "".join(
        f'<img src="data:image/{kind};base64,{content}" alt="x">'
        for kind, content in (("png", dots), ("svg+xml", lines), ("png", dots))
    )
    text = outputs.write_pictures(body, tmp_path / "_images", "../../_images")
    assert "base64" not in text
    assert text.count('<img loading="lazy" src="../../_images/') == 3
    files = {path.suffix: path.read_bytes() for path in (tmp_path / "_images").iterdir()}
    assert files == {".png": b"dots", ".svg": b"<svg/>"}
    assert outputs.write_pictures("<p>no picture</p>", tmp_path, ".") == "<p>no picture</p>"


class Renderer:
    """Renders a role as its own text, like MyST the real one."""

    @contextlib.contextmanager
    def current_node_context(self, node):
        self.node = node
        yield

    def nested_render_text(self, text, line, inline):
        assert inline
        self.node += nodes.reference(text, text)


def test_the_label_of_a_check_becomes_a_link():
    html = f"<details><summary>{label_html('thm-one')}: 3 instances</summary></details>"
    [box] = outputs.check_nodes(Renderer(), html)
    before, link, after = box.children
    assert before.astext() == "<details><summary>"
    assert link.astext() == "{prf:ref}`thm-one`"
    assert after.astext() == ": 3 instances</summary></details>"
