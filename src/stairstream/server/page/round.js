// One question and its runs: what they are (Round), and how they are shown (RoundView).

import { Frame, make, write } from "./dom.js";
import { Fold } from "./fold.js";
import { follow } from "./follow.js";
import { numbersOf, showWidth } from "./numbers.js";
import { Panel } from "./panel.js";
import { Picture } from "./picture.js";
import { Reading, clearMarks } from "./reading.js";
import { lanesInOrder, Run } from "./run.js";
import { sayProblems, sayWhy } from "./saying.js";
import { lastAtOrBefore } from "./words.js";

const TEXT_MS = 30; // between two looks at the texts; more often is not visible
const PHONE = matchMedia("(max-width: 640px)");
const CALM_MS = matchMedia("(prefers-reduced-motion: reduce)").matches ? 500 : 100; // and at the picture

/** A question to a pipeline, as one run or as several side by side. */
export class Round {
  /** `model` is the pipeline as /v1/models describes it, `policy` "" for its own; `messages` are asked, if not just the question. */
  constructor(question, model, policy, messages = [{ role: "user", content: question }]) {
    this.question = question;
    this.messages = messages;
    this.pipeline = model.id;
    this.model = model.stairstream;
    this.policy = policy;
    this.runs = [];
    this.leaving = new AbortController();
    this.pastId = null; // of the first run, where the server has kept it
    this.startedAt = null; // in milliseconds since 1970
    this.reads = new Map(this.model.agents.map((agent) => [agent.name, agent.reads]));
    this.models = new Map(this.model.agents.map((agent) => [agent.name, agent.model]));
    this.changed = () => {};
  }

  get isOver() {
    return this.runs.every((run) => run.isOver);
  }

  /** The pipeline's name, without a policy that it was asked with. */
  get name() {
    return this.pipeline.split(":")[0];
  }

  get policyName() {
    return this.policy || this.model.policy;
  }

  /** Whether its answer reads somebody, so that there is something to compare. */
  get hasReaders() {
    return (this.reads.get(this.model.answer) ?? []).length > 0;
  }

  ask(api) {
    this.startedAt = Date.now();
    const title = titleOf(this.hasReaders ? this.policyName : "none");
    this.start(api, "staircase", title, this.policy ? `${this.pipeline}:${this.policy}` : this.pipeline);
  }

  /** The same question to the same pipeline with `wait`, and to its answering model alone. */
  askBeside(api) {
    if (this.policyName !== "wait") this.start(api, "wait", titleOf("wait"), `${this.name}:wait`);
    this.start(api, "single", titleOf("none"), `${this.name}:single`);
  }

  async start(api, key, title, model) {
    const run = new Run(key, title);
    run.askedAt = performance.now();
    this.runs.push(run);
    const tell = (change) => (event) => {
      change(event);
      run.version++;
      this.changed();
    };
    const on = {
      event: tell((event) => run.take(event)),
      lost: tell(() => (run.isLost = true)),
      back: tell(() => (run.isLost = false)),
    };
    const body = { model, messages: this.messages };
    try {
      await follow(api, body, on, this.leaving.signal);
      run.totals ??= (await api.describe(run.id))?.stairstream ?? null;
    } catch (error) {
      if (error.name === "AbortError") run.stop();
      else run.breakOff(error.message, error.retryAfterS);
    }
    tell(() => (run.isLost = false))();
  }

  /** Ends what still runs, at the server too. */
  stop(api) {
    for (const run of this.runs) if (!run.isOver && run.id !== null) api.cancel(run.id);
    this.leaving.abort();
    this.leaving = new AbortController();
  }
}

/** What a run is called, by its policy; "none" is an answer that reads nobody. */
export const titleOf = (policy) => (policy === "none" ? "Single model" : policy === "wait" ? "Wait for all" : `Staircase (${policy})`);

