/** The grid of thumbnails. Only the rows in sight are in the document, however many there are. */

import "./process.js";
import {
  Virtualizer, observeWindowOffset, observeWindowRect, windowScroll,
} from "../vendor/tanstack-virtual-core-3.19.11/index.js";
import { href, query } from "./address.js";
import { $, STATE_NAMES, calmly, leaf, number, printable } from "./page.js";
import { get } from "./server.js";
import { Windows } from "./windows.js";

const WAITING = { pending: "Waiting for its answer", in_batch: "Waiting for a batch" };
const NARROWEST = 216;
const GAP = 16;
const TEXT_HEIGHT = 112;
const HIGHEST = 15_000_000;
/** Pixels: browsers draw nothing below some 16 to 33 millions. */

export class Grid {
  #rows = new Map();
  #view = null;
  #columns = 0;
  #windows;
  #virtualizer;

  /** @param {{opened, picked, counted, failed}} on what to call @param selection the images that are picked */
  constructor(on, selection) {
    this.element = $("grid");
    this.on = on;
    this.selection = selection;
    this.#windows = new Windows(() => this.#arrived(), on.failed);
    this.need = calmly(() => this.#needed(), 60);
    this.#virtualizer = new Virtualizer(this.#options());
    this.#virtualizer._didMount();
    this.#virtualizer._willUpdate();
    new ResizeObserver(() => this.#laidOut()).observe(this.element);
    this.element.addEventListener("keydown", (event) => this.#moved(event));
    this.element.addEventListener("click", (event) => this.#clicked(event));
    this.element.addEventListener("change", (event) => this.#picked(event));
  }

  get total() {
    return this.#windows.total;
  }

  async show(view) {
    this.#view = view;
    for (const row of this.#rows.values()) row.remove();
    this.#rows.clear();
    await this.#windows.show(view);
    this.need();
  }

  /** Something has changed on the server: bring what is in sight up to date. */
  async refresh() {
    await this.#hold();
    const [first, last] = this.#sight();
    await this.#windows.refresh(first, Math.max(first, last));
    this.need();
  }

  /** Who has scrolled down goes on seeing the same images when others arrive before them. */
  async #hold() {
    const { top } = this.element.getBoundingClientRect();
    if (top > 0 || !this.#columns) return;
    const line = this.height + GAP;
    const position = Math.ceil(-top / line) * this.#columns;
    const image = this.#windows.image(position);
    if (!image) return;
    const parameters = query(this.#view);
    parameters.set("name", image.name);
    const found = await get("/api/position", parameters);
    if (found.position === null) return;
    const moved = Math.floor(found.position / this.#columns) - Math.floor(position / this.#columns);
    this.#windows.total = found.total;
    this.#virtualizer.setOptions(this.#options());
    this.#draw();
    if (moved) scrollBy({ top: moved * line, behavior: "instant" });
  }

  /** Draw what is selected. */
  redraw() {
    for (const row of this.#rows.values()) for (const tile of row.children) tile.dataset.shown = "";
    this.#draw();
  }

  focus(position) {
    this.#virtualizer.scrollToIndex(Math.floor(position / this.#columns));
    requestAnimationFrame(() => requestAnimationFrame(() => this.#link(position)?.focus()));
  }

  #options() {
    return {
      count: this.#lines(),
      getScrollElement: () => window,
      estimateSize: () => this.height + GAP,
      overscan: 3,
      scrollMargin: this.element.offsetTop,
      initialOffset: () => window.scrollY,
      observeElementRect: observeWindowRect,
      observeElementOffset: observeWindowOffset,
      scrollToFn: windowScroll,
      onChange: () => this.#draw(),
    };
  }

  #lines() {
    if (!this.#columns) return 0;
    return Math.min(Math.ceil(this.#windows.total / this.#columns), Math.floor(HIGHEST / (this.height + GAP)));
  }

  #laidOut() {
    const width = this.element.clientWidth;
    const columns = Math.max(2, Math.floor((width + GAP) / (NARROWEST + GAP)));
    const tile = (width - (columns - 1) * GAP) / columns;
    const thumb = Math.round(tile * 0.72);
    if (columns !== this.#columns) for (const row of this.#rows.values()) row.remove();
    if (columns !== this.#columns) this.#rows.clear();
    this.#columns = columns;
    this.height = thumb + TEXT_HEIGHT;
    const { style } = this.element;
    style.setProperty("--columns", columns);
    style.setProperty("--gap", `${GAP}px`);
    style.setProperty("--thumb-height", `${thumb}px`);
    style.setProperty("--tile-height", `${this.height}px`);
    this.#virtualizer.setOptions(this.#options());
    this.#virtualizer.measure();
    this.#draw();
  }

  #arrived() {
    this.#virtualizer.setOptions(this.#options());
    this.#virtualizer._willUpdate();
    for (const row of this.#rows.values()) for (const tile of row.children) tile.dataset.shown = "";
    this.#draw();
    this.on.counted(this.#windows.total);
    const most = this.#lines() * this.#columns;
    $("more").hidden = this.#windows.total <= most;
    $("more").textContent = `${number(this.#windows.total - most)} more are too many to scroll: choose a folder, a status, or search.`;
  }

  #sight() {
    const items = this.#virtualizer.getVirtualItems();
    if (!items.length || !this.#columns) return [0, 0];
    const last = Math.min((items.at(-1).index + 1) * this.#columns, this.#windows.total) - 1;
    return [items[0].index * this.#columns, last];
  }

  #needed() {
    const [first, last] = this.#sight();
    if (last >= first && this.#view) this.#windows.need(first, last);
  }

  #draw() {
    if (!this.#view || !this.#columns) return;
    const items = this.#virtualizer.getVirtualItems();
    this.element.style.height = `${Math.max(0, this.#virtualizer.getTotalSize() - GAP)}px`;
    const seen = new Set(items.map((item) => item.index));
    for (const [index, row] of this.#rows) {
      if (!seen.has(index) && !row.contains(document.activeElement)) {
        row.remove();
        this.#rows.delete(index);
      }
    }
    for (const { index, start } of items) {
      let row = this.#rows.get(index);
      if (!row) {
        row = this.#row(index);
        this.#rows.set(index, row);
        const after = [...this.#rows.keys()].filter((other) => other > index).sort((a, b) => a - b)[0];
        this.element.insertBefore(row, after === undefined ? null : this.#rows.get(after));
      }
      row.style.transform = `translateY(${start - this.element.offsetTop}px)`;
      [...row.children].forEach((tile, column) => this.#fill(tile, index * this.#columns + column));
    }
    this.need();
  }

  #row(index) {
    const row = document.createElement("div");
    row.className = "row";
    row.setAttribute("role", "presentation");
    for (let column = 0; column < this.#columns; column++) row.append($("tile").content.cloneNode(true));
    return row;
  }

  /** Show the image at `position` in `tile`, if the tile does not show it already. */
  #fill(tile, position) {
    tile.hidden = position >= this.#windows.total;
    const image = this.#windows.image(position);
    const shown = image ? `${position} ${image.name} ${image.etag} ${image.state} ${image.result_etag} ${image.expected}` : `${position}`;
    if (tile.dataset.shown === shown) return;
    tile.dataset.shown = shown;
    tile.setAttribute("aria-setsize", this.#windows.total);
    tile.setAttribute("aria-posinset", position + 1);
    tile.classList.toggle("blank", !image);
    const part = (name) => tile.querySelector(`.${name}`);
    const link = part("tile-link");
    link.dataset.position = position;
    if (!image) {
      link.removeAttribute("href");
      part("tile-name").textContent = part("tile-answer").textContent = part("tile-tokens").textContent = "";
      picture(part("thumb").firstElementChild, null);
      return;
    }
    const name = leaf(image.name);
    link.href = href({ ...this.#view, image: image.name });
    link.dataset.name = image.name;
    part("tile-name").textContent = name;
    part("tile-name").title = printable(image.name);
    const answer = this.#windows.answer(image);
    if (answer === undefined) tile.dataset.shown = "";
    part("tile-answer").textContent = answer ?? (WAITING[image.state] ?? "");
    const badge = part("badge");
    badge.className = `badge ${image.expected ? "pending" : image.state}`;
    badge.textContent = image.expected ? "Asked again" : (image.code ?? STATE_NAMES[image.state]);
    badge.title = badge.textContent;
    part("tile-tokens").textContent = image.tokens === null ? "" : `${number(image.tokens)} tokens`;
    part("kind").textContent = name.includes(".") ? name.split(".").at(-1).slice(0, 5) : "";
    const box = tile.querySelector("input");
    if (box) {
      box.checked = this.selection.has(image.name);
      box.dataset.name = image.name;
      box.setAttribute("aria-label", `Select ${name}`);
    }
    picture(part("thumb").firstElementChild, `/thumbnail?${new URLSearchParams({ name: image.name, etag: image.etag })}`);
  }

  #link(position) {
    const row = this.#rows.get(Math.floor(position / this.#columns));
    return row?.children[position % this.#columns]?.querySelector(".tile-link");
  }

  #clicked(event) {
    const link = event.target.closest(".tile-link");
    if (!link?.dataset.name || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    this.on.opened(link.dataset.name);
  }

  #picked(event) {
    const { name } = event.target.dataset;
    if (name) this.on.picked(name, event.target.checked);
  }

  #moved(event) {
    const link = event.target.closest(".tile-link");
    if (!link) return;
    const at = Number(link.dataset.position);
    const isRtl = getComputedStyle(this.element).direction === "rtl";
    const steps = {
      ArrowRight: isRtl ? -1 : 1, ArrowLeft: isRtl ? 1 : -1, ArrowDown: this.#columns, ArrowUp: -this.#columns,
      Home: -at, End: this.#windows.total - 1 - at,
    };
    if (event.key === " ") {
      event.preventDefault();
      link.parentElement.querySelector(".pick input")?.click();
    } else if (event.key in steps) {
      event.preventDefault();
      this.#go(Math.max(0, Math.min(at + steps[event.key], this.#windows.total - 1)));
    }
  }

  #go(position) {
    this.#virtualizer.scrollToIndex(Math.floor(position / this.#columns), { align: "auto" });
    const settle = (tries) => {
      const link = this.#link(position);
      if (link?.href) link.focus({ preventScroll: true });
      else if (tries) setTimeout(() => settle(tries - 1), 50);
    };
    settle(40);
  }
}

function picture(element, address) {
  if (element.dataset.address === (address ?? "")) return;
  element.dataset.address = address ?? "";
  element.classList.remove("ready");
  element.onload = () => element.classList.add("ready");
  if (address) element.src = address;
  else element.removeAttribute("src");
}
