/** The images that are picked, and what is done with them. */

export class Selection {
  constructor() {
    this.names = new Set();
  }
  has(name) { return this.names.has(name); }
  pick() {}
  clear() {}
  ask() {}
  rerun() {}
}
