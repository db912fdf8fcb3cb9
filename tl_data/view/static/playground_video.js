// The chosen video of the playground: player, timeline in lanes and transcript, from answers of the API.
//
// Clips and speech are in the answer about the video. One analysis with a JSON schema gives the other lanes.

import { clear, h, text } from "./dom.js";
import { Player } from "./player.js";
import { call, errorBox, mediaPath, pythonLiteral, requestButton, sqlLiteral } from "./playground_api.js";
import { drawTimeline } from "./timeline.js";
import { drawTranscript } from "./video.js";

const TEXT = { type: "string" };
const TIME = { type: "number" };

function rangesWith(...names) {
  const properties = { start_sec: TIME, end_sec: TIME, ...Object.fromEntries(names.map((name) => [name, TEXT])) };
  return { type: "array", items: { type: "object", properties, required: Object.keys(properties) } };
}

const PROMPT =
  "Divide this video into chapters. List its highlights, the texts that can be read on the screen, and the objects that can be seen. Give each a start and an end in seconds.";
const PROPERTIES = {
  chapters: rangesWith("chapter_title", "chapter_summary"),
  highlights: rangesWith("highlight_title", "highlight_summary"),
  on_screen_text: rangesWith("text"),
  objects: rangesWith("object_name"),
};
const SCHEMA = { type: "object", properties: PROPERTIES, required: Object.keys(PROPERTIES) };
const analyses = new Map(); // id of a video -> request and answer of its analysis

// The member of an analysis request that names a video. Accounts of 2025 have no assets of videos.
export function sourceOf(video) {
  return video.asset_id ? { video: { type: "asset_id", asset_id: video.asset_id } } : { video_id: video._id };
}

async function analyze(video) {
  if (!analyses.has(video._id)) {
    const json = { ...sourceOf(video), prompt: PROMPT, stream: false, response_format: { type: "json_schema", json_schema: SCHEMA } };
    analyses.set(video._id, { json, answer: await call("POST", "/analyze", json) });
  }
  return analyses.get(video._id);
}

export class ChosenVideo {
  // Reads a video of an index. `isCurrent` is whether it is still the chosen one when an answer arrives.
  static async open(index, id, isCurrent) {
    const visual = index.models.some((model) => !model.model_name.startsWith("pegasus") && model.model_options?.includes("visual"));
    const video = await call("GET", `/indexes/${index._id}/videos/${id}?transcription=true${visual ? "&embedding_option=visual" : ""}`);
    return new ChosenVideo(index, video, isCurrent);
  }

  constructor(index, video, isCurrent) {
    const known = video.system_metadata || {};
    Object.assign(this, { index, video, isCurrent, lanes: {}, length: known.duration || 1 });
    this.name = known.filename || video._id;
    const clips = (video.embedding?.video_embedding.segments || []).filter((segment) => segment.embedding_scope === "clip");
    this.spoken = (video.transcription || []).map((phrase) => ({ start_sec: phrase.start, end_sec: phrase.end, transcription: phrase.value }));
    this.lanes.clips = clips.map((clip, number) => ({ start_sec: clip.start_offset_sec, end_sec: clip.end_offset_sec, text: `clip ${number + 1}` }));
    this.lanes.speech = this.spoken.map((phrase) => ({ ...phrase, text: phrase.transcription }));
    const pictures = (video.hls?.thumbnail_urls || []).map(mediaPath);
    // A picture for each clip, or one of the video.
    this.picture = (_, seconds = 0) => {
      const number = this.lanes.clips.findLastIndex((clip) => clip.start_sec <= seconds);
      return pictures[pictures.length === this.lanes.clips.length ? Math.max(0, number) : 0] || mediaPath();
    };
    const play = video.hls ? { kind: "hls" } : { kind: "none", reason: "The video was indexed without a stream (enable_video_stream)." };
    this.player = new Player(
      { id: video._id, title: this.name, file: this.name, duration_sec: this.length, play },
      { media: () => mediaPath(video.hls?.video_url), poster: this.picture },
    );
    this.timeline = h("div", {});
    this.note = h("p", { class: "cost", role: "status" }, "Reading chapters, highlights, on-screen text and objects …");
    this.transcript = drawTranscript(this.spoken, (seconds) => this.jump(seconds));
    this.player.watch((screen) => {
      screen.addEventListener("timeupdate", () => this.showTime(this.player.time));
      screen.addEventListener("seeked", () => this.showTime(this.player.time));
    });
    this.element = h(
      "section",
      { class: "chosen", "aria-label": this.name },
      h("h2", {}, text(this.name, 200)),
      h(
        "div",
        { class: `video ${this.spoken.length ? "" : "alone"}` },
        h("div", { class: "stage" }, this.player.element, this.timeline),
        this.spoken.length ? h("aside", { "aria-label": "Transcript" }, h("h2", {}, "Transcript"), this.transcript.element) : null,
      ),
      h("div", { class: "rows-head" }, this.note),
    );
    this.drawLanes();
  }

