"""Build the site and check it: every page is there and holds its outputs."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from jupyter_cache import get_cache

from tools import ledger
from tools.execute import ChapterError, execute, notebook_path, report
from tools.project import ROOT, chapters, hash_files, locked, pages, read_json, write_json

INPUTS = ("_config.yml", "_toc.yml", "constraints.txt", "pyproject.toml")
FOLDERS = ("book", "exercises", "mdtheory", "tools")
SITE = Path("_build") / "html"


class BuildError(Exception):
    """The site could not be built, or is not complete."""


def build(root: Path = ROOT) -> bool:
    """Execute what changed and bring the site up to date.

    Args:
        root: the checkout.

    Returns:
        Whether anything had to be built.

    Raises:
        ChapterError: a cell failed.
        BuildError: a warning or an error of the build, or a page that is missing or has no outputs.
    """
    done = execute(root)
    report(root, done)
    stamp = root / ".cache" / "site.json"
    value = inputs_hash(root)
    last = read_json(stamp).get("inputs")
    if last == value and (root / SITE / "index.html").exists():
        if not faults(root):
            return False
        last = None
    # No stamp while building: after a kill or a warning the next build reads every page again.
    stamp.unlink(missing_ok=True)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", "."]
    command += ["--path-output", ".", "-W", "-n", "--keep-going", "--quiet"]
    command += [] if last else ["--all"]
    known = len(get_cache(str(root / ".cache" / "jupyter")).list_cache_records())
    result = subprocess.run(command, cwd=root, check=False)
    if len(get_cache(str(root / ".cache" / "jupyter")).list_cache_records()) > known:
        raise BuildError("jupyter-book executed a chapter that tools.execute had executed before")
    if result.returncode:
        raise BuildError("jupyter-book: a warning or an error, see above")
    found = faults(root)
    if found:
        raise BuildError("\n".join(found))
    write_json(stamp, {"inputs": value})
    return True


def inputs_hash(root: Path) -> str:
    """Hash of all that the site is made from."""
    files = [root / name for name in INPUTS if (root / name).exists()]
    files += sorted((root / ".cache" / "stamps").rglob("*.json"))
    for folder in FOLDERS:
        files += [p for p in (root / folder).rglob("*") if p.is_file() and _is_source(p)]
    # Of the tests only what the ledger says about them is on the site.
    return hash_files(root, files, extra=sys.version + ledger.page(root))


def faults(root: Path) -> list[str]:
    """Pages that are missing, or that lack outputs that their notebooks have."""
    found = []
    with_cells = set(chapters(root))
    for page in pages(root):
        path = root / SITE / f"{page}.html"
        if not path.exists():
            found.append(f"{page}: no page {path}")
        elif page in with_cells:
            found += _missing_outputs(page, path, notebook_path(root, page))
    return found


def _missing_outputs(page: str, path: Path, notebook: Path) -> list[str]:
    text = path.read_text("utf-8")
    cells = [cell for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "code"]
    wanted = [cell for cell in cells if _shown(cell)]
    found = len(re.findall(r'<div class="cell_output|<div class="[^"]*\boutput_container', text))
    faults = []
    if found < len(wanted):
        faults.append(f"{page}: {found} cells with outputs, {len(wanted)} expected")
    kinds = {"image/png", "image/svg+xml"}
    images = sum(bool(kinds & set(out.get("data", {}))) for cell in wanted for out in cell.outputs)
    # The frames of sliders are loaded late, and are in no output of their own.
    shown = len(re.findall(r'<img (?!loading)[^>]*src="[^"]*_images/[0-9a-f]{32,}', text))
    if shown < images:
        faults.append(f"{page}: {shown} images, {images} expected")
    return faults


def _shown(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell has an output that the page shows (glued numbers appear in the prose)."""
    hidden = {"remove-output", "remove-cell", "remove_output", "remove_cell"}
    if hidden & set(cell.metadata.get("tags", [])):
        return False
    return any(
        not any(key.startswith("application/papermill.record/") for key in out.get("data", {}))
        for out in cell.outputs
    )


def _is_source(path: Path) -> bool:
    return not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)


def main() -> int:
    """``make book``."""
    begin = time.perf_counter()
    with locked(ROOT):
        try:
            built = build(ROOT)
        except (ChapterError, BuildError) as error:
            print(f"\nFAILED\n{error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nInterrupted; run the same command again", file=sys.stderr)
            return 130
    words = "Built" if built else "Nothing changed;"
    print(f"{words} {len(pages(ROOT))} pages in {time.perf_counter() - begin:.1f} s. Open:")
    print((ROOT / SITE / "index.html").as_uri())
    return 0


if __name__ == "__main__":
    sys.exit(main())
