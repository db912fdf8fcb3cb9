// What the page asks its server for; addresses are relative, below the token.

export class Failed extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

export async function ask(path, parameters = {}, options = {}) {
  let answer;
  try {
    answer = await fetch(address(path, parameters), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failed("The viewer does not answer. Start it again: tl-data view", "no_answer");
  }
  const body = (answer.headers.get("content-type") || "").includes("json") ? await answer.json() : null;
  if (!answer.ok) {
    const error = body?.error || {};
    throw new Failed(error.message || `The viewer answered with ${answer.status}.`, error.code);
  }
  return body;
}

export function address(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(key, value);
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

export const poster = (id, t) => address("poster", { id, t });
export const media = (id) => address("media", { id });

// Addresses of pages: #videos&topic=news, #video=ID&t=12.5
export function link(page, parameters = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(key, value);
  }
  const text = query.toString();
  if (page === "video") return `#${text}`;
  return text ? `#${page}&${text}` : `#${page}`;
}

export function place() {
  const query = new URLSearchParams(location.hash.replace(/^#/, ""));
  if (query.has("video")) return { page: "video", query };
  const [first] = query.keys();
  const page = first && query.get(first) === "" ? first : "videos";
  query.delete(page);
  return { page, query };
}

// Changes the address without a new entry in the history and without drawing the page anew.
export function note(page, parameters) {
  history.replaceState(null, "", link(page, parameters));
}