  // Adds the lanes that one analysis gives.
  async addAnalysis() {
    try {
      const { json, answer } = await analyze(this.video);
      if (!this.isCurrent()) return;
      const found = JSON.parse(answer.data);
      const titled = (rows, title) => (rows || []).map((row) => ({ ...row, text: row[title], label: title === "chapter_title" ? row[title] : null }));
      this.lanes.chapters = titled(found.chapters, "chapter_title");
      this.lanes.highlights = titled(found.highlights, "highlight_title");
      this.lanes["on-screen text"] = joined(titled(found.on_screen_text, "text"));
      this.lanes.objects = joined(titled(found.objects, "object_name"));
      this.drawLanes();
      const names = [this.video._id, PROMPT, JSON.stringify(SCHEMA)];
      const request = {
        method: "POST",
        path: "/analyze",
        json,
        answer,
        python: `tl_data.extract(${names.map(pythonLiteral).join(", ")}, index_id=${pythonLiteral(this.index._id)})`,
        sql: `SELECT tl_extract(${names.map(sqlLiteral).join(", ")}, index_id => ${sqlLiteral(this.index._id)});`,
      };
      clear(this.note, "Chapters, highlights, on-screen text and objects are from one analysis with a JSON schema.");
      this.note.after(requestButton(request));
    } catch (error) {
      if (this.isCurrent()) this.note.replaceWith(errorBox(error));
    }
  }

  // Shows the hits of the last search in this video.
  showHits(hits) {
    this.lanes.hits = hits.filter((hit) => hit.video_id === this.video._id).map((hit) => ({ start_sec: hit.start, end_sec: hit.end, text: hit.transcription || `rank ${hit.rank}` }));
    this.drawLanes();
  }

  drawLanes() {
    const order = ["hits", "chapters", "highlights", "clips", "speech", "on-screen text", "objects"];
    const lanes = Object.fromEntries(order.map((name) => [name, this.lanes[name] || []]).filter(([, marks]) => marks.length));
    this.drawn = drawTimeline(this.video, lanes, this.length, (seconds) => this.jump(seconds), this.picture);
    clear(this.timeline, Object.keys(lanes).length ? this.drawn.element : null);
    this.showTime(this.player.time);
  }

  showTime(seconds) {
    this.drawn.showTime(seconds);
    this.transcript.showTime(seconds);
  }

  jump(seconds, play = true) {
    this.player.seek(Math.min(this.length, Math.max(0, seconds)), play);
    this.showTime(seconds);
  }
}

// One mark per time range, because a later mark would cover an equal one.
function joined(marks) {
  const ranges = new Map();
  for (const mark of marks) {
    const range = `${mark.start_sec} ${mark.end_sec}`;
    const earlier = ranges.get(range);
    ranges.set(range, earlier ? { ...earlier, text: `${earlier.text} · ${mark.text}` } : mark);
  }
  return [...ranges.values()].sort((a, b) => a.start_sec - b.start_sec);
}
