"""Sphinx extension of the book: assets from the site itself, and the generated pages."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from tools import assignments, ledger, notation, outputs, reference
from tools.execute import stamp_path
from tools.project import ROOT, hash_files, read_json

# What tex-chtml.js may load after itself; the rest of the 24 MB is for inputs we have not.
MATHJAX_PARTS = (
    "tex-chtml.js",
    "output/chtml/fonts/woff-v2",
    "input/tex/extensions",
    "a11y",
    "sre/mathmaps/base.json",
    "sre/mathmaps/en.json",
)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives and the hooks."""
    app.add_directive("theorem-ledger", _generated(lambda _: ledger.page(ROOT)))
    app.add_directive("notation-table", _generated(lambda _: notation.page(ROOT)))
    app.add_directive("assignments", _generated(lambda _: assignments.page(ROOT)))
    app.add_directive("api", _generated(reference.page))
    outputs.setup(app)
    app.connect("env-get-outdated", _outdated)
    app.connect("env-check-consistency", _check_reference)
    app.connect("autodoc-process-docstring", reference.LinkLabels(ROOT))
    app.connect("autodoc-skip-member", reference.keep_methods)
    app.connect("html-page-context", _finish_page)
    app.connect("build-finished", _copy_assets)
    return {"parallel_read_safe": False, "parallel_write_safe": False}


def _generated(make: Callable[[str], str]) -> type[SphinxDirective]:
    """A directive that stands for the Markdown that ``make`` returns."""

    class Generated(SphinxDirective):
        optional_arguments = 1

        def run(self) -> list[nodes.Node]:
            self.env.note_reread()
            text = make(self.arguments[0] if self.arguments else "")
            container = nodes.container(classes=["generated"])
            lines = StringList(text.splitlines(), source=self.env.docname)
            self.state.nested_parse(lines, self.content_offset, container)
            return container.children

    return Generated


def _outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Chapters that were executed again, though their sources stayed the same.

    And every page, where a program that makes pages has changed.
    """
    own = hash_files(ROOT, sorted((ROOT / "tools").glob("*.py")))
    stamps = {
        page: (own, read_json(stamp_path(ROOT, page)).get("notebook")) for page in env.found_docs
    }
    before = getattr(env, "mdtheory_stamps", {})
    env.mdtheory_stamps = stamps  # type: ignore[attr-defined]
    return [page for page, value in stamps.items() if before.get(page) != value]


def _check_reference(app: Sphinx, env: BuildEnvironment) -> None:
    documented = {name for name, *_ in env.get_domain("py").get_objects()}
    reference.check(ROOT, documented)


def _finish_page(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Pictures become files, and pages with a Plotly figure get what draws it."""
    body = context.get("body", "")
    images = "../" * page.count("/") + "_images"
    context["body"] = outputs.write_pictures(body, Path(app.outdir) / "_images", images)
    if "plotly-place" in body:
        app.add_js_file("figures.js", loading_method="defer")


def _copy_assets(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    mathjax = _package("sphinx-mathjax-offline") / "static" / "mathjax"
    for part in MATHJAX_PARTS:
        _copy(mathjax / part, static / "mathjax" / part)
    _copy(_package("plotly") / "package_data" / "plotly.min.js", static / "plotly.min.js")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise RuntimeError(f"{name} is not installed")
    return Path(found.origin).parent
