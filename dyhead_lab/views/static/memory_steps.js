// The view of MemorySteps: buffers as grids of cells, and a slider over the accesses that touch them.

const WORDS = { read: "reads", write: "writes", atomic_add: "adds atomically to" };

/** "Thread 0 reads input[12] (row 1, column 5): 0.37" */
function sentence([thread, operation, buffer, index, count, value], buffers) {
  const drawn = buffers.find(({ name }) => name === buffer);
  const place = drawn ? ` (row ${Math.floor(index / drawn.columns)}, column ${index % drawn.columns})` : "";
  const many = count > 1 ? `, ${count} elements at once` : "";
  return `Thread ${thread} ${WORDS[operation]} ${buffer}[${index}]${place}${many}: ${value}`;
}

function render({ model, el }) {
  const [buffers, steps] = [model.get("buffers"), model.get("steps")];
  const cells = new Map();
  const grids = buffers.map(({ name, rows, columns }) => {
    const grid = html("div", { class: "ms-grid", role: "img", "aria-label": `${name}, ${rows} by ${columns} cells` });
    grid.style.setProperty("--columns", columns);
    cells.set(name, Array.from({ length: rows * columns }, () => html("span", { class: "ms-cell" })));
    grid.append(...cells.get(name));
    return html("div", { class: "ms-buffer" }, html("h4", {}, name), grid);
  });
  const slider = html("input", { type: "range", min: "0", max: String(steps.length - 1), "aria-label": "Step" });
  const counter = html("output", { class: "ms-counter" });
  const says = html("p", { class: "ms-says", "aria-live": "polite" });
  el.classList.add("dyhead-explorer", "dyhead-memory-steps");
  el.append(
    opening("What a thread touches", "Each step of the slider is one access to memory. Which cells does the thread read " +
      "before it writes? Do cells that it reads one after another lie side by side?",
      [["bar", "var(--read)", "read"], ["bar", "var(--write)", "written"], ["bar", "var(--atomic-add)", "added to atomically"]]),
    html("div", { class: "ms-buffers" }, ...grids), html("label", {}, slider, counter), says,
  );

  function draw() {
    const now = model.get("step");
    for (const group of cells.values()) for (const cell of group) cell.className = "ms-cell";
    steps.slice(0, now + 1).forEach(([, operation, buffer, index, count], i) => {
      for (const cell of (cells.get(buffer) ?? []).slice(index, index + count)) {
        cell.className = `ms-cell ${operation} ${i === now ? "now" : ""}`;
      }
    });
    slider.value = String(now);
    counter.textContent = `step ${now + 1} of ${steps.length}`;
    says.textContent = sentence(steps[now], buffers);
    slider.setAttribute("aria-valuetext", says.textContent);
  }

  slider.addEventListener("input", () => change(model, { step: Number(slider.value) }));
  keepKeys(slider);
  model.on("change:step", draw);
  draw();
  return () => model.off("change:step", draw);
}

export default { render };
