// The view of TaskPieces: choices, the two lines of a channel with its values before and after, and who reads it.

const PLOT = { width: 420, height: 300, left: 46, bottom: 34, top: 8, right: 8, strip: 46 };
const MAP = { width: 300, height: 240, left: 40, bottom: 34, top: 10, right: 10 };

const line = (slope, shift) => `${slope.toFixed(2)} x ${shift < 0 ? "−" : "+"} ${Math.abs(shift).toFixed(2)}`;

function render({ model, el }) {
  const get = (name) => model.get(name);
  const set = (values) => change(model, values);
  const select = (label, names, trait) => {
    const element = html("select", { "aria-label": label }, ...names.map((name, i) => html("option", { value: i }, name)));
    element.addEventListener("change", () => set({ [trait]: Number(element.value) }));
    keepKeys(element);
    return element;
  };
  const blocks = Array.from({ length: get("blocks") }, (_, i) => `block ${i + 1}`);
  const chosen = {
    block: select("Block", blocks, "block"),
    level: select("Level", get("levels"), "level"),
    order: select("Order of the channels", get("orders").map((name) => `by ${name}`), "order"),
  };
  const slider = html("input", { type: "range", min: "0", step: "1", "aria-label": "Channel, in the chosen order" });
  const shown = html("output", { class: "tp-shown computed" });
  const plot = svg("svg", { class: "tp-plot", viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "img" });
  const map = svg("svg", { class: "tp-map", viewBox: `0 0 ${MAP.width} ${MAP.height}`, role: "img" });
  const says = html("p", { class: "tp-says computed", "aria-live": "polite" });
  const readers = html("div", {}, html("h4", {}, "Who reads the channel"), map);

  el.classList.add("dyhead-explorer", "dyhead-task-pieces");
  el.append(
    opening("Two lines a channel", "Task-aware attention gives each channel the larger of two lines. Is it still a ReLU? " +
      "Do channels that classes read differ from those that boxes read?",
      [["dashes", "var(--blue)", "first line"], ["dashes", "var(--green)", "second line"],
        ["line", "var(--larger)", "the larger: the output"], ["dashes", "var(--soft)", "ReLU"],
        ["bar", "color-mix(in srgb, var(--soft) 50%, var(--page))", "values before"], ["bar", "var(--after)", "values after"]]),
    html("div", { class: "tp-choices" }, chosen.block, chosen.level, chosen.order),
    html("label", { class: "tp-slide" }, "channel", slider, shown),
    html("div", { class: "tp-row computed" },
      html("div", {}, html("h4", {}, "Its two lines, and its values"), plot), readers),
    says,
  );

  function drawPlot() {
    const { lines: [a1, b1, a2, b2], reach, before, after } = get("piece");
    const x = (v) => PLOT.left + ((v + reach) / (2 * reach)) * (PLOT.width - PLOT.left - PLOT.right);
    const y = (v) => PLOT.top + ((reach - v) / (2 * reach)) * (PLOT.height - PLOT.top - PLOT.bottom - PLOT.strip);
    const base = PLOT.height - PLOT.bottom;
    const inputs = Array.from({ length: 81 }, (_, i) => -reach + (2 * reach * i) / 80);
    const path = (of) => inputs.map((v) => [v, of(v)]).filter(([, value]) => Math.abs(value) <= reach)
      .map(([v, value], i) => `${i ? "L" : "M"}${x(v)} ${y(value)}`).join("");
    const bars = (shares, name, place) => {
      const most = Math.max(...shares, 1e-12);
      return shares.map((share, i) => place(i / shares.length, 1 / shares.length, share / most, name));
    };
    const below = (start, size, share, name) => svg("rect", { class: name, x: x(-reach + 2 * reach * start),
      width: size * (x(reach) - x(-reach)), y: base - share * PLOT.strip * 0.9, height: share * PLOT.strip * 0.9 });
    const aside = (start, size, share, name) => svg("rect", { class: name, x: PLOT.left - share * 26,
      width: share * 26, y: y(-reach + 2 * reach * (start + size)), height: size * (y(-reach) - y(reach)) });
    plot.replaceChildren(
      svg("path", { class: "tp-axis", d: `M${x(-reach)} ${y(0)}H${x(reach)}M${x(0)} ${y(reach)}V${y(-reach)}` }),
      ...bars(before, "tp-before", below), ...bars(after, "tp-after", aside),
      svg("path", { class: "tp-relu", d: path((v) => Math.max(0, v)) }),
      svg("path", { class: "tp-first", d: path((v) => a1 * v + b1) }),
      svg("path", { class: "tp-second", d: path((v) => a2 * v + b2) }),
      svg("path", { class: "tp-larger", d: path((v) => Math.max(a1 * v + b1, a2 * v + b2)) }),
      ...[-reach, 0, reach].map((v) => svg("text", { class: "tp-tick", x: x(v), y: base + 14, "text-anchor": "middle" },
        v.toFixed(1))),
      svg("text", { class: "tp-tick", x: x(0), y: base + 29, "text-anchor": "middle" }, "before (bars below: how often)"),
      svg("text", { class: "tp-tick", "text-anchor": "middle", transform: `translate(11 ${y(0)}) rotate(-90)` },
        "after (bars: how often)"),
    );
    plot.setAttribute("aria-label", `Lines ${line(a1, b1)} and ${line(a2, b2)}`);
  }

  function drawMap() {
    const rows = get("channels");
    const [mostClass, mostBox] = [1, 2].map((i) => Math.max(...rows.map((row) => row[i])));
    readers.hidden = mostClass === 0;
    if (readers.hidden) return;
    const x = (v) => MAP.left + (v / mostClass) * (MAP.width - MAP.left - MAP.right);
    const y = (v) => MAP.height - MAP.bottom - (v / mostBox) * (MAP.height - MAP.top - MAP.bottom);
    map.replaceChildren(
      svg("path", { class: "tp-axis", d: `M${x(0)} ${y(mostBox)}V${y(0)}H${x(mostClass)}` }),
      ...rows.map(([, forClass, forBox], rank) => svg("circle", { class: rank === get("rank") ? "tp-dot chosen" : "tp-dot",
        cx: x(forClass), cy: y(forBox), r: rank === get("rank") ? 6 : 3.5 })),
      svg("text", { class: "tp-tick", x: x(mostClass / 2), y: MAP.height - 8, "text-anchor": "middle" }, "weight for classes"),
      svg("text", { class: "tp-tick", "text-anchor": "middle", transform: `translate(14 ${y(mostBox / 2)}) rotate(-90)` },
        "weight for boxes"),
    );
    map.querySelectorAll("circle").forEach((dot, rank) => dot.addEventListener("click", () => set({ rank })));
    const dot = map.querySelector(".chosen");
    map.append(dot); // above the others
    map.setAttribute("aria-label", `${rows.length} channels by their weight for classes and for boxes`);
  }

  function draw() {
    for (const [trait, element] of Object.entries(chosen)) element.value = String(get(trait));
    slider.max = String(get("channels").length - 1);
    slider.value = String(get("rank"));
    if (!showWhetherAnswered(model, el)) return;
    const rows = get("channels");
    const [channel, forClass, forBox, forCentre] = rows[get("rank")];
    const { lines: [a1, b1, a2, b2], spread, second } = get("piece");
    shown.textContent = String(channel);
    slider.setAttribute("aria-valuetext", `channel ${channel}`);
    const follows = `Over the images its coefficients change by up to ${Math.max(...spread).toFixed(2)}.`;
    const weights = forClass + forBox + forCentre > 0
      ? ` Weight for classes ${forClass.toFixed(2)}, boxes ${forBox.toFixed(2)}, centres ${forCentre.toFixed(2)}.` : "";
    says.textContent = `Channel ${channel}: the larger of ${line(a1, b1)} and ${line(a2, b2)}; ` +
      `the second line wins for ${(100 * second).toFixed(0)} % of the places. ` +
      follows + weights;
    drawPlot();
    drawMap();
  }

  slider.addEventListener("input", () => set({ rank: Number(slider.value) }));
  keepKeys(slider);
  model.on("change", draw);
  draw();
  return () => model.off("change", draw);
}

export default { render };
