/** Filters: status, error, folder. Each is a link, so that it can be opened in a tab of its own. */

import { href } from "./address.js";
import { $, STATE_NAMES, icon, leaf, make, number } from "./page.js";
import { get } from "./server.js";

const STATES = ["succeeded", "pending", "in_batch", "failed"];

export class Filters {
  #counted = {};
  #session;

  /** @param go called with the view that was chosen */
  constructor(session, go) {
    this.#session = session;
    for (const list of [$("states"), $("codes"), $("folders"), $("path")]) {
      list.addEventListener("click", (event) => {
        const link = event.target.closest("a");
        if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
        event.preventDefault();
        go(link.href);
      });
    }
    $("side-toggle").addEventListener("click", ({ currentTarget }) => {
      currentTarget.setAttribute("aria-expanded", currentTarget.getAttribute("aria-expanded") !== "true");
    });
  }

  /** Draw the filters of `view`. @returns the number of images in the folder that hold the text. */
  async show(view) {
    const parameters = { folder: view.folder, q: view.q };
    const overview = await get("/api/overview", parameters);
    this.#counted = { [view.folder || this.#session.prefix]: overview };
    const all = Object.values(overview.states).reduce((sum, count) => sum + count, 0);
    this.#showStates(view, overview.states, all);
    this.#showCodes(view, overview.codes);
    this.#showPath(view);
    await this.#showFolders(view);
    const chosen = [...view.state.map((state) => STATE_NAMES[state]), ...view.code, leaf(view.folder)];
    $("side-summary").textContent = chosen.filter(Boolean).join(", ");
    return { ...overview, all };
  }

  #showStates(view, counts, all) {
    const rows = [facet("All", all, { ...view, state: [], code: [], image: null }, !view.state.length && !view.code.length)];
    for (const state of STATES) {
      const isChosen = view.state.includes(state);
      if (state === "in_batch" && !counts[state] && !isChosen) continue; // most people have no batches
      const next = { ...view, state: isChosen ? [] : [state], code: [], image: null };
      rows.push(facet(STATE_NAMES[state], counts[state] ?? 0, next, isChosen, make("span", { class: `dot ${state}` })));
    }
    redraw($("states"), rows);
  }

  #showCodes(view, counts) {
    const codes = new Set([...Object.keys(counts), ...view.code]);
    $("codes-part").hidden = !codes.size;
    redraw($("codes"), [...codes].map((code) => {
      const isChosen = view.code.includes(code);
      return facet(code, counts[code] ?? 0, { ...view, state: [], code: isChosen ? [] : [code], image: null }, isChosen);
    }));
  }

  #showPath(view) {
    const top = this.#session.prefix;
    const crumbs = [make("a", { href: href({ ...view, folder: "", image: null }) }, top || "All images")];
    let folder = top;
    for (const part of view.folder.slice(top.length).split("/").filter(Boolean)) {
      folder += `${part}/`;
      crumbs.push(make("a", { href: href({ ...view, folder, image: null }), dir: "auto" }, part));
    }
    crumbs.at(-1).setAttribute("aria-current", "page");
    $("path").replaceChildren(...crumbs.flatMap((crumb, at) => (at ? [" / ", crumb] : [crumb])));
  }

  /** The folders from the top down to the one that is open, and those in it. */
  async #showFolders(view) {
    const top = this.#session.prefix;
    const open = [top];
    for (const part of view.folder.slice(top.length).split("/").slice(0, -1)) open.push(`${open.at(-1)}${part}/`);
    const levels = await Promise.all(open.map((folder) => this.#counted[folder] ?? get("/api/overview", { folder, q: view.q })));
    const list = (depth) => {
      const folders = Object.entries(levels[depth].folders);
      return folders.map(([folder, count]) => {
        const isOpen = open.includes(folder);
        const link = make(
          "a",
          { href: href({ ...view, folder, image: null }), "aria-current": folder === view.folder, title: folder },
          icon("folder"), make("span", { class: "label", dir: "auto" }, leaf(folder)), " ", ...amount(count),
        );
        return make("li", {}, link, isOpen && depth + 1 < levels.length ? make("ul", { class: "tree" }, ...list(depth + 1)) : null);
      });
    };
    const rows = list(0);
    $("folders-title").parentElement.hidden = !rows.length;
    redraw($("folders"), rows);
  }
}

function facet(label, count, view, isChosen, mark = null) {
  const link = make(
    "a",
    { href: href(view), "aria-current": isChosen, title: label },
    mark, make("span", { class: "label" }, label), " ", ...amount(count),
  );
  return make("li", {}, link);
}

/** A number, and for those who hear it, of what. */
function amount(count) {
  return [make("span", { class: "number" }, number(count)), make("span", { class: "heard" }, count === 1 ? " image" : " images")];
}

/** Replace the rows of a list; the focus stays on the link that had it. */
function redraw(list, rows) {
  const had = list.contains(document.activeElement) ? document.activeElement.getAttribute("title") : null;
  list.replaceChildren(...rows);
  if (had !== null) list.querySelector(`a[title="${CSS.escape(had)}"]`)?.focus();
}
