"""Every page in a browser with all other hosts blocked: it works, and it fits a telephone."""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.project import ROOT, pages

pytestmark = pytest.mark.browser

PAGES = pages(ROOT)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
TYPESET = "window.MathJax === undefined || (MathJax.startup && MathJax.startup.promise)"
UNTYPESET = r"""() => {
  const nodes = [...document.querySelectorAll('article .math')];
  const left = nodes.filter(
    n => !n.querySelector('mjx-container') || n.querySelector('mjx-merror'));
  const walker = document.createTreeWalker(document.querySelector('article'), NodeFilter.SHOW_TEXT);
  const raw = [];
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent;
    const inside = walker.currentNode.parentElement.closest(
      'pre, code, script, style, mjx-container');
    if (!inside && /\\\(|\\\[|\$\$|\\begin\{/.test(text)) raw.push(text.slice(0, 80));
  }
  return [nodes.length, left.map(n => n.textContent.slice(0, 80)), raw];
}"""
TOO_WIDE = """() => [...document.querySelectorAll('article *')]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .slice(0, 5).map(e => e.tagName + ' ' + e.className + ' ' + e.textContent.slice(0, 60))"""


WIDE = {"width": 1400, "height": 900}
CAPTIONS = """() => [...document.querySelectorAll('figcaption .caption-text')].map(caption => {
  let behind = caption;
  while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)')
    behind = behind.parentElement;
  return [getComputedStyle(caption).color, getComputedStyle(behind).backgroundColor];
})"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Print nothing for each request."""


@pytest.fixture(scope="module")
def browser(missing) -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    program = program or shutil.which("google-chrome")
    if program is None:
        missing("Chromium is not installed, so no page was opened in a browser")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(browser, site) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=site)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module", params=PAGES)
