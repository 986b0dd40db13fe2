// Shared by all explorers, and joined in front of each one's own file.

const SVG = "http://www.w3.org/2000/svg";

function html(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** What stands first in an explorer: its name, what to look for, and what its marks mean.
 *  A mark is [shape, colour, words]; shapes are those of explorer.css: dot, bar, line, dashes, frame, cross. */
function opening(title, lookFor, marks = []) {
  return html("header", { class: "explorer-opening" }, html("h3", {}, title), html("p", {}, lookFor), legend(marks));
}

function legend(marks) {
  return html("ul", { class: "explorer-legend", "aria-label": "Legend" }, ...marks.map(([shape, colour, words]) =>
    html("li", {}, html("span", { class: `mark ${shape}`, style: `--mark: ${colour}`, "aria-hidden": "true" }), words)));
}

/** Change several values of the model at once. */
function change(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  model.save_changes();
}

/** Show whether what Python computed belongs to what is chosen now. Without a kernel there is no answer to a choice. */
function showWhetherAnswered(model, element) {
  const same = ([name, value]) => JSON.stringify(model.get(name)) === JSON.stringify(value);
  const answered = Object.entries(model.get("answer") ?? {}).every(same);
  element.setAttribute("aria-busy", String(!answered)); // explorer.css dims what waits
  return answered;
}

/** Keys that an explorer uses must not reach Jupyter, which would move to another cell. Notebook 7 looks for its
 *  shortcuts before an element hears of a key, and leaves those alone whose target has this mark. */
function keepKeys(element) {
  element.addEventListener("keydown", (event) => event.stopPropagation());
  element.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));
}

/** Radio behaviour for elements drawn by hand: arrows move, Home and End jump, one of them is in the tab order. */
function asRadios(elements, chosen, choose, columns = elements.length) {
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
  if (columns === elements.length) Object.assign(steps, { ArrowDown: 1, ArrowUp: -1 });
  elements.forEach((element, i) => {
    element.setAttribute("role", "radio");
    element.setAttribute("aria-checked", String(i === chosen));
    element.setAttribute("tabindex", i === Math.max(chosen, 0) ? "0" : "-1"); // none chosen: the first
    element.addEventListener("click", () => choose(i));
    keepKeys(element);
    element.addEventListener("keydown", (event) => {
      const target = { Home: 0, End: elements.length - 1, " ": i, Enter: i }[event.key] ?? i + steps[event.key];
      if (Number.isNaN(target)) return;
      event.preventDefault();
      if (target >= 0 && target < elements.length) choose(target);
    });
  });
}

/** Redraw a group of radios and keep the keyboard focus on its chosen element. */
function redraw(group, draw) {
  const focused = group.contains(document.activeElement) || group.getRootNode().activeElement?.parentNode === group;
  group.replaceChildren();
  draw();
  if (focused) group.querySelector('[tabindex="0"]')?.focus();
}

const LONGEST_NAME = 32; // letters of a class name on an image: more would hide it

/** What the label of a box says. */
function boxName(name, score) {
  const letters = [...name.replace(/\s+/g, " ")];
  const short = letters.length > LONGEST_NAME ? [...letters.slice(0, LONGEST_NAME - 1), "…"] : letters;
  return `${short.join("")} ${score.toFixed(2)}`;
}

/** At most so long is a text, nearly always. Only on the page could it be measured, where an explorer is not yet when it
 *  first draws. Letters of East Asia and emoji are as wide as high. */
function longest(text, size) {
  return size * [...text].reduce((sum, letter) => sum + (letter.codePointAt(0) < 0x1100 ? 0.7 : 1.05), 0);
}

/** The view box [left, top, width, height] of an image with such labels: the image, or as wide as the longest of them. */
function roomFor(labels, size, width, height) {
  const wide = Math.max(width, ...labels.map((label) => longest(label, size) + size / 2));
  return [(width - wide) / 2, 0, wide, Math.max(height, 1.5 * size)];
}

/** The label of a box. It begins at (x, y), unless the edges of the room push it: all of it can be read. */
function boxLabel(label, x, y, size, [left, , width, height], attributes = {}) {
  const start = Math.max(x, left + size / 4);
  const ends = start + longest(label, size) > left + width - size / 4;
  return svg("text", { ...attributes, x: ends ? left + width - size / 4 : start, "text-anchor": ends ? "end" : "start",
    y: Math.min(Math.max(y, 1.1 * size), height - size / 4), style: `font-size: ${size}px; stroke-width: ${size / 4}px` }, label);
}
