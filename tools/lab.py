"""JupyterLab on the book: a chapter opens as a notebook, and saving leaves its text as it was."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import jupytext
import yaml
from jupytext.config import load_jupytext_configuration_file

from tools.project import ROOT, code_cells

HEADER = re.compile(r"\A---\n(?P<yaml>.*?)\n---\n", re.DOTALL)
CELL_START = re.compile(
    r"^(?P<fence>```\{code-cell\}[^\n]*\n)"
    r"(?P<options>(?:---\n.*?\n---\n|(?::[^\n]*\n)+)?\n*)",
    re.MULTILINE | re.DOTALL,
)
VIEWERS = {"defaultViewers": {"markdown": "Jupytext Notebook", "myst": "Jupytext Notebook"}}


def keep_style(before: str, after: str) -> str:
    """Write what was not changed as it was written before.

    Jupytext writes the YAML of headers and cells in its own style, which would touch every
    caption of a chapter whenever someone saves it.

    Args:
        before: the file's text before saving.
        after: its text as Jupytext would write it.

    Returns:
        ``after``, with each header and each cell's options that say the same as some of
        ``before`` spelled as there.
    """
    old, new = HEADER.match(before), HEADER.match(after)
    if old and new and _header(old["yaml"]) == _header(new["yaml"]):
        after = old[0] + after[new.end() :]
    spelled: dict[str, list[str]] = {}
    for cell in CELL_START.finditer(before):
        spelled.setdefault(_options(cell["options"]), []).append(cell["options"])

    def respell(cell: re.Match[str]) -> str:
        known = spelled.get(_options(cell["options"]), [])
        # In their order; cells that were added keep the last spelling of equals.
        options = known.pop(0) if len(known) > 1 else (known or [cell["options"]])[0]
        return cell["fence"] + options

    return CELL_START.sub(respell, after)


class BookContentsManager(jupytext.TextFileContentsManager):  # type: ignore[misc]
    """Jupytext's contents manager, with :func:`keep_style` on every save of a MyST file."""

    def save(self, model: dict[str, Any], path: str = "") -> dict[str, Any]:
        """Save a notebook or a file."""
        target = Path(self._get_os_path(path))
        is_chapter = target.suffix == ".md" and model.get("type") == "notebook"
        before = target.read_text("utf-8") if is_chapter and target.exists() else None
        saved: dict[str, Any] = super().save(model, path)
        if before is not None:
            target.write_text(keep_style(before, target.read_text("utf-8")), "utf-8")
            # Lab compares this with the file's time to notice edits from elsewhere.
            saved["last_modified"] = self.get(path, content=False)["last_modified"]
        return saved


def _header(text: str) -> dict[str, Any]:
    header: dict[str, Any] = yaml.safe_load(text)
    # The kernel's and Jupytext's words about themselves differ between machines.
    header.get("kernelspec", {}).pop("display_name", None)
    representation = header.get("jupytext", {}).get("text_representation", {})
    for key in ("format_version", "jupytext_version"):
        representation.pop(key, None)
    return header


def _options(text: str) -> str:
    text = text.strip("\n")
    if text.startswith("---"):
        options = yaml.safe_load(text.strip("-"))
    else:
        pairs = [line[1:].split(":", 1) for line in text.splitlines()]
        options = {key: yaml.safe_load(value) for key, value in pairs}
    return json.dumps(options or {}, sort_keys=True)


def round_trip(text: str) -> str:
    """A chapter as JupyterLab would save it when nothing but its outputs had changed."""
    config = load_jupytext_configuration_file(str(ROOT / "jupytext.toml"))
    notebook = jupytext.reads(text, fmt="md:myst", config=config)
    notebook.metadata["kernelspec"]["display_name"] = "Python 3 (ipykernel)"
    notebook.metadata["language_info"] = {"name": "python", "version": "3"}
    for cell in notebook.cells:
        cell.metadata["editable"] = True
        if cell.cell_type == "code":
            cell.metadata["execution"] = {"shell.execute_reply": "now"}
            cell.metadata["scrolled"] = True
            cell.execution_count = 1
    return keep_style(text, jupytext.writes(notebook, fmt="md:myst", config=config))


def notebooks_in_text(root: Path) -> list[Path]:
    """Chapters and assignments: the sources that open as notebooks with cells."""
    return [
        path
        for folder in ("book", "exercises")
        for path in sorted((root / folder).rglob("*.md"))
        if code_cells(path.read_text("utf-8"))
    ]


def prepare(prefix: Path) -> None:
    """Let Markdown open as a notebook in the JupyterLab of this environment."""
    path = prefix / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    known["@jupyterlab/docmanager-extension:plugin"] = VIEWERS
    # It asks another host for news, and the reader for permission.
    known["@jupyterlab/apputils-extension:notification"] = {"fetchNews": "false"}
    path.write_text(json.dumps(known, indent=1), "utf-8")


def _check(paths: list[Path]) -> int:
    changed = []
    for path in paths:
        text = path.read_text("utf-8")
        if code_cells(text) and round_trip(text) != text:
            changed.append(path)
            print(f"{path}: saving it in JupyterLab would change its text")
    return 1 if changed else 0


def main() -> int:
    """``make lab``; ``--check FILES`` only sees that saving would not change the files."""
    if sys.argv[1:2] == ["--check"]:
        return _check([Path(name) for name in sys.argv[2:]] or notebooks_in_text(ROOT))
    from jupyterlab.labapp import LabApp

    prepare(Path(sys.prefix))
    LabApp.launch_instance(
        [
            f"--ServerApp.root_dir={ROOT}",
            "--ServerApp.contents_manager_class=tools.lab.BookContentsManager",
            *sys.argv[1:],
        ]
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
