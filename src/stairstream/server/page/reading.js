// What had been read when a word was written: a slider over the steps, a sentence, and marks in the texts.

import { make, set, write } from "./dom.js";
import { list, percent, plural, seconds } from "./format.js";

const MARKS = ["step", "fresh", "later"];
const canMark = typeof Highlight === "function" && CSS.highlights !== undefined;

export class Reading {
  /** `on.step(index)` is called with the index of the chosen step, null for none. */
  constructor(on) {
    this.on = on;
    this.slider = make("input", { type: "range", id: "steps", min: 0, max: 0, step: 1, input: () => on.step(Number(this.slider.value)) });
    this.clear = make("button", { type: "button", class: "quiet small", click: () => on.step(null) }, "Show all");
    this.caption = make("p", { class: "caption" });
    this.element = make(
      "div",
      { class: "reading" },
      make("div", { class: "controls" }, make("label", { for: "steps" }, "Step"), this.slider, this.clear),
      this.caption,
    );
  }

  /** Show a step of a run, or none. `panels` are those of its lanes, by name. */
  update(run, index, panels) {
    const steps = run.answer?.steps ?? [];
    const hasSteps = steps.length > 0 && steps[0].readings.length > 0;
    this.element.hidden = !hasSteps;
    this.clear.hidden = index === null;
    set(this.slider, "max", Math.max(0, steps.length - 1));
    const step = index === null ? null : steps[index];
    if (!step) {
      this.slider.classList.add("unset");
      this.slider.value = steps.length - 1;
      set(this.slider, "aria-valuetext", "none chosen");
      write(this.caption, "Click any words of the answer, or a step of the staircase: you see what had been read when they were written.");
      clearMarks();
      return;
    }
    this.slider.classList.remove("unset");
    this.slider.value = index;
    const text = describeStep(run, index);
    write(this.caption, text);
    set(this.slider, "aria-valuetext", text);
    this.mark(run, index, panels);
  }

  mark(run, index, panels) {
    if (!canMark) return;
    const { words, steps, name } = run.answer;
    const marks = { step: [], fresh: [], later: [] };
    const from = steps[index].from;
    const to = steps[index + 1]?.from ?? words.text.length;
    const add = (kind, panel, start, end) => {
      const range = panel?.prose.rangeOf(start, end);
      if (range) marks[kind].push(range);
    };
    add("step", panels.get(name), from, to);
    add("later", panels.get(name), to, words.text.length);
    for (const [agent, panel] of panels) {
      const lane = run.lanes.get(agent);
      if (agent === name || !lane) continue;
      const reading = steps[index].readings.find((one) => one.agent === agent);
      if (!reading) {
        if (run.read.includes(lane)) add("later", panel, 0, lane.words.text.length);
        continue;
      }
      add("fresh", panel, lane.unitRead(reading.start), lane.unitRead(reading.end));
      add("later", panel, lane.unitRead(reading.end), lane.words.text.length);
    }
    for (const kind of MARKS) CSS.highlights.set(kind, new Highlight(...marks[kind]));
  }
}

export function clearMarks() {
  if (canMark) for (const kind of MARKS) CSS.highlights.delete(kind);
}

function describeStep(run, index) {
  const step = run.answer.steps[index];
  const fresh = step.readings.reduce((sum, one) => sum + one.end - one.start, 0);
  const shares = step.readings.map((one) => {
    const whole = Math.max(run.lanes.get(one.agent).words.length, one.end);
    return `${percent(whole ? one.end / whole : 1)} of ${one.agent}`;
  });
  const which = index === 0 ? "The first words" : `Update ${index}`;
  const last = run.answer.steps.length - 1;
  const of = index > 0 && run.isOver ? ` of ${last}` : "";
  const isWhole = step.readings.every((one) => one.is_final);
  const known = isWhole ? `all that ${list(step.readings.map((one) => one.agent))} wrote` : list(shares);
  return `${which}${of}, at ${seconds(step.atS)}: written knowing ${known}. ${plural(fresh, "new character")} read.`;
}
