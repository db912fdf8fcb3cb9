// The wall: tiles of all videos, drawn as far as they are in sight, asked for a page at a time.

import { ask, link, note, poster } from "./api.js";
import { clear, clock, count, empty, h, later, text } from "./dom.js";

const PAGE = 60;
const GAP = 16;
const WIDTH = 250; // pixels that a tile has at least
const BELOW = 94; // pixels of a tile below its picture
const FIELDS = ["text", "state", "topic", "since", "until", "sort"];

export async function drawWall({ main, query, lake, current }) {
  const chosen = Object.fromEntries(FIELDS.map((name) => [name, query.get(name) || ""]));
  const list = h("ul", { class: "wall", "aria-label": "Videos" });
  const total = h("p", { class: "total", role: "status" });
  const filters = drawFilters(chosen, lake, () => {
    note("videos", chosen);
    start();
  });
  clear(main, h("h1", { class: "hidden" }, "Videos"), filters, total, list);

  let pages = new Map();
  let tiles = new Map();
  let all = 0;
  let turn = 0;
  let columns = 1;
  let width = WIDTH;
  let height = 1;

  async function page(number) {
    if (pages.has(number)) return;
    const mine = turn;
    pages.set(number, null);
    const answer = await ask("api/videos", { ...chosen, offset: number * PAGE, limit: PAGE });
    if (mine !== turn) return;
    pages.set(number, answer.videos);
    if (answer.total !== all || number === 0) {
      all = answer.total;
      measure();
    }
    show();
  }

  function measure() {
    const space = list.clientWidth || main.clientWidth;
    columns = Math.max(1, Math.floor((space + GAP) / (WIDTH + GAP)));
    width = (space - GAP * (columns - 1)) / columns;
    height = Math.round((width * 9) / 16) + BELOW;
    list.style.height = `${Math.ceil(all / columns) * (height + GAP)}px`;
    for (const tile of tiles.values()) tile.remove();
    tiles = new Map();
    clear(total, count(all, "video"), chosen.text ? ` with “${chosen.text}”` : "");
    if (!all) clear(list, h("li", {}, empty(lake.videos ? "No video fits. Change the filters." : "The lake has no videos yet.")));
    else if (list.querySelector(".empty")) clear(list);
  }

  function show() {
    const top = window.scrollY - list.offsetTop;
    const first = Math.max(0, Math.floor(top / (height + GAP)) - 1) * columns;
    const last = Math.min(all, (Math.ceil((top + window.innerHeight) / (height + GAP)) + 1) * columns);
    for (const [at, tile] of tiles) {
      if ((at < first || at >= last) && tile !== document.activeElement?.parentElement) {
        tile.remove();
        tiles.delete(at);
      }
    }
    for (let at = first; at < last; at += 1) {
      const videos = pages.get(Math.floor(at / PAGE));
      if (videos === undefined) page(Math.floor(at / PAGE)).catch(failed);
      const video = videos?.[at % PAGE];
      if (!video || tiles.has(at)) continue;
      const tile = drawTile(video, at, all);
      tile.style.transform = `translate(${(at % columns) * (width + GAP)}px, ${Math.floor(at / columns) * (height + GAP)}px)`;
      tile.style.width = `${width}px`;
      tile.style.height = `${height}px`;
      tiles.set(at, tile);
      const next = [...tiles.keys()].filter((k) => k > at).sort((a, b) => a - b)[0];
      list.insertBefore(tile, next === undefined ? null : tiles.get(next));
    }
  }

  function failed(error) {
    clear(total, error.message);
  }

  function start() {
    turn += 1;
    pages = new Map();
    return page(0).catch(failed);
  }

  function move(by) {
    const now = [...tiles].find(([, tile]) => tile.contains(document.activeElement));
    const to = now ? Math.min(all - 1, Math.max(0, now[0] + by)) : Math.max(0, Math.ceil((window.scrollY - list.offsetTop) / (height + GAP))) * columns;
    const place = list.offsetTop + Math.floor(to / columns) * (height + GAP);
    if (place < window.scrollY + 70) window.scrollTo(0, place - 80);
    if (place + height > window.scrollY + window.innerHeight) window.scrollTo(0, place + height - window.innerHeight + GAP);
    show();
    tiles.get(to)?.querySelector("a").focus({ preventScroll: true });
  }

  const resized = later(80, () => {
    measure();
    show();
  });
  addEventListener("scroll", show, { passive: true });
  addEventListener("resize", resized);
  await start();
  if (!current()) return null;
  return {
    leave() {
      turn += 1;
      removeEventListener("scroll", show);
      removeEventListener("resize", resized);
    },
    keys: {
      ArrowRight: () => move(1),
      ArrowLeft: () => move(-1),
      ArrowDown: () => move(columns),
      ArrowUp: () => move(-columns),
    },
  };
}

function drawTile(video, at, all) {
  const state = video.state === "ready" ? null : h("span", { class: `state ${video.state}` }, video.state);
  return h(
    "li",
    { class: "tile", "aria-posinset": at + 1, "aria-setsize": all },
    h(
      "a",
      { href: link("video", { video: video.id }) },
      h("span", { class: "picture" }, h("img", { src: poster(video.id), alt: "", loading: "lazy", decoding: "async" }), state, video.duration_sec ? h("span", { class: "length" }, clock(video.duration_sec)) : null),
      h("span", { class: "title" }, text(video.title, 140)),
      h("span", { class: "below" }, video.topics.length ? video.topics.slice(0, 4).map((topic) => h("span", { class: "topic" }, text(topic, 24))) : h("span", { class: "file" }, text(video.message || video.file, 90))),
    ),
  );
}

function drawFilters(chosen, lake, changed) {
  const soon = later(180, changed);
  const field = (name, attributes) =>
    h("input", {
      ...attributes,
      value: chosen[name],
      oninput: (event) => {
        chosen[name] = event.target.value.trim();
        soon();
      },
    });
  const select = (name, label, options) =>
    h(
      "label",
      {},
      h("span", { class: "hidden" }, label),
      h(
        "select",
        {
          onchange: (event) => {
            chosen[name] = event.target.value;
            changed();
          },
        },
        options.map(([value, title]) => h("option", { value, selected: value === (chosen[name] || options[0][0]) }, title)),
      ),
    );
  const states = Object.entries(lake.states).map(([state, n]) => [state, `${state} (${n.toLocaleString("en-US")})`]);
  const topics = lake.topics.map(({ topic, videos }) => [topic, `${topic} (${videos})`]);
  const sorts = { newest: "Newest first", oldest: "Oldest first", title: "By title", longest: "Longest first", shortest: "Shortest first" };
  return h(
    "form",
    { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    h("label", { class: "grow" }, h("span", { class: "hidden" }, "Words in titles, transcripts and on-screen text"), field("text", { type: "search", placeholder: "Words in titles, transcripts and on-screen text" })),
    select("state", "State", [["", "All states"], ...states]),
    topics.length ? select("topic", "Topic", [["", "All topics"], ...topics]) : null,
    h("label", {}, h("span", { class: "before" }, "from"), field("since", { type: "date", "aria-label": "Indexed from" })),
    h("label", {}, h("span", { class: "before" }, "to"), field("until", { type: "date", "aria-label": "Indexed until" })),
    select("sort", "Order", lake.sorts.map((name) => [name, sorts[name] || name])),
  );
}
