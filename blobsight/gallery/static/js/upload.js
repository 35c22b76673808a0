/** Adding images: dropped anywhere on the page, or chosen. They go through this machine's gallery into the container. */

import { fromEvent } from "../vendor/file-selector-4.1.0/index.js";
import { asked, withOptions, wrong } from "./form.js";
import { $, counted, make, number, size } from "./page.js";
import { post, put, stream } from "./server.js";

const AT_A_TIME = 4;
const NAMED = 3;

export class Upload {
  #files = [];
  #abort = null;

  /** @param folder gives the folder that is open */
  constructor(folder) {
    this.form = $("upload-form");
    this.folder = folder;
    withOptions(this.form);
    $("add").onclick = () => this.#open([]);
    $("files").onchange = $("folder").onchange = async (event) => this.#choose(await fromEvent(event));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#go();
    });
    $("upload").addEventListener("close", () => this.#abort?.abort());
    this.#catchDrops();
  }

  #catchDrops() {
    let depth = 0;
    const isFiles = (event) => event.dataTransfer?.types.includes("Files");
    const mark = (isOver) => {
      $("drop").hidden = !isOver || $("upload").open;
      $("dropzone").classList.toggle("over", isOver);
    };
    addEventListener("dragenter", (event) => isFiles(event) && mark(++depth > 0));
    addEventListener("dragleave", (event) => isFiles(event) && mark(--depth > 0));
    addEventListener("dragover", (event) => isFiles(event) && event.preventDefault());
    addEventListener("drop", async (event) => {
      if (!isFiles(event)) return;
      event.preventDefault();
      depth = 0;
      mark(false);
      const files = await fromEvent(event);
      if ($("upload").open) this.#choose(files);
      else if (!document.querySelector("dialog[open]")) this.#open(files);
    });
  }

  #open(files) {
    this.form.reset();
    this.form.elements.prefix.value = this.folder();
    $("upload-report").hidden = $("upload-progress").hidden = true;
    wrong($("upload-wrong"), null);
    this.#files = [];
    this.#choose(files);
    $("upload").showModal();
  }

  #choose(files) {
    this.#files.push(...files);
    const bytes = this.#files.reduce((sum, file) => sum + file.size, 0);
    const isAny = this.#files.length > 0;
    $("chosen").textContent = isAny ? `${counted(this.#files.length, "file")}, ${size(bytes)}` : "Drop images or folders here";
    const names = this.#files.slice(0, NAMED).map(path);
    const more = this.#files.length - names.length;
    $("chosen-names").textContent = names.join(", ") + (more > 0 ? ` and ${number(more)} more` : "");
    $("upload-go").textContent = isAny ? `Add ${counted(this.#files.length, "file")}` : "Add";
    $("upload-go").disabled = !isAny;
    $("upload-report").hidden = true;
  }

  async #go() {
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const files = this.#files;
    $("upload-go").disabled = true;
    $("upload-report").hidden = true;
    wrong($("upload-wrong"), null);
    try {
      const { prefix = "", ...question } = asked(this.form);
      const { id, wanted } = await post("/api/uploads", { ...question, prefix, paths: files.map(path) }, signal);
      let done = 0;
      const todo = [...wanted];
      const refused = [];
      const one = async () => {
        for (let at = todo.shift(); at !== undefined; at = todo.shift()) {
          await put(`/api/uploads/${id}`, { path: path(files[at]) }, files[at], signal).catch((trouble) => {
            if (trouble.name === "AbortError") throw trouble;
            refused.push(trouble.message);
          });
          this.#progress("Reading files", ++done, wanted.length);
        }
      };
      await Promise.all(Array.from({ length: AT_A_TIME }, one));
      await stream(`/api/uploads/${id}/send`, {}, (line) => this.#heard(line, refused), signal);
      this.#files = [];
      $("upload-go").textContent = "Add";
    } catch (trouble) {
      if (trouble.name !== "AbortError") wrong($("upload-wrong"), trouble.message);
      $("upload-go").disabled = false;
    }
    $("upload-progress").hidden = true;
  }

  #heard(line, refused) {
    if (line.step) {
      this.#progress(line.step, line.done, line.of);
      return;
    }
    const lines = [...refused.map((text) => ({ text, style: "red" })), ...line.lines];
    $("upload-report").replaceChildren(...lines.map(({ text, style }) => make("p", { class: style, dir: "auto" }, text)));
    $("upload-report").hidden = !lines.length;
    wrong($("upload-wrong"), line.error?.message);
    const { sent, unchanged } = line.report;
    if (!line.error) $("chosen").textContent = `${counted(sent, "file")} added${unchanged ? `, ${number(unchanged)} there already` : ""}`;
    $("chosen-names").textContent = line.error ? "" : "Answers appear by themselves. You can drop more.";
  }

  #progress(step, done, of) {
    $("upload-progress").hidden = false;
    $("upload-step").textContent = `${step}: ${number(done)}${of ? ` of ${number(of)}` : ""}`;
    const bar = $("upload-bar");
    if (of) {
      bar.max = of;
      bar.value = done;
    } else bar.removeAttribute("value");
  }
}

/** The path of a file as it was dropped or chosen: "holiday/beach.jpg", without what browsers put in front. */
function path(file) {
  return (file.relativePath || file.webkitRelativePath || file.name).replace(/^\.?\//, "");
}
