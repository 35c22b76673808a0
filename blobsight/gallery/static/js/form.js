/** What the two forms share: options, closing, what is wrong. */

import { $, make } from "./page.js";

/** Put the fields for options into a form. */
export function withOptions(form) {
  form.querySelector("[data-options]").append($("options").content.cloneNode(true));
  form.querySelector("[data-close]").addEventListener("click", () => form.closest("dialog").close());
}

/** The question and options of a form, as the server takes them. */
export function asked(form) {
  const given = Object.fromEntries([...new FormData(form)].filter(([, text]) => typeof text === "string" && text.trim()));
  if (given.max_output_tokens) given.max_output_tokens = Number(given.max_output_tokens);
  return given;
}

/** Say what is wrong in a form; null for nothing. */
export function wrong(element, text) {
  element.hidden = !text;
  element.textContent = text ?? "";
}

export function list(texts) {
  return make("ul", {}, ...texts.map((text) => make("li", {}, text)));
}
