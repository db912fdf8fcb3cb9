// The page Search: by words, by meaning, in the index, by a picture, or by a clip. It shows the price before a search.

import { ask, replaceAddress } from "./api.js";
import { clear, count, empty, h, money } from "./dom.js";
import { showCode } from "./dialogs.js";
import { rememberHits, drawHit } from "./hits.js";

const KINDS = [
  ["words", "Words", "exact words in transcripts, chapters and on-screen text"],
  ["meaning", "Meaning", "vectors of the lake that are nearest to the words"],
  ["index", "Index", "tl_search in the index of the settings"],
];

export async function drawSearch({ main, query, lake, current }) {
  const search = { text: query.get("text") || "", kind: query.get("kind") || "words", id: query.get("id") || "", start: query.get("start") || "" };
  if (!lake.costs[search.kind]) search.kind = "words";
  const result = h("section", { "aria-live": "polite", "aria-label": "Hits" });
  const cost = h("p", { class: "cost" });
  const field = h("input", { type: "search", name: "text", value: search.text, placeholder: "What are you looking for?", "aria-label": "What are you looking for?", autocomplete: "off" });
  const kinds = KINDS.filter(([kind]) => lake.costs[kind]);

  function showPrice() {
    const kind = search.kind;
    const price = lake.costs[kind];
    const description = KINDS.find(([name]) => name === kind)?.[2] || "clips of the lake whose vectors are nearest to this clip";
    clear(cost, h("strong", {}, price.price ? `Costs ${money(price.price, price.currency)}` : "Costs nothing"), `: ${description}`, price.calls ? `; one call, answered by ${price.by}` : "");
    if (!lake.costs.meaning) cost.append(" Search by meaning needs TL_API_KEY or the embedded engine: pip install \"tl_data[local]\".");
  }

  async function run(extra = {}) {
    const request = { ...search, ...extra };
    if (request.kind !== "similar" && !request.text) {
      clear(result, empty(lake.counts.vectors ? "Type words, or open a video and choose “similar” next to a clip." : "Type words. The lake has no table of vectors, so it cannot be searched by meaning."));
      return;
    }
    replaceAddress("search", request.kind === "similar" ? request : { kind: request.kind, text: request.text });
    clear(result, empty("Searching …"));
    await show(() => ask("api/search", request), request);
  }

  async function show(sendRequest, request) {
    try {
      const { hits } = await sendRequest();
      if (!current()) return;
      rememberHits(request.text || "", hits);
      clear(
        result,
        h(
          "div",
          { class: "rows-head" },
          h("p", { class: "total" }, count(hits.length, "hit"), request.kind === "similar" ? " like this clip" : ""),
          request.kind === "picture" ? null : h("button", { type: "button", onclick: () => showCode({ kind: request.kind, text: request.text, video: request.id, start: request.start }) }, "Copy as SQL"),
        ),
        hits.length ? h("ul", { class: "tiles" }, hits.map((hit) => drawHit(hit, request.text))) : empty("Nothing found. ", request.kind === "words" ? "“Words” finds exact words only; try “Meaning”." : "Try other words."),
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
        checked: search.kind === kind,
        onchange: () => {
          search.kind = kind;
          showPrice();
          if (lake.costs[kind].price === 0) send();
        },
      }),
      h("span", {}, title),
    ),
  );
  const send = () => {
    search.text = field.value.trim();
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
          if (search.kind === "similar") search.kind = "words";
          showPrice();
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
  showPrice();
  // A search that costs money starts only after a click, also if the address contains it.
  if (lake.costs[search.kind].price) clear(result, empty("Press “Search” to send this question."));
  else await run();
  if (!search.text && search.kind !== "similar") field.focus();
  return {};
}
