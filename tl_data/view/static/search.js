// Search: by words in the lake, by meaning, in the index, by a picture, or by a clip. The price stands first.

import { ask, note } from "./api.js";
import { clear, count, empty, h, money } from "./dom.js";
import { showCode } from "./dialogs.js";
import { keep, tileOf } from "./hits.js";

const KINDS = [
  ["words", "Words", "exact words in transcripts, chapters and on-screen text"],
  ["meaning", "Meaning", "vectors of the lake that are nearest to the words"],
  ["index", "Index", "tl_search in the index of the settings"],
];

export async function drawSearch({ main, query, lake, current }) {
  const chosen = { text: query.get("text") || "", kind: query.get("kind") || "words", id: query.get("id") || "", start: query.get("start") || "" };
  if (!lake.costs[chosen.kind]) chosen.kind = "words";
  const result = h("section", { "aria-live": "polite", "aria-label": "Hits" });
  const cost = h("p", { class: "cost" });
  const field = h("input", { type: "search", name: "text", value: chosen.text, placeholder: "What are you looking for?", "aria-label": "What are you looking for?", autocomplete: "off" });
  const kinds = KINDS.filter(([kind]) => lake.costs[kind]);

  function price() {
    const kind = chosen.kind;
    const known = lake.costs[kind];
    const what = KINDS.find(([name]) => name === kind)?.[2] || "clips of the lake whose vectors are nearest to a clip";
    clear(cost, h("strong", {}, known.price ? `Costs ${money(known.price, known.currency)}` : "Costs nothing"), `: ${what}`, known.calls ? `; one call, answered by ${known.by}` : "");
    if (!lake.costs.meaning) cost.append(" Search by meaning needs TL_API_KEY or the embedded engine: pip install \"tl_data[local]\".");
  }

  async function run(extra = {}) {
    const asked = { ...chosen, ...extra };
    if (asked.kind !== "similar" && !asked.text) {
      clear(result, empty(lake.counts.vectors ? "Type words. Or open a video, and choose “similar” beside a clip." : "Type words. The lake has no table of vectors, so it cannot be searched by meaning."));
      return;
    }
    note("search", asked.kind === "similar" ? asked : { kind: asked.kind, text: asked.text });
    clear(result, empty("Searching …"));
    await show(() => ask("api/search", asked), asked);
  }

  async function show(search, asked) {
    try {
      const { hits } = await search();
      if (!current()) return;
      keep(asked.text || "", hits);
      clear(
        result,
        h(
          "div",
          { class: "rows-head" },
          h("p", { class: "total" }, count(hits.length, "hit"), asked.kind === "similar" ? " like this clip" : ""),
          asked.kind === "picture" ? null : h("button", { type: "button", onclick: () => showCode({ kind: asked.kind, text: asked.text, video: asked.id, start: asked.start }) }, "Copy as SQL"),
        ),
        hits.length ? h("ul", { class: "tiles" }, hits.map((hit) => tileOf(hit, asked.text))) : empty("Nothing found. ", asked.kind === "words" ? "“Words” finds exact words only; try “Meaning”." : "Try other words."),
      );
    } catch (error) {
      if (current()) clear(result, h("div", { class: "failure", role: "alert" }, h("p", {}, error.message)));
    }
  }

  async function picture(event) {
    const [file] = event.target.files;
    if (!file) return;
    clear(result, empty("Searching …"));
    await show(() => ask("api/search/picture", {}, { method: "POST", body: file }), { kind: "picture" });
  }

  const radios = kinds.map(([kind, title]) =>
    h(
      "label",
      {},
      h("input", {
        type: "radio",
        name: "kind",
        value: kind,
        checked: chosen.kind === kind,
        onchange: () => {
          chosen.kind = kind;
          price();
          if (lake.costs[kind].price === 0) send();
        },
      }),
      h("span", {}, title),
    ),
  );
  const send = () => {
    chosen.text = field.value.trim();
    return run();
  };
  clear(
    main,
    h("h1", { class: "hidden" }, "Search"),
    h(
      "form",
      {
        class: "search",
        role: "search",
        onsubmit: (event) => {
          event.preventDefault();
          if (chosen.kind === "similar") chosen.kind = "words";
          price();
          send();
        },
      },
      h("div", { class: "search-line" }, field, h("button", { type: "submit", class: "main" }, "Search")),
      h(
        "fieldset",
        {},
        h("legend", { class: "hidden" }, "Kind of search"),
        radios,
        lake.costs.picture ? h("label", { class: "file-button", title: `${lake.costs.picture.price ? money(lake.costs.picture.price, lake.costs.picture.currency) : "Costs nothing"}; answered by ${lake.costs.picture.by}` }, h("input", { type: "file", accept: "image/png,image/jpeg", onchange: picture }), h("span", {}, `By a picture (${lake.costs.picture.price ? money(lake.costs.picture.price, lake.costs.picture.currency) : "free"})`)) : null,
      ),
      cost,
    ),
    result,
  );
  price();
  // What costs money waits for a click, also when the address names it.
  if (lake.costs[chosen.kind].price) clear(result, empty("Press “Search” to send this question."));
  else await run();
  if (!chosen.text && chosen.kind !== "similar") field.focus();
  return {};
}
