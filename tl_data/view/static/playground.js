// The playground of `tl-data serve`: creates an index, uploads videos, searches and asks, with the API of the server.

import { clear, clock, count, empty, h, text } from "./dom.js";
import { copy, openDialog } from "./dialogs.js";

const API = "v1.3";
const POLL_MS = 1500; // milliseconds between requests for the status of a task
const main = document.getElementById("main");
const state = { key: sessionStorage.getItem("tl_data.key") || "", index: null, indexes: [], videos: [], video: null };

async function call(method, path, body) {
  const headers = state.key ? { "x-api-key": state.key } : {};
  const isJson = body && !(body instanceof FormData);
  if (isJson) headers["content-type"] = "application/json";
  const response = await fetch(`${API}${path}`, { method, headers, body: isJson ? JSON.stringify(body) : body });
  const result = response.status === 204 ? null : await response.json();
  if (!response.ok) {
    const error = result?.error || result || {};
    throw Object.assign(new Error(error.message || `The server answered with ${response.status}.`), { code: error.code, status: response.status });
  }
  return result;
}

function form(fields) {
  const data = new FormData();
  for (const [name, value] of fields) data.append(name, value);
  return data;
}

// The path of a media URL, so that the page works under any name of this machine.
const mediaPath = (url) => (url ? new URL(url).pathname.slice(1) : "static/no-picture.svg");
const errorBox = (error) => h("div", { class: "failure", role: "alert" }, h("p", {}, error.code ? h("code", {}, error.code) : null, " ", error.message));

// Shows a request as curl, Python and SQL. The code does not contain the API key.
function showRequest({ method, path, fields, json, answer, python, sql }) {
  const quote = (value) => `'${String(value).replaceAll("'", "'\\''")}'`;
  const key = state.key ? " -H \"x-api-key: $TL_API_KEY\"" : "";
  const body = json ? ` -H 'content-type: application/json' -d ${quote(JSON.stringify(json))}` : (fields || []).map(([n, v]) => ` -F ${quote(`${n}=${v instanceof File ? `@${v.name}` : v}`)}`).join("");
  const parts = { curl: `curl -X ${method} ${new URL(`${API}${path}`, location.href).href}${key}${body}`, Python: python, SQL: sql, Answer: JSON.stringify(answer, null, 2).slice(0, 20_000) };
  openDialog(
    "Request and answer",
    Object.entries(parts)
      .filter(([, code]) => code)
      .map(([name, code]) => h("section", {}, h("div", { class: "code-head" }, h("h3", {}, name), h("button", { type: "button", onclick: () => copy(code) }, "Copy")), h("pre", { tabindex: "0" }, h("code", {}, code)))),
  );
}

const pythonLiteral = (value) => JSON.stringify(value);
const sqlLiteral = (value) => `'${String(value).replaceAll("'", "''")}'`;

async function readIndexes() {
  state.indexes = (await call("GET", "/indexes?page_limit=50")).data;
  if (!state.indexes.some((index) => index._id === state.index)) state.index = state.indexes[0]?._id || null;
  drawBar();
  await readVideos();
}

