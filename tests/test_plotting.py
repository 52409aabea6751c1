"""The book's pictures: colours, the triangle, figures that live without a kernel."""

import math

import pytest
import torch

from mdtheory import plotting

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


@pytest.fixture
def axes():
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_house_style_sets_the_colours_in_order():
    with matplotlib.rc_context():
        plotting.use_house_style()
        colors = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    assert tuple(colors) == plotting.COLORS


def _luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_every_colour_stands_out_from_white_and_from_the_others():
    luminance = [_luminance(color) for color in plotting.COLORS]
    assert all(1.05 / (value + 0.05) >= 2 for value in luminance)
    assert len(set(plotting.COLORS)) == len(plotting.COLORS)


def test_corners_of_the_simplex_become_an_equilateral_triangle():
    x, y = plotting.to_plane(torch.eye(3, dtype=torch.float64))
    corners = torch.stack([x, y], -1)
    sides = (corners - corners.roll(1, 0)).norm(dim=-1)
    torch.testing.assert_close(sides, torch.ones(3, dtype=torch.float64))


def test_the_triangle_keeps_proportions():
    """The map is linear, and lengths in the plane are those of the simplex over sqrt(2)."""
    points = torch.rand(10, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = points / points.sum(-1, keepdim=True)
    plane = torch.stack(plotting.to_plane(points), -1)
    torch.testing.assert_close(
        (plane[:, 0] - plane[:, 1]).norm(dim=-1),
        (points[:, 0] - points[:, 1]).norm(dim=-1) / math.sqrt(2),
    )


def test_only_three_coordinates_fit_the_triangle():
    with pytest.raises(ValueError, match=r"^point: expected shape \(\.\.\., 3\), got \(2,\)"):
        plotting.to_plane(torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("resolution", [3, 4, 20])
def test_the_grid_fills_the_interior(resolution):
    points, x, y = plotting.triangle_grid(resolution)
    assert points.shape == ((resolution - 1) * (resolution - 2) // 2, 3)
    assert (points > 0).all()
    torch.testing.assert_close(points.sum(-1), torch.ones(len(points), dtype=torch.float64))
    assert torch.equal(torch.stack(plotting.to_plane(points)), torch.stack([x, y]))


def test_a_grid_too_coarse_has_no_interior():
    with pytest.raises(ValueError, match=r"^resolution: expected at least 3, got 2"):
        plotting.triangle_grid(2)


def test_the_triangle_is_drawn_with_its_corners_named(axes):
    plotting.draw_triangle(axes, ("rock", "paper", "scissors"))
    assert [text.get_text() for text in axes.texts] == ["rock", "paper", "scissors"]
    assert len(axes.lines[0].get_xdata()) == 4
    assert axes.get_aspect() == 1


def test_a_plotly_figure_works_with_and_without_a_kernel(monkeypatch):
    graph_objects = pytest.importorskip("plotly.graph_objects")
    shown = []
    monkeypatch.setattr(plotting, "show", shown.append)
    figure = graph_objects.Figure(graph_objects.Scatter(x=[0, 1], y=[1, 3]))
    plotting.show_plotly(figure, 'two points, "rising" & <far>')
    (data,) = shown
    assert data["text/plain"] == 'two points, "rising" & <far>'
    assert 'aria-label="two points, &quot;rising&quot; &amp; &lt;far&gt;"' in data["text/html"]
    assert "Plotly.newPlot" in data["text/html"]
    assert "<script src" not in data["text/html"]
    assert len(data["text/html"]) < 100_000
    assert data["application/vnd.plotly.v1+json"]["data"][0]["type"] == "scatter"


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_a_plotly_figure_needs_words_for_those_who_cannot_see_it(alt):
    with pytest.raises(ValueError, match=r"^alt: expected a description"):
        plotting.show_plotly(object(), alt)
