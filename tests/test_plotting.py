"""The book's pictures: colours, the triangle, figures that live without a kernel."""

import base64
import json
import math
import re

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


def content_of(data):
    """What the page draws a Plotly figure from."""
    found = re.search(r'<script type="application/json">(.*?)</script>', data["text/html"])
    return json.loads(found[1])


@pytest.fixture
def shown(monkeypatch):
    """What would be put into the running cell, as (data, metadata)."""
    outputs = []
    monkeypatch.setattr(
        plotting, "show", lambda data, metadata=None: outputs.append((data, metadata))
    )
    return outputs


def test_a_plotly_figure_works_with_and_without_a_kernel(shown):
    graph_objects = pytest.importorskip("plotly.graph_objects")
    figure = graph_objects.Figure(graph_objects.Scatter(x=[0, 1], y=[1, 3], name="</script>"))
    plotting.show_plotly(figure, 'two points, "rising" & <far>')
    [(data, _)] = shown
    assert data["text/plain"] == 'two points, "rising" & <far>'
    assert 'aria-label="two points, &quot;rising&quot; &amp; &lt;far&gt;"' in data["text/html"]
    assert content_of(data)["data"][0]["name"] == "</script>"
    assert data["text/html"].count("</script>") == 1
    assert "<script src" not in data["text/html"]
    assert len(data["text/html"]) < 100_000
    assert data["application/vnd.plotly.v1+json"]["data"][0]["type"] == "scatter"


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_a_plotly_figure_needs_words_for_those_who_cannot_see_it(alt):
    with pytest.raises(ValueError, match=r"^alt: expected a description"):
        plotting.show_plotly(object(), alt)


# ---------------------------------------------------------------------------------------- pictures


def lines(*, points=10):
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(4, 3))
    x = torch.linspace(0, 1, points)
    axes.plot(x, torch.sin(40 * x), ".")
    return figure


@pytest.mark.parametrize("tight", [False, True])
def test_a_picture_is_the_smaller_of_an_svg_and_a_png_of_twice_the_density(tight):
    figure = lines()
    kind, content = plotting.draw_picture(figure, tight=tight)
    assert kind == "image/svg+xml"
    assert b"<svg" in content
    assert plotting.draw_picture(figure, tight=tight) == (kind, content)  # without date and luck
    kind, content = plotting.draw_picture(lines(points=20_000))
    assert kind == "image/png"
    width, height = (int.from_bytes(content[at : at + 4]) for at in (16, 20))
    assert (width, height) == (2 * 96 * 4, 2 * 96 * 3)
    matplotlib.pyplot.close("all")


# The backend of notebooks watches its settings in a manner that its own library calls old.
@pytest.mark.filterwarnings("ignore:InlineBackend:DeprecationWarning")
def test_a_notebook_shows_each_figure_in_its_smaller_format():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        with matplotlib.rc_context():
            plotting.use_house_style()
        data, _ = shell.display_formatter.format(lines())
        assert "image/svg+xml" in data
        assert "image/png" not in data
        data, size = shell.display_formatter.format(lines(points=20_000))
        assert "image/svg+xml" not in data
        content = base64.b64decode(data["image/png"])
        assert size["image/png"]["width"] == int.from_bytes(content[16:20]) // 2
    finally:
        InteractiveShell.clear_instance()
        matplotlib.pyplot.close("all")


# ----------------------------------------------------------------------------------------- sliders


SLIDER = {"label": "Step $\\eta$ & more", "caption": "What to *see*.", "alt": 'A "line" <moves>.'}


def test_a_slider_is_a_labelled_range_input_over_frames(shown):
    frames = [lines(), lines(points=20), lines(points=20_000)]
    plotting.show_slider(frames, values=[0.1, 1000, 1e-9], start=1, name="fig-x", **SLIDER)
    [(data, metadata)] = shown
    assert metadata["mdtheory_figure"] == {
        "caption": "What to *see*.", "classes": "slider-figure", "name": "fig-x",
    }  # fmt: skip
    text = data["text/html"]
    [knob] = re.findall(r"<input[^>]*>", text)
    assert 'type="range"' in knob
    assert 'min="0" max="2" step="1" value="1" aria-valuetext="1,000"' in knob
    identifier = re.search(r'id="(knob-\w+)"', knob)[1]
    assert f'<label for="{identifier}">Step <span class="math' in text
    assert f'<output for="{identifier}">1,000</output>' in text
    images = re.findall(r"<img [^>]*>", text)
    assert [image.endswith(" hidden>") for image in images] == [True, False, True]
    kinds = [re.search(r"data:(.*?);base64", image)[1] for image in images]
    assert kinds == ["image/svg+xml", "image/svg+xml", "image/png"]
    assert all('width="384" height="288"' in image for image in images)
    assert "&quot;line&quot; &lt;moves&gt;" in text
    assert 'A "line" <moves>.' in data["text/plain"]
    assert matplotlib.pyplot.get_fignums() == []  # the cell does not show them again
    assert "application/vnd.plotly.v1+json" not in data


def test_two_sliders_of_a_page_have_names_of_their_own(shown):
    for values in ([1, 2], [1, 3]):
        plotting.show_slider([lines(), lines()], values=values, **SLIDER)
    first, second = (re.search(r'id="(slider-\w+)"', d["text/html"])[1] for d, _ in shown)
    assert first != second


def test_a_slider_over_a_plotly_figure(shown):
    graph = pytest.importorskip("plotly.graph_objects")
    frames = [graph.Frame(data=[graph.Scatter(x=[0, 1], y=[0, k])]) for k in range(3)]
    figure = graph.Figure(data=frames[0].data, frames=frames)
    plotting.show_slider(figure, values=["a", "b", "c"], start=2, **SLIDER)
    [(data, _)] = shown
    assert [frame["data"][0]["y"] for frame in content_of(data)["frames"]] == [
        [0, 0], [0, 1], [0, 2],
    ]  # fmt: skip
    assert 'type="range"' in data["text/html"]
    lab = data["application/vnd.plotly.v1+json"]
    assert lab["data"][0]["y"] == [0, 2]
    [slider] = lab["layout"]["sliders"]
    assert [step["label"] for step in slider["steps"]] == ["a", "b", "c"]
    assert slider["active"] == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label": " "}, "label: expected what the slider changes"),
        ({"caption": ""}, "caption: expected what to see in the figure"),
        ({"alt": ""}, "alt: expected a description of the figure"),
        ({"values": [1]}, "values: expected at least two, got 1"),
        ({"values": [1, 2, 3]}, "figure: expected one frame for each of 3 values, got 2"),
        ({"start": 2}, "start: expected a position from 0 to 1, got 2"),
        ({"start": -1}, "start: expected a position from 0 to 1, got -1"),
    ],
)
def test_sliders_refuse_by_name(options, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        plotting.show_slider([lines(), lines()], **({"values": [1, 2]} | SLIDER | options))
    matplotlib.pyplot.close("all")
