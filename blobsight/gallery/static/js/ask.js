/** The dialog that asks again or reruns. The cost stands there before anything is queued. */

import { asked, list, withOptions, wrong } from "./form.js";
import { $, calmly, counted, make, say } from "./page.js";
import { post } from "./server.js";

export class AskDialog {
  #what = null;
  #isRerun = false;
  #abort = null;

  /** @param done called when images were queued */
  constructor(done) {
    this.form = $("ask-form");
    this.done = done;
    withOptions(this.form);
    this.form.addEventListener("input", calmly(() => this.#estimate(), 400));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#go();
    });
    $("ask").addEventListener("close", () => this.#abort?.abort());
  }

  /** @param what the images, as the server takes them @param count how many they are */
  open(what, count, { question = "", isRerun = false } = {}) {
    this.#what = what;
    this.#isRerun = isRerun;
    this.form.reset();
    this.form.elements.instructions.value = question;
    $("ask-title").textContent = isRerun ? "Rerun failed images" : "Ask something else";
    $("ask-about").textContent = isRerun
      ? "They are asked the same again. Images that did not fail are left alone."
      : `About ${counted(count, "image")}. The new answer replaces the one that is there.`;
    $("ask-fields").hidden = isRerun;
    $("ask-go").textContent = isRerun ? "Rerun" : `Ask about ${counted(count, "image")}`;
    wrong($("ask-wrong"), null);
    $("ask").showModal();
    if (!isRerun) this.form.elements.instructions.select();
    this.#estimate();
  }

  get #request() {
    return { ...this.#what, ...(this.#isRerun ? { rerun: true } : asked(this.form)) };
  }

  async #estimate() {
    this.#abort?.abort();
    this.#abort = new AbortController();
    const request = this.#request;
    wrong($("ask-wrong"), null);
    $("ask-go").disabled = true;
    if (!this.#isRerun && !request.instructions) {
      $("cost").replaceChildren("Write a question to see what it will cost.");
      return;
    }
    $("cost").replaceChildren("Estimating the cost …");
    try {
      const { images, summary, how_sure: sentences } = await post("/api/cost", request, this.#abort.signal);
      $("cost").replaceChildren(make("strong", {}, `Cost: ${summary}`), list(sentences));
      $("ask-go").disabled = !images;
    } catch (trouble) {
      if (trouble.name === "AbortError") return;
      $("cost").replaceChildren("The cost is not known.");
      wrong($("ask-wrong"), trouble.message);
    }
  }

  async #go() {
    $("ask-go").disabled = true;
    try {
      const { queued, of, problems } = await post("/api/ask", this.#request);
      if (problems.length) {
        wrong($("ask-wrong"), `${queued} of ${of} were queued. ${problems[0].name}: ${problems[0].error.message}.`);
        return;
      }
      $("ask").close();
      say(`${counted(queued, "image")} queued. New answers appear by themselves.`);
      this.done();
    } catch (trouble) {
      wrong($("ask-wrong"), trouble.message);
      $("ask-go").disabled = false;
    }
  }
}
