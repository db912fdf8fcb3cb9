// Requests of the playground to the API of its server, and the dialog that shows one as curl, Python and SQL.

import { h } from "./dom.js";
import { copy, openDialog } from "./dialogs.js";

const API = "v1.3";
export const access = { key: sessionStorage.getItem("tl_data.key") || "" };

export function storeKey(key) {
  access.key = key;
  sessionStorage.setItem("tl_data.key", key);
}

// Sends a request and returns the JSON of the answer. `path` is below the prefix of the API.
export function call(method, path, body) {
  return send(method, `${API}${path}`, body);
}

// The version of the service that the engine imitates: lenient, today or 2025.
export async function readProfile() {
  return (await send("GET", "_engine/tiers")).profile;
}

async function send(method, path, body) {
  const headers = access.key ? { "x-api-key": access.key } : {};
  const isJson = body && !(body instanceof FormData);
  if (isJson) headers["content-type"] = "application/json";
  const response = await fetch(path, { method, headers, body: isJson ? JSON.stringify(body) : body });
  const result = response.status === 204 ? null : await response.json();
  if (!response.ok) {
    const error = result?.error || result || {};
    throw Object.assign(new Error(error.message || `The server answered with ${response.status}.`), { code: error.code, status: response.status });
  }
  return result;
}

export function form(fields) {
  const data = new FormData();
  for (const [name, value] of fields) data.append(name, value);
  return data;
}

// The path of a media URL, so that the page works under any name of this machine.
export const mediaPath = (url) => (url ? new URL(url).pathname.slice(1) : "static/no-picture.svg");
export const errorBox = (error) => h("div", { class: "failure", role: "alert" }, h("p", {}, error.code ? h("code", {}, error.code) : null, " ", error.message));
export const pythonLiteral = (value) => JSON.stringify(value);
export const sqlLiteral = (value) => `'${String(value).replaceAll("'", "''")}'`;

// A button that shows a request as curl, Python and SQL, and its answer. The code does not contain the API key.
export function requestButton(request) {
  return h("button", { type: "button", onclick: () => showRequest(request) }, "Request");
}

function showRequest({ method, path, fields, json, answer, python, sql }) {
  const quote = (value) => `'${String(value).replaceAll("'", "'\\''")}'`;
  const key = access.key ? " -H \"x-api-key: $TL_API_KEY\"" : "";
  const body = json ? ` -H 'content-type: application/json' -d ${quote(JSON.stringify(json))}` : (fields || []).map(([n, v]) => ` -F ${quote(`${n}=${v instanceof File ? `@${v.name}` : v}`)}`).join("");
  const parts = { curl: `curl -X ${method} ${quote(new URL(`${API}${path}`, location.href).href)}${key}${body}`, Python: python, SQL: sql, Answer: JSON.stringify(answer, null, 2).slice(0, 20_000) };
  openDialog(
    "Request and answer",
    Object.entries(parts)
      .filter(([, code]) => code)
      .map(([name, code]) => h("section", {}, h("div", { class: "code-head" }, h("h3", {}, name), h("button", { type: "button", onclick: () => copy(code) }, "Copy")), h("pre", { tabindex: "0" }, h("code", {}, code)))),
  );
}
