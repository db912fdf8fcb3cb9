// The dialog (keys, code to copy) and short messages at the edge of the page.

import { ask } from "./api.js";
import { clear, h } from "./dom.js";

const dialog = document.getElementById("dialog");
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

export function openDialog(title, ...content) {
  clear(
    dialog,
    h("div", { class: "dialog-head" }, h("h2", { id: "dialog-title" }, title), h("button", { type: "button", onclick: () => dialog.close(), "aria-label": "Close" }, "✕")),
    content,
  );
  dialog.showModal();
}

const KEYS = [
  ["/", "search"],
  ["?", "show this list"],
  ["← →", "five seconds back or forward; the previous or next tile"],
  ["↑ ↓", "the previous or next clip; the row of tiles above or below"],
  ["Space", "play or pause"],
  ["Enter", "open the tile; jump to the time"],
  ["Esc", "go back; leave a field"],
];

export function showHelp() {
  openDialog("Keys", h("dl", { class: "keys" }, KEYS.map(([key, action]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, action)])));
}

// Shows code for DuckDB, Spark and Python that returns the content of the page.
export async function showCode(parameters) {
  const snippets = await ask("api/snippets", parameters);
  openDialog(
    "Copy as SQL or Python",
    Object.entries(snippets).map(([name, code]) =>
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
    showMessage("Copied");
  } catch {
    showMessage("The browser does not allow this page to copy. Select the text and copy it");
  }
}

// Shows a message for 2.5 seconds.
let toast = null;
export function showMessage(message) {
  toast?.remove();
  toast = h("div", { class: "toast", role: "status" }, message);
  (dialog.open ? dialog : document.body).append(toast);
  const thisToast = toast;
  setTimeout(() => thisToast.remove(), 2500);
}
