// Creates HTML and SVG elements. Texts are inserted as text, never as markup, so a text of a video cannot run code.

// An HTML element. An attribute that begins with "on" is an event handler; null and false are left out.
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

// Appends elements and texts from nested arrays. null and false are left out.
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

// Replaces the content of an element.
export function clear(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

// A text of a video, with its own writing direction and at most `maximum` letters.
export function text(value, maximum = 600) {
  const full = value === null || value === undefined ? "" : String(value);
  const short = full.length > maximum ? `${full.slice(0, maximum)}…` : full;
  return h("span", { dir: "auto", title: full.length > maximum ? full.slice(0, 4000) : null }, short);
}

// A time as 1:02 or 1:02:03, optionally with tenths of a second.
export function clock(seconds, tenths = false) {
  if (seconds === null || seconds === undefined || !Number.isFinite(Number(seconds))) return "–";
  const total = Math.max(0, Number(seconds));
  const whole = tenths ? Math.floor(total) : Math.round(total);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const secondsText = String(whole % 60).padStart(2, "0") + (tenths ? `.${Math.floor((total % 1) * 10)}` : "");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${secondsText}` : `${minutes}:${secondsText}`;
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

// A number with a noun: "1 video", "2 videos".
export function count(n, singular, plural = `${singular}s`) {
  return `${number(n)} ${n === 1 ? singular : plural}`;
}

// A table of rows. Each column is [title, function from row to content, CSS class].
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

// A function that runs `action` once, after it was not called for some milliseconds.
export function debounce(milliseconds, action) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}
