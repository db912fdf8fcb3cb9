// The frame of the viewer: tabs, the current page, keys, theme, and a check for changes of the lake.

import { ask, link, currentPage } from "./api.js";
import { append, clear, empty, h } from "./dom.js";
import { showMessage, showHelp } from "./dialogs.js";
import { drawWall } from "./wall.js";
import { drawVideo } from "./video.js";
import { drawSearch } from "./search.js";
import { drawAlerts, drawErrors, drawRuns } from "./lists.js";

const PAGES = [
  ["videos", "Videos", drawWall],
  ["search", "Search", drawSearch],
  ["errors", "Errors", drawErrors],
  ["runs", "Runs", drawRuns],
  ["alerts", "Alerts", drawAlerts],
];
const RELOAD_MS = 10_000; // milliseconds between checks for changes of the lake

const main = document.getElementById("main");
let lake = null;
let leave = null; // cleans up the current page
let keys = {}; // keys of the current page: key -> action
let drawing = 0; // number of the latest call of draw(); an earlier call stops

function drawTabs(page) {
  const items = PAGES.map(([name, title]) => {
    const number = { videos: lake.videos, errors: lake.counts.errors, alerts: lake.counts.alerts }[name];
    return h(
      "li",
      {},
      h(
        "a",
        { href: `#${name}`, "aria-current": name === page || (page === "video" && name === "videos") ? "page" : null },
        title,
        number ? h("span", { class: `number ${name}` }, number.toLocaleString("en-US")) : null,
      ),
    );
  });
  clear(document.getElementById("tabs"), items);
  clear(document.getElementById("lake"), lake.name);
  clear(document.getElementById("notes"), lake.notes.map((note) => h("p", {}, note)));
}

async function draw() {
  const thisDrawing = ++drawing;
  leave?.();
  leave = null;
  keys = {};
  const { page, query } = currentPage();
  try {
    lake ??= await ask("api/summary");
    if (thisDrawing !== drawing) return;
    drawTabs(page);
    const drawPage = page === "video" ? drawVideo : (PAGES.find(([name]) => name === page) || PAGES[0])[2];
    document.title = `${lake.name} · tl_data`;
    const drawn = await drawPage({ main, query, lake, current: () => thisDrawing === drawing });
    if (thisDrawing !== drawing) {
      drawn?.leave?.();
      return;
    }
    leave = drawn?.leave || null;
    keys = drawn?.keys || {};
    if (page !== "videos") window.scrollTo(0, 0);
  } catch (error) {
    if (thisDrawing !== drawing) return;
    clear(main, h("div", { class: "failure", role: "alert" }, h("h1", {}, "This page cannot be shown"), h("p", {}, error.message)));
    if (!error.code) throw error;
  }
}

async function checkForChanges() {
  if (document.hidden || !lake) return;
  try {
    const latest = await ask("api/summary");
    if (latest.version === lake.version) return;
    lake = latest;
    drawTabs(currentPage().page);
    const notes = document.getElementById("notes");
    append(notes, [
      h("p", {}, "The lake has changed. ", h("button", { type: "button", class: "link", onclick: draw }, "Show the changes")),
    ]);
  } catch (error) {
    clear(document.getElementById("notes"), h("p", {}, error.message));
  }
}

const isTextField = (element) => element.closest?.("input:not([type=radio]):not([type=checkbox]), textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("dialog").open) return;
  if (isTextField(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "?") showHelp();
  else if (event.key === "/") {
    const field = document.querySelector("input[type=search]");
    if (field) field.focus();
    else location.hash = link("search");
  } else if (event.key === "Escape" && currentPage().page === "video") history.length > 1 ? history.back() : (location.hash = "#videos");
  else if (keys[event.key]) {
    if (event.key === " " && event.target.closest("button, a, summary")) return;
    keys[event.key](event);
  } else return;
  event.preventDefault();
});

function setTheme(value) {
  if (value) document.documentElement.dataset.theme = value;
  else delete document.documentElement.dataset.theme;
}
document.getElementById("theme").addEventListener("click", () => {
  const current = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const value = current === "dark" ? "light" : "dark";
  localStorage.setItem("tl_data.theme", value);
  setTheme(value);
  showMessage(`The page is now ${value}`);
});
document.getElementById("help").addEventListener("click", showHelp);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

setTheme(localStorage.getItem("tl_data.theme"));
addEventListener("hashchange", draw);
setInterval(checkForChanges, RELOAD_MS);
clear(main, empty("Reading the lake …"));
draw();
