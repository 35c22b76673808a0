/** Requests to the server. What goes wrong becomes a `Trouble`, with a sentence for the person. */

export class Trouble extends Error {}

const GONE =
  "The gallery does not answer: it was stopped, or this machine slept. Start `blobsight gallery` again, and open the address that it prints.";

export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(parameters).toString();
  return answer(fetch(query ? `${path}?${query}` : path, { signal }));
}

export async function post(path, body, signal = undefined) {
  const headers = { "Content-Type": "application/json" };
  return answer(fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal }));
}

export async function put(path, parameters, body, signal = undefined) {
  return answer(fetch(`${path}?${new URLSearchParams(parameters)}`, { method: "PUT", body, signal }));
}

/** Send, and hand over each line of the answer as it comes. */
export async function stream(path, body, take, signal = undefined) {
  const headers = { "Content-Type": "application/json" };
  const response = await checked(fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal }));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split("\n");
    rest = lines.pop();
    for (const line of lines) take(JSON.parse(line));
  }
}

async function answer(request) {
  const response = await checked(request);
  return response.status === 204 ? null : response.json();
}

async function checked(request) {
  let response;
  try {
    response = await request;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble(GONE);
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw new Trouble(said?.error?.message ?? `The gallery answered with ${response.status}.`);
}
