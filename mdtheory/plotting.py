"""The book's pictures: one style, colours that colour-blind readers can tell apart, the triangle.

Needs the extra ``notebooks``.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mdtheory.checks import require_extra, require_tensor
from mdtheory.runs.numerals import Number, as_html, typeset
from mdtheory.runs.page import running_shell, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCREEN_DENSITY = 96  # dots an inch, as browsers count them
# The palette of Okabe and Ito, without its yellow, which is too pale for lines on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def use_house_style() -> None:
    """Give every Matplotlib figure that follows the book's colours, sizes and grid.

    Raises:
        ImportError: Matplotlib is not installed.
    """
    matplotlib = require_extra("matplotlib", "notebooks")
    matplotlib.rcParams.update(
        {
            "axes.prop_cycle": matplotlib.cycler(color=COLORS),
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.figsize": (6.4, 3.6),
            "font.size": 11,
            "grid.alpha": 0.3,
            "legend.frameon": False,
            "lines.linewidth": 2.0,
        }
    )
    _choose_formats()


def draw_picture(figure: Figure, *, tight: bool = False) -> tuple[str, bytes]:
    """A Matplotlib figure as an SVG, or as a PNG of twice the density where that is smaller.

    Args:
        figure: the figure.
        tight: whether to cut away the margins.

    Returns:
        The MIME type and the content of the file.
    """
    matplotlib = require_extra("matplotlib", "notebooks")
    box = "tight" if tight else None
    vector, dots = io.BytesIO(), io.BytesIO()
    # Letters are drawn, so that they look the same everywhere; names of parts are fixed.
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "mdtheory"}):
        figure.savefig(vector, format="svg", bbox_inches=box, metadata={"Date": None})
    figure.savefig(dots, format="png", bbox_inches=box, dpi=2 * SCREEN_DENSITY)
    files = {"image/svg+xml": vector.getvalue(), "image/png": dots.getvalue()}
    kind = min(files, key=lambda kind: len(files[kind]))
    return kind, files[kind]


def to_plane(point: Tensor) -> tuple[Tensor, Tensor]:
    """Place points of the simplex with three coordinates in an equilateral triangle of side 1.

    Args:
        point: probabilities, shape ``(..., 3)``.

    Returns:
        Horizontal and vertical coordinates, each of shape ``(...)``.

    Raises:
        ValueError: the last axis is not of length 3.
    """
    require_tensor("point", point)
    if point.shape[-1] != 3:
        raise ValueError(f"point: expected shape (..., 3), got {tuple(point.shape)}")
    return point[..., 1] + point[..., 2] / 2, point[..., 2] * (math.sqrt(3) / 2)


def triangle_grid(resolution: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points that fill the triangle, for contour plots.

    Args:
        resolution: number of steps along a side, at least 3.

    Returns:
        The interior points ``(n, 3)``, float64, and their two coordinates ``(n,)`` in the plane.

    Raises:
        ValueError: the resolution is below 3.
    """
    if resolution < 3:
        raise ValueError(f"resolution: expected at least 3, got {resolution!r}")
    steps = torch.arange(1, resolution, dtype=torch.float64)
    first, second = torch.meshgrid(steps, steps, indexing="ij")
    third = resolution - first - second
    points = torch.stack([first, second, third], -1)[third > 0] / resolution
    return (points, *to_plane(points))


def draw_triangle(axes: Axes, corners: tuple[str, str, str] = ("1", "2", "3")) -> None:
    """Draw the simplex with three coordinates as a triangle, without ticks.

    Args:
        axes: Matplotlib axes to draw on.
        corners: names of the three corners.
    """
    x, y = to_plane(torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]])
    axes.plot(x.tolist(), y.tolist(), color="black", linewidth=1)
    for name, cx, cy, shift in zip(
        corners, x[:3].tolist(), y[:3].tolist(), (-4, -4, 4), strict=True
    ):
        axes.annotate(
            name, (cx, cy), (0, shift), textcoords="offset points",
            ha="center", va="top" if shift < 0 else "bottom",
        )  # fmt: skip
    axes.set_aspect("equal")
    axes.set_axis_off()


