/** The images of a view, asked from the server a window at a time. The page holds `MOST_WINDOWS` of them and no more. */

import { query } from "./address.js";
import { Kept } from "./page.js";
import { get, post } from "./server.js";

export const WINDOW = 60;
const MOST_WINDOWS = 40;
const MOST_ANSWERS = 3000;
const MOST_AT_A_TIME = 200;

export class Windows {
  #windows = new Kept(MOST_WINDOWS);
  #answers = new Kept(MOST_ANSWERS);
  #asked = new Set();
  #view = null;
  #abort = new AbortController();
  total = 0;

  /** @param {() => void} changed called when something new is there @param {(trouble) => void} failed */
  constructor(changed, failed) {
    this.changed = changed;
    this.failed = failed;
  }

  /** Show another view. What was known of the last one is forgotten. */
  async show(view) {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#view = view;
    this.#windows.clear();
    this.#asked.clear();
    await this.#load(0);
  }

  /** Ask again for the windows from `first` to `last`; the others when they are needed. What is shown stays until then. */
  async refresh(first, last) {
    for (const [number, window] of this.#windows) window.stale = true;
    this.#asked.clear();
    const from = Math.floor(first / WINDOW);
    const to = Math.floor(last / WINDOW);
    for (let number = from; number <= to; number++) await this.#load(number);
  }

  /** The image at a position; undefined until it is there. */
  image(position) {
    return this.#windows.get(Math.floor(position / WINDOW))?.images[position % WINDOW];
  }

  /** The beginning of its answer; undefined until it was read. */
  answer(image) {
    return this.#answers.get(`${image.result_etag} ${image.name}`);
  }

  /** See to it that the images from `first` to `last` come, and their answers. */
  async need(first, last) {
    const numbers = new Set();
    for (let position = first; position <= last; position += WINDOW) numbers.add(Math.floor(position / WINDOW));
    numbers.add(Math.floor(last / WINDOW));
    await Promise.all([...numbers].map((number) => this.#load(number)));
    const images = [];
    for (let position = first; position <= last; position++) {
      const image = this.image(position);
      if (image?.result_etag && this.answer(image) === undefined) images.push(image);
    }
    await this.#readAnswers(images.slice(0, MOST_AT_A_TIME));
  }

  async #load(number) {
    const known = this.#windows.get(number);
    if ((known && !known.stale) || this.#asked.has(number)) return;
    this.#asked.add(number);
    const { signal } = this.#abort;
    try {
      const parameters = query(this.#view);
      parameters.set("start", number * WINDOW);
      parameters.set("count", WINDOW);
      const found = await get("/api/images", parameters, signal);
      this.total = found.total;
      this.#windows.set(number, { images: found.images, stale: false });
      this.changed();
    } catch (error) {
      if (error.name !== "AbortError") this.failed(error);
    } finally {
      if (!signal.aborted) this.#asked.delete(number);
    }
  }

  async #readAnswers(images) {
    const wanted = images.filter((image) => !this.#asked.has(image.name));
    if (!wanted.length) return;
    const { signal } = this.#abort;
    for (const image of wanted) this.#asked.add(image.name);
    try {
      const found = await post("/api/answers", { names: wanted.map((image) => image.name) }, signal);
      for (const image of wanted) this.#answers.set(`${image.result_etag} ${image.name}`, found[image.name] ?? "");
      this.changed();
    } catch (error) {
      if (error.name !== "AbortError") this.failed(error);
    } finally {
      for (const image of wanted) this.#asked.delete(image.name);
    }
  }
}
