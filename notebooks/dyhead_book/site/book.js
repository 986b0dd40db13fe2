// What a page does beyond showing itself: search, and a switch between light and dark. It works from disk.

"use strict";

// Light or dark: the reader's choice, or else the system's.
const root = document.documentElement;
const stored = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
if (stored) root.dataset.theme = stored;

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

addEventListener("DOMContentLoaded", () => {
  const theme = document.querySelector("#theme");
  const label = () => { theme.textContent = isDark() ? "Light page" : "Dark page"; };
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* kept until the page is left */ }
    label();
  });
  label();
  search(document.querySelector("#search"), document.querySelector("#found"));
});

// Search: sections that hold all words, those with the words in their titles first.
const MOST = 12;

function search(field, found) {
  field.hidden = false;
  field.addEventListener("focus", load, { once: true });
  field.addEventListener("input", () => show(field.value, found));
  field.addEventListener("keydown", (event) => {
    const first = found.querySelector("a");
    if (event.key === "Enter" && first) location.href = first.href;
    if (event.key === "Escape") { field.value = ""; show("", found); }
  });
}

function load() {
  const script = document.createElement("script");  // a page from disk may load a script, not a file of JSON
  script.src = "sections.js";
  script.addEventListener("load", () => show(document.querySelector("#search").value, document.querySelector("#found")));
  document.head.append(script);
}

function show(text, found) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  found.replaceChildren();
  if (!words.length || !window.SECTIONS) return;
  const rank = (section) => words.filter((word) => section.title.toLowerCase().includes(word)).length;
  const hits = window.SECTIONS
    .filter((section) => words.every((word) => `${section.title} ${section.text}`.toLowerCase().includes(word)))
    .sort((a, b) => rank(b) - rank(a));
  for (const section of hits.slice(0, MOST)) {
    const link = document.createElement("a");
    link.href = section.url;
    link.textContent = section.title;
    const item = document.createElement("li");
    item.append(link);
    found.append(item);
  }
  const count = document.createElement("li");
  count.setAttribute("role", "status");
  count.textContent = hits.length > MOST ? `${hits.length} places, ${MOST} shown` : `${hits.length} places`;
  found.append(count);
}
