import { ask, link, place } from "./api.js";
import { append, clear, empty, h } from "./dom.js";
import { say, showHelp } from "./dialogs.js";
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
const LOOK_AGAIN = 10_000; // milliseconds between questions whether the lake has changed

const main = document.getElementById("main");
let lake = null;
let leave = null; // ends what the present page has begun
let keys = {}; // of the present page: key -> action
let drawing = 0;

function tabs(page) {
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
  const turn = ++drawing;
  leave?.();
  leave = null;
  keys = {};
  const { page, query } = place();
  try {
    lake ??= await ask("api/summary");
    if (turn !== drawing) return;
    tabs(page);
    const made = page === "video" ? drawVideo : (PAGES.find(([name]) => name === page) || PAGES[0])[2];
    document.title = `${lake.name} · tl_data`;
    const drawn = await made({ main, query, lake, current: () => turn === drawing });
    if (turn !== drawing) {
      drawn?.leave?.();
      return;
    }
    leave = drawn?.leave || null;
    keys = drawn?.keys || {};
    if (page !== "videos") window.scrollTo(0, 0);
  } catch (error) {
    if (turn !== drawing) return;
    clear(main, h("div", { class: "failure", role: "alert" }, h("h1", {}, "This page cannot be shown"), h("p", {}, error.message)));
    if (!error.code) throw error;
  }
}

async function lookAgain() {
  if (document.hidden || !lake) return;
  try {
    const now = await ask("api/summary");
    if (now.version === lake.version) return;
    lake = now;
    tabs(place().page);
    const notes = document.getElementById("notes");
    append(notes, [
      h("p", {}, "The lake has changed. ", h("button", { type: "button", class: "link", onclick: draw }, "Show what is new")),
    ]);
  } catch (error) {
    clear(document.getElementById("notes"), h("p", {}, error.message));
  }
}

const typing = (element) => element.closest?.("input:not([type=radio]):not([type=checkbox]), textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("dialog").open) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "?") showHelp();
  else if (event.key === "/") {
    const field = document.querySelector("input[type=search]");
    if (field) field.focus();
    else location.hash = link("search");
  } else if (event.key === "Escape" && place().page === "video") history.length > 1 ? history.back() : (location.hash = "#videos");
  else if (keys[event.key]) {
    if (event.key === " " && event.target.closest("button, a, summary")) return;
    keys[event.key](event);
  } else return;
  event.preventDefault();
});

function theme(value) {
  if (value) document.documentElement.dataset.theme = value;
  else delete document.documentElement.dataset.theme;
}
document.getElementById("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const value = dark === "dark" ? "light" : "dark";
  localStorage.setItem("tl_data.theme", value);
  theme(value);
  say(`The page is ${value} now`);
});
document.getElementById("help").addEventListener("click", showHelp);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

theme(localStorage.getItem("tl_data.theme"));
addEventListener("hashchange", draw);
setInterval(lookAgain, LOOK_AGAIN);
clear(main, empty("Reading the lake …"));
draw();