async function readVideos() {
  state.videos = state.index ? (await call("GET", `/indexes/${state.index}/videos?page_limit=50`)).data : [];
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
                state.video = null;
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
            const models = [{ model_name: "marengo3.0", model_options: ["visual", "audio"] }];
            const index = await call("POST", "/indexes", { index_name: name.value.trim(), models });
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

const areas = { upload: h("section", { class: "card" }), search: h("section", { class: "card" }), ask: h("section", { class: "card" }), videos: h("section", {}) };

function draw() {
  clear(main, h("h1", { class: "hidden" }, "Playground"), h("div", { class: "texts" }, h("div", { class: "stack" }, areas.upload, areas.ask), areas.search), areas.videos);
  drawUpload();
  drawSearch();
  drawAsk();
}

function drawUpload() {
  const tasks = h("ul", { class: "tasks", role: "status" });
  const url = h("input", { type: "search", "aria-label": "URL of a video", placeholder: "https://… or drop files here" });
  const send = async (fields, name) => {
    const line = h("li", {}, text(name, 80), " ");
    const status = h("span", { class: "state" }, "uploading");
    line.append(status);
    tasks.prepend(line);
    try {
      const task = await call("POST", "/tasks", form([["index_id", state.index], ...fields]));
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
          if (!state.index) createIndex();
          else if (url.value.trim()) send([["video_url", url.value.trim()]], url.value.trim());
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
      clear(
        hits,
        h("div", { class: "rows-head" }, h("p", { class: "total" }, count(answer.data.length, "hit")), h("button", { type: "button", onclick: () => showRequest({ method: "POST", path: "/search", fields: allFields, answer, python, sql }) }, "Request")),
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
                    choose(hit.video_id, hit.start);
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
      h("label", { class: "file-button" }, h("input", { type: "file", accept: "image/png,image/jpeg", onchange: (event) => event.target.files[0] && run([["query_media_type", "image"], ["query_media_file", event.target.files[0]]], `tl_data.search_by_image(${pythonLiteral(state.index)}, ${pythonLiteral(event.target.files[0].name)})`) }), h("span", {}, "Picture")),
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
    if (!state.video || !prompt.value.trim()) return clear(answer, empty(state.video ? "Type a question." : "Choose a video below first."));
    clear(answer, empty("Asking …"));
    try {
      const json = { video_id: state.video, prompt: prompt.value.trim(), stream: false };
      if (schema.value.trim()) json.response_format = { type: "json_schema", json_schema: JSON.parse(schema.value) };
      const result = await call("POST", "/analyze", json);
      const extract = json.response_format ? `, ${pythonLiteral(schema.value.trim())}` : "";
      const name = extract ? "extract" : "analyze";
      clear(
        answer,
        h("p", { class: "prose" }, text(result.data, 8000)),
        h("button", { type: "button", onclick: () => showRequest({ method: "POST", path: "/analyze", json, answer: result, python: `tl_data.${name}(${pythonLiteral(state.video)}, ${pythonLiteral(json.prompt)}${extract})`, sql: `SELECT tl_${name}(${sqlLiteral(state.video)}, ${sqlLiteral(json.prompt)}${extract && `, ${sqlLiteral(schema.value.trim())}`}, index_id => ${sqlLiteral(state.index)});` }) }, "Request"),
      );
    } catch (error) {
      clear(answer, errorBox(error instanceof SyntaxError ? new Error(`The schema is not JSON: ${error.message}`) : error));
    }
  };
  clear(areas.ask, h("h2", {}, "Ask and extract"), h("form", { onsubmit: run }, h("div", { class: "search-line" }, prompt, h("button", { type: "submit", class: "main" }, "Ask")), h("details", {}, h("summary", {}, "with a JSON schema"), schema)), answer);
}

const stage = h("div", { class: "player", hidden: true });
let stream = null;

async function choose(id, seconds = 0) {
  state.video = id;
  drawVideos();
  const video = await call("GET", `/indexes/${state.index}/videos/${id}`);
  stream?.destroy();
  const screen = h("video", { controls: true, playsinline: true, "aria-label": video.system_metadata.filename, poster: mediaPath(video.hls?.thumbnail_urls?.[0]) });
  clear(stage, screen);
  stage.hidden = false;
  const { default: Hls } = await import("./_vendor/hls.light.min.mjs");
  stream = new Hls({ enableWorker: false, startPosition: seconds });
  stream.on(Hls.Events.ERROR, (_, data) => {
    if (data.fatal) clear(stage, h("p", { class: "why" }, `The video cannot be played: ${data.details}.`));
  });
  stream.loadSource(new URL(mediaPath(video.hls?.video_url), location.href).href);
  stream.attachMedia(screen);
  screen.addEventListener("loadedmetadata", () => {
    screen.currentTime = seconds;
    screen.play().catch(() => {}); // the browser may require a click first
  });
  stage.scrollIntoView({ block: "nearest" });
}

function drawVideos() {
  clear(
    areas.videos,
    stage,
    h("h2", { class: "total" }, state.index ? `Videos of this index: ${state.videos.length}` : "No index yet"),
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
      state.key = key.value;
      sessionStorage.setItem("tl_data.key", key.value);
      begin();
    };
    clear(main, h("form", { class: "search", onsubmit: send }, h("p", {}, "This server requires an API key. The key is stored only in this tab."), h("div", { class: "search-line" }, key, h("button", { class: "main", type: "submit" }, "Use it"))));
    key.focus();
  } else clear(main, errorBox(error));
}

async function begin() {
  try {
    draw();
    await readIndexes();
  } catch (error) {
    show(error);
  }
}

begin();
