// The view of SamplingPoints: the image with a place and the points that a layer reads for it; the four pixels of the
// chosen point; and the layer's output before and after the reader moved it. Python computes, here it is only drawn.

const COLOURS = 7; // classes level-0 .. level-6 of the style sheet
const NUDGE = 0.25; // cells per arrow key

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function render({ model, el }) {
  const get = (name) => model.get(name);
  const set = (values) => change(model, values);
  const [height, width] = get("size");
  const layer = html("select", { "aria-label": "Layer" },
    ...get("layers").map(({ name }, i) => html("option", { value: i }, name)));
  const heads = html("select", { "aria-label": "Head" });
  const view = svg("svg", { class: "sp-view", tabindex: "0", role: "application",
    "aria-label": "Image. Arrow keys move the place, a click chooses the nearest one." });
  const margin = 0.06 * Math.max(height, width);
  view.setAttribute("viewBox", `${-margin} ${-margin} ${width + 2 * margin} ${height + 2 * margin}`);
  const picture = svg("image", { href: get("source"), width, height });
  const drawn = svg("g");
  view.append(picture, drawn);
  const slider = html("input", { type: "range", min: "0", "aria-label": "Point, by weight" });
  const levels = html("div");
  const where = html("p", { class: "sp-where computed", "aria-live": "polite" });
  const says = html("p", { class: "sp-says", "aria-live": "polite" });
  const corners = svg("svg", { class: "sp-corners", viewBox: "-12 -12 144 144", tabindex: "0", role: "application",
    "aria-label": "The four pixels of the chosen point. Arrow keys move the point by a quarter of a cell." });
  const bars = svg("svg", { class: "sp-bars", role: "img" });
  const changed = html("p", { class: "sp-says", "aria-live": "polite" });
  const reset = html("button", { type: "button" }, "Put the point back");
  const files = html("div", { class: "sp-files", role: "group", "aria-label": "Save the points of this place" });
  const saved = html("p", { class: "sp-says", "aria-live": "polite" });
  const thisView = String(Math.random()); // the kernel's answer goes to all views
  let dragging = false;

  el.classList.add("dyhead-explorer", "dyhead-sampling-points");
  el.append(
    opening("Where a layer reads", "Click a place: the layer computes its output there from the points alone. Do they " +
      "lie on the object, on its edges, or beside it? Drag one to see how much the output depends on it."),
    html("div", { class: "sp-left" }, html("div", { class: "sp-choices" }, layer, heads), view, where, levels),
    html("div", { class: "sp-right computed" }, html("h4", {}, "Point"), slider, says,
      html("h4", {}, "The four pixels that it reads"), corners, reset,
      html("h4", {}, "Output of the layer here"), bars, changed,
      html("h4", {}, "Save these points"), files, saved),
  );

  const isDrawn = (i) => get("head") < 0 || get("points")[i][5] === get("head");
  const positionOf = (i) => (i === get("chosen") && get("moved").length ? get("moved") : get("points")[i].slice(0, 2));
  const byWeight = () => get("points").map((_, i) => i).filter(isDrawn)
    .sort((a, b) => get("points")[b][4] - get("points")[a][4]);

  function drawHeads() {
    const count = 1 + Math.max(...get("points").map((point) => point[5]));
    heads.replaceChildren(html("option", { value: -1 }, count > 1 ? `all ${count} heads` : "one head"),
      ...(count > 1 ? Array.from({ length: count }, (_, m) => html("option", { value: m }, `head ${m + 1}`)) : []));
    heads.value = String(get("head"));
  }

  /** Colours of the levels that this layer reads. */
  function drawLegend() {
    const read = [...new Set(get("points").filter((_, i) => isDrawn(i)).map((point) => point[6]))].sort();
    const sizes = get("layers")[get("layer")].reads;
    levels.replaceChildren(legend([
      ["cross", "var(--soft)", "the place"],
      ...read.map((level) => ["dot", `var(--level-${level % COLOURS})`, `reads the map of ${sizes[level].join(" x ")}`]),
      ["dot", "var(--soft)", "larger: more weight; white edge: chosen"],
    ]));
  }

  function drawPoints() {
    const [x, y] = get("here");
    const most = Math.max(...get("points").map((point) => point[4]), 1e-12);
    const unit = Math.max(height, width) / 100;
    drawn.replaceChildren(svg("path", { class: "sp-here",
      d: `M${x * width - 2 * unit} ${y * height}h${4 * unit}M${x * width} ${y * height - 2 * unit}v${4 * unit}` }));
    for (const i of byWeight()) {
      const [px, py] = positionOf(i);
      const circle = svg("circle", {
        class: `sp-point level-${get("points")[i][6] % COLOURS} ${i === get("chosen") ? "chosen" : ""}`,
        cx: px * width, cy: py * height, r: unit * (0.5 + 1.6 * Math.sqrt(get("points")[i][4] / most)),
      });
      circle.addEventListener("pointerdown", (event) => grab(event, i));
      drawn.append(circle);
    }
  }

  /** A press chooses a point; moving on drags it. */
  function grab(event, i) {
    event.stopPropagation();
    event.preventDefault();
    set({ chosen: i, moved: i === get("chosen") ? get("moved") : [] });
    dragging = true;
    const start = [event.clientX, event.clientY];
    const drag = (next) => {
      if (Math.hypot(next.clientX - start[0], next.clientY - start[1]) > 2) set({ moved: toImage(next) });
    };
    const drop = () => {
      dragging = false;
      draw();
      window.removeEventListener("pointermove", drag);
      for (const end of ["pointerup", "pointercancel"]) window.removeEventListener(end, drop);
    };
    window.addEventListener("pointermove", drag);
    for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, drop);
  }

  function toImage(event) {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(view.getScreenCTM().inverse());
    return [at.x / width, at.y / height];
  }

  function drawChosen() {
    const [, , dx, dy, weight, head, level, index] = get("points")[get("chosen")];
    const { size, pixels } = get("corners");
    const order = byWeight();
    slider.max = String(order.length - 1);
    slider.value = String(Math.max(0, order.indexOf(get("chosen"))));
    const signed = (v) => (v < 0 ? "−" : "+") + Math.abs(v).toFixed(2);
    says.textContent = `Head ${head + 1}, map ${size[0]} x ${size[1]}, point ${index + 1}: weight ${weight.toFixed(3)}, ` +
      `offset ${signed(dx)} across, ${signed(dy)} down (cells).`;
    slider.setAttribute("aria-valuetext", says.textContent);
    const [px, py] = positionOf(get("chosen"));
    const [top, left] = pixels[0];
    corners.replaceChildren(...pixels.flatMap(([row, column, share, inside], i) => {
      const [x, y] = [60 * (i % 2), 60 * Math.floor(i / 2)];
      return [
        svg("rect", { class: `sp-pixel ${inside ? `level-${level % COLOURS}` : "outside"}`,
          x, y, width: 58, height: 58, rx: 4, "fill-opacity": inside ? 0.15 + 0.85 * share : 0 }),
        svg("text", { x: x + 29, y: y + 26, "text-anchor": "middle" }, `${(100 * share).toFixed(0)} %`),
        svg("text", { class: "sp-soft", x: x + 29, y: y + 44, "text-anchor": "middle" },
          inside ? `${row}, ${column}` : "outside"),
      ];
    }), svg("path", { class: "sp-mark",
      d: `M${29 + 60 * (px * size[1] - 0.5 - left)} ${29 + 60 * (py * size[0] - 0.5 - top)}m-6 0h12m-6 -6v12` }));
  }

  function drawBars() {
    const { channels, before, after, change: difference } = get("bars");
    const most = Math.max(...before.map(Math.abs), ...after.map(Math.abs), 1e-12);
    const [step, half] = [360 / channels.length, 50];
    bars.setAttribute("viewBox", "0 0 360 118");
    bars.setAttribute("aria-label", `The ${channels.length} strongest channels; change ${(100 * difference).toFixed(1)} %`);
    const bar = (value, i, side, name) => svg("rect", { class: name, x: i * step + side, width: step / 2 - 2,
      y: half - Math.max(0, (value / most) * half), height: Math.max(0.5, (Math.abs(value) / most) * half) });
    bars.replaceChildren(...channels.flatMap((channel, i) => [
      bar(before[i], i, 1, "sp-before"), bar(after[i], i, step / 2, "sp-after"),
      svg("text", { class: "sp-soft", x: i * step + step / 2 - 1, y: 116, "text-anchor": "middle" }, channel),
    ]));
    changed.textContent = get("moved").length
      ? `Moving this one point changed the output by ${(100 * difference).toFixed(1)} % of its norm (grey before, blue after).`
      : `Values of the ${channels.length} strongest channels, by number. Drag the point to see them change.`;
    reset.disabled = !get("moved").length;
  }

  /** The place one cell further within its level, or the next query. */
  function step([dx, dy]) {
    const { grid, places } = get("layers")[get("layer")];
    let first = 0;
    for (const [H, W] of grid) {
      const at = get("place") - first;
      if (at < H * W) {
        const [row, column] = [Math.floor(at / W) + dy, (at % W) + dx];
        if (row >= 0 && row < H && column >= 0 && column < W) set({ place: first + row * W + column });
        return;
      }
      first += H * W;
    }
    const next = get("place") + dx + dy;
    if (next >= 0 && next < places) set({ place: next });
  }

  function nudge([dx, dy]) {
    const [H, W] = get("corners").size;
    const [x, y] = positionOf(get("chosen"));
    set({ moved: [x + (dx * NUDGE) / W, y + (dy * NUDGE) / H] });
  }

  function askFor(kind) {
    saved.textContent = `The kernel writes the ${kind} file.`;
    model.send({ export: kind.toLowerCase(), view: thisView });
  }

  function save({ view: asked, name }, [content]) {
    if (asked !== thisView) return;
    const address = URL.createObjectURL(new Blob([content]));
    const link = html("a", { href: address, download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
    saved.textContent = `Saved as ${name}.`;
  }

  const draw = () => {
    layer.value = String(get("layer"));
    drawHeads();
    drawLegend();
    drawPoints();
    // While a point is dragged the kernel's last answer is drawn, though the point is already a little further on.
    if (!dragging && !showWhetherAnswered(model, el)) return;
    where.textContent = get("where");
    drawChosen();
    drawBars();
  };
  for (const [element, move] of [[view, step], [corners, nudge]]) {
    element.addEventListener("keydown", (event) => {
      if (!ARROWS[event.key]) return;
      event.preventDefault();
      move(ARROWS[event.key]);
    });
  }
  for (const element of [view, corners, slider, layer, heads]) keepKeys(element);
  layer.addEventListener("change", () => set({ layer: Number(layer.value) }));
  heads.addEventListener("change", () => set({ head: Number(heads.value) }));
  slider.addEventListener("input", () => set({ moved: [], chosen: byWeight()[Number(slider.value)] }));
  reset.addEventListener("click", () => set({ moved: [] }));
  view.addEventListener("pointerdown", (event) => set({ click: toImage(event) }));
  for (const kind of ["CSV", "npz", "SVG"]) {
    const button = html("button", { type: "button", "aria-label": `Save as ${kind}` }, kind);
    button.addEventListener("click", () => askFor(kind));
    files.append(button);
  }
  keepKeys(files);
  model.on("msg:custom", save);
  model.on("change", draw);
  draw();
  return () => {
    model.off("msg:custom", save);
    model.off("change", draw);
  };
}

export default { render };