def page(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def tab(browser, address, page) -> Iterator:
    """A page, opened once for its tests; nothing may go wrong on the way."""
    faults: list[str] = []
    context = browser.new_context(viewport=WIDE)
    context.set_default_timeout(180_000)  # against hanging; a loaded machine is slow
    opened = context.new_page()

    def route(request):
        if request.request.url.startswith((address, "data:", "blob:")):
            request.continue_()
        else:
            faults.append(f"asked another host: {request.request.url}")
            request.abort()

    def respond(response):
        if response.status >= 400:
            faults.append(f"{response.status}: {response.url}")

    opened.route("**/*", route)
    opened.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    opened.on("pageerror", lambda error: faults.append(f"script error: {error}"))
    opened.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    opened.on("response", respond)
    opened.goto(f"{address}/{page}.html", wait_until="load")
    opened.wait_for_function(TYPESET)
    opened.evaluate(TYPESET)
    yield opened
    context.close()
    assert faults == []


def test_every_formula_is_typeset(tab):
    count, untypeset, raw = tab.evaluate(UNTYPESET)
    assert untypeset == []
    assert raw == []
    whole = tab.locator("article .math mjx-container:not(mjx-container mjx-container)")
    assert whole.count() == count


def test_images_are_there_and_described(tab):
    faulty = tab.evaluate(
        "() => [...document.querySelectorAll('article img')]"
        ".filter(i => !i.alt.trim() || !(i.hidden || i.loading === 'lazy' || i.naturalWidth))"
        ".map(i => i.src)"
    )
    assert faulty == []


def test_shown_code_begins_at_the_margin(tab):
    """Lines included from the library are dedented as far as they are indented there."""
    shown = tab.eval_on_selector_all(
        "article div[class*='highlight-python'] pre, article div.cell_input pre",
        "blocks => blocks.map(block => block.textContent)",
    )
    lines = [[line for line in block.splitlines() if line.strip()] for block in shown]
    assert [block[0] for block in lines if all(line.startswith(" ") for line in block)] == []


def test_code_does_not_scroll_on_a_wide_window(tab):
    tab.set_viewport_size(WIDE)
    scrolling = tab.evaluate(
        "() => [...document.querySelectorAll('article .highlight pre')]"
        ".filter(p => p.scrollWidth > p.clientWidth + 1).map(p => p.textContent.slice(0, 120))"
    )
    assert scrolling == []


def test_there_is_one_search_field(tab):
    tab.set_viewport_size(WIDE)
    fields = tab.locator("input[type=search]:visible, .search-button-field:visible")
    assert fields.count() == 1


def test_figures_with_a_slider_work_without_a_kernel(tab, site, page):
    """The keyboard moves it, frames are loaded when it is seen, and it has number and caption."""
    tab.set_viewport_size(WIDE)
    figures = tab.locator("article figure.slider-figure")
    source = (site / f"{page}.html").read_text("utf-8")
    assert figures.count() == source.count('<div class="slider"')
    assert "base64," not in source
    for number in range(figures.count()):
        figure = figures.nth(number)
        figure.scroll_into_view_if_needed()
        assert figure.locator("figcaption .caption-number").inner_text().startswith("Fig. ")
        assert figure.locator(".slider-caption").count() == 0
        knob = figure.locator("input[type=range]")
        assert knob.is_enabled()
        assert knob.evaluate("k => k.labels[0].textContent.trim()")
        last = int(knob.get_attribute("max"))
        loaded = "f => [...f.querySelectorAll('img')].every(i => i.complete && i.naturalWidth)"
        handle = figure.element_handle()
        tab.wait_for_function(loaded, arg=handle)
        knob.focus()
        seen = set()
        for key, at in (("Home", 0), ("ArrowRight", 1), ("End", last)):
            tab.keyboard.press(key)
            assert int(knob.input_value()) == at
            visible = figure.locator("img:visible")
            assert visible.count() == 1
            seen.add((visible.get_attribute("src"), figure.locator("output").inner_text()))
        assert len(seen) == min(last + 1, 3)
        box = knob.bounding_box()
        tab.mouse.click(box["x"] + 2, box["y"] + box["height"] / 2)
        assert int(knob.input_value()) == 0


def test_plotly_is_loaded_once_and_only_for_figures_that_are_seen(tab, site, page):
    tab.set_viewport_size(WIDE)
    places = tab.locator("article .plotly-place")
    source = (site / f"{page}.html").read_text("utf-8")
    assert ("figures.js" in source) == (places.count() > 0)
    for number in range(places.count()):
        place = places.nth(number)
        place.scroll_into_view_if_needed()
        tab.wait_for_function("p => p.dataset.drawn", arg=place.element_handle())
        assert place.get_attribute("aria-label")
    scripts = tab.locator("script[src*='plotly']").count()
    assert scripts == (1 if places.count() else 0)


def test_checks_are_folded_lines_that_open(tab):
    """Each begins with the name and number of its statement, and no statement is there twice."""
    tab.set_viewport_size(WIDE)
    lines = tab.locator("article details.check")
    for number in range(lines.count()):
        line = lines.nth(number)
        assert not line.evaluate("d => d.open")
        words = line.locator("summary").inner_text()
        assert re.match(r"(Theorem|Lemma|Proposition|Corollary) [\d.]+: [\d,]+ instance", words)
        assert line.locator("summary a").get_attribute("href")
        line.locator("summary").click(position={"x": 4, "y": 8})
        assert line.evaluate("d => d.open && d.lastElementChild.getBoundingClientRect().height > 5")
    repeated = tab.evaluate(
        "() => [...document.querySelectorAll('article .cell_output')].filter(cell => {"
        "  const links = [...cell.querySelectorAll('details.check summary a')].map(a => a.href);"
        "  return new Set(links).size < links.length; }).length"
    )
    assert repeated == 0


def test_glued_numbers_are_set_as_in_a_book(tab):
    """No hyphen for a minus, no e for a power of ten."""
    found = tab.evaluate(
        "() => [...document.querySelectorAll('article .pasted-text')].map(n => n.textContent)"
    )
    assert [text for text in found if re.search(r"(^|[\s(\[])-\d|\de[-+]?\d", text)] == []


def test_captions_can_be_read(tab):
    """Contrast of at least 7:1 between each caption and what lies behind it, in both modes."""
    for scheme in ("dark", "light"):
        tab.emulate_media(color_scheme=scheme)
        tab.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
        for text, behind in tab.evaluate(CAPTIONS):
            assert _contrast(text, behind) >= 7, (scheme, text, behind)


def test_the_page_fits_a_telephone(tab):
    tab.set_viewport_size({"width": 375, "height": 700})
    tab.wait_for_timeout(200)  # figures redraw
    width = tab.evaluate("document.documentElement.scrollWidth")
    wide = tab.evaluate(TOO_WIDE)
    tab.set_viewport_size(WIDE)
    assert width <= 375, wide


def _contrast(first: str, second: str) -> float:
    """The ratio of WCAG 2 between two colours `rgb(r, g, b)`."""

    def luminance(colour: str) -> float:
        parts = [int(float(x)) / 255 for x in re.findall(r"[\d.]+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_the_copyright_names_the_right_year(site):
    years = {
        year
        for page in PAGES
        for year in re.findall(r"Copyright (\d{4})", (site / f"{page}.html").read_text("utf-8"))
    }
    notice = re.search(r"Copyright \(c\) (\d{4})", (ROOT / "LICENSE").read_text("utf-8"))
    assert notice is not None
    assert years == {notice[1]}


def test_nothing_on_the_site_names_another_host_to_load_from(site: Path):
    loading = re.compile(
        r"""<(?:script|img|iframe|link\s+rel="(?:stylesheet|preload|icon)")[^>]*"""
        r"""(?:src|href)="(?:https?:)?//[^"]+"""
    )
    found = [(page, m) for page in site.rglob("*.html") for m in loading.findall(page.read_text())]
    assert found == []
