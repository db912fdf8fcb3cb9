// Elements from plain values. Texts are set as text, never as markup: what a video says cannot act.

export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  for (const child of children.flat()) element.append(child);
  return element;
}

export function clear(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

// A text of a video: its own direction, and no longer than a page can show.
export function text(value, most = 600) {
  const all = value === null || value === undefined ? "" : String(value);
  const shown = all.length > most ? `${all.slice(0, most)}…` : all;
  return h("span", { dir: "auto", title: all.length > most ? all.slice(0, 4000) : null }, shown);
}

export function clock(seconds, tenths = false) {
  if (seconds === null || seconds === undefined || !Number.isFinite(Number(seconds))) return "–";
  const all = Math.max(0, Number(seconds));
  const whole = tenths ? Math.floor(all) : Math.round(all);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = String(whole % 60).padStart(2, "0") + (tenths ? `.${Math.floor((all % 1) * 10)}` : "");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export function date(value) {
  if (!value) return "–";
  const when = new Date(value);
  return Number.isNaN(when.getTime())
    ? String(value)
    : when.toLocaleString("en-GB", { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
}

export function money(value, currency = "USD") {
  if (value === null || value === undefined) return "–";
  return `${Number(value).toFixed(value && value < 0.01 ? 5 : 2)} ${currency || ""}`.trim();
}

export function number(value) {
  return value === null || value === undefined ? "–" : Number(value).toLocaleString("en-US", { maximumFractionDigits: 1 });
}

export function count(n, one, many = `${one}s`) {
  return `${number(n)} ${n === 1 ? one : many}`;
}

// Rows as a table; `columns` are [title, row -> content, class].
export function table(columns, rows, label) {
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, columns.map(([title, , kind]) => h("th", { scope: "col", class: kind }, title)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, columns.map(([, cell, kind]) => h("td", { class: kind }, cell(row)))))),
    ),
  );
}

export function empty(...children) {
  return h("p", { class: "empty" }, children);
}

export function later(milliseconds, action) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}
