// What a screen reader is told: whole sentences of the answer, at most one piece every few seconds.

import { make } from "./dom.js";

const PAUSE_MS = 3000;
const MOST_PIECES = 30;

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
    this.region.append(make("p", {}, this.waiting.join(" ")));
    this.waiting = [];
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
    this.place = 0;
  }

  /** The complete sentences that are new, as one text without marks; "" if there are none. */
  take(text, isOver) {
    const end = isOver ? text.length : lastEnd(text, this.place);
    if (end <= this.place) return "";
    const spoken = text.slice(this.place, end).replace(/[*_`#>|]+/g, "").replace(/\s+/g, " ").trim();
    this.place = end;
    return spoken;
  }
}

function lastEnd(text, from) {
  const ends = /[.!?…]["')\]]*\s|[。！？]|\n/g;
  ends.lastIndex = from;
  let end = from;
  for (let found = ends.exec(text); found; found = ends.exec(text)) end = found.index + found[0].length;
  return end;
}
