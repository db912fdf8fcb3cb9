// Hits of a search: kept for the page of a video, and drawn as tiles that play when the pointer is on them.

import { ask, link, media, poster } from "./api.js";
import { clock, h, text } from "./dom.js";

const lately = { q: "", hits: [] };

export function keep(q, hits) {
  lately.q = q;
  lately.hits = hits;
}

// The hits of a question in one video: those of the last search, else by words, which costs nothing.
export async function hitsOf(video, q) {
  if (!q) return [];
  const all = lately.q === q ? lately.hits : (await ask("api/search", { kind: "words", text: q })).hits;
  return all.filter((hit) => hit.id === video.id || hit.id === video.video_id);
}

export function tileOf(hit, q) {
  const picture = h("span", { class: "picture" }, h("img", { src: poster(hit.id, hit.start_sec), alt: "", loading: "lazy" }), h("span", { class: "length" }, `${clock(hit.start_sec)} – ${clock(hit.end_sec)}`));
  const how = hit.score !== undefined && hit.score !== null ? h("span", { class: "score" }, Number(hit.score).toFixed(2)) : hit.confidence ? h("span", { class: "score" }, hit.confidence) : null;
  let screen = null;
  const stop = () => {
    screen?.pause();
    screen?.remove();
    screen = null;
  };
  const start = () => {
    if (screen || !hit.known) return;
    screen = h("video", { muted: true, playsinline: true, preload: "auto", tabindex: "-1", "aria-hidden": "true" });
    screen.muted = true;
    const mine = screen;
    screen.addEventListener("error", stop);
    screen.addEventListener("loadedmetadata", () => {
      mine.currentTime = hit.start_sec;
      mine.play().catch(() => {}); // the poster stays
    });
    screen.addEventListener("timeupdate", () => {
      if (mine.currentTime >= hit.end_sec) mine.currentTime = hit.start_sec;
    });
    screen.src = media(hit.id);
    picture.append(screen);
  };
  return h(
    "li",
    { class: "tile hit", onpointerenter: start, onpointerleave: stop },
    h(
      "a",
      { href: hit.known ? link("video", { video: hit.id, t: Math.round(hit.start_sec * 10) / 10, q, play: 1 }) : null, onfocus: start, onblur: stop },
      picture,
      h("span", { class: "title" }, text(hit.title, 110), how),
      h("span", { class: "words" }, text(hit.text, 220)),
    ),
  );
}
