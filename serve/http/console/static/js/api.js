// Requests to the router that served this page, with the key where there is one.

import { key, refused } from "./key.js";

export class ApiError extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// Where the API is, as a client's base URL has it.
export function baseUrl() {
  return new URL("v1", document.baseURI).href;
}

export async function get(path, signal) {
  return (await send(path, { signal })).json();
}

export async function post(path, body, signal) {
  return (await send(path, { method: "POST", body, signal })).json();
}

// The response to a request, whose status is good; else throws an ApiError that can be shown.
export async function send(path, { method = "GET", body, signal } = {}) {
  const presented = key();
  const headers = presented ? { authorization: `Bearer ${presented}` } : {};
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      signal,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The router can't be reached.", 0, "unreachable");
  }
  if (response.ok) return response;
  if (response.status === 401) refused(presented !== null);
  throw await failure(response);
}

async function failure(response) {
  const text = await response.text().catch(() => "");
  try {
    return asError(JSON.parse(text).error, response.status);
  } catch {
    // Ray's proxy answers some requests by itself, in plain text.
    return new ApiError(text.slice(0, 300) || `HTTP ${response.status}`, response.status, null);
  }
}

function asError(error, status) {
  const message = error.message[0].toUpperCase() + error.message.slice(1);
  return new ApiError(message, status, error.code);
}

// The JSON of each server-sent event up to [DONE]. A stream that ends without it was cut off.
export async function* events(response) {
  let rest = "";
  for await (const text of decoded(response.body.getReader())) {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.replace(/^data: ?/, "");
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw asError(event.error, response.status);
      yield event;
    }
  }
  throw new ApiError("The answer broke off.", response.status, "cut");
}

async function* decoded(reader) {
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield decoder.decode(value, { stream: true });
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The connection broke.", 0, "unreachable");
  } finally {
    reader.cancel().catch(() => {}); // it may have ended already
  }
}
