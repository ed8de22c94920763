// Past runs, where the server keeps them: listed, opened, saved and deleted. Those of this tab are in history.js.

import { make, set, write } from "./dom.js";
import { money, seconds } from "./format.js";
import { Round } from "./round.js";
import { Run } from "./run.js";

const when = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "short" });

export class PastList {
  /** `on.open(round)` is called with the one that is clicked, `on.ask(round)` with one to ask, `on.fail(error, again)` with what went wrong. */
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
    this.items = new Map(); // by run id
    this.next = "";
  }

  /** The next page of the list, the newest first. */
  async load() {
    await this.attempt(async () => {
      const page = await this.api.pastRuns(this.next);
      for (const line of page.data) if (!this.items.has(line.id)) this.add(line);
      this.next = page.next ?? "";
      this.more.hidden = !page.has_more;
      this.stale.hidden = !page.stale;
      this.element.hidden = !this.items.size && !page.stale;
    }, () => this.load());
  }

  /** Mark the round that is shown, if it is one of these. */
  update(shown) {
    for (const [id, item] of this.items) {
      const isShown = shown?.pastId === id;
      set(item.button, "aria-current", isShown);
      item.actions.hidden = !isShown;
    }
  }

  add(line) {
    const parts = [line.model, when.format(line.started_at_s * 1000)];
    if (line.first_token_s !== null) parts.push(`first token ${seconds(line.first_token_s)}`);
    if (line.cost) parts.push(`cost ${money(line.cost)}`);
    if (["failed", "shutdown"].includes(line.ended)) parts.push("broke off");
    const facts = make("span", { class: "facts" });
    write(facts, parts.join(" · "));
    const asked = make("span", { class: "asked", dir: "auto" }, line.question || "(nothing asked)");
    const button = make("button", { type: "button", click: () => this.open(line.id) }, asked, facts);
    const act = (name, label, click) => make("button", { type: "button", class: "quiet small", "aria-label": label, click }, name);
    const actions = make(
      "p",
      { class: "controls", hidden: true },
      act("Ask again", "Ask this question again", () => this.askAgain(line.id)),
      act("Trace", "Save a trace for Perfetto", () => this.save(line.id, "trace", "trace.json")),
      act("Events", "Save the events", () => this.save(line.id, "jsonl", "jsonl")),
      act("Delete", "Delete this run", () => this.forget(line.id)),
    );
    const element = make("li", {}, button, actions);
    this.listed.append(element);
    this.items.set(line.id, { element, button, actions });
  }

  open(id) {
    return this.attempt(async () => this.on.open(roundOf(await this.api.pastRun(id))), () => this.open(id));
  }

  /** The same messages to the same pipeline, as it is now. */
  askAgain(id) {
    return this.attempt(async () => {
      const past = await this.api.pastRun(id);
      this.on.ask(new Round(questionOf(past), await this.api.model(past.model), "", past.messages));
    }, () => this.askAgain(id));
  }

  save(id, format, ending) {
    return this.attempt(async () => {
      const url = URL.createObjectURL(await this.api.pastFile(id, format));
      make("a", { href: url, download: `run-${id}.${ending}` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    }, () => this.save(id, format, ending));
  }

  forget(id) {
    return this.attempt(async () => {
      await this.api.forget(id);
      this.remove(id);
    }, () => this.forget(id));
  }

  forgetAll() {
    if (!confirm("Delete every run that this server keeps for you?")) return null;
    return this.attempt(async () => {
      await this.api.forget();
      for (const id of [...this.items.keys()]) this.remove(id);
    }, () => this.forgetAll());
  }

  remove(id) {
    this.items.get(id).element.remove();
    this.items.delete(id);
    this.element.hidden = !this.items.size;
  }

  async attempt(work, again) {
    try {
      await work();
    } catch (error) {
      this.on.fail(error, again);
    }
  }
}

function questionOf(past) {
  const said = past.messages.filter((message) => message.role === "user").at(-1)?.content;
  return typeof said === "string" ? said : past.question;
}

/** A round with one run, as the history has it. Who reads whom is seen from what was read. */
function roundOf(past) {
  const { policy, agents } = past.stairstream;
  const reads = new Map();
  for (const event of past.events) {
    if (event.type === "step_started" && event.readings.length) reads.set(event.agent, event.readings.map((one) => one.agent));
  }
  const known = agents.map(({ name, model }) => ({ name, model, reads: reads.get(name) ?? [] }));
  const model = { id: past.pipeline, stairstream: { policy, answer: past.events[0].answer, agents: known } };
  const round = new Round(questionOf(past), model, "");
  round.pastId = past.id;
  const run = new Run("staircase", policy === "none" ? "Single model" : policy === "wait" ? "Wait" : `Staircase (${policy})`);
  run.askedAt = 0;
  for (const event of past.events) run.take(event);
  run.totals = past.stairstream;
  round.runs.push(run);
  return round;
}
