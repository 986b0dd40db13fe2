// The view of Look: the image with its objects, and for the chosen one what each layer looked at.

/** Okabe and Ito's colours, one a level, as in the figures. */
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2"];
const TITLES = { points: "Where layers sample", maps: "Dense attention", gates: "Scale gates", lines: "Task-aware lines",
  tokens: "Kept tokens" };
const SAYS = {
  points: "Each dot is a place that the layer reads for the chosen object; a larger dot weighs more. Dots of " +
    "a decoder belong to the object query, other dots to the cell in the middle of the box.",
  maps: "Attention of the chosen object over the image, the mean of all heads. One scale for all layers and objects.",
  gates: "Each level adds up to three branches, each times its gate: the same for the whole image. A bar ends at 1; " +
    "half a bar is a closed gate.",
  lines: "A channel becomes the larger of two lines of it, a1 x + b1 and a2 x + b2. Of each level the six channels that " +
    "this sets farthest from ReLU (grey) in the cell of the chosen object, where a dot stands.",
  tokens: "Kept tokens are refined by the encoder; the decoder attention map says how much the decoder's queries read " +
    "of each token. Colours are levels. Move the slider: the detector ran at each ratio.",
};
const TOKEN_MAPS = { kept: "kept tokens", dam: "decoder attention map" };
const REACH = 2; // of the lines' horizontal axis

const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

