/** What is shown, as the address in the bar says it: so Back, reload and bookmarks work. */

export const SORTS = ["newest", "oldest", "name", "name-down", "most-tokens", "fewest-tokens"];

/** @returns {{folder: string, state: string[], code: string[], q: string, sort: string, image: string | null}} */
export function read(search = location.search) {
  const given = new URLSearchParams(search);
  const list = (name) => (given.get(name) ?? "").split(",").filter(Boolean);
  const sort = given.get("sort");
  return {
    folder: given.get("folder") ?? "",
    state: list("state"),
    code: list("code"),
    q: given.get("q") ?? "",
    sort: SORTS.includes(sort) ? sort : SORTS[0],
    image: given.get("image"),
  };
}

/** The query of a view as the server understands it; without the image that is open. */
export function query({ folder, state, code, q, sort }) {
  const given = new URLSearchParams();
  if (folder) given.set("folder", folder);
  if (state.length) given.set("state", state.join(","));
  if (code.length) given.set("code", code.join(","));
  if (q) given.set("q", q);
  if (sort !== SORTS[0]) given.set("sort", sort);
  return given;
}

/** The address of a view. */
export function href(view) {
  const given = query(view);
  if (view.image) given.set("image", view.image);
  const text = given.toString();
  return text ? `/?${text}` : "/";
}

/** Whether two views show the same images in the same order. */
export function isSameList(one, other) {
  return query(one).toString() === query(other).toString();
}
