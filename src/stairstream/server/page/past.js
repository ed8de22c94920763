// Past runs, where the server keeps them: listed, opened, saved and deleted. Those of this tab are in history.js.

import { byId, make, set, write } from "./dom.js";
import { joinFacts, money, moment, seconds } from "./format.js";
import { Round, titleOf } from "./round.js";
import { Run } from "./run.js";

const KINDS = ["staircase", "wait", "single"]; // in the order in which they stand side by side
const AT_ONCE_S = 5; // runs that were asked side by side began within that time
const LATER_S = 600; // and a first one that the others were asked to stand beside, that long before

export class PastList {
  /**
   * `on.open(round)` is called with the one that is clicked, `on.ask(round, isBeside)` with one to ask,
   * `on.sure(question, more)` before anything is deleted, `on.fail(error, again)` with what went wrong.
   */
  constructor(element, api, on) {
    this.element = element;
    this.api = api;
    this.on = on;
    this.listed = element.querySelector("ol");
    this.more = make("button", { type: "button", class: "quiet small", click: () => this.load() }, "Show more");
    const clear = make("button", { type: "button", class: "quiet small", click: () => this.forgetAll() }, "Delete all");
    element.append(make("p", { class: "controls" }, this.more, clear));
    this.stale = make("p", { class: "facts", role: "status", hidden: true }, "The newest runs may be missing: the server can't write its history at the moment.");
    this.listed.before(this.stale);
    this.entries = []; // {lines, element, button, facts, actions}: a run, or those that were asked side by side
    this.chosenId = null; // the run that is shown, or chosen of several
    this.next = "";
  }

  /** The next page of the list, the newest first. */
  async load() {
    await this.attempt(async () => {
      const page = await this.api.pastRuns(this.next);
      for (const line of page.data) this.add(line);
      this.next = page.next ?? "";
      this.more.hidden = !page.has_more;
      this.stale.hidden = !page.stale;
      this.element.hidden = !this.entries.length && !page.stale;
    }, () => this.load());
  }

  /** Mark the round that is shown, if it is one of these; `chosen` is its run that is looked at. */
  update(shown, chosen) {
    this.chosenId = chosen?.id;
    for (const { lines, button, actions } of this.entries) {
      const isShown = lines.some((line) => line.id === shown?.pastId);
      set(button, "aria-current", isShown);
      actions.hidden = !isShown;
    }
  }

  add(line) {
    if (this.entries.some(({ lines }) => lines.some((one) => one.id === line.id))) return;
    const beside = this.entries.find(({ lines }) => isBeside(lines, line));
    const entry = beside ?? this.addEntry(line);
    entry.lines = [...entry.lines, line].sort((one, other) => KINDS.indexOf(kindOf(one)) - KINDS.indexOf(kindOf(other)));
    write(entry.facts, factsOf(entry.lines));
  }

  addEntry({ question }) {
    const facts = make("span", { class: "facts" });
    const asked = make("span", { class: "asked", dir: "auto", title: question }, question || "(nothing asked)");
    const button = make("button", { type: "button", click: () => this.open(entry) }, asked, facts);
    const act = (name, label, click) => make("button", { type: "button", class: "quiet small", "aria-label": label, click }, name);
    const actions = make(
      "p",
      { class: "controls", hidden: true },
      act("Ask again", "Ask again: the same question", () => this.askAgain(entry)),
      act("Trace", "Trace for Perfetto: save it", () => this.save(entry, "trace", "trace.json")),
      act("Events", "Events: save them", () => this.save(entry, "jsonl", "jsonl")),
      act("Delete", "Delete this entry", () => this.forget(entry)),
    );
    const entry = { lines: [], element: make("li", {}, button, actions), button, facts, actions };
    this.listed.append(entry.element);
    this.entries.push(entry);
    return entry;
  }

  open(entry) {
    return this.attempt(async () => {
      const pasts = await Promise.all(entry.lines.map((line) => this.api.pastRun(line.id)));
      this.on.open(roundOf(pasts));
    }, () => this.open(entry));
  }

  /** The same messages to the same pipeline, as it is now, and side by side as before. */
  askAgain(entry) {
    return this.attempt(async () => {
      const past = await this.api.pastRun(entry.lines[0].id);
      const round = new Round(questionOf(past), await this.api.model(past.model), "", past.messages);
      this.on.ask(round, entry.lines.length > 1);
    }, () => this.askAgain(entry));
  }

