// The view of ScaleExplorer: a small histogram per block and level to choose from, the chosen one large, and the images
// that stand in its chosen bar. Python says which image stands in which bar; here they are counted and drawn.

const SMALL = { width: 100, height: 34 };
const LARGE = { width: 420, height: 170, left: 34, right: 8, top: 8, bottom: 34 };

function render({ model, el }) {
  const get = (name) => model.get(name);
  const set = (values) => change(model, values);
  const measured = html("select", { "aria-label": "What is measured" });
  const map = html("div", { class: "se-map", role: "radiogroup", "aria-label": "Block and level" });
  const bars = svg("svg", { class: "se-bars", role: "radiogroup", "aria-label": "Bars of the histogram" });
  const says = html("p", { class: "se-says", "aria-live": "polite" });
  const chosen = html("h4", { "aria-live": "polite" });
  const gallery = html("div", { class: "se-gallery", role: "list", tabindex: "0", "aria-label": "Chosen images" });
  const status = html("span", { class: "se-status", "aria-live": "polite" });

  el.classList.add("dyhead-explorer", "dyhead-scale-explorer");
  el.append(
    opening("Scale ratios over many images", "Choose a block and a level, then a bar: its images appear below. Do they " +
      "share a size of objects, or something else? Then see where the same images stand in another block.",
      [["bar", "color-mix(in srgb, var(--blue) 45%, var(--page))", "all images"], ["bar", "var(--orange)", "the chosen images"]]),
    html("div", { class: "se-head" }, measured, status),
    html("div", { class: "se-panel" }, html("h4", {}, "Median per block and level"), map),
    html("div", { class: "se-panel" }, html("h4", {}, "Images per bar"), bars, says),
    html("div", { class: "se-panel se-wide" }, chosen, gallery),
  );

  const places = (block, level) => get("bars")[get("measured")][block][level];
  const edges = () => get("edges")[get("measured")];
  const short = (x) => String(+x.toPrecision(3));

  /** Images in each bar: all of them, or only the chosen ones. */
  function count(of, images = of.map((_, i) => i)) {
    const counts = Array(edges().length - 1).fill(0);
    for (const image of images) if (image < of.length) counts[of[image]] += 1;
    return counts;
  }

  function drawMeasured() {
    measured.replaceChildren(...get("names").map((name) => html("option", { value: name }, name)));
    measured.value = get("measured");
  }

  /** One histogram as a path, bars side by side from x = 0. */
  function outline(counts, most, { width, height }) {
    const step = width / counts.length;
    return counts.map((n, i) => `M${i * step} ${height}v${(-n / most) * height}h${step * 0.9}V${height}z`).join("");
  }

  function drawMap() {
    const levels = get("levels");
    map.style.setProperty("--columns", levels.length);
    map.append(html("span"), ...levels.map((name) => html("span", { class: "se-name" }, name)));
    const cells = get("medians")[get("measured")].flatMap((block, i) => {
      map.append(html("span", { class: "se-name" }, `block ${i + 1}`));
      return block.map((median, l) => {
        const cell = html("div", { class: "se-cell" });
        const size = `0 0 ${SMALL.width} ${SMALL.height}`;
        const small = svg("svg", { viewBox: size, preserveAspectRatio: "none", "aria-hidden": "true" });
        const all = count(places(i, l));
        const most = Math.max(1, ...all);
        small.append(
          svg("path", { class: "se-all", d: outline(all, most, SMALL) }),
          svg("path", { class: "se-mine", d: outline(count(places(i, l), get("chosen")), most, SMALL) }),
        );
        const value = median === null ? "none" : median.toFixed(2);
        cell.append(small, html("span", {}, value));
        cell.setAttribute("aria-label", `Block ${i + 1}, level ${levels[l]}, median ${value}`);
        map.append(cell);
        return cell;
      });
    });
    const choose = (i) => set({ block: Math.floor(i / levels.length), level: i % levels.length });
    asRadios(cells, get("block") * levels.length + get("level"), choose, levels.length);
  }

  function drawBars() {
    const of = places(get("block"), get("level"));
    const [all, mine] = [count(of), count(of, get("chosen"))];
    const most = Math.max(1, ...all);
    const [width, height] = [LARGE.width - LARGE.left - LARGE.right, LARGE.height - LARGE.top - LARGE.bottom];
    const step = width / all.length;
    const bottom = LARGE.top + height;
    bars.setAttribute("viewBox", `0 0 ${LARGE.width} ${LARGE.height}`);
    bars.append(
      svg("line", { class: "se-axis", x1: LARGE.left, x2: LARGE.left + width, y1: bottom, y2: bottom }),
      svg("text", { class: "se-tick", x: LARGE.left - 6, y: LARGE.top + 10, "text-anchor": "end" }, most),
      ...[0, 1, 2, 3, 4].map((k) => (k * all.length) / 4).map((i) => svg("text",
        { class: "se-tick", x: LARGE.left + i * step, y: bottom + 15, "text-anchor": "middle" }, short(edges()[i]))),
      svg("text", { class: "se-tick", x: LARGE.left + width / 2, y: bottom + 31, "text-anchor": "middle" },
        get("measured")),
    );
    const filled = all.flatMap((n, i) => (n ? [i] : []));
    const range = (i) => `${short(edges()[i])} to ${short(edges()[i + 1])}`;
    const rect = (name, i, n) => svg("rect", { class: name, x: LARGE.left + i * step, width: step * 0.9,
      y: bottom - (n / most) * height, height: (n / most) * height });
    const groups = filled.map((i) => {
      const group = svg("g", { class: "se-bar", "aria-label": `${range(i)}: ${all[i]} of ${of.length} images` },
        svg("rect", { class: "se-hit", x: LARGE.left + i * step, width: step, y: LARGE.top, height }),
        rect("se-all", i, all[i]), rect("se-mine", i, mine[i]));
      bars.append(group);
      return group;
    });
    const whole = filled.findIndex((i) => mine[i] === all[i] && all[i] === get("chosen").length);
    asRadios(groups, whole, (k) => set({ chosen: of.flatMap((bar, image) => (bar === filled[k] ? [image] : [])) }));
    const name = `Block ${get("block") + 1}, ${get("levels")[get("level")]}`;
    if (!filled.length) says.textContent = `${name} has no such branch.`;
    else if (whole >= 0) says.textContent = `${name}: ${get("measured")} ${range(filled[whole])}.`;
    else says.textContent = `${name}. The chosen images stand where the bars are dark. Choose another bar.`;
  }

  function drawGallery() {
    const images = get("chosen");
    chosen.textContent = `Chosen: ${images.length} of ${get("thumbnails").length} images`;
    gallery.replaceChildren(...images.map((i) => html("figure", { role: "listitem" },
      html("img", { src: get("thumbnails")[i], alt: `image ${i + 1}` }), html("figcaption", {}, i + 1))));
  }

  const draw = () => {
    drawMeasured();
    redraw(map, drawMap);
    redraw(bars, drawBars);
    drawGallery();
    status.textContent = get("status");
  };
  keepKeys(gallery); // arrow keys scroll it
  measured.addEventListener("change", () => set({ measured: measured.value }));
  keepKeys(measured);
  model.on("change", draw);
  draw();
  return () => model.off("change", draw);
}

export default { render };
