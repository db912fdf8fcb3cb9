import { ask } from "./api.js";
import { clear, h } from "./dom.js";

const dialog = document.getElementById("dialog");
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

export function open(title, ...content) {
  clear(
    dialog,
    h("div", { class: "dialog-head" }, h("h2", { id: "dialog-title" }, title), h("button", { type: "button", onclick: () => dialog.close(), "aria-label": "Close" }, "✕")),
    content,
  );
  dialog.showModal();
}

const KEYS = [
  ["/", "search"],
  ["?", "this list"],
  ["← →", "five seconds back or forward; the tile before or after"],
  ["↑ ↓", "the clip before or after; the row of tiles above or below"],
  ["Space", "play or pause"],
  ["Enter", "open the tile, jump to the moment"],
  ["Esc", "back, or leave a field"],
];

export function showHelp() {
  open("Keys", h("dl", { class: "keys" }, KEYS.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])));
}

// The statements that give what the page shows: DuckDB, Spark, Python.
export async function showCode(parameters) {
  const made = await ask("api/snippets", parameters);
  open(
    "Copy as SQL or Python",
    Object.entries(made).map(([name, code]) =>
      h(
        "section",
        {},
        h("div", { class: "code-head" }, h("h3", {}, name), h("button", { type: "button", onclick: () => copy(code) }, "Copy")),
        h("pre", { tabindex: "0" }, h("code", {}, code)),
      ),
    ),
  );
}

export async function copy(code) {
  try {
    await navigator.clipboard.writeText(code);
    say("Copied");
  } catch {
    say("The browser does not let this page copy. Select the text and copy it by hand");
  }
}

let toast = null;
export function say(message) {
  toast?.remove();
  toast = h("div", { class: "toast", role: "status" }, message);
  (dialog.open ? dialog : document.body).append(toast);
  const mine = toast;
  setTimeout(() => mine.remove(), 2500);
}