def show_plotly(figure: Any, alt: str) -> None:
    """Show a Plotly figure so that it works in JupyterLab and, without a kernel, on the page.

    JupyterLab takes the JSON form. The page draws the HTML form with its own copy of plotly.js,
    which it loads when the first such figure comes into view.

    Args:
        figure: a ``plotly.graph_objects.Figure``.
        alt: what the figure shows, in words, for those who cannot see it.

    Raises:
        ValueError: ``alt`` is empty.
        ImportError: Plotly is not installed.
    """
    _require_words("alt", alt)
    require_extra("plotly", "notebooks")
    content = json.loads(figure.to_json())
    show(
        {
            "application/vnd.plotly.v1+json": content,
            "text/html": _plotly_html(content, alt),
            "text/plain": alt,
        }
    )


def show_slider(
    figure: Any,
    label: str,
    values: Sequence[Number | str],
    caption: str,
    alt: str,
    *,
    start: int = 0,
    name: str | None = None,
) -> None:
    """Show a figure that answers to a slider, in JupyterLab and without a kernel on the page.

    The slider is a range input with a visible label: it takes keyboard, mouse and touch. Frames
    are drawn in advance, so they should have the same limits; they are closed afterwards. Their
    pictures are files of the page, which it loads when the figure comes into view.

    Args:
        figure: one Matplotlib figure a value; or, where turning and zooming matter, a
            ``plotly.graph_objects.Figure`` with one of its ``frames`` a value.
        label: what the slider changes, a few words; formulas between dollars.
        values: what it runs through, at least two, numbers or texts.
        caption: what to see, in MyST Markdown; the page numbers the figure.
        alt: what the figure shows, in words, for those who cannot see it.
        start: position of the value that is shown first.
        name: the figure's label on the page, which begins with ``fig-``.

    Raises:
        ValueError: empty words, fewer than two values, frames that are not one a value, or a
            start outside.
        ImportError: Matplotlib, or for a Plotly figure Plotly, is not installed.
    """
    for argument, words in (("label", label), ("caption", caption), ("alt", alt)):
        _require_words(argument, words)
    texts = [typeset(value) for value in values]
    if len(texts) < 2:
        raise ValueError(f"values: expected at least two, got {len(texts)}")
    if not 0 <= start < len(texts):
        raise ValueError(f"start: expected a position from 0 to {len(texts) - 1}, got {start!r}")
    mark = hashlib.sha256("\0".join([label, caption, *texts]).encode()).hexdigest()[:12]
    data: dict[str, Any] = {"text/plain": f"{alt} ({label}: {', '.join(texts)})"}
    if hasattr(figure, "to_json"):
        require_extra("plotly", "notebooks")
        content = json.loads(figure.to_json())
        frames = content.pop("frames", [])
        _require_frames(len(frames), len(texts))
        data["application/vnd.plotly.v1+json"] = _plotly_slider(
            content, frames, label, texts, start
        )
        inside = _plotly_html(content, alt, frames)
    else:
        pictures = _draw_frames(figure)
        _require_frames(len(pictures), len(texts))
        inside = "".join(
            f'<img src="data:{kind};base64,{base64.b64encode(content).decode()}" '
            f'width="{width}" height="{height}" '
            f'alt="{html.escape(label)}: {html.escape(text)}"{"" if at == start else " hidden"}>'
            for at, ((kind, content, (width, height)), text) in enumerate(
                zip(pictures, texts, strict=True)
            )
        )
    data["text/html"] = _slider_html(mark, inside, label, texts, caption, alt, start)
    options = {"caption": caption, "classes": "slider-figure"} | ({"name": name} if name else {})
    show(data, {"mdtheory_figure": options})


def _draw_frames(figures: Iterable[Figure]) -> list[tuple[str, bytes, tuple[int, int]]]:
    """Picture and size of each frame; closed, so that the cell does not show them again."""
    require_extra("matplotlib", "notebooks")
    from matplotlib import pyplot

    pictures = []
    for figure in figures:
        width, height = (round(SCREEN_DENSITY * inches) for inches in figure.get_size_inches())
        pictures.append((*draw_picture(figure), (width, height)))
        pyplot.close(figure)
    return pictures


def _slider_html(
    mark: str, inside: str, label: str, texts: list[str], caption: str, alt: str, start: int
) -> str:
    """The figure with its slider; the script works wherever the output is shown."""
    words = json.dumps([as_html(text) for text in texts])
    spoken = json.dumps(texts, ensure_ascii=False)
    script = SLIDER_SCRIPT.replace("MARK", mark).replace("WORDS", words).replace("SPOKEN", spoken)
    script = script.replace("</", "<\\/")
    # It is disabled until the script runs: a slider that does nothing is worse than none.
    return (
        f'<div class="slider" id="slider-{mark}" role="group" aria-describedby="about-{mark}">'
        f'<div class="frames">{inside}</div>'
        f'<p class="about" id="about-{mark}" hidden>{html.escape(alt)}</p>'
        f'<div class="knob"><label for="knob-{mark}">{as_html(label)}</label>'
        f'<input type="range" id="knob-{mark}" min="0" max="{len(texts) - 1}" step="1" '
        f'value="{start}" aria-valuetext="{html.escape(texts[start])}" autocomplete="off" disabled>'
        f'<output for="knob-{mark}">{as_html(texts[start])}</output></div>'
        f'<p class="slider-caption">{as_html(caption)}</p>'
        f"<script>{script}</script></div>"
    )


