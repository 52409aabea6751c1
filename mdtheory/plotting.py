"""The book's pictures: one style, colours that colour-blind readers can tell apart, the triangle.

Needs the extra ``notebooks``.
"""

from __future__ import annotations

import html
import json
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mdtheory.checks import require_extra, require_tensor
from mdtheory.runs.page import show

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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

    The page's own copy of plotly.js draws the HTML form; JupyterLab takes the JSON form.

    Args:
        figure: a ``plotly.graph_objects.Figure``.
        alt: what the figure shows, in words, for those who cannot see it.

    Raises:
        ValueError: ``alt`` is empty.
        ImportError: Plotly is not installed.
    """
    if not alt.strip():
        raise ValueError("alt: expected a description of the figure, got an empty text")
    require_extra("plotly", "notebooks")
    body = figure.to_html(full_html=False, include_plotlyjs=False, include_mathjax=False)
    data = {
        "application/vnd.plotly.v1+json": json.loads(figure.to_json()),
        "text/html": f'<div role="img" aria-label="{html.escape(alt)}">{body}</div>',
        "text/plain": alt,
    }
    show(data)