export class RoundView {
  /** `on.changed()` is called after each drawing, `on.beside()` when the person wants the others too. */
  constructor(round, on) {
    this.round = round;
    this.on = on;
    this.chosen = round.runs[0];
    this.index = null;
    this.panels = new Map(); // of runs: Map of panels by agent
    this.numbered = null;
    this.pictureAt = 0;
    this.frame = new Frame((now) => this.draw(now), TEXT_MS);
    this.picture = new Picture({
      step: (run, index) => this.chooseStep(run, index),
      run: (run) => this.choose(run),
      resized: () => this.refresh(),
    });
    this.reading = new Reading({ step: (index) => this.chooseStep(this.chosen, index) });
    this.lead = make("p", { class: "lead" });
    this.rest = make("p", { class: "rest" });
    this.problems = make("div", { class: "problems" });
    this.answers = make("div", { class: "answers" });
    this.lanes = make("div", { class: "lane-texts" });
    this.lanesTitle = make("h3", { class: "section" }, "What it reads");
    this.numbers = make("div");
    this.beside = make("button", { type: "button", class: "quiet", click: () => on.beside() }, "See it beside wait and the single model");
    const asked = make("h2", { class: "asked", dir: "auto" }, round.question);
    this.asked = new Fold(asked, "the question");
    this.why = make("div", { class: "why" }, this.lead, this.rest);
    this.arrange = () => {
      const texts = [this.problems, this.answers, this.reading.element];
      this.why.after(...(PHONE.matches ? [...texts, this.picture.element] : [this.picture.element, ...texts]));
    };
    this.element = make(
      "section",
      { class: "round", "aria-label": "Answer" },
      asked,
      this.asked.button,
      this.why,
      this.lanesTitle,
      this.lanes,
      this.numbers,
      make("p", { class: "more" }, this.beside),
    );
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.index !== null) this.chooseStep(this.chosen, null);
    });
    this.arrange();
    PHONE.addEventListener("change", this.arrange);
    round.changed = () => this.frame.ask();
    this.refresh();
  }

  close() {
    this.round.changed = () => {};
    this.picture.close();
    PHONE.removeEventListener("change", this.arrange);
    clearMarks();
    this.element.remove();
  }

  refresh() {
    this.pictureAt = 0;
    this.frame.ask();
  }

  choose(run) {
    if (run === this.chosen) return;
    this.chosen = run;
    this.index = null;
    this.numbered = null;
    clearMarks();
    this.refresh();
  }

  chooseStep(run, index) {
    this.choose(run);
    this.index = index;
    const panels = this.panels.get(run);
    const step = run.answer?.steps[index];
    if (step && panels) {
      panels.get(run.answer.name).reveal(step.from);
      for (const reading of step.readings) {
        panels.get(reading.agent)?.reveal(Math.max(0, run.lanes.get(reading.agent).unitRead(reading.end) - 1));
      }
    }
    this.refresh();
  }

  // Drawing, at most once per frame

  draw(now) {
    const { round } = this;
    for (const run of round.runs) if (!this.panels.has(run)) this.addRun(run);
    this.drawTexts();
    const isDue = now - this.pictureAt >= CALM_MS;
    if (isDue) {
      this.pictureAt = now;
      this.drawCalmly();
      this.on.changed();
    }
    if (!round.isOver || !isDue) this.frame.ask();
  }

  drawCalmly() {
    const { round, chosen, index } = this;
    this.picture.update({ run: chosen, index });
    const { lead, more } = sayWhy(round.runs);
    write(this.lead, lead.join(" "));
    write(this.rest, more.join(" "));
    this.why.classList.toggle("over", round.isOver);
    this.drawPanels();
    this.drawProblems();
    this.reading.update(chosen, index, this.panels.get(chosen));
    this.beside.hidden = !round.isOver || round.runs.length > 1 || !round.hasReaders || round.runs[0].answer === null || round.pastId !== null;
    if (chosen.isOver && this.numbered !== chosen.version && chosen.answer) {
      this.numbered = chosen.version;
      this.numbers.replaceChildren(numbersOf(chosen, lanesInOrder(chosen, this.readsOf(chosen)), round.models));
    } else if (!chosen.isOver) {
      this.numbers.replaceChildren();
    }
    this.drawFolds();
  }

  /** What only the layout tells: which texts are longer than their boxes. */
  drawFolds() {
    const folds = [this.asked, ...[...this.panels.values()].flatMap((panels) => [...panels.values()].map((panel) => panel.fold))];
    for (const fold of folds) fold.measure();
    for (const fold of folds) fold.show();
    showWidth(this.numbers);
  }

  drawTexts() {
    for (const run of this.round.runs) {
      const panels = this.panels.get(run);
      if (run.answer && !panels.size) this.addPanels(run, panels);
      for (const [name, panel] of panels) panel.update(run, run.lanes.get(name));
    }
    for (const panels of this.panels.values()) for (const panel of panels.values()) panel.goToEnd();
  }

  drawPanels() {
    const { round, chosen } = this;
    const isBeside = round.runs.length > 1;
    this.answers.classList.toggle("several", isBeside);
    for (const run of round.runs) {
      for (const [name, panel] of this.panels.get(run)) {
        const isAnswer = name === run.answer.name;
        panel.describe(run, run.lanes.get(name));
        panel.element.classList.toggle("chosen", run === chosen);
        if (isAnswer && isBeside) write(panel.title, run.title);
        else if (!isAnswer) panel.element.hidden = run !== chosen;
      }
    }
    this.lanesTitle.hidden = !this.lanes.querySelector("article:not([hidden])");
  }

  addRun(run) {
    this.picture.add(run, this.readsOf(run), this.round.models);
    this.panels.set(run, new Map());
  }

  readsOf(run) {
    return run.key === "single" ? new Map() : this.round.reads;
  }

  addPanels(run, panels) {
    lanesInOrder(run, this.readsOf(run)).forEach((lane, number) => {
      const isAnswer = lane === run.answer;
      const about = {
        name: lane.name,
        model: this.round.models.get(lane.name) === lane.name ? null : this.round.models.get(lane.name),
        colour: `c${number === 0 ? 0 : 1 + ((number - 1) % 6)}`,
        isAnswer,
      };
      const on = { position: (unit) => this.chooseStep(run, lastAtOrBefore(lane.steps.map((step) => step.from), unit)) };
      const panel = new Panel(about, isAnswer && run.lanes.size > 1 ? on : null);
      panels.set(lane.name, panel);
      (isAnswer ? this.answers : this.lanes).append(panel.element);
    });
  }

  drawProblems() {
    const found = sayProblems(this.round.runs);
    const told = JSON.stringify(found);
    if (this.told === told) return;
    this.told = told;
    this.problems.replaceChildren(...found.map(({ text, isMild }) => make("p", { class: `notice${isMild ? " mild" : ""}`, role: "alert" }, text)));
  }
}
