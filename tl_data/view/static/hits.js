// Hits of a search. They are drawn as tiles that play under the pointer, and remembered for the page of a video.

import { ask, link, media, poster } from "./api.js";
import { clock, h, text } from "./dom.js";

const lastSearch = { q: "", hits: [] };

export function rememberHits(q, hits) {
  lastSearch.q = q;
  lastSearch.hits = hits;
}

// The hits in one video: those of the last search if it was the same, otherwise of a free search by words.
export async function hitsInVideo(video, q) {
  if (!q) return [];
  const hits = lastSearch.q === q ? lastSearch.hits : (await ask("api/search", { kind: "words", text: q })).hits;
  return hits.filter((hit) => hit.id === video.id || hit.id === video.video_id);
}

export function drawHit(hit, q) {
  const picture = h("span", { class: "picture" }, h("img", { src: poster(hit.id, hit.start_sec), alt: "", loading: "lazy" }), h("span", { class: "length" }, `${clock(hit.start_sec)} – ${clock(hit.end_sec)}`));
  const score = hit.score !== undefined && hit.score !== null ? h("span", { class: "score" }, Number(hit.score).toFixed(2)) : hit.confidence ? h("span", { class: "score" }, hit.confidence) : null;
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
    const preview = screen;
    screen.addEventListener("error", stop);
    screen.addEventListener("loadedmetadata", () => {
      preview.currentTime = hit.start_sec;
      preview.play().catch(() => {}); // the poster remains visible
    });
    screen.addEventListener("timeupdate", () => {
      if (preview.currentTime >= hit.end_sec) preview.currentTime = hit.start_sec;
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
      h("span", { class: "title" }, text(hit.title, 110), score),
      h("span", { class: "words" }, text(hit.text, 220)),
    ),
  );
}
