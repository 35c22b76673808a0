/** The images that are picked, and what is done with them. */

import { query } from "./address.js";
import { AskDialog } from "./ask.js";
import { $, counted, number, say } from "./page.js";
import { post } from "./server.js";

export class Selection {
  /** Those that are picked; or, if all are, those that are not. */
  #names = new Set();
  #all = false;
  #ask;

  /** @param view gives the view that is shown @param on {{redraw, total, failed}} */
  constructor(session, view, on) {
    this.view = view;
    this.on = on;
    this.isAble = !session.read_only;
    if (!this.isAble) return;
    this.#ask = new AskDialog(() => this.clear());
    $("clear-selection").onclick = () => this.clear();
    $("select-all").onclick = () => this.all();
    $("ask-selected").onclick = () => this.#ask.open(this.#what(), this.#size);
    $("rerun-selected").onclick = () => this.#ask.open(this.#what(), this.#size, { isRerun: true });
    $("export").addEventListener("change", ({ target }) => this.#export(target));
    document.addEventListener("keydown", (event) => {
      if (event.target.closest("input:not([type=checkbox]), textarea, select, dialog")) return;
      if (event.key === "Escape" && this.#size) this.clear();
      if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.all();
      }
    });
  }

  get #size() {
    return this.#all ? this.on.total() - this.#names.size : this.#names.size;
  }

  has(name) {
    return this.#names.has(name) !== this.#all;
  }

  pick(name, isPicked) {
    if (isPicked !== this.#all) this.#names.add(name);
    else this.#names.delete(name);
    this.#draw();
  }

  all() {
    if (!this.on.total()) return;
    this.#names.clear();
    this.#all = true;
    this.#draw();
  }

  clear() {
    this.#names.clear();
    this.#all = false;
    if (this.isAble) this.#draw();
  }

  /** Ask another question about these images. */
  ask(names, question) {
    this.#ask.open({ names }, names.length, { question });
  }

  rerun(names) {
    this.#ask.open({ names }, names.length, { isRerun: true });
  }

  #what() {
    const names = [...this.#names];
    return this.#all ? { view: Object.fromEntries(query(this.view())), except: names } : { names };
  }

  #draw() {
    $("selection").hidden = !this.#size;
    $("selection-text").textContent = `${number(this.#size)} selected`;
    $("select-all").hidden = this.#size >= this.on.total();
    $("select-all").textContent = `Select all ${number(this.on.total())}`;
    document.body.classList.toggle("picking", this.#size > 0);
    this.on.redraw();
  }

  async #export(chooser) {
    const format = chooser.value;
    chooser.value = "";
    if (!format) return;
    chooser.disabled = true;
    say(`Exporting ${counted(this.#size, "result")} …`);
    try {
      const { id, exported, problems } = await post("/api/exports", { ...this.#what(), format });
      const link = document.createElement("a");
      link.href = `/api/exports/${id}`;
      link.download = "";
      link.click();
      const left = problems.length ? ` ${number(problems.length)} could not be: ${problems[0].error.message}.` : "";
      say(`${counted(exported, "result")} exported.${left}`);
    } catch (trouble) {
      this.on.failed(trouble);
    }
    chooser.disabled = false;
  }
}
