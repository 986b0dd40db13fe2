// The view of LiveCurves: a panel for each kind of curve. While a training runs there is a button that stops it; a
// replay has a slider and a play button, and needs no kernel.

const BOX = { width: 400, height: 190, left: 46, right: 24, top: 8, bottom: 24 };
const COLOURS = 7; // of lines, as in live.css
const REPLAY_SECONDS = 12; // for a whole run

const isTiny = (value) => value !== 0 && Math.abs(value) < 0.001;
const short = (value) => (isTiny(value) ? value.toExponential(1) : String(+value.toPrecision(3)));

/** About n round numbers between two. */
function ticks(from, to, n) {
  const rough = (to - from) / n || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const first = Math.ceil(from / step - 1e-9);
  const length = Math.floor(to / step + 1e-9) - first + 1;
  return Array.from({ length }, (_, i) => +((first + i) * step).toPrecision(12));
}

/** The values of a curve up to an iteration. */
function upTo([iterations, values], last) {
  const end = iterations.findIndex((iteration) => iteration > last);
  const count = end < 0 ? iterations.length : end;
  return [iterations.slice(0, count), values.slice(0, count)];
}

/** The last iteration of any curve. */
function lastLogged(panels) {
  const lines = panels.flatMap(([, named]) => named);
  return Math.max(0, ...lines.map(([, [iterations]]) => iterations.at(-1)));
}

function drawPanel(title, lines, end, last) {
  const values = lines.flatMap(([, curve]) => curve[1]);
  const floor = title === "Scale ratio" ? 0.98 : 0; // ratios lie around 1
  const [least, most] = [Math.min(floor, ...values), Math.max(...values)];
  const x = (iteration) => BOX.left + (iteration / end) * (BOX.width - BOX.left - BOX.right);
  const height = BOX.height - BOX.top - BOX.bottom;
  const y = (value) => BOX.height - BOX.bottom - ((value - least) / (most - least || 1)) * height;
  const picture = svg("svg", { class: "live-picture", viewBox: `0 0 ${BOX.width} ${BOX.height}`, role: "img" });
  for (const tick of ticks(least, most, 4)) {
    picture.append(
      svg("line", { class: "live-grid", x1: BOX.left, x2: BOX.width - BOX.right, y1: y(tick), y2: y(tick) }),
      svg("text", { class: "live-tick", x: BOX.left - 5, y: y(tick) + 4, "text-anchor": "end" }, short(tick)),
    );
  }
  for (const tick of ticks(0, end, 4)) {
    const place = { class: "live-tick", x: x(tick), y: BOX.height - 7, "text-anchor": "middle" };
    picture.append(svg("text", place, tick));
  }
  const legend = html("div", { class: "live-legend" });
  const words = lines.map(([name, curve], i) => {
    const [iterations, seen] = upTo(curve, last);
    const points = iterations.map((iteration, k) => `${x(iteration).toFixed(1)},${y(seen[k]).toFixed(1)}`);
    const look = `live-line line-${i % COLOURS}`;
    picture.append(svg("polyline", { class: look, points: points.join(" ") }));
    if (points.length && points.length < 12) {
      for (const point of points) {
        const [cx, cy] = point.split(",");
        picture.append(svg("circle", { class: look, cx, cy, r: 2.5 }));
      }
    }
    const now = seen.length ? short(seen[seen.length - 1]) : "none yet";
    legend.append(html("span", { class: `live-name line-${i % COLOURS}` }, `${name} ${now}`));
    return `${name} ${now}`;
  });
  picture.setAttribute("aria-label", `${title} up to iteration ${last}: ${words.join(", ")}`);
  return html("div", { class: "live-panel" }, html("h4", {}, title), picture, legend);
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const status = html("span", { class: "live-status", "aria-live": "polite" });
  const meter = html("progress", { class: "live-meter", "aria-label": "Share of the training that is done" });
  const stop = html("button", { class: "live-stop", type: "button" }, "Save and stop");
  const play = html("button", { class: "live-play", type: "button" }, "Play");
  const slider = html("input", { class: "live-slider", type: "range", min: "0", step: "1", "aria-label": "Iteration" });
  const panels = html("div", { class: "live-panels" });
  el.classList.add("dyhead-explorer", "dyhead-live");
  el.append(html("div", { class: "live-head" }, stop, play, slider, meter, status), panels);
  let position = get("iterations"); // of the replay
  let frame = null;
  let asked = false; // to stop

  function draw() {
    const [replay, running, end] = [get("replay"), get("running"), get("iterations")];
    const last = replay ? position : Math.max(get("iteration"), lastLogged(get("curves")));
    stop.hidden = !running;
    stop.disabled = asked;
    play.hidden = slider.hidden = !replay;
    meter.hidden = replay;
    Object.assign(meter, { max: end, value: last });
    Object.assign(slider, { max: String(end), value: String(position) });
    play.textContent = frame === null ? "Play" : "Pause";
    if (replay) status.textContent = `iteration ${last} of ${end}`;
    else status.textContent = running && asked ? "stopping after this step" : get("status");
    panels.replaceChildren(...get("curves").map(([title, lines]) => drawPanel(title, lines, end, last)));
  }

  function pause() {
    if (frame !== null) cancelAnimationFrame(frame);
    frame = null;
  }

  function start() {
    const end = get("iterations");
    if (position >= end) position = 0;
    const [from, began] = [position, performance.now()];
    const step = (now) => {
      position = Math.min(end, Math.round(from + ((now - began) / 1000 / REPLAY_SECONDS) * end));
      if (position < end) frame = requestAnimationFrame(step);
      else frame = null;
      draw();
    };
    frame = requestAnimationFrame(step);
  }

  // A kernel that runs a cell takes no messages from widgets; an interrupt reaches it, and the run takes it as a
  // request. Where the page does not lead to the kernel, the message is all there is.
  stop.addEventListener("click", () => {
    const kernel = model.widget_manager?.kernel;
    if (kernel) kernel.interrupt();
    else change(model, { stop: true });
    asked = true;
    draw();
  });
  play.addEventListener("click", () => {
    if (frame === null) start();
    else pause();
    draw();
  });
  slider.addEventListener("input", () => {
    pause();
    position = Number(slider.value);
    draw();
  });
  keepKeys(el);
  model.on("change", draw);
  draw();
  return () => {
    pause();
    model.off("change", draw);
  };
}

export default { render };
