// Plotly figures: the library is loaded when the first of them comes near the window, and once.
(() => {
  const root = document.documentElement.dataset.content_root || "./";
  let library = null;
  const load = () => library ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = root + "_static/plotly.min.js";
    script.onload = () => done(window.Plotly);
    script.onerror = failed;
    document.head.append(script);
  });

  async function draw(place) {
    const figure = JSON.parse(place.querySelector("script").textContent);
    const knob = place.closest(".slider")?.querySelector("input[type=range]");
    const frame = () => figure.frames?.[knob ? Number(knob.value) : 0] ?? {};
    const layout = () => ({ ...figure.layout, ...frame().layout });
    const options = { responsive: true, displaylogo: false };
    const Plotly = await load();
    const box = document.createElement("div");
    box.className = "plotly-graph-div";
    place.append(box);
    await Plotly.newPlot(box, frame().data ?? figure.data, layout(), options);
    place.dataset.drawn = "yes";
    knob?.addEventListener("input", () => Plotly.react(box, frame().data, layout(), options));
  }

  const start = () => {
    const seen = new IntersectionObserver(entries => {
      for (const entry of entries) if (entry.isIntersecting) {
        seen.unobserve(entry.target);
        draw(entry.target);
      }
    }, { rootMargin: "50%" });
    document.querySelectorAll(".plotly-place").forEach(place => seen.observe(place));
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
