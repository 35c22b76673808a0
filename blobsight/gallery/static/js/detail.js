/** One image: the picture, upright and zoomable, beside everything that is known about it. */

import Panzoom from "../vendor/panzoom-4.6.2/panzoom.es.js";
import { href, query } from "./address.js";
import { $, STATE_NAMES, folderOf, leaf, make, moment, money, number, say, size } from "./page.js";
import { get } from "./server.js";

const ORIGINS = {
  request: "asked with “Ask something else” or `blobsight retry`",
  metadata: "from the blob's metadata",
  sidecar: "from the file beside the image",
  folder: "from the folder's file",
  setting: "from the app's settings",
  builtin: "the app's built-in question",
};
const STEPS = { download: "read", prepare: "prepared", model: "model", total: "in all" };

export class Detail {
  #panzoom;
  #name = null;
  #found = null;
  #awaited = null;
  #page = 1;

  /** @param on {{closed, went, ask, rerun}} */
  constructor(on) {
    this.dialog = $("detail");
    this.on = on;
    this.#panzoom = Panzoom($("stage-image"), { maxScale: 12, minScale: 1, contain: "outside", panOnlyWhenZoomed: true, step: 0.5 });
    $("stage").addEventListener("wheel", (event) => this.#panzoom.zoomWithWheel(event), { passive: false });
    $("zoom-in").onclick = () => this.#panzoom.zoomIn();
    $("zoom-out").onclick = () => this.#panzoom.zoomOut();
    $("zoom-fit").onclick = () => this.#panzoom.reset();
    $("close").onclick = () => this.dialog.close();
    $("ask-this")?.addEventListener("click", () => this.on.ask(this.#name, this.#question()));
    $("rerun-this")?.addEventListener("click", () => this.on.rerun(this.#name));
    $("page-before").onclick = () => this.#turn(-1);
    $("page-after").onclick = () => this.#turn(1);
    $("copy").onclick = () => this.#copy();
    for (const id of ["previous", "next"]) {
      $(id).addEventListener("click", (event) => {
        if (event.metaKey || event.ctrlKey) return;
        event.preventDefault();
        this.#go(id);
      });
    }
    this.dialog.addEventListener("close", () => this.on.closed());
    this.dialog.addEventListener("keydown", (event) => this.#pressed(event));
  }

  get isOpen() {
    return this.dialog.open;
  }

  /** Show the image that `view` names. */
  async show(view) {
    this.view = view;
    const isNew = view.image !== this.#name;
    this.#name = view.image;
    if (!this.dialog.open) this.dialog.showModal();
    if (isNew) this.#begin(view.image);
    await this.refresh();
  }

  close() {
    this.#name = null;
    if (this.dialog.open) this.dialog.close();
  }

  /** Read everything again. */
  async refresh() {
    const name = this.#name;
    const parameters = query(this.view);
    parameters.set("name", name);
    const [place, found] = await Promise.all([
      get("/api/position", parameters),
      get("/api/image", { name }).catch((trouble) => ({ trouble: trouble.message })),
    ]);
    if (name !== this.#name) return;
    this.#showPlace(place);
    $("detail-trouble").hidden = !found.trouble;
    $("detail-trouble").textContent = found.trouble ?? "";
    this.dialog.classList.toggle("nothing", Boolean(found.trouble) && this.#found?.name !== name);
    if (found.trouble) return;
    this.#found = found;
    if ($("ask-this")) $("ask-this").disabled = false;
    this.#showPicture(found);
    this.#showFound(found);
  }

  #begin(name) {
    const image = $("stage-image");
    $("detail-name").textContent = leaf(name);
    $("detail-folder").textContent = folderOf(name);
    document.title = `${leaf(name)} · Blobsight`;
    this.#panzoom.reset({ animate: false });
    image.removeAttribute("src");
    image.dataset.address = "";
    image.classList.remove("ready");
    image.alt = leaf(name);
    $("no-picture").hidden = true;
    $("pager").hidden = true;
    this.#page = 1;
    $("download").href = `/file?${new URLSearchParams({ name })}`;
    for (const id of ["question-part", "answer-part", "error-part", "versions-part"]) $(id).hidden = true;
    for (const id of ["facts", "json", "detail-state", "place"]) $(id).textContent = "";
    for (const id of ["previous", "next"]) delete $(id).dataset.name;
    if ($("ask-this")) $("ask-this").disabled = true;
    $("panel").scrollTop = 0;
  }

  /** Show another page of the PDF. */
  #turn(by) {
    this.#page += by;
    this.#panzoom.reset({ animate: false });
    this.#showPicture(this.#found);
  }

  #showPicture(found) {
    const image = $("stage-image");
    const { pages, format } = found.result?.source ?? {};
    $("pager").hidden = format !== "pdf" || !(pages > 1);
    $("page-place").textContent = `Page ${number(this.#page)} of ${number(pages ?? 1)}`;
    $("page-before").disabled = this.#page <= 1;
    $("page-after").disabled = this.#page >= pages;
    const address = `/picture?${new URLSearchParams({ name: found.name, etag: found.image?.etag ?? "", page: this.#page })}`;
    if (image.dataset.address === address) return;
    image.dataset.address = address;
    $("no-picture").hidden = true;
    image.onload = () => image.classList.add("ready");
    image.onerror = async () => {
      const why = await get("/picture", { name: found.name, page: this.#page }).catch((trouble) => trouble.message);
      if (image.dataset.address !== address) return;
      $("no-picture").textContent = why;
      $("no-picture").hidden = false;
    };
    image.src = address;
  }

  #showPlace({ position, total, previous, next }) {
    $("place").textContent = position === null ? "" : `${number(position + 1)} of ${number(total)}`;
    for (const [id, name] of Object.entries({ previous, next })) {
      const link = $(id);
      link.dataset.name = name ?? "";
      link.setAttribute("aria-disabled", !name);
      if (name) link.href = href({ ...this.view, image: name });
      else link.removeAttribute("href");
    }
    if (this.#awaited) this.#go(this.#awaited);
  }

  #showFound(found) {
    const result = found.result?.status ? found.result : null;
    const badge = $("detail-state");
    const state = found.status === "pending" && found.in_batch_since ? "in_batch" : found.status;
    badge.className = `badge ${found.expected ? "pending" : state}`;
    badge.textContent = found.expected ? "Asked again" : (STATE_NAMES[state] ?? state);
    this.#showQuestion(found, result);
    this.#showAnswer(found, result);
    $("error-part").hidden = !result?.error;
    $("error-code").textContent = result?.error?.code ?? "";
    $("error-message").textContent = result?.error?.message ?? "";
    $("error-details").replaceChildren(result?.error?.details ? value(result.error.details) : "");
    if ($("rerun-this")) $("rerun-this").hidden = found.status !== "failed";
    $("facts").replaceChildren(...facts(found, result));
    const earlier = Array.isArray(found.earlier_results) ? found.earlier_results : [];
    $("versions-part").hidden = !earlier.length;
    $("versions").replaceChildren(...earlier.map((version) =>
      make("li", {}, make("span", { class: `badge ${version.status}` }, version.error_code ?? STATE_NAMES[version.status] ?? "unknown"), moment(version.written))));
    $("json").textContent = JSON.stringify(found.result ?? found, null, 2);
  }

  #showQuestion(found, result) {
    const asked = found.would_be_asked?.text !== undefined ? found.would_be_asked : result?.instructions;
    $("question-part").hidden = !asked && !found.would_be_asked;
    $("question").textContent = asked?.text ?? found.would_be_asked?.error?.message ?? "What the app's settings say.";
    const origin = ORIGINS[asked?.origin] ?? "";
    const named = asked?.origin_name && asked.origin !== "builtin" ? ` (${asked.origin_name})` : "";
    const options = Object.entries(asked?.options ?? {}).map(([name, set]) => `${name}: ${typeof set === "object" ? JSON.stringify(set) : set}`);
    $("question-origin").textContent = [origin + named, ...options].filter(Boolean).join(" · ");
  }

  #showAnswer(found, result) {
    const answer = result?.answer;
    $("answer-part").hidden = !answer && found.status !== "pending";
    const data = answer?.data ?? null;
    $("answer-data").replaceChildren(data === null ? "" : value(data));
    $("answer-text").textContent = data === null ? (answer?.text ?? "") : "";
    const notes = [];
    if (found.status === "pending") notes.push(answer ? "This is the answer to an earlier version of the image, or to an earlier question." : waiting(found));
    if (answer?.truncated) notes.push("It was cut off at the limit on output tokens.");
    if (answer?.reused_from) notes.push("Paid for earlier: the same bytes, asked the same question.");
    if (found.result?.error && !result) notes.push(`The result can't be read: ${found.result.error.message}.`);
    $("answer-note").textContent = notes.join(" ");
  }

  #question() {
    return this.#found?.name === this.#name ? this.#found?.result?.instructions?.text ?? "" : "";
  }

  #pressed(event) {
    if (event.target.closest("input, textarea, select, pre") || event.altKey || event.metaKey || event.ctrlKey) return;
    const keys = { ArrowLeft: "previous", ArrowRight: "next" };
    if (event.key in keys) {
      event.preventDefault();
      this.#go(keys[event.key]);
    } else if (event.key === "+") this.#panzoom.zoomIn();
    else if (event.key === "-") this.#panzoom.zoomOut();
    else if (event.key === "0") this.#panzoom.reset();
  }

  #go(id) {
    const { name } = $(id).dataset;
    this.#awaited = name === undefined ? id : null; // pressed before the neighbours are known
    if (name) this.on.went(name);
  }

  async #copy() {
    await navigator.clipboard.writeText($("json").textContent);
    say("Copied.");
  }
}

