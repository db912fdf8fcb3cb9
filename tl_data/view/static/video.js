// The page of one video: player, timeline, transcript, texts, and the rows of the tables.

import { ask, link, replaceAddress } from "./api.js";
import { clear, clock, count, date, h, table, text } from "./dom.js";
import { showCode } from "./dialogs.js";
import { Player } from "./player.js";
import { drawTimeline } from "./timeline.js";
import { hitsInVideo } from "./hits.js";

export async function drawVideo({ main, query, lake, current }) {
  const id = query.get("video");
  const searchText = query.get("q") || "";
  const video = await ask("api/video", { id });
  const hits = await hitsInVideo(video, searchText);
  if (!current()) return null;
  document.title = `${video.title.slice(0, 80)} · ${lake.name}`;

  const player = new Player(video);
  const spoken = video.clips.filter((clip) => clip.transcription);
  const lanes = lanesOf(video, spoken, hits);
  const ends = Object.values(lanes).flat().map((mark) => mark.end_sec);
  const length = player.length || Math.max(1, ...ends);
  const jump = (seconds) => {
    player.seek(seconds);
    showTime(seconds);
    replaceAddress("video", { video: id, t: Math.round(seconds * 10) / 10, q: searchText });
  };
  const timeline = drawTimeline(video, lanes, length, jump);
  const transcript = drawTranscript(spoken, jump);

  function showTime(seconds) {
    timeline.showTime(seconds);
    transcript.showTime(seconds);
  }
  player.watch((screen) => {
    screen.addEventListener("timeupdate", () => showTime(player.time));
    screen.addEventListener("seeked", () => showTime(player.time));
  });

  const summary = video.summaries[0];
  clear(
    main,
    h(
      "div",
      { class: "video-head" },
      h("a", { href: "#videos", class: "back" }, "← Videos"),
      h("h1", {}, text(video.title, 300)),
      h("div", { class: "facts" }, facts(video)),
    ),
    h(
      "div",
      { class: `video ${spoken.length ? "" : "alone"}` },
      h("div", { class: "stage" }, player.element, Object.keys(lanes).length ? timeline.element : null),
      spoken.length ? h("aside", { "aria-label": "Transcript" }, h("h2", {}, "Transcript"), transcript.element) : null,
    ),
    video.state === "failed" ? h("div", { class: "failure", role: "alert" }, h("p", {}, h("code", {}, video.code || "failed"), " ", text(video.message)), h("p", {}, video.next_step)) : null,
    h(
      "div",
      { class: "texts" },
      video.summaries.map((row) => h("section", { class: "card" }, h("h2", {}, row.prompt ? text(row.prompt, 200) : "Summary"), h("p", { class: "prose" }, text(row.summary, 8000)))),
      summary && (summary.topics?.length || summary.hashtags?.length)
        ? h("section", { class: "card" }, h("h2", {}, "Topics"), h("p", { class: "topics" }, (summary.topics || []).map((topic) => h("a", { class: "topic", href: link("videos", { topic }) }, text(topic, 60)))), h("p", { class: "hashtags" }, (summary.hashtags || []).map((tag) => [text(tag, 60), " "])))
        : null,
      video.chapters.length ? h("section", { class: "card" }, h("h2", {}, "Chapters"), h("ol", { class: "chapters" }, video.chapters.map((chapter) => h("li", {}, h("button", { type: "button", onclick: () => jump(chapter.start_sec) }, h("time", {}, clock(chapter.start_sec)), h("strong", {}, text(chapter.title, 200))), h("p", {}, text(chapter.summary, 1200)))))) : null,
    ),
    h(
      "section",
      { class: "rows" },
      h("div", { class: "rows-head" }, h("h2", {}, "Rows"), h("button", { type: "button", onclick: () => showCode({ kind: "video", video: video.video_id || video.id }) }, "Copy as SQL")),
      drawRows("clips", video.clips, jump, id),
      drawRows("chapters", video.chapters, jump, id),
      drawRows("highlights", video.highlights, jump, id),
      drawRows("annotations", video.annotations, jump, id),
      drawRows("alerts", video.alerts, jump, id),
      h("details", {}, h("summary", {}, "videos: the row of this video"), h("dl", { class: "record" }, Object.entries(video.record).map(([key, value]) => [h("dt", {}, key), h("dd", {}, text(Array.isArray(value) ? value.join(", ") : value, 400))]))),
    ),
  );
  const t = query.get("t");
  if (t !== null && Number.isFinite(Number(t))) {
    player.seek(Number(t), query.get("play") === "1");
    showTime(Number(t));
  }

  const starts = (video.clips.length ? video.clips : video.chapters).map((row) => row.start_sec);
  return {
    leave: () => player.close(),
    keys: {
      " ": () => player.toggle(),
      ArrowRight: () => jump(Math.min(length, player.time + 5)),
      ArrowLeft: () => jump(Math.max(0, player.time - 5)),
      ArrowDown: () => jump(starts.find((start) => start > player.time + 0.3) ?? player.time),
      ArrowUp: () => jump(starts.filter((start) => start < player.time - 1).pop() ?? 0),
    },
  };
}