  /** A file of the run that is looked at. */
  save(entry, format, ending) {
    return this.attempt(async () => {
      const { id } = entry.lines.find((line) => line.id === this.chosenId) ?? entry.lines[0];
      const url = URL.createObjectURL(await this.api.pastFile(id, format));
      make("a", { href: url, download: `run-${id}.${ending}` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    }, () => this.save(entry, format, ending));
  }

  async forget(entry) {
    const many = entry.lines.length > 1 ? `these ${entry.lines.length} runs` : "this run";
    if (!(await this.on.sure(`Delete ${many}?`, "The server keeps no copy."))) return;
    await this.attempt(async () => {
      for (const line of entry.lines) await this.api.forget(line.id);
      this.remove(entry);
    }, () => this.forget(entry));
  }

  async forgetAll() {
    const whose = this.api.key === null ? "whoever asked them" : "of your key";
    const more = `Every run that this server keeps, ${whose}, also those that are not listed here. It keeps no copy.`;
    if (!(await this.on.sure("Delete all past runs?", more))) return;
    await this.attempt(async () => {
      await this.api.forget();
      this.more.hidden = true;
      for (const entry of [...this.entries]) this.remove(entry);
    }, () => this.forgetAll());
  }

  /** Takes an entry off the list; who was at it with the keyboard goes on at the next. */
  remove(entry) {
    const index = this.entries.indexOf(entry);
    this.entries.splice(index, 1);
    entry.element.remove();
    this.element.hidden = !this.entries.length;
    (this.entries[index] ?? this.entries.at(-1))?.button.focus();
    if (this.element.hidden) byId("question").focus();
  }

  async attempt(work, again) {
    try {
      await work();
    } catch (error) {
      this.on.fail(error, again);
    }
  }
}

const nameOf = (line) => line.model.split(":")[0];
const suffixOf = (line) => line.model.split(":")[1] ?? "";
const kindOf = (line) => (["wait", "single"].includes(suffixOf(line)) ? suffixOf(line) : "staircase");

/** Whether a run was asked side by side with these: the same question, and another kind, at the same time or just before. */
function isBeside(lines, line) {
  const [one] = lines;
  if (nameOf(one) !== nameOf(line) || one.question !== line.question) return false;
  const kinds = [...lines, line].map(kindOf);
  if (new Set(kinds).size < kinds.length) return false;
  const apartS = Math.min(...lines.map((other) => Math.abs(other.started_at_s - line.started_at_s)));
  return apartS < AT_ONCE_S || (kinds.includes("single") && apartS < LATER_S);
}

function factsOf(lines) {
  const [line] = lines;
  const parts = [moment(line.started_at_s * 1000), nameOf(line)];
  const chosen = suffixOf(line);
  if (lines.length > 1) parts.push("side by side");
  else if (chosen) parts.push(chosen === "single" ? "single model" : chosen);
  if (line.first_token_s !== null) parts.push(`first token ${seconds(line.first_token_s)}`);
  const cost = lines.reduce((sum, one) => sum + (one.cost ?? 0), 0);
  if (cost) parts.push(`cost ${money(cost)}`);
  if (lines.some((one) => ["failed", "shutdown"].includes(one.ended))) parts.push("broke off");
  return joinFacts(parts);
}

function questionOf(past) {
  const said = past.messages.filter((message) => message.role === "user").at(-1)?.content;
  return typeof said === "string" ? said : past.question;
}

/** A round of runs, as the history has them. Who reads whom is seen from what was read. */
function roundOf(pasts) {
  const [past] = pasts;
  const reads = new Map();
  for (const event of pasts.flatMap((one) => one.events)) {
    if (event.type === "step_started" && event.readings.length) reads.set(event.agent, event.readings.map((one) => one.agent));
  }
  const agents = new Map(pasts.flatMap((one) => one.stairstream.agents).map(({ name, model }) => [name, { name, model, reads: reads.get(name) ?? [] }]));
  const model = { id: past.pipeline, stairstream: { policy: past.stairstream.policy, answer: past.events[0].answer, agents: [...agents.values()] } };
  const round = new Round(questionOf(past), model, "");
  round.pastId = past.id;
  round.runs = pasts.map((one) => pastRun(one, one.started_at_s - past.started_at_s));
  return round;
}

/** `askedS` is when it was asked, since the first. */
function pastRun(past, askedS) {
  const { policy } = past.stairstream;
  const run = new Run(kindOf(past), titleOf(policy));
  run.askedAt = askedS * 1000;
  for (const event of past.events) run.take(event);
  run.totals = past.stairstream;
  return run;
}