function waiting(found) {
  if (typeof found.waits_until === "string") return `It waits on the queue until ${moment(found.waits_until)}.`;
  if (found.in_batch_since) return `It waits for a batch to be answered, since ${moment(found.in_batch_since)}. Batches take up to a day; the answer appears here by itself.`;
  return "There is no answer yet. It appears here by itself.";
}

function facts(found, result) {
  const { image } = found;
  const usage = result?.usage ?? {};
  const times = Object.entries(STEPS).flatMap(([step, name]) => {
    const ms = result?.timings_ms?.[step];
    return typeof ms === "number" ? [`${name} ${(ms / 1000).toFixed(ms < 10_000 ? 2 : 0)} s`] : [];
  });
  const sent = result?.image_sent;
  const rows = {
    Uploaded: image?.uploaded && moment(image.uploaded),
    Image: image?.size_bytes !== undefined && [image.format?.toUpperCase(), image.width && `${image.width} × ${image.height} px`, size(image.size_bytes)].filter(Boolean).join(", "),
    Pages: result?.source?.pages > 1 && `${number(result.pages_sent?.length ?? 1)} of ${number(result.source.pages)} sent`,
    Sent: sent?.format && `${sent.format.toUpperCase()}, ${sent.width} × ${sent.height} px${sent.transformed ? ", converted" : ", as it is"}`,
    Answered: result?.created_at && moment(result.created_at),
    Model: result?.model && [result.model.model, result.model.deployment && `deployment ${result.model.deployment}`, result.model.service_tier && `service tier ${result.model.service_tier}`].filter(Boolean).join(", "),
    Tokens: typeof usage.input_tokens === "number" && `${number(usage.input_tokens)} in, ${number(usage.output_tokens ?? 0)} out${usage.reasoning_tokens ? ` (${number(usage.reasoning_tokens)} reasoning)` : ""}${usage.cached_tokens ? `, ${number(usage.cached_tokens)} cached` : ""}`,
    Cost: result && typeof usage.input_tokens === "number" && (found.cost ? `${money(found.cost)} at list price${found.cost.tier === "default" ? "" : ` for ${found.cost.tier}`}` : "price not known"),
    Time: times.join(", "),
    Attempts: result?.attempts,
    Request: result?.model?.request_id,
    Version: result?.pipeline_version,
    ETag: image?.etag,
  };
  return Object.entries(rows).flatMap(([name, text]) => (text ? [make("dt", {}, name), make("dd", {}, String(text))] : []));
}

/** A JSON value as tables and text. */
function value(data, depth = 0) {
  if (data === null || typeof data !== "object" || depth > 6) {
    const text = typeof data === "string" ? data : JSON.stringify(data);
    return make("span", { class: "text", dir: "auto" }, text);
  }
  if (Array.isArray(data)) {
    const names = data.length && data.every((row) => row && typeof row === "object" && !Array.isArray(row))
      ? [...new Set(data.flatMap((row) => Object.keys(row)))] : null;
    if (!names) return make("table", {}, make("tbody", {}, ...data.map((one) => make("tr", {}, make("td", {}, value(one, depth + 1))))));
    const head = make("thead", {}, make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name))));
    const rows = data.map((row) => make("tr", {}, ...names.map((name) => make("td", {}, name in row ? value(row[name], depth + 1) : ""))));
    return make("table", {}, head, make("tbody", {}, ...rows));
  }
  const rows = Object.entries(data).map(([name, one]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value(one, depth + 1))));
  return make("table", {}, make("tbody", {}, ...rows));
}
