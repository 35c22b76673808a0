/** Small things that every part of the page uses. Text goes in as text: nothing here makes markup of it. */

export const $ = (id) => document.getElementById(id);

/** Make an element: `make("a", {href}, "text", child, …)`. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function icon(name) {
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `/static/vendor/lucide-1.62.0/icons.svg#${name}`);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

const numbers = new Intl.NumberFormat("en");
const moments = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "medium" });

export const number = (value) => numbers.format(value);
export const counted = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
export const moment = (text) => moments.format(new Date(text));
export const leaf = (name) => printable(name.replace(/\/+$/, "").split("/").at(-1) || name);
export const folderOf = (name) => printable(name.slice(0, name.lastIndexOf("/") + 1));
export const STATE_NAMES = { pending: "Pending", in_batch: "In a batch", succeeded: "Answered", failed: "Failed" };

/** A blob's name with its control characters written out: those of a stranger's may turn its letters around. */
export function printable(name) {
  return name.replace(/[\p{Cc}\p{Cs}\p{Co}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu, (character) =>
    `\\u${character.codePointAt(0).toString(16).padStart(4, "0")}`);
}

export function size(bytes) {
  if (bytes < 1000) return counted(bytes, "byte");
  const units = ["kB", "MB", "GB", "TB"];
  const power = Math.min(Math.floor(Math.log10(bytes) / 3), units.length);
  return `${(bytes / 1000 ** power).toFixed(1)} ${units[power - 1]}`;
}

export function money({ amount, currency }) {
  return `${amount.toLocaleString("en", { minimumFractionDigits: 2, maximumSignificantDigits: 3 })} ${currency}`;
}

let toastTimer;

/** Say something in passing. */
export function say(text) {
  const toast = $("toast");
  toast.textContent = text;
  toast.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => toast.classList.remove("shown"), 6000);
}

/** Say what is wrong and stays wrong, above everything else; `again` is what a try would do. */
export function warn(text, again = null) {
  $("notice").hidden = !text;
  $("notice-text").textContent = text ?? "";
  $("notice-again").hidden = !again;
  $("notice-again").onclick = again;
}

/** Call `work` when nothing has asked for it for `pause` milliseconds. */
export function calmly(work, pause) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), pause);
  };
}

/** A map that forgets what was not used for longest. */
export class Kept extends Map {
  constructor(most) {
    super();
    this.most = most;
  }

  get(key) {
    const value = super.get(key);
    if (value !== undefined) {
      super.delete(key);
      super.set(key, value);
    }
    return value;
  }

  set(key, value) {
    super.delete(key);
    super.set(key, value);
    if (this.size > this.most) this.delete(this.keys().next().value);
    return this;
  }
}
