// Requests to the server of the page, and addresses of pages. URLs are relative, so they include the token.

export class RequestError extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

// Sends a request and returns the JSON of the answer.
export async function ask(path, parameters = {}, options = {}) {
  let response;
  try {
    response = await fetch(address(path, parameters), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestError("The viewer is not running. Start it again: tl-data view", "no_answer");
  }
  const body = (response.headers.get("content-type") || "").includes("json") ? await response.json() : null;
  if (!response.ok) {
    const error = body?.error || {};
    throw new RequestError(error.message || `The viewer answered with ${response.status}.`, error.code);
  }
  return body;
}

// A URL of the server: a path with query parameters. Empty parameters are left out.
export function address(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(key, value);
  }
  const queryText = query.toString();
  return queryText ? `${path}?${queryText}` : path;
}

export const poster = (id, t) => address("poster", { id, t });
export const media = (id) => address("media", { id });
export const stream = (id) => address("stream", { id });

// The address of a page: #videos&topic=news, #video=ID&t=12.5
export function link(page, parameters = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(key, value);
  }
  const queryText = query.toString();
  if (page === "video") return `#${queryText}`;
  return queryText ? `#${page}&${queryText}` : `#${page}`;
}

// The page and parameters of the current address.
export function currentPage() {
  const query = new URLSearchParams(location.hash.replace(/^#/, ""));
  if (query.has("video")) return { page: "video", query };
  const [first] = query.keys();
  const page = first && query.get(first) === "" ? first : "videos";
  query.delete(page);
  return { page, query };
}

// Changes the address without a new history entry and without drawing the page again.
export function replaceAddress(page, parameters) {
  history.replaceState(null, "", link(page, parameters));
}