function lanesOf(video, spoken, hits) {
  const lanes = {
    hits: hits.map((hit) => ({ ...hit, text: hit.text || `similarity ${(hit.score ?? 0).toFixed(2)}` })),
    chapters: video.chapters.map((chapter) => ({ ...chapter, text: chapter.title, label: chapter.title })),
    highlights: video.highlights.map((highlight) => ({ ...highlight, text: highlight.highlight })),
    clips: video.clips.map((clip) => ({ ...clip, text: clip.transcription || `clip ${clip.clip_number ?? ""}` })),
    speech: spoken.map((clip) => ({ ...clip, text: clip.transcription })),
    ...video.lanes,
    alerts: video.alerts.map((alert) => ({ ...alert, text: alert.question })),
  };
  return Object.fromEntries(Object.entries(lanes).filter(([, marks]) => marks.length));
}

function facts(video) {
  const record = video.record;
  return [
    video.state === "ready" ? null : h("span", { class: `state ${video.state}` }, video.state),
    video.duration_sec ? h("span", {}, clock(video.duration_sec)) : null,
    record.width && record.height ? h("span", {}, `${record.width} × ${record.height}`) : null,
    record.size_bytes ? h("span", {}, `${(record.size_bytes / 1e6).toFixed(1)} MB`) : null,
    video.at ? h("span", {}, date(video.at)) : null,
    h("span", { class: "source" }, text(video.url, 160)),
  ];
}

// The lines of a transcript. A click seeks; `showTime` marks the line at a time.
export function drawTranscript(spoken, jump) {
  const lines = spoken.map((clip) => h("li", {}, h("button", { type: "button", onclick: () => jump(clip.start_sec) }, h("time", {}, clock(clip.start_sec)), text(clip.transcription, 4000))));
  const element = h("ol", { class: "transcript", tabindex: "0", "aria-label": "Lines of the transcript" }, lines);
  let current = -1; // number of the line that is spoken
  return {
    element,
    showTime(seconds) {
      let next = -1;
      spoken.forEach((clip, index) => {
        if (clip.start_sec <= seconds + 0.05) next = index;
      });
      if (next === current) return;
      lines[current]?.removeAttribute("aria-current");
      current = next;
      if (current < 0) return;
      lines[current].setAttribute("aria-current", "true");
      element.scrollTop = lines[current].offsetTop - element.offsetTop - element.clientHeight / 3;
    },
  };
}

// Columns that the tables of rows leave out.
const HIDDEN_COLUMNS = ["video_id", "model", "content_key", "source_key", "run_id"];

function drawRows(name, rows, jump, id) {
  if (!rows.length) return null;
  const names = Object.keys(rows[0]).filter((key) => !HIDDEN_COLUMNS.includes(key) && rows.some((row) => row[key] !== null));
  const columns = names.map((key) =>
    key === "start_sec" || key === "end_sec"
      ? [key, (row) => h("button", { type: "button", class: "link", onclick: () => jump(row[key]) }, clock(row[key], true)), "right"]
      : [key, (row) => text(Array.isArray(row[key]) ? row[key].join(", ") : row[key], 300)],
  );
  if (name === "clips") columns.push(["", (row) => h("a", { href: link("search", { kind: "similar", id, start: row.start_sec }) }, "similar")]);
  return h("details", {}, h("summary", {}, `${name}: ${count(rows.length, "row")}`), table(columns, rows, `Rows of ${name}`));
}

