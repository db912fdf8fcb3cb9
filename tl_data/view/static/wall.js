// The page Videos: a wall of tiles with filters. Only visible tiles are drawn, and videos are loaded in pages of 60.

import { ask, link, replaceAddress, poster } from "./api.js";
import { clear, clock, count, debounce, empty, h, text } from "./dom.js";

const PAGE_SIZE = 60; // videos per request
const GAP = 16; // pixels between tiles
const MIN_WIDTH = 250; // the minimum width of a tile in pixels
const TEXT_HEIGHT = 94; // height of the text below the picture of a tile in pixels
const FIELDS = ["text", "state", "topic", "since", "until", "sort"];

export async function drawWall({ main, query, lake, current }) {
  const filters = Object.fromEntries(FIELDS.map((name) => [name, query.get(name) || ""]));
  const list = h("ul", { class: "wall", "aria-label": "Videos" });
  const total = h("p", { class: "total", role: "status" });
  const filterForm = drawFilters(filters, lake, () => {
    replaceAddress("videos", filters);
    start();
  });
  clear(main, h("h1", { class: "hidden" }, "Videos"), filterForm, total, list);

  let pages = new Map(); // number of a page -> its videos; null while they are loading
  let tiles = new Map(); // position of a video -> its element
  let videoCount = 0;
  let filterVersion = 0; // changes with the filters; answers to older requests are ignored
  let columns = 1;
  let width = MIN_WIDTH;
  let height = 1;

  async function loadPage(number) {
    if (pages.has(number)) return;
    const requestVersion = filterVersion;
    pages.set(number, null);
    const answer = await ask("api/videos", { ...filters, offset: number * PAGE_SIZE, limit: PAGE_SIZE });
    if (requestVersion !== filterVersion) return;
    pages.set(number, answer.videos);
    if (answer.total !== videoCount || number === 0) {
      videoCount = answer.total;
      measure();
    }
    show();
  }

  function measure() {
    const space = list.clientWidth || main.clientWidth;
    columns = Math.max(1, Math.floor((space + GAP) / (MIN_WIDTH + GAP)));
    width = (space - GAP * (columns - 1)) / columns;
    height = Math.round((width * 9) / 16) + TEXT_HEIGHT;
    list.style.height = `${Math.ceil(videoCount / columns) * (height + GAP)}px`;
    for (const tile of tiles.values()) tile.remove();
    tiles = new Map();
    clear(total, count(videoCount, "video"), filters.text ? ` with “${filters.text}”` : "");
    if (!videoCount) clear(list, h("li", {}, empty(lake.videos ? "No video matches. Change the filters." : "The lake has no videos yet.")));
    else if (list.querySelector(".empty")) clear(list);
  }

  function show() {
    const top = window.scrollY - list.offsetTop;
    const first = Math.max(0, Math.floor(top / (height + GAP)) - 1) * columns;
    const last = Math.min(videoCount, (Math.ceil((top + window.innerHeight) / (height + GAP)) + 1) * columns);
    for (const [position, tile] of tiles) {
      if ((position < first || position >= last) && tile !== document.activeElement?.parentElement) {
        tile.remove();
        tiles.delete(position);
      }
    }
    for (let position = first; position < last; position += 1) {
      const videos = pages.get(Math.floor(position / PAGE_SIZE));
      if (videos === undefined) loadPage(Math.floor(position / PAGE_SIZE)).catch(failed);
      const video = videos?.[position % PAGE_SIZE];
      if (!video || tiles.has(position)) continue;
      const tile = drawTile(video, position, videoCount);
      tile.style.transform = `translate(${(position % columns) * (width + GAP)}px, ${Math.floor(position / columns) * (height + GAP)}px)`;
      tile.style.width = `${width}px`;
      tile.style.height = `${height}px`;
      tiles.set(position, tile);
      const next = [...tiles.keys()].filter((k) => k > position).sort((a, b) => a - b)[0];
      list.insertBefore(tile, next === undefined ? null : tiles.get(next));
    }
  }

  function failed(error) {
    clear(total, error.message);
  }

  function start() {
    filterVersion += 1;
    pages = new Map();
    return loadPage(0).catch(failed);
  }

  // Moves the focus by a number of tiles.
  function move(by) {
    const focused = [...tiles].find(([, tile]) => tile.contains(document.activeElement));
    const target = focused ? Math.min(videoCount - 1, Math.max(0, focused[0] + by)) : Math.max(0, Math.ceil((window.scrollY - list.offsetTop) / (height + GAP))) * columns;
    const top = list.offsetTop + Math.floor(target / columns) * (height + GAP);
    if (top < window.scrollY + 70) window.scrollTo(0, top - 80);
    if (top + height > window.scrollY + window.innerHeight) window.scrollTo(0, top + height - window.innerHeight + GAP);
    show();
    tiles.get(target)?.querySelector("a").focus({ preventScroll: true });
  }

  const resized = debounce(80, () => {
    measure();
    show();
  });
  addEventListener("scroll", show, { passive: true });
  addEventListener("resize", resized);
  await start();
  if (!current()) return null;
  return {
    leave() {
      filterVersion += 1;
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

function drawTile(video, position, total) {
  const state = video.state === "ready" ? null : h("span", { class: `state ${video.state}` }, video.state);
  return h(
    "li",
    { class: "tile", "aria-posinset": position + 1, "aria-setsize": total },
    h(
      "a",
      { href: link("video", { video: video.id }) },
      h("span", { class: "picture" }, h("img", { src: poster(video.id), alt: "", loading: "lazy", decoding: "async" }), state, video.duration_sec ? h("span", { class: "length" }, clock(video.duration_sec)) : null),
      h("span", { class: "title" }, text(video.title, 140)),
      h("span", { class: "below" }, video.topics.length ? video.topics.slice(0, 4).map((topic) => h("span", { class: "topic" }, text(topic, 24))) : h("span", { class: "file" }, text(video.message || video.file, 90))),
    ),
  );
}

function drawFilters(filters, lake, changed) {
  const changedSoon = debounce(180, changed);
  const field = (name, attributes) =>
    h("input", {
      ...attributes,
      value: filters[name],
      oninput: (event) => {
        filters[name] = event.target.value.trim();
        changedSoon();
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
            filters[name] = event.target.value;
            changed();
          },
        },
        options.map(([value, title]) => h("option", { value, selected: value === (filters[name] || options[0][0]) }, title)),
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
