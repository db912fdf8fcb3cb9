// The playground of `tl-data serve`: creates an index, uploads videos, searches and asks, with the API of the server.

import { openDialog } from "./dialogs.js";
import { clear, clock, count, empty, h, text } from "./dom.js";
import { call, errorBox, form, mediaPath, pythonLiteral, readProfile, requestButton, sqlLiteral, storeKey } from "./playground_api.js";
import { ChosenVideo, sourceOf } from "./playground_video.js";

const POLL_MS = 1500; // milliseconds between requests for the status of a task
const LISTED = 50; // the most indexes, and videos of an index, that the page lists
const main = document.getElementById("main");
const state = { profile: "lenient", index: null, indexes: [], videos: [], total: 0, video: null, chosen: null, hits: [] };

async function readIndexes() {
  state.indexes = (await call("GET", `/indexes?page_limit=${LISTED}`)).data;
  if (!state.indexes.some((index) => index._id === state.index)) state.index = state.indexes[0]?._id || null;
  drawBar();
  await readVideos();
}

async function readVideos() {
  const page = state.index ? await call("GET", `/indexes/${state.index}/videos?page_limit=${LISTED}`) : { data: [], page_info: {} };
  state.videos = page.data;
  state.total = page.page_info.total_results ?? page.data.length;
  drawVideos();
}

function drawBar() {
  const bar = document.getElementById("bar");
  clear(
    bar,
    state.indexes.length
      ? h(
          "label",
          {},
          h("span", { class: "hidden" }, "Index"),
          h(
            "select",
            {
              onchange: (event) => {
                state.index = event.target.value;
                close();
                readVideos().catch(show);
              },
            },
            state.indexes.map((index) => h("option", { value: index._id, selected: index._id === state.index }, `${index.index_name} (${index.video_count})`)),
          ),
        )
      : null,
    h("button", { type: "button", onclick: createIndex }, "New index"),
  );
  bar.onsubmit = (event) => event.preventDefault();
}

function createIndex() {
  const name = h("input", { type: "search", "aria-label": "Name", placeholder: "Name of the index" });
  const errorArea = h("div", {});
  openDialog(
    "New index",
    h(
      "form",
      {
        class: "search-line",
        onsubmit: async (event) => {
          event.preventDefault();
          try {
            const model_options = ["visual", "audio"];
            const names = state.profile === "2025" ? ["marengo2.7", "pegasus1.2"] : ["marengo3.0"];
            const models = names.map((model_name) => ({ model_name, model_options }));
            // With the addon, each clip has a thumbnail for the timeline.
            const index = await call("POST", "/indexes", { index_name: name.value.trim(), models, addons: ["thumbnail"] });
            state.index = index._id;
            document.getElementById("dialog").close();
            await readIndexes();
          } catch (error) {
            clear(errorArea, errorBox(error));
          }
        },
      },
      name,
      h("button", { type: "submit", class: "main" }, "Create"),
    ),
    errorArea,
  );
  name.focus();
}

const areas = { chosen: h("div", {}), upload: h("section", { class: "card" }), search: h("section", { class: "card" }), ask: h("section", { class: "card" }), videos: h("section", {}) };

function draw() {
  clear(main, h("h1", { class: "hidden" }, "Playground"), areas.chosen, h("div", { class: "texts" }, h("div", { class: "stack" }, areas.upload, areas.ask), areas.search), areas.videos);
  drawUpload();
  drawSearch();
  drawAsk();
}