function render({ model, el }) {
  const scene = model.get("scene");
  const [height, width] = scene.size;
  const unit = Math.max(height, width) / 100;
  const letters = 3.6 * unit; // their height in labels
  const state = { panel: 0, layer: 0, block: 0, step: 0, map: 0 };
  const sparse = scene.panels.find(({ kind }) => kind === "tokens");
  if (sparse) state.step = sparse.steps.length - 1;
  const everyObject = [...scene.objects, ...(sparse?.steps ?? []).flatMap(({ boxes }) => boxes)];
  const room = roomFor(everyObject.map(({ name, score }) => boxName(name, score)), letters, width, height);
  el.classList.add("dyhead-explorer", "dyhead-look");

  const image = svg("svg", { class: "lk-image", viewBox: room.join(" "), role: "radiogroup",
    "aria-label": "Objects; choose one" });
  const tabs = html("div", { class: "lk-tabs", role: "radiogroup", "aria-label": "What to look at" });
  const controls = html("div", { class: "lk-controls" });
  const says = html("p", { class: "lk-says", "aria-live": "polite" });
  const picked = html("p", { class: "lk-hint lk-picked", "aria-live": "polite" });
  const drawing = html("div", { class: "lk-drawing" });
  el.append(
    html("h3", { class: "lk-title" }, `${scene.title}: what ${scene.weights} looked at`),
    html("div", { class: "lk-row" }, html("div", {}, image, html("p", { class: "lk-hint" }, hint()), picked),
      html("div", {}, tabs, controls, drawing, says)),
  );

  function hint() {
    const count = scene.objects.length;
    if (!count) return "Nothing was found.";
    const low = scene.objects.filter(({ score }) => score < scene.threshold).length;
    return `${count} objects${low ? `, ${low} of them below the threshold of ${scene.threshold}` : ""}. ` +
      "Click one, or move with the arrow keys.";
  }

  /** The chosen object in words: its class, the query that found it, its box in pixels of the image. */
  function told(object) {
    if (!object) return "";
    const { box, name, score, query } = object;
    const [x1, y1, x2, y2] = box.map((share, axis) => Math.round(share * (axis % 2 ? height : width)));
    const found = query === undefined ? "" : `, found by object query ${query}`;
    return `Chosen: ${name} ${score.toFixed(2)}${found}. Its box: x from ${x1} to ${x2}, y from ${y1} to ${y2} pixels.`;
  }

  const panel = () => scene.panels[state.panel];
  const objects = () => (panel()?.kind === "tokens" ? panel().steps[state.step].boxes : scene.objects);

  function drawImage() {
    redraw(image, () => {
      image.append(svg("image", { href: scene.source, width, height }));
      drawOverlay();
      const chosen = panel()?.kind === "tokens" ? -1 : model.get("chosen");
      picked.textContent = told(objects()[chosen]);
      const groups = objects().map(({ box, name, score }, i) => {
        const [x1, y1, x2, y2] = box.map((share, axis) => share * (axis % 2 ? height : width));
        return svg("g", { class: i === chosen ? "lk-object chosen" : "lk-object", "aria-label": `${name} ${score.toFixed(2)}` },
          svg("rect", { x: x1, y: y1, width: Math.max(x2 - x1, 1), height: Math.max(y2 - y1, 1) }),
          boxLabel(boxName(name, score), x1 + unit, y1 - unit, letters, room));
      });
      image.append(...groups);
      if (panel()?.kind !== "tokens") asRadios(groups, chosen, (i) => change(model, { chosen: i }));
      drawPoints();
    });
  }

  /** A map of one byte a cell over the image: the brighter, the more. */
  function cells(bytes, [h, w], colour) {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: w, height: h });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(w, h);
    bytes.forEach((value, i) => pixels.data.set([...colour, value], 4 * i));
    context.putImageData(pixels, 0, 0);
    const [x, y] = scene.valid; // the map covers the padding too, which lies outside of the picture
    return svg("image", { href: canvas.toDataURL(), width: width / x, height: height / y, preserveAspectRatio: "none",
      class: "lk-cells" });
  }

  function drawOverlay() {
    const shown = panel();
    if (shown?.kind === "maps" && scene.objects.length) {
      const layer = shown.layers[state.layer];
      image.append(svg("rect", { class: "lk-veil", width, height }),
        cells(decode(layer.looks[model.get("chosen")]).map((v) => 255 * Math.sqrt(v / 255)), layer.size, [255, 190, 0]));
    }
    if (shown?.kind === "tokens") {
      image.append(svg("rect", { class: "lk-veil", width, height }), ...shown.steps[state.step].levels.map(
        (told, level) => cells(decode(told[Object.keys(TOKEN_MAPS)[state.map]]).map((v) => state.map ? 16 * Math.sqrt(v) : v / 2.4),
          told.size, rgb(COLOURS[level % COLOURS.length]))));
    }
  }

  const rgb = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));

  function drawPoints() {
    if (panel()?.kind !== "points" || !scene.objects.length) return;
    const look = panel().layers[state.layer].looks[model.get("chosen")];
    const most = Math.max(...look.points.map((point) => point[2]), 1e-9);
    const dots = look.points.map(([x, y, weight, level]) => svg("circle", { class: "lk-dot", cx: x * width,
      cy: y * height, r: unit * (0.35 + 1.1 * Math.sqrt(weight / most)), fill: COLOURS[level % COLOURS.length] }));
    const [x, y] = [look.here[0] * width, look.here[1] * height];
    image.append(svg("g", { class: "lk-points" }, ...dots, svg("path", { class: "lk-here", "stroke-width": unit / 2,
      d: `M${x - 2 * unit} ${y}H${x + 2 * unit}M${x} ${y - 2 * unit}V${y + 2 * unit}` })));
  }

  function choice(label, names, current, choose) {
    const select = html("select", { "aria-label": label }, ...names.map((name, i) =>
      html("option", { value: i, ...(i === current ? { selected: "" } : {}) }, name)));
    select.addEventListener("change", () => choose(Number(select.value)));
    keepKeys(select);
    return html("label", {}, `${label} `, select);
  }

  const choose = (values) => { Object.assign(state, values); draw(); };

  function drawControls() {
    const shown = panel();
    controls.replaceChildren();
    if (!shown) return;
    if (shown.layers) {
      state.layer = Math.min(state.layer, shown.layers.length - 1);
      controls.append(choice("Layer", shown.layers.map(({ name }) => name), state.layer, (layer) => choose({ layer })));
    }
    if (shown.blocks) {
      state.block = Math.min(state.block, shown.blocks.length - 1);
      controls.append(choice("Block", shown.blocks.map((_, i) => `block ${i + 1}`), state.block, (block) => choose({ block })));
    }
    if (shown.steps) {
      const slider = html("input", { type: "range", min: 0, max: shown.steps.length - 1, step: 1, "aria-label": "Ratio" });
      slider.value = String(state.step);
      slider.addEventListener("input", () => { state.step = Number(slider.value); drawImage(); drawPanel(); });
      keepKeys(slider);
      controls.append(html("label", { class: "lk-slide" }, "rho ", slider),
        choice("Show", Object.values(TOKEN_MAPS), state.map, (map) => choose({ map })));
    }
  }

  function drawPanel() {
    const shown = panel();
    drawing.replaceChildren();
    says.textContent = shown ? SAYS[shown.kind] : "This detector told nothing of what it looked at.";
    if (!shown) return;
    if (shown.kind === "points") drawing.append(legend(shown.layers[state.layer]));
    if (shown.kind === "maps") drawing.append(scaleBar(shown.brightest));
    if (shown.kind === "gates") drawing.append(...shown.blocks[state.block].map(bars));
    if (shown.kind === "lines") drawing.append(...shown.blocks[state.block].map(curves));
    if (shown.kind === "tokens") {
      const { rho, kept, tokens, corr, boxes } = shown.steps[state.step];
      drawing.append(html("p", { class: "lk-numbers" }, `rho ${rho}: ${kept} of ${tokens} tokens are refined; they receive ` +
        `${Math.round(100 * corr)} % of the decoder's attention. ${boxes.length} objects.`));
    }
  }

  const legend = ({ sizes }) => html("ul", { class: "lk-legend" }, ...sizes.map(([h, w], level) =>
    html("li", {}, html("span", { style: `background: ${COLOURS[level % COLOURS.length]}` }), `reads a map of ${h} x ${w}`)));

  const scaleBar = (brightest) => html("div", { class: "lk-scale" }, "0", html("span", {}), brightest.toPrecision(2));

  /** The gates of one level: finer neighbour, itself, coarser neighbour, as far as it has them. */
  function bars(gates, level, levels) {
    const names = [...(level ? ["finer"] : []), "same", ...(level < levels.length - 1 ? ["coarser"] : [])];
    return html("div", { class: "lk-level" }, html("h4", {}, `level ${level + 1}`), ...gates.map((gate, i) =>
      html("div", { class: "lk-gate" }, html("span", {}, names[i] ?? ""),
        html("div", { class: "lk-bar" }, html("div", { style: `width: ${100 * gate}%` })), html("span", {}, gate.toFixed(2)))));
  }

  /** The lines of some channels of one level, those of the chosen object. */
  function curves(looks, level) {
    const channels = looks[Math.min(model.get("chosen"), looks.length - 1)];
    const within = (value, low, high) => Math.min(Math.max(value, low), high);
    const dot = (x, y) => svg("circle", { class: "lk-at", r: 1.8, cx: 10 * (within(x, -REACH, REACH) + REACH),
      cy: 30 - 10 * within(y, -2, 3) });
    const at = (x, y) => `${(10 * (x + REACH)).toFixed(1)},${(30 - 10 * y).toFixed(1)}`;
    const draw = (of) => Array.from({ length: 41 }, (_, i) => -REACH + i * REACH / 20).map((x) => at(x, of(x))).join(" ");
    return html("div", { class: "lk-level" }, html("h4", {}, `level ${level + 1}`), html("div", { class: "lk-curves" },
      ...channels.map(({ channel, lines: [a1, b1, a2, b2], at: here }) => html("figure", {
        title: `a1 ${a1}, b1 ${b1}, a2 ${a2}, b2 ${b2}` + (here ? `; ${here[0]} becomes ${here[1]}` : "") },
        svg("svg", { viewBox: `0 0 ${20 * REACH} 50`, role: "img",
          "aria-label": `Channel ${channel}: slopes ${a1.toFixed(2)} and ${a2.toFixed(2)}` +
            (here ? `; ${here[0].toFixed(2)} becomes ${here[1].toFixed(2)}` : "") },
        svg("polyline", { class: "lk-relu", points: draw((x) => Math.max(x, 0)) }),
        svg("polyline", { class: "lk-curve", points: draw((x) => Math.max(a1 * x + b1, a2 * x + b2)) }),
        ...(here ? [dot(...here)] : [])),
        html("figcaption", {}, `channel ${channel}`)))));
  }

  function drawTabs() {
    redraw(tabs, () => {
      const buttons = scene.panels.map(({ kind }) => html("span", { class: "lk-tab" }, TITLES[kind]));
      tabs.append(...buttons);
      asRadios(buttons, state.panel, (panel) => choose({ panel, layer: 0, block: 0 }));
    });
  }

  function draw() {
    drawTabs();
    drawControls();
    drawImage();
    drawPanel();
  }
  const follow = () => {
    drawImage();
    if (panel()?.kind === "lines") drawPanel();
  };
  model.on("change:chosen", follow);
  draw();
  return () => model.off("change:chosen", follow);
}

export default { render };