SLIDER_SCRIPT = """
(() => {
  const box = document.getElementById("slider-MARK");
  const knob = box.querySelector("input"), shown = box.querySelector("output");
  const frames = [...box.querySelectorAll(".frames > img")];
  const words = WORDS, spoken = SPOKEN;
  const load = () => frames.forEach(frame => { frame.loading = "eager"; });
  knob.addEventListener("input", () => {
    const at = Number(knob.value);
    load();
    frames.forEach((frame, i) => { frame.hidden = i !== at; });
    shown.innerHTML = words[at];
    knob.setAttribute("aria-valuetext", spoken[at]);
    box.dispatchEvent(new CustomEvent("slide", { detail: at }));
  });
  knob.disabled = false;
  if (window.IntersectionObserver)
    new IntersectionObserver((seen, self) => {
      if (seen.some(entry => entry.isIntersecting)) { load(); self.disconnect(); }
    }, { rootMargin: "50%" }).observe(box);
})();
"""


def _plotly_html(
    content: dict[str, Any], alt: str, frames: Sequence[dict[str, Any]] | None = None
) -> str:
    """The place of a Plotly figure with what it is drawn from; ``figures.js`` draws it."""
    everything = content if frames is None else {**content, "frames": frames}
    # Inside a script element only its closing tag is special.
    text = json.dumps(everything, separators=(",", ":")).replace("</", "<\\/")
    height = content.get("layout", {}).get("height", 450)
    return (
        f'<div class="plotly-place" role="img" aria-label="{html.escape(alt)}" '
        f'style="min-height:{height}px"><script type="application/json">{text}</script></div>'
    )


def _plotly_slider(
    content: dict[str, Any], frames: list[dict[str, Any]], label: str, texts: list[str], start: int
) -> dict[str, Any]:
    """The JSON form for JupyterLab, with the slider that Plotly itself draws."""
    names = [str(at) for at in range(len(frames))]
    steps = [
        {"label": text, "method": "animate", "args": [[at], {"mode": "immediate"}]}
        for at, text in zip(names, texts, strict=True)
    ]
    slider = {"steps": steps, "active": start, "currentvalue": {"prefix": f"{label}: "}}
    return {
        "data": frames[start].get("data", content["data"]),
        "layout": {**content.get("layout", {}), "sliders": [slider]},
        "frames": [{**frame, "name": at} for frame, at in zip(frames, names, strict=True)],
    }


def _require_words(argument: str, words: str) -> None:
    if not words.strip():
        what = {"alt": "a description of the figure", "label": "what the slider changes"}
        expected = what.get(argument, "what to see in the figure")
        raise ValueError(f"{argument}: expected {expected}, got an empty text")


def _require_frames(found: int, wanted: int) -> None:
    if found != wanted:
        raise ValueError(f"figure: expected one frame for each of {wanted} values, got {found}")


def _choose_formats() -> None:
    """In a notebook, let each Matplotlib figure be shown in the smaller of its two formats."""
    shell = running_shell()
    if shell is None or getattr(shell, "display_formatter", None) is None:
        return
    from matplotlib.figure import Figure
    from matplotlib_inline.config import InlineBackend

    InlineBackend.instance(parent=shell).figure_formats = set()
    shell.display_formatter.mimebundle_formatter.for_type(Figure, _bundle)


def _bundle(figure: Figure) -> tuple[dict[str, str], dict[str, Any]]:
    """A figure as IPython shows it: content and, for dots, the size on the page."""
    kind, content = draw_picture(figure, tight=True)
    if kind == "image/svg+xml":
        return {kind: content.decode()}, {}
    # The head of a PNG holds its size.
    width, height = (int.from_bytes(content[at : at + 4]) // 2 for at in (16, 20))
    size = {"width": width, "height": height}
    return {kind: base64.b64encode(content).decode()}, {kind: size}
