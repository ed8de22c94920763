// What a screen reader is told: whole sentences of the answer, at most one piece every few seconds.

import { make } from "./dom.js";

const PAUSE_MS = 3000;
const MOST_PIECES = 30;
const MOST_CHARACTERS = 600;

export class Speaker {
  constructor(region) {
    this.region = region;
    this.waiting = [];
    this.timer = 0;
  }

  /** Say a sentence, after those that wait. */
  say(sentence) {
    this.waiting.push(sentence);
    if (this.timer) return;
    this.flush();
    this.timer = setTimeout(() => this.goOn(), PAUSE_MS);
  }

  goOn() {
    this.timer = 0;
    if (!this.waiting.length) return;
    this.flush();
    this.timer = setTimeout(() => this.goOn(), PAUSE_MS);
  }

  flush() {
    const [first, ...others] = this.waiting;
    let piece = first;
    while (others.length && piece.length + others[0].length < MOST_CHARACTERS) piece += ` ${others.shift()}`;
    this.waiting = others;
    this.region.append(make("p", {}, piece));
    while (this.region.children.length > MOST_PIECES) this.region.firstChild.remove();
  }

  clear() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.waiting = [];
    this.region.replaceChildren();
  }
}

/** Tells a growing text in whole sentences. */
export class Sentences {
  constructor() {
    this.position = 0;
  }

  /** The complete sentences that are new, without marks. What has no end is cut where it gets too long to be said. */
  take(text, isOver) {
    const found = [];
    for (;;) {
      const rest = text.slice(this.position, this.position + MOST_CHARACTERS);
      const isLast = this.position + rest.length === text.length;
      const end = lastEnd(rest) || (isLast ? isOver && rest.length : rest.lastIndexOf(" ") + 1 || rest.length);
      if (!end) return found;
      this.position += end;
      const spoken = plain(rest.slice(0, end));
      if (spoken) found.push(spoken);
    }
  }
}

/** A text in one line, without its marks. */
export const plain = (text) => text.replace(/[*_`#>|]+/g, "").replace(/\s+/g, " ").trim();

function lastEnd(text) {
  const ends = /[.!?…]["')\]]*\s|[。！？]|\n/g;
  let end = 0;
  for (let found = ends.exec(text); found; found = ends.exec(text)) end = found.index + found[0].length;
  return end;
}