function drawUpload() {
  const tasks = h("ul", { class: "tasks", role: "status" });
  const url = h("input", { type: "search", "aria-label": "URLs of videos", placeholder: "URLs of videos, or drop files here" });
  const send = async (fields, name) => {
    const line = h("li", {}, text(name, 80), " ");
    const status = h("span", { class: "state" }, "uploading");
    line.append(status);
    tasks.prepend(line);
    try {
      const index = state.index;
      const all = [["index_id", index], ...fields];
      const task = await call("POST", "/tasks", form(all));
      const request = { method: "POST", path: "/tasks", fields: all, answer: task, python: `tl_data.index_video(${pythonLiteral(name)}, ${pythonLiteral(index)})`, sql: `SELECT tl_index_video(${sqlLiteral(name)}, ${sqlLiteral(index)});` };
      line.append(" ", requestButton(request));
      for (;;) {
        const now = await call("GET", `/tasks/${task._id}`);
        clear(status, now.status);
        status.className = `state ${now.status}`;
        if (now.status === "ready") return await readIndexes();
        if (now.status === "failed") throw new Error(now.error_message || "The video cannot be indexed.");
        await new Promise((done) => setTimeout(done, POLL_MS));
      }
    } catch (error) {
      clear(status, "failed");
      status.className = "state failed";
      line.append(errorBox(error));
    }
  };
  const files = (list) => {
    if (!state.index) return createIndex();
    for (const file of list) send([["video_file", file]], file.name);
  };
  areas.upload.ondragover = (event) => event.preventDefault();
  areas.upload.ondrop = (event) => {
    event.preventDefault();
    files(event.dataTransfer.files);
  };
  clear(
    areas.upload,
    h("h2", {}, "Index videos"),
    h(
      "form",
      {
        class: "search-line",
        onsubmit: (event) => {
          event.preventDefault();
          if (!state.index) return createIndex();
          for (const address of url.value.split(/\s+/).filter(Boolean)) send([["video_url", address]], address);
          url.value = "";
        },
      },
      url,
      h("button", { type: "submit", class: "main" }, "Index"),
      h("label", { class: "file-button" }, h("input", { type: "file", accept: "video/*", multiple: true, onchange: (event) => files(event.target.files) }), h("span", {}, "Files")),
    ),
    tasks,
  );
}

function drawSearch() {
  const words = h("input", { type: "search", "aria-label": "Words", placeholder: "What to find" });
  const hits = h("div", { "aria-live": "polite" });
  const run = async (fields, python, sql) => {
    clear(hits, empty("Searching …"));
    const allFields = [["index_id", state.index], ...fields, ["search_options", "visual"], ["search_options", "audio"]];
    try {
      const answer = await call("POST", "/search", form(allFields));
      state.hits = answer.data;
      state.chosen?.showHits(state.hits);
      clear(
        hits,
        h("div", { class: "rows-head" }, h("p", { class: "total" }, count(answer.data.length, "hit")), requestButton({ method: "POST", path: "/search", fields: allFields, answer, python, sql })),
        h(
          "ul",
          { class: "tiles" },
          answer.data.map((hit) =>
            h(
              "li",
              { class: "tile" },
              h(
                "a",
                {
                  href: "#play",
                  onclick: (event) => {
                    event.preventDefault();
                    choose(hit.video_id, hit.start).catch(show);
                  },
                },
                h("span", { class: "picture" }, h("img", { src: mediaPath(hit.thumbnail_url), alt: "", loading: "lazy" }), h("span", { class: "length" }, `${clock(hit.start)} – ${clock(hit.end)}`)),
                h("span", { class: "title" }, text(state.videos.find((v) => v._id === hit.video_id)?.system_metadata.filename || hit.video_id, 60), h("span", { class: "score" }, hit.confidence || `rank ${hit.rank}`)),
                h("span", { class: "words" }, text(hit.transcription, 160)),
              ),
            ),
          ),
        ),
      );
    } catch (error) {
      clear(hits, errorBox(error));
    }
  };
  const byPicture = (file) => {
    const names = [state.index, file.name];
    run([["query_media_type", "image"], ["query_media_file", file]], `tl_data.search_by_image(${names.map(pythonLiteral).join(", ")})`, `SELECT * FROM tl_search_by_image(${names.map(sqlLiteral).join(", ")});`);
  };
  clear(
    areas.search,
    h("h2", {}, "Search"),
    h(
      "form",
      {
        class: "search-line",
        onsubmit: (event) => {
          event.preventDefault();
          const query = words.value.trim();
          if (query && state.index) run([["query_text", query]], `tl_data.search(${pythonLiteral(state.index)}, ${pythonLiteral(query)})`, `SELECT * FROM tl_search(${sqlLiteral(state.index)}, ${sqlLiteral(query)});`);
        },
      },
      words,
      h("button", { type: "submit", class: "main" }, "Search"),
      h("label", { class: "file-button" }, h("input", { type: "file", accept: "image/png,image/jpeg", onchange: (event) => event.target.files[0] && state.index && byPicture(event.target.files[0]) }), h("span", {}, "Picture")),
    ),
    hits,
  );
}

