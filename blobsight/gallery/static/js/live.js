/** News from the server, as long as somebody looks: while the page is hidden, nothing is listed for it. */

import { warn } from "./page.js";
import { get } from "./server.js";

export class Live {
  #source = null;
  #wasLost = false;

  /** @param heard called with {version, images, listing, trouble, problems} */
  constructor(heard) {
    this.heard = heard;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#stop() : this.start()));
    this.start();
  }

  start() {
    if (this.#source && this.#source.readyState !== EventSource.CLOSED) return;
    this.#source = new EventSource("/api/events");
    this.#source.onmessage = ({ data }) => {
      const news = JSON.parse(data);
      if (this.#wasLost) warn(null);
      this.#wasLost = false;
      this.heard(news);
    };
    this.#source.onerror = () => this.#lost();
  }

  #stop() {
    this.#source?.close();
    this.#source = null;
  }

  async #lost() {
    this.#wasLost = true;
    try {
      await get("/api/session");
      this.#stop();
      this.start();
    } catch (trouble) {
      warn(trouble.message, () => {
        this.#stop();
        this.start();
      });
    }
  }
}
