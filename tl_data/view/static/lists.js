// The pages Errors, Runs and Alerts.

import { address, ask, link, poster } from "./api.js";
import { clear, clock, count, date, empty, h, money, number, svg, table, text } from "./dom.js";
import { showCode } from "./dialogs.js";

export async function drawErrors({ main, query, current }) {
  const { errors } = await ask("api/errors");
  if (!current()) return null;
  const selectedCode = query.get("code") || "";
  const codes = new Map();
  for (const row of errors) codes.set(row.code, (codes.get(row.code) || 0) + 1);
  const rows = errors.filter((row) => !selectedCode || row.code === selectedCode);
  const retryable = rows.filter((row) => row.retryable).length;
  clear(
    main,
    h("div", { class: "rows-head" }, h("h1", {}, "Errors"), errors.length ? h("span", { class: "buttons" }, h("a", { class: "button", href: address("api/retry.csv", { code: selectedCode }), download: "retry.csv" }, "Retry list (CSV)"), h("button", { type: "button", onclick: () => showCode({ kind: "errors" }) }, "Copy as SQL")) : null),
    errors.length ? h("p", { class: "total" }, `${count(rows.length, "video")}; the next run tries ${number(retryable)} of them again`) : empty("No video was refused or failed."),
    codes.size > 1 ? h("p", { class: "codes" }, h("a", { href: "#errors", "aria-current": selectedCode ? null : "true" }, "all"), [...codes].sort((a, b) => b[1] - a[1]).map(([code, n]) => h("a", { href: link("errors", { code }), "aria-current": code === selectedCode ? "true" : null }, `${code} (${n})`))) : null,
    rows.length
      ? table(
          [
            ["video", (row) => h("a", { href: link("video", { video: row.source_key }) }, text(row.source_key, 80))],
            ["what happened", (row) => [h("code", {}, row.code || row.class || "failed"), h("br"), text(row.message, 400)]],
            ["what to do", (row) => row.next_step, "step"],
            ["tried again", (row) => (row.retryable ? "yes" : "no")],
            ["attempts", (row) => number(row.attempt), "right"],
            ["when", (row) => date(row.at), "when"],
          ],
          rows.slice(0, 1000),
          "Errors",
        )
      : null,
    rows.length > 1000 ? empty(`The first 1,000 of ${number(rows.length)} are shown; the retry list has all.`) : null,
  );
  return {};
}

export async function drawRuns({ main, current }) {
  const { runs } = await ask("api/runs");
  if (!current()) return null;
  const sum = (name) => runs.reduce((total, row) => total + (Number(row[name]) || 0), 0);
  const currency = runs.find((row) => row.currency)?.currency;
  const chartRuns = runs.slice(0, 40).reverse();
  clear(
    main,
    h("h1", {}, "Runs"),
    runs.length
      ? h(
          "dl",
          { class: "sums" },
          [
            ["price", money(sum("price"), currency)],
            ["video minutes", number(sum("video_minutes"))],
            ["calls", number(sum("calls"))],
            ["tokens", number(sum("input_tokens") + sum("output_tokens"))],
            ["paid twice", number(sum("paid_twice"))],
          ].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
        )
      : empty("No run is in the lake yet."),
    runs.length
      ? h(
          "div",
          { class: "charts" },
          chart("Price", chartRuns, (row) => row.price, (value) => money(value, currency)),
          chart("Video minutes", chartRuns, (row) => row.video_minutes, number),
          chart("Tokens", chartRuns, (row) => (row.input_tokens || 0) + (row.output_tokens || 0), number),
          chart("Minutes it took", chartRuns, (row) => runSeconds(row) / 60, number),
        )
      : null,
    runs.length
      ? table(
          [
            ["started", (row) => date(row.started_at), "when"],
            ["job", (row) => text(row.job, 60)],
            ["ended", (row) => h("span", { class: `state ${row.status}` }, row.status)],
            ["took", (row) => (row.ended_at ? clock(runSeconds(row)) : "–"), "right"],
            ["rows", (row) => number(row.rows), "right"],
            ["new", (row) => number(row.submitted), "right"],
            ["reused", (row) => number(row.reused), "right"],
            ["failed", (row) => number(row.failed), "right"],
            ["minutes", (row) => number(row.video_minutes), "right"],
            ["calls", (row) => number(row.calls), "right"],
            ["tokens", (row) => number((row.input_tokens || 0) + (row.output_tokens || 0)), "right"],
            ["price", (row) => money(row.price, row.currency), "right"],
            ["model", (row) => text(row.model, 40)],
          ],
          runs.slice(0, 500),
          "Runs",
        )
      : null,
  );
  return {};
}

function runSeconds(row) {
  return row.ended_at && row.started_at ? (new Date(row.ended_at) - new Date(row.started_at)) / 1000 : 0;
}

// A bar chart, oldest run first. The table below it has the same numbers.
function chart(title, rows, value, format) {
  const values = rows.map((row) => Number(value(row)) || 0);
  const maximum = Math.max(...values, 0);
  const step = 100 / Math.max(12, values.length);
  const bars = values.map((v, index) => {
    const height = maximum ? Math.max(0.6, (v / maximum) * 38) : 0.6;
    const bar = svg("rect", { x: index * step + step * 0.15, y: 40 - height, width: step * 0.7, height, rx: 0.6 });
    const label = svg("title");
    label.textContent = `${date(rows[index].started_at)}: ${format(v)}`;
    bar.append(label);
    return bar;
  });
  return h("figure", {}, h("figcaption", {}, title, h("span", {}, ` most ${format(maximum)}`)), svg("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": `${title} of ${rows.length} runs, at most ${format(maximum)}` }, bars));
}

export async function drawAlerts({ main, current }) {
  const { alerts } = await ask("api/alerts");
  if (!current()) return null;
  clear(
    main,
    h("h1", {}, "Alerts"),
    alerts.length ? h("p", { class: "total" }, count(alerts.length, "clip"), " matched a saved question") : empty("No saved question has matched. Give the job a section [alerts] to ask some."),
    alerts.length
      ? table(
          [
            ["", (row) => h("img", { class: "thumb", src: poster(row.id, row.start_sec), alt: "", loading: "lazy" })],
            ["question", (row) => text(row.question, 160)],
            ["moment", (row) => h("a", { href: row.known ? link("video", { video: row.id, t: row.start_sec, play: 1 }) : null }, text(row.title, 100), ` ${clock(row.start_sec)} – ${clock(row.end_sec)}`)],
            ["confidence", (row) => row.confidence || "–"],
            ["transcript", (row) => text(row.transcription, 200)],
            ["when", (row) => date(row.at), "when"],
          ],
          alerts.slice(0, 1000),
          "Alerts",
        )
      : null,
  );
  return {};
}