function drawAsk() {
  const prompt = h("input", { type: "search", "aria-label": "Question", placeholder: "A question about the chosen video" });
  const schema = h("textarea", { "aria-label": "JSON schema", rows: "4", placeholder: '{"type": "object", "properties": {"title": {"type": "string"}}}' });
  const answer = h("div", { "aria-live": "polite" });
  const run = async (event) => {
    event.preventDefault();
    if (!state.chosen || !prompt.value.trim()) return clear(answer, empty(state.chosen ? "Type a question." : "Choose a video below first."));
    clear(answer, empty("Asking …"));
    try {
      const json = { ...sourceOf(state.chosen.video), prompt: prompt.value.trim(), stream: false };
      if (schema.value.trim()) json.response_format = { type: "json_schema", json_schema: JSON.parse(schema.value) };
      const result = await call("POST", "/analyze", json);
      const extract = json.response_format ? `, ${pythonLiteral(schema.value.trim())}` : "";
      const name = extract ? "extract" : "analyze";
      clear(
        answer,
        h("p", { class: "prose" }, text(result.data, 8000)),
        requestButton({ method: "POST", path: "/analyze", json, answer: result, python: `tl_data.${name}(${pythonLiteral(state.video)}, ${pythonLiteral(json.prompt)}${extract}, index_id=${pythonLiteral(state.index)})`, sql: `SELECT tl_${name}(${sqlLiteral(state.video)}, ${sqlLiteral(json.prompt)}${extract && `, ${sqlLiteral(schema.value.trim())}`}, index_id => ${sqlLiteral(state.index)});` }),
      );
    } catch (error) {
      clear(answer, errorBox(error instanceof SyntaxError ? new Error(`The schema is not JSON: ${error.message}`) : error));
    }
  };
  clear(areas.ask, h("h2", {}, "Ask and extract"), h("form", { onsubmit: run }, h("div", { class: "search-line" }, prompt, h("button", { type: "submit", class: "main" }, "Ask")), h("details", {}, h("summary", {}, "with a JSON schema"), schema)), answer);
}

function close() {
  state.chosen?.player.close();
  state.video = state.chosen = null;
  clear(areas.chosen);
}

async function choose(id, seconds = 0) {
  if (state.video !== id) {
    close();
    state.video = id;
    drawVideos();
    const index = state.indexes.find((one) => one._id === state.index);
    const isCurrent = () => state.video === id;
    const chosen = await ChosenVideo.open(index, id, isCurrent);
    if (!isCurrent()) return;
    state.chosen = chosen;
    clear(areas.chosen, chosen.element);
    chosen.showHits(state.hits);
    chosen.addAnalysis();
  }
  state.chosen?.jump(seconds);
  areas.chosen.scrollIntoView({ block: "start" });
}

function drawVideos() {
  clear(
    areas.videos,
    h("h2", { class: "total" }, state.index ? count(state.total, "video") + (state.total > state.videos.length ? `; the first ${LISTED} are shown` : "") : "No index yet"),
    state.videos.length
      ? h(
          "ul",
          { class: "tiles" },
          state.videos.map((video) =>
            h(
              "li",
              { class: "tile" },
              h(
                "a",
                {
                  href: "#play",
                  "aria-current": video._id === state.video ? "true" : null,
                  onclick: (event) => {
                    event.preventDefault();
                    choose(video._id).catch(show);
                  },
                },
                h("span", { class: "picture" }, h("img", { src: mediaPath(video.hls?.thumbnail_urls?.[0]), alt: "", loading: "lazy" }), h("span", { class: "length" }, clock(video.system_metadata.duration))),
                h("span", { class: "title" }, text(video.system_metadata.filename, 80)),
              ),
            ),
          ),
        )
      : empty(state.index ? "Index a video to begin." : "Create an index to begin."),
  );
}

function show(error) {
  if (error.status === 401) {
    const key = h("input", { type: "password", "aria-label": "API key", placeholder: "Key of this server" });
    const send = (event) => {
      event.preventDefault();
      storeKey(key.value);
      begin();
    };
    clear(main, h("form", { class: "search", onsubmit: send }, h("p", {}, "This server requires an API key. The key is stored only in this tab."), h("div", { class: "search-line" }, key, h("button", { class: "main", type: "submit" }, "Use it"))));
    key.focus();
  } else clear(main, errorBox(error));
}

async function begin() {
  try {
    draw();
    state.profile = await readProfile();
    await readIndexes();
  } catch (error) {
    show(error);
  }
}

// Arrows and space work as in a player, and `/` starts a search, unless an element that uses the key has the focus.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("dialog").open) return;
  if (event.target.closest("input, textarea, select, button, summary, video, .transcript")) return;
  const player = state.chosen?.player;
  const keys = {
    "/": () => areas.search.querySelector("input").focus(),
    " ": player && (() => player.toggle()),
    ArrowRight: player && (() => state.chosen.jump(player.time + 5, !player.screen?.paused)),
    ArrowLeft: player && (() => state.chosen.jump(player.time - 5, !player.screen?.paused)),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

begin();
