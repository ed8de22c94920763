// Earlier rounds: here those of this tab, in memory. A store on the server would have the same two methods.

import { make, set, write } from "./dom.js";
import { joinFacts, money, moment, seconds } from "./format.js";
import { plain } from "./speaking.js";

const MOST = 50;
const MOST_WORDS = 80; // characters of the answer's beginning

export class TabHistory {
  constructor() {
    this.rounds = [];
  }

  add(round) {
    this.rounds.unshift(round);
    this.rounds.length = Math.min(this.rounds.length, MOST);
  }

  list() {
    return this.rounds;
  }
}

export class HistoryList {
  /** `open(round)` is called for the one that is clicked. */
  constructor(element, store, open) {
    this.element = element;
    this.listed = element.querySelector("ol");
    this.store = store;
    this.open = open;
    this.items = new Map();
  }

  update(shown) {
    const rounds = this.store.list();
    this.element.hidden = rounds.length < 1;
    for (const [round, item] of this.items) {
      if (rounds.includes(round)) continue;
      item.element.remove();
      this.items.delete(round);
    }
    for (const round of [...rounds].reverse()) {
      const item = this.items.get(round) ?? this.add(round);
      write(item.facts, factsOf(round));
      write(item.begun, plain(round.runs[0].answer?.words.text.slice(0, MOST_WORDS) ?? ""));
      set(item.button, "aria-current", round === shown);
    }
  }

  add(round) {
    const facts = make("span", { class: "facts" });
    const begun = make("span", { class: "begun", dir: "auto" });
    const asked = make("span", { class: "asked", dir: "auto", title: round.question }, round.question);
    const button = make("button", { type: "button", click: () => this.open(round) }, asked, begun, facts);
    const element = make("li", {}, button);
    this.listed.prepend(element);
    const item = { element, button, facts, begun };
    this.items.set(round, item);
    return item;
  }
}

function factsOf(round) {
  const [run] = round.runs;
  const parts = [moment(round.startedAt), round.name];
  if (round.hasReaders) parts.push(round.policyName);
  if (round.runs.length > 1) parts.push("side by side");
  if (run.answer?.firstS != null) parts.push(`first token ${seconds(run.answer.firstS)}`);
  if (run.totals?.cost) parts.push(`cost ${money(run.totals.cost)}`);
  if (round.runs.some((one) => !one.isOver)) parts.push("running…");
  else if (run.isBroken) parts.push("broke off");
  return joinFacts(parts);
}
