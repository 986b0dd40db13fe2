// The view of ScaleWeights: a map of scale ratios to choose a block and a level from, the gates of the branches
// that meet there, the ratio on its scale, and the images. Python holds the numbers; here they are only drawn.

const [LEAST, MOST] = [0.5, 1]; // gates of the released form
const BARS = { width: 380, row: 40, left: 128, right: 48 };
const SCALE = { width: 380, height: 64, left: 20, right: 20 };

const mean = (numbers) => numbers.reduce((sum, x) => sum + x, 0) / numbers.length;
const ratioOf = (row) => row[0] / row[row.length - 1]; // finest branch present over coarsest
const kindOf = (branch) => branch.split(" (")[0].replace(" ", "-"); // finer, same-level, coarser

function render({ model, el }) {
  const get = (name) => model.get(name);
  const map = html("div", { class: "sw-map", role: "radiogroup", "aria-label": "Block and level" });
  const bars = svg("svg", { class: "sw-bars", role: "radiogroup", "aria-label": "Gates of the branches" });
  const scale = svg("svg", { class: "sw-scale", role: "img" });
  const strip = html("div", { class: "sw-strip", "aria-hidden": "true" });
  const slider = html("input", { type: "range", min: "-1", step: "1", "aria-label": "Image, or the mean of all" });
  const shown = html("output", { class: "sw-shown" });
  const says = html("p", { class: "sw-says", "aria-live": "polite" });
  slider.max = String(get("thumbnails").length - 1);

  el.classList.add("dyhead-explorer", "dyhead-scale-weights");
  el.append(
    opening("Which level a block listens to", "Choose a block and a level. Above 1 the finer map counts more, below 1 the " +
      "coarser one. Do blocks agree? Do images differ, or has the gate one value for all?",
      [["bar", "var(--finer)", "finer map"], ["bar", "var(--same-level)", "the level itself"],
        ["bar", "var(--coarser)", "coarser map"], ["dot", "var(--soft)", "one image"]]),
    html("div", { class: "sw-panel" }, html("h4", {}, "Scale ratio per block and level"), map,
      html("h4", {}, "Images"), strip, html("label", { class: "sw-slide" }, slider, shown)),
    html("div", { class: "sw-panel" }, html("h4", {}, "Gates of the branches"), bars,
      html("h4", {}, "Scale ratio"), scale, says),
    html("p", { class: "sw-note" },
      "Scale ratio: gate of the finest branch present over gate of the coarsest. " +
      "The gates lie in [0.5, 1], so the ratio lies in [0.5, 2]."),
  );

  const set = (values) => change(model, values);
  const rows = () => get("gates")[get("block")][get("level")];
  const chosenRows = () => (get("image") < 0 ? rows() : [rows()[get("image")]]);

  function drawMap() {
    const levels = get("levels");
    const ratios = get("gates").map((block) => block.map((level) => mean(level.map(ratioOf))));
    const strongest = Math.max(0.01, ...ratios.flat().map((ratio) => Math.abs(Math.log2(ratio))));
    map.style.setProperty("--columns", levels.length);
    map.append(html("span"), ...levels.map((name) => html("span", { class: "sw-head" }, name)));
    const cells = ratios.flatMap((block, i) => {
      map.append(html("span", { class: "sw-head" }, `block ${i + 1}`));
      return block.map((ratio, l) => {
        const cell = html("div", { class: `sw-cell ${ratio > 1 ? "finer" : "coarser"}` }, ratio.toFixed(2));
        cell.style.setProperty("--strength", `${Math.round((70 * Math.abs(Math.log2(ratio))) / strongest)}%`);
        cell.setAttribute("aria-label", `Block ${i + 1}, level ${levels[l]}, scale ratio ${ratio.toFixed(2)}`);
        map.append(cell);
        return cell;
      });
    });
    const choose = (i) => set({ block: Math.floor(i / levels.length), level: i % levels.length });
    asRadios(cells, get("block") * levels.length + get("level"), choose, levels.length);
  }

  function drawBars() {
    const names = get("branches")[get("level")];
    const x = (gate) => BARS.left + ((gate - LEAST) / (MOST - LEAST)) * (BARS.width - BARS.left - BARS.right);
    const bottom = names.length * BARS.row;
    bars.setAttribute("viewBox", `0 0 ${BARS.width} ${3 * BARS.row + 22}`);
    for (const tick of [0.5, 0.75, 1]) {
      bars.append(
        svg("line", { class: "sw-grid", x1: x(tick), x2: x(tick), y1: 0, y2: bottom }),
        svg("text", { class: "sw-tick", x: x(tick), y: bottom + 15, "text-anchor": "middle" }, tick),
      );
    }
    const groups = names.map((name, column) => {
      const gate = mean(chosenRows().map((row) => row[column]));
      const [y, height] = [column * BARS.row + 6, BARS.row - 12];
      const group = svg("g", { class: `sw-bar ${kindOf(name)}`, "aria-label": `${name}: gate ${gate.toFixed(3)}` },
        svg("rect", { class: "sw-hit", x: 0, y: column * BARS.row, width: BARS.width, height: BARS.row }),
        svg("text", { class: "sw-name", x: BARS.left - 10, y: y + 19, "text-anchor": "end" }, name),
        svg("rect", { class: "sw-fill", x: x(LEAST), y, width: Math.max(1, x(gate) - x(LEAST)), height, rx: 3 }),
        ...rows().map((row, i) => svg("circle", {
          class: i === get("image") ? "sw-dot chosen" : "sw-dot", r: i === get("image") ? 5 : 3,
          cx: x(row[column]), cy: y + height / 2,
        })),
        svg("text", { class: "sw-number", x: BARS.width - 4, y: y + 19, "text-anchor": "end" }, gate.toFixed(2)),
      );
      bars.append(group);
      return group;
    });
    asRadios(groups, Math.min(get("branch"), names.length - 1), (branch) => set({ branch }));
  }

  function drawScale() {
    const middle = SCALE.width / 2;
    const x = (ratio) => middle + Math.log2(ratio) * (middle - SCALE.left);
    const ratio = mean(chosenRows().map(ratioOf));
    scale.setAttribute("viewBox", `0 0 ${SCALE.width} ${SCALE.height}`);
    scale.setAttribute("aria-label", `Scale ratio ${ratio.toFixed(2)} on a scale from 0.5 to 2`);
    scale.replaceChildren(
      svg("text", { class: "sw-side", x: SCALE.left, y: 12 }, "◀ coarser counts more"),
      svg("text", { class: "sw-side", x: SCALE.width - SCALE.right, y: 12, "text-anchor": "end" },
        "finer counts more ▶"),
      svg("line", { class: "sw-axis", x1: x(0.5), x2: x(2), y1: 32, y2: 32 }),
      ...[0.5, 0.71, 1, 1.41, 2].flatMap((tick) => [
        svg("line", { class: "sw-axis", x1: x(tick), x2: x(tick), y1: 28, y2: 36 }),
        svg("text", { class: "sw-tick", x: x(tick), y: 52, "text-anchor": "middle" }, tick),
      ]),
      ...rows().map((row) => svg("circle", { class: "sw-dot", r: 3, cx: x(ratioOf(row)), cy: 32 })),
      svg("path", { class: "sw-mark", d: `M${x(ratio)} 23 l7 9 l-7 9 l-7 -9 z` }),
    );
    const who = get("image") < 0 ? `mean of ${rows().length} images` : `image ${get("image") + 1}`;
    says.textContent =
      `Block ${get("block") + 1}, ${get("levels")[get("level")]}, ${who}: scale ratio ${ratio.toFixed(2)}.`;
  }

  function drawStrip() {
    const image = get("image");
    strip.replaceChildren(...get("thumbnails").map((source, i) => {
      const picture = html("img", { src: source, alt: "", class: i === image || image < 0 ? "chosen" : "" });
      picture.addEventListener("click", () => set({ image: i }));
      return picture;
    }));
    slider.value = String(image);
    shown.textContent = image < 0 ? "mean of all" : `image ${image + 1}`;
    slider.setAttribute("aria-valuetext", shown.textContent);
  }

  const draw = () => {
    redraw(map, drawMap);
    redraw(bars, drawBars);
    drawScale();
    drawStrip();
  };
  slider.addEventListener("input", () => set({ image: Number(slider.value) }));
  keepKeys(slider);
  model.on("change", draw);
  draw();
  return () => model.off("change", draw);
}

export default { render };
