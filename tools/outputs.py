"""What the site makes of the outputs of cells: glued numbers, figures, folded checks.

MyST-NB decides from a cell's options what becomes of its outputs; here the outputs themselves have
a say. A figure that carries its caption becomes a numbered one, the line of a check begins with
the name and number of its statement, and glued numbers are set as in a book.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from myst_nb.core.variables import RetrievalError
from myst_nb.ext.glue.roles import PasteTextRole
from myst_nb.ext.glue.utils import retrieve_glue_data
from myst_nb.sphinx_ import SphinxNbRenderer
from sphinx.application import Sphinx

from mdtheory.runs.numerals import POWER, as_latex, typeset

CAPTION = re.compile(r'<p class="slider-caption">.*?</p>', re.DOTALL)
PICTURE = re.compile(r'src="data:image/(svg\+xml|png);base64,([A-Za-z0-9+/=]+)"')
STATEMENT = re.compile(r'<code class="statement">([\w-]+)</code>')


def setup(app: Sphinx) -> None:
    """Let outputs be rendered here first."""
    app.add_role_to_domain("glue", "text", GlueRole(), override=True)
    if not hasattr(SphinxNbRenderer, "_render_one_by_one"):
        SphinxNbRenderer._render_one_by_one = SphinxNbRenderer._render_nb_cell_code_outputs
        SphinxNbRenderer._render_nb_cell_code_outputs = _render_outputs


class GlueRole(PasteTextRole):  # type: ignore[misc]
    """``{glue:text}`name``` or with a format, ``{glue:text}`name:.2f```: a typeset number."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The number as nodes; powers of ten are formulas."""
        found, messages = super().run()
        for node in found:
            if "pasted-text" in node.get("classes", []):
                text = typeset(node.astext())
                if ":" not in self.text:
                    text = self._default() or text
                node.children = []
                node += number_nodes(text)
        return found, messages

    def _default(self) -> str | None:
        """The number as the cell set it."""
        try:
            metadata = retrieve_glue_data(self.document, self.text).metadata
        except RetrievalError:
            return None
        text = metadata.get("mdtheory_text")
        return text if isinstance(text, str) else None


def number_nodes(text: str) -> list[nodes.Node]:
    """A typeset text as nodes, its powers of ten as formulas."""
    found: list[nodes.Node] = []
    at = 0
    for power in POWER.finditer(text):
        if power.start() > at:
            found.append(nodes.Text(text[at : power.start()]))
        latex = as_latex(power)
        found.append(nodes.math(latex, latex))
        at = power.end()
    if at < len(text) or not found:
        found.append(nodes.Text(text[at:]))
    return found


def _render_outputs(self: Any, token: Any, outputs: list[Any]) -> None:
    """Render the outputs of a cell one by one, each with what its own metadata asks for."""
    options = token.meta["metadata"]
    for output in outputs:
        metadata = output.get("metadata", {})
        token.meta["metadata"] = options
        if "mdtheory_check" in metadata:
            self.current_node += check_nodes(self, output["data"]["text/html"])
            continue
        if "mdtheory_figure" in metadata:
            mine = {**options.get("mystnb", {}), "figure": metadata["mdtheory_figure"]}
            token.meta["metadata"] = {**options, "mystnb": mine}
            # The figure has the caption already, with its number.
            text = CAPTION.sub("", output["data"]["text/html"])
            output = {**output, "data": {**output["data"], "text/html": text}}
            output = nbformat.from_dict(output)
        before = len(self.current_node)
        self._render_one_by_one(token, [output])
        width = metadata.get("image/png", {}).get("width")
        for added in self.current_node[before:]:
            for image in added.findall(nodes.image) if width else ():
                image.setdefault("width", f"{width}px")
    token.meta["metadata"] = options


def check_nodes(renderer: Any, html: str) -> list[nodes.Node]:
    """The folded line of a check, its label as a link with the statement's name and number."""
    found: list[nodes.Node] = []
    pieces = STATEMENT.split(html)
    for at, piece in enumerate(pieces):
        if at % 2 == 0:
            found.append(nodes.raw("", piece, format="html"))
            continue
        holder = nodes.Element()
        with renderer.current_node_context(holder):
            renderer.nested_render_text(f"{{prf:ref}}`{piece}`", 0, inline=True)
        inline = nodes.inline("", "")
        inline += holder.children
        found.append(inline)
    box = nodes.container("", *found, classes=["output", "check_output"])
    return [box]


def write_pictures(body: str, folder: Path, to_folder: str) -> str:
    """Write the pictures inside a page as files of their own, for the reader to load when needed.

    Args:
        body: the page.
        folder: where the files go; it is made.
        to_folder: the way from the page to it.

    Returns:
        The page with the names of the files.
    """

    def write(found: re.Match[str]) -> str:
        content = base64.b64decode(found[2])
        name = f"{hashlib.sha256(content).hexdigest()}.{found[1].partition('+')[0]}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        return f'loading="lazy" src="{to_folder}/{name}"'

    return PICTURE.sub(write, body)
