// The view of SparseTokens: the slider, the image with its boxes, one map per level, and Corr and cost against rho.

const CHART = { width: 300, height: 150, left: 34, right: 58, top: 12, bottom: 26 };

/** One byte per cell, as numbers in [0, 1]. */
const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

function render({ model, el }) {
  const get = (name) => model.get(name);
  const [height, width] = get("size");
  const slider = html("input", { type: "range", min: "0", max: String(get("rhos").length - 1), step: "1",
    "aria-label": "Keeping ratio rho" });
  const shown = html("output", { class: "st-shown" });
  const image = svg("svg", { class: "st-image computed", role: "img" });
  const maps = html("div", { class: "st-maps computed" });
  const chart = svg("svg", { class: "st-chart", viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img" });
  const says = html("p", { class: "st-says computed", "aria-live": "polite" });

  el.classList.add("dyhead-explorer", "dyhead-sparse-tokens");
  el.append(
    opening("Which tokens Sparse DETR refines", "Move rho. The cost of the encoder falls with it; the share of the " +
      "decoder's attention that falls on refined tokens (Corr) falls later. Look for objects that lose their outlines.",
      [["bar", "var(--blue)", "attention of the decoder; line: Corr"], ["frame", "var(--orange)", "a refined token"],
        ["line", "var(--orange)", "multiply-adds of the encoder"]]),
    html("label", { class: "st-slide" }, "rho", slider, shown),
    html("div", { class: "st-row" }, image,
      html("div", {}, html("h4", {}, "Corr and cost of the ratios seen so far, against rho"), chart, says)),
    html("h4", {}, "Levels, fine to coarse"), maps,
  );

  function drawImage() {
    const unit = Math.max(height, width) / 100;
    const letters = 4 * unit;
    const room = roomFor(get("boxes").map(([, , , , name, score]) => boxName(name, score)), letters, width, height);
    image.setAttribute("viewBox", room.join(" "));
    image.replaceChildren(svg("image", { href: get("source"), width, height }),
      ...get("boxes").flatMap(([x1, y1, x2, y2, name, score]) => [
        svg("rect", { class: "st-box", x: x1, y: y1, width: x2 - x1, height: y2 - y1, "stroke-width": 0.7 * unit }),
        boxLabel(boxName(name, score), x1 + unit, y1 + 4.5 * unit, letters, room, { class: "st-name" }),
      ]));
    image.setAttribute("aria-label", `${get("boxes").length} detections`);
  }

  function drawMaps() {
    maps.replaceChildren(...get("levels").map(({ size: [H, W], dam, kept }) => {
      const [attention, refined] = [decode(dam), decode(kept)];
      const keptLast = [...attention.keys()].sort((i, j) => refined[i] - refined[j]); // their outlines lie on top
      const cells = keptLast.map((i) => svg("rect", {
        class: refined[i] ? "st-cell kept" : "st-cell", x: i % W, y: Math.floor(i / W), width: 1, height: 1,
        "fill-opacity": Math.sqrt(attention[i] / 255), // few tokens receive most of it
      }));
      const count = refined.filter((value) => value).length;
      return html("figure", {},
        svg("svg", { viewBox: `-0.1 -0.1 ${W + 0.2} ${H + 0.2}`, role: "img",
          "aria-label": `Level of ${H} by ${W} tokens, ${count} refined` }, ...cells),
        html("figcaption", {}, `${H} x ${W}: ${count} refined`));
    }));
  }

  function drawChart() {
    const { left, right, top, bottom } = CHART;
    const visited = get("visited");
    const most = Math.max(...visited.map(({ cost }) => cost));
    const x = (rho) => left + rho * (CHART.width - left - right);
    const y = (share) => CHART.height - bottom - share * (CHART.height - top - bottom);
    const line = (name, of) => [
      svg("polyline", { class: `st-line ${name}`, points: visited.map((v) => `${x(v.rho)},${y(of(v))}`).join(" ") }),
      ...visited.map((v) => svg("circle", { class: `st-dot ${name}`, cx: x(v.rho), cy: y(of(v)),
        r: v.rho === get("numbers").rho ? 5 : 3 })),
    ];
    const text = (words, at, height, anchor = "middle", name = "") =>
      svg("text", { class: `st-tick ${name}`, x: at, y: height, "text-anchor": anchor }, words);
    chart.replaceChildren(
      svg("path", { class: "st-axis", d: `M${x(0)} ${y(1)}V${y(0)}H${x(1)}V${y(1)}` }),
      ...[0, 0.5, 1].flatMap((rho) => [text(rho, x(rho), CHART.height - 10), text(rho, x(0) - 6, y(rho) + 4, "end", "corr")]),
      text("0", x(1) + 6, y(0) + 4, "start", "cost"), text(readable(most), x(1) + 6, y(1) + 4, "start", "cost"),
      ...line("corr", (v) => v.corr), ...line("cost", (v) => v.cost / most),
    );
    chart.setAttribute("aria-label", "Corr (left axis) and multiply-adds of the encoder (right axis) against rho");
  }

  const readable = (macs) => (macs >= 1e9 ? `${(macs / 1e9).toFixed(1)} G` : `${(macs / 1e6).toFixed(1)} M`);

  const draw = () => {
    const { kept, tokens, corr, cost, detections } = get("numbers");
    slider.value = String(get("chosen"));
    shown.textContent = `${(100 * get("rhos")[get("chosen")]).toFixed(0)} % of the tokens`;
    slider.setAttribute("aria-valuetext", shown.textContent);
    if (!showWhetherAnswered(model, el)) return;
    says.textContent = `${kept} of ${tokens} tokens are refined and receive ${(100 * corr).toFixed(0)} % of the ` +
      `decoder's attention (Corr). The encoder takes ${readable(cost)} multiply-adds. ${detections} detections.`;
    drawImage();
    drawMaps();
    drawChart();
  };
  slider.addEventListener("input", () => change(model, { chosen: Number(slider.value) }));
  keepKeys(slider);
  model.on("change", draw);
  draw();
  return () => model.off("change", draw);
}

export default { render };
