/** The page: what the address says is shown; what is chosen goes into the address. */

import { href, isSameList, read } from "./address.js";
import { Detail } from "./detail.js";
import { Filters } from "./filters.js";
import { Grid } from "./grid.js";
import { Live } from "./live.js";
import { $, calmly, counted, leaf, make, number, printable, warn } from "./page.js";
import { Selection } from "./selection.js";
import { get, stream } from "./server.js";
import { Upload } from "./upload.js";

const failed = (trouble) => warn(trouble.message, () => location.reload());
let view = null;
let news = { images: 0, listing: true };

const session = await get("/api/session").catch(failed);
if (session) start();

function start() {
  $("where").textContent = `${session.images} and ${session.results} of ${session.account}`;
  if (session.read_only) for (const part of document.querySelectorAll("[data-does]")) part.remove();
  if (session.read_only) $("tile").content.querySelector("[data-does]").remove();
  const selection = new Selection(session, () => view, { redraw: () => grid.redraw(), total: () => grid.total, failed });
  const grid = new Grid({ opened: open, picked: (name, isPicked) => selection.pick(name, isPicked), counted: count, failed }, selection);
  const filters = new Filters(session, (address) => go(read(new URL(address).search)));
  if (!session.read_only) new Upload(() => view.folder);
  const detail = new Detail({
    closed: () => view.image && go({ ...view, image: null }),
    went: (name) => go({ ...view, image: name }, { replace: true }),
    ask: (name, question) => selection.ask([name], question),
    rerun: (name) => selection.rerun([name]),
  });

  async function show(next, { isAgain = false } = {}) {
    const before = view;
    view = next;
    $("sort").value = view.sort;
    if ($("search") !== document.activeElement) $("search").value = view.q;
    if (!before || isAgain || !isSameList(before, view)) {
      if (before && !isAgain) scrollTo(0, 0);
      selection.clear();
      await Promise.all([grid.show(view), overview()]);
    }
    if (view.image) await detail.show(view);
    else if (detail.isOpen) detail.close();
    if (!view.image) document.title = `${leaf(view.folder) || "Blobsight"}${view.folder ? " · Blobsight" : ""}`;
  }

  function go(next, { replace = false } = {}) {
    const address = href(next);
    if (replace) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
    show(next).catch(failed);
  }

  function open(name) {
    go({ ...view, image: name });
  }

  async function overview() {
    const found = await filters.show(view);
    $("searched").hidden = !view.q || found.answers_read >= news.images;
    $("searched-text").textContent = `Searched in all names, and in the answers that were read: ${number(found.answers_read)} of ${number(news.images)}.`;
  }

  function count(total) {
    const isFiltered = view.state.length || view.code.length || view.q;
    $("count").textContent = news.listing ? `${counted(total, "image")}, listing …` : counted(total, "image");
    $("empty").hidden = total > 0 || news.listing;
    if (total) return;
    $("empty-title").textContent = isFiltered ? "No image is like that" : "There are no images yet";
    $("empty-text").textContent = isFiltered
      ? "Choose another status or folder, or search for something else."
      : session.read_only
        ? `The container “${session.images}” holds none${session.prefix ? ` below “${session.prefix}”` : ""}. They appear here as soon as somebody uploads some.`
        : "Drop images here, or press “Add images”. Their answers appear beside them.";
  }

  let isRefreshing = false;
  const refresh = calmly(async () => {
    if (isRefreshing) return refresh(); // once more, when this is done
    isRefreshing = true;
    try {
      await Promise.all([grid.refresh(), overview()]);
      if (detail.isOpen) await detail.refresh();
    } catch (trouble) {
      failed(trouble);
    }
    isRefreshing = false;
  }, 120);

  new Live((heard) => {
    news = heard;
    warn(heard.trouble?.message ?? null, heard.trouble ? () => location.reload() : null);
    nameOddOnes(heard.problems, heard.problem_count);
    if (view) refresh();
  });
  $("sort").addEventListener("change", ({ target }) => go({ ...view, sort: target.value, image: null }));
  $("search").addEventListener("input", calmly(({ target }) => go({ ...view, q: target.value.trim(), image: null }, { replace: Boolean(view.q) }), 200));
  $("read-answers").addEventListener("click", async ({ currentTarget }) => {
    const button = currentTarget;
    button.disabled = true;
    try {
      const everything = { folder: view.folder };
      await stream("/api/answers/read", everything, ({ done, of }) => {
        $("searched-text").textContent = `Reading answers: ${number(done)} of ${number(of)}.`;
      });
      await Promise.all([grid.refresh(), overview()]);
    } catch (trouble) {
      failed(trouble);
    }
    button.disabled = false;
  });
  if (session.read_only) {
    // Left alone, the browser would leave the page and show the file.
    for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
  }
  addEventListener("popstate", () => show(read()).catch(failed));
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, textarea, select, dialog")) {
      event.preventDefault();
      $("search").focus();
    }
  });
  show(read()).catch(failed);
}

/** Entries of the listings that can't be understood: they are not among the images. */
function nameOddOnes(problems, count) {
  $("odd").hidden = !count;
  $("odd-title").textContent = `${count === 1 ? "1 entry" : `${number(count)} entries`} of the listings ${count === 1 ? "is" : "are"} left out`;
  $("odd-list").replaceChildren(...problems.map(({ name, error }) => make("li", {}, `${printable(name)}: ${error.message}`)));
}
