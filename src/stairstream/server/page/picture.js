// The picture of a round: time runs to the right, each agent has a lane, and the answer's is a staircase: its height is
// how much it had read.

import { draw, make, set, write } from "./dom.js";
import { bars, flows, outline, slope, stairs } from "./drawing.js";
import { spanFor, tickLabel, ticksFor } from "./axis.js";
import { plural, seconds } from "./format.js";
import { allEndedS, lanesInOrder, NOTED_GAP_S } from "./run.js";
import { lastAtOrBefore } from "./words.js";

const ANSWER = { height: 116, top: 20, ground: 92, bar: 95, foot: 101 };
const ALONE = { height: 48, top: 20, ground: 24, bar: 27, foot: 33 };
const UPSTREAM = { height: 34, top: 5, ground: 31 };
const WORDLESS = { cancelled: "stopped", shutdown: "stopped with the server" };
const LEGEND = "Time runs to the right. The staircase rises with what the answer had read, the slopes with what the others had written; the bar below the stairs is the answer being said.";

export class Picture {
  /** `on.step(run, index)` is called for a click on a step, `on.run(run)` for one on a run's title. */
  constructor(on) {
    this.on = on;
    this.strips = new Map();
    this.width = 0;
    this.spanS = 2;
    this.axis = draw("svg", { class: "axis", height: 22, "aria-hidden": "true" });
    this.plot = make("div", { class: "plot" }, this.axis);
    this.body = make("div", { class: "strips" });
    this.element = make("div", { class: "picture" }, this.body, make("div", { class: "row" }, make("div", { class: "who" }), this.plot, make("div", { class: "size" })), make("p", { class: "legend" }, LEGEND));
    this.watch = new ResizeObserver(() => this.resize());
    this.watch.observe(this.plot);
  }

  close() {
    this.watch.disconnect();
  }

  resize() {
    this.width = this.plot.clientWidth;
    for (const strip of this.strips.values()) strip.drawn = -1;
    this.spanDrawn = null;
    this.on.resized();
  }

  add(run, reads, models) {
    const strip = new Strip(run, reads, models, this.on);
    for (const { askedAt } of this.strips.keys()) strip.firstAskedAt = Math.min(strip.firstAskedAt, askedAt);
    this.strips.set(run, strip);
    this.body.append(strip.element);
  }

  /** Draw what has changed; `selected` is {run, index}, index null for none. */
  update(selected) {
    if (!this.width) return;
    const runs = [...this.strips.keys()];
    const isOver = runs.every((run) => run.isOver);
    this.body.classList.toggle("several", runs.length > 1);
    this.spanS = spanFor(Math.max(isOver ? 0.1 : 1, ...runs.map((run) => run.clockS())), isOver);
    const x = (s) => (s / this.spanS) * (this.width - 1);
    const inverse = (pixel) => (pixel / (this.width - 1)) * this.spanS;
    const isRescaled = this.spanDrawn !== this.spanS;
    if (isRescaled) this.drawAxis(x);
    for (const strip of this.strips.values()) {
      const index = selected.run === strip.run ? selected.index : null;
      strip.element.classList.toggle("chosen", selected.run === strip.run && runs.length > 1);
      set(strip.button, "aria-pressed", selected.run === strip.run);
      strip.button.disabled = runs.length < 2;
      if (isRescaled || strip.drawn !== strip.run.version || !strip.run.isOver || strip.index !== index) {
        strip.update(x, inverse, this.width, index);
      }
    }
  }

  drawAxis(x) {
    this.spanDrawn = this.spanS;
    const ticks = ticksFor(this.spanS, Math.max(3, Math.floor(this.width / 74)));
    this.axis.replaceChildren(
      ...ticks.flatMap((s) => {
        const isLast = x(s) > this.width - 20;
        const anchor = s === 0 ? "start" : isLast ? "end" : "middle";
        return [draw("path", { d: `M${x(s)} 0V5` }), draw("text", { x: x(s), y: 17, "text-anchor": anchor }, tickLabel(s))];
      }),
    );
  }
}

/** One run's lanes under its title. */
class Strip {
  constructor(run, reads, models, on) {
    this.run = run;
    this.reads = reads;
    this.models = models;
    this.on = on;
    this.drawn = -1;
    this.index = null;
    this.firstAskedAt = run.askedAt;
    this.rows = new Map();
    this.headline = make("span", { class: "headline" });
    this.button = make("button", { type: "button", class: "title", click: () => on.run(run) }, run.title);
    this.lanes = make("div", { class: "lanes" });
    this.element = make("section", { class: `strip ${run.key}`, "aria-label": run.title }, make("div", { class: "head" }, this.button, this.headline), this.lanes);
  }

  update(x, inverse, width, index) {
    const { run } = this;
    this.drawn = run.version;
    this.index = index;
    write(this.headline, headlineOf(run, this.firstAskedAt));
    if (!run.answer) return;
    if (!this.rows.size) this.addRows();
    const nowS = run.clockS();
    for (const row of this.rows.values()) row.update(run, nowS, x, inverse, width, index);
  }

  addRows() {
    lanesInOrder(this.run, this.reads).forEach((lane, number) => {
      const isAnswer = lane === this.run.answer;
      const model = this.models.get(lane.name);
      const about = [isAnswer ? "the answer" : null, model === lane.name ? null : model].filter(Boolean).join(" · ");
      const colour = `c${number === 0 ? 0 : 1 + ((number - 1) % 6)}`;
      const row = isAnswer ? new AnswerRow(lane, this.run, this.on) : new UpstreamRow(lane);
      const who = make("div", { class: "who" }, make("i", { class: "dot" }), make("span", { class: "name", title: lane.name }, lane.name), make("span", { class: "model", title: about }, about));
      row.size = make("div", { class: "size" });
      this.lanes.append(make("div", { class: `row ${colour}${isAnswer ? " speaks" : ""}` }, who, make("div", { class: "plot" }, row.svg), row.size));
      this.rows.set(lane.name, row);
    });
  }
}

class AnswerRow {
  constructor(lane, run, on) {
    this.lane = lane;
    this.most = 1;
    this.parts = [];
    this.area = draw("path", { class: "area" });
    this.picked = draw("rect", { class: "picked" });
    this.line = draw("path", { class: "line" });
    this.waits = draw("path", { class: "waits" });
    this.thinks = draw("path", { class: "thinks" });
    this.said = draw("path", { class: "said" });
    this.gap = draw("path", { class: "gap" });
    this.gapText = draw("text", { class: "gap-text", "text-anchor": "middle" });
    this.leader = draw("path", { class: "leader" });
    this.first = draw("path", { class: "first" });
    this.firstText = draw("text", { class: "first-text", y: 12 });
    this.broken = draw("path", { class: "broken" });
    this.later = draw("path", { class: "later" });
    this.laterText = draw("text", { class: "later-text", y: 12 });
    this.svg = draw(
      "svg",
      { class: "answer-lane", height: ALONE.height, role: "img", click: (event) => this.click(event, run, on) },
      ...[this.area, this.picked, this.line, this.later, this.waits, this.thinks, this.said, this.gap, this.gapText],
      ...[this.leader, this.first, this.laterText, this.firstText, this.broken],
    );
  }

  click(event, run, on) {
    const at = event.clientX - this.svg.getBoundingClientRect().left;
    const index = lastAtOrBefore(this.parts.map((part) => part.left), at);
    if (index >= 0) on.step(run, index);
    else on.run(run);
  }

  update(run, nowS, x, inverse, width, index) {
    const { lane } = this;
    const { steps } = lane;
    const hasRead = steps.length > 0 && steps[0].readings.length > 0;
    const box = hasRead ? ANSWER : ALONE;
    const endS = lane.endedS ?? nowS;
    const available = run.read.reduce((sum, one) => sum + Math.max(one.words.length, one.maxRead), 1);
    this.most = grown(this.most, available, run.isOver);
    set(this.svg, "height", box.height);
    set(this.svg, "aria-label", describe(run));
    const y = (characters) => box.ground - (characters / this.most) * (box.ground - box.top);
    this.parts = hasRead ? stairs(run, endS, x, y) : [];
    const top = outline(this.parts, box.ground);
    set(this.area, "d", top ? `${top}V${box.ground}Z` : "");
    set(this.line, "d", top);
    this.drawPicked(index, box);
    const isSilent = lane.firstS === null;
    set(this.waits, "d", `M0 ${box.bar + 3}H${x(isSilent ? endS : lane.firstS)}`);
    set(this.thinks, "d", bars(flows(lane.thoughtTimesS, 0.01), x, box.bar + 1, box.foot - 1));
    set(this.said, "d", bars(flows(lane.timesS, inverse(2), lane.paced), x, box.bar, box.foot));
    this.drawGap(x, box);
    this.drawFirst(x, box, width);
    this.drawLater(run, x, box, width);
    set(this.broken, "d", cross(lane, x(endS), box.foot));
    write(this.size, lane.reason === "dropped" ? "failed" : lane.numTokens ? plural(lane.numTokens, "token") : "");
  }

  drawPicked(index, box) {
    const part = index === null ? undefined : this.parts[index];
    this.picked.classList.toggle("shown", part !== undefined);
    if (!part) return;
    set(this.picked, "x", part.left);
    set(this.picked, "width", Math.max(2, part.right - part.left));
    set(this.picked, "y", Math.min(part.top, box.ground - 3));
    set(this.picked, "height", Math.max(3, box.ground - part.top));
  }

  drawGap(x, box) {
    const { gap } = this.lane;
    const isNoted = gap !== null && this.lane.longestGapS >= NOTED_GAP_S;
    const at = isNoted ? [x(gap.fromS), x(gap.toS)] : [0, 0];
    set(this.gap, "d", isNoted ? `M${at[0]} ${box.foot + 1}v3H${at[1]}v-3` : "");
    set(this.gapText, "x", Math.max(30, (at[0] + at[1]) / 2));
    set(this.gapText, "y", box.foot + 15);
    write(this.gapText, isNoted ? `gap ${seconds(this.lane.longestGapS)}` : "");
  }

  drawFirst(x, box, width) {
    const { firstS } = this.lane;
    if (firstS === null) return;
    const at = x(firstS);
    const middle = (box.bar + box.foot) / 2;
    const isLeft = at < width - 130;
    this.firstEnd = isLeft ? at + 130 : at;
    set(this.first, "d", `M${at} ${middle - 7}l7 7l-7 7l-7 -7z`);
    set(this.leader, "d", `M${at} 3V${middle - 7}`);
    set(this.firstText, "x", isLeft ? at + 5 : at - 5);
    set(this.firstText, "text-anchor", isLeft ? "start" : "end");
    write(this.firstText, `first token ${seconds(firstS)}`);
  }

  /** Where `wait` could have begun at the earliest. */
  drawLater(run, x, box, width) {
    const { firstS } = this.lane;
    const endedS = allEndedS(run);
    const isShown = endedS !== null && firstS !== null && endedS > firstS + 0.2;
    const at = isShown ? x(endedS) : 0;
    set(this.later, "d", isShown ? `M${at} 3V${box.foot}` : "");
    const label = "wait: no token before this";
    const isRight = at + 160 < width;
    const hasRoom = isShown && (isRight ? at : at - 160) > (this.firstEnd ?? 0);
    set(this.laterText, "x", isRight ? at + 5 : at - 5);
    set(this.laterText, "text-anchor", isRight ? "start" : "end");
    write(this.laterText, hasRoom ? label : "");
  }
}

class UpstreamRow {
  constructor(lane) {
    this.lane = lane;
    this.area = draw("path", { class: "area" });
    this.line = draw("path", { class: "line" });
    this.waits = draw("path", { class: "waits" });
    this.thinks = draw("path", { class: "thinks" });
    this.reads = draw("path", { class: "reads" });
    this.read = draw("path", { class: "read" });
    this.broken = draw("path", { class: "broken" });
    this.svg = draw("svg", { height: UPSTREAM.height, "aria-hidden": "true" }, this.area, this.line, this.waits, this.thinks, this.reads, this.read, this.broken);
  }

  update(run, nowS, x, inverse, width, index) {
    const { lane } = this;
    const { top, ground } = UPSTREAM;
    const endS = lane.endedS ?? nowS;
    const most = Math.max(...[...run.lanes.values()].filter((one) => one !== run.answer).map((one) => one.numTokens), 1);
    this.most = grown(this.most ?? 8, most, run.isOver);
    const y = (tokens) => ground - (tokens / this.most) * (ground - top);
    const { line, area } = slope(lane, Math.min(endS, nowS), x, y, inverse);
    set(this.area, "d", area);
    set(this.line, "d", line);
    set(this.waits, "d", `M0 ${ground - 1}H${x(lane.firstS ?? endS)}`);
    set(this.thinks, "d", bars(flows(lane.thoughtTimesS, 0.01), x, ground - 4, ground));
    const steps = run.answer.steps.filter((step) => step.readings.some((one) => one.agent === lane.name));
    const isDense = steps.length * 6 > width;
    set(this.reads, "d", isDense ? "" : steps.map((step) => `M${x(step.atS)} 0V${UPSTREAM.height}`).join(""));
    const step = index === null ? undefined : run.answer.steps[index];
    set(this.read, "d", step ? `M${x(step.atS)} 0V${UPSTREAM.height}` : "");
    set(this.broken, "d", cross(lane, x(endS), ground - 2));
    write(this.size, sizeOf(lane));
  }
}

/** A cross where an agent failed. */
function cross(lane, at, bottom) {
  const hasFailed = lane.reason === "failed" || lane.reason === "dropped";
  return hasFailed ? `M${at - 4} ${bottom - 8}l8 8m0 -8l-8 8` : "";
}

function sizeOf(lane) {
  if (lane.reason === "dropped") return "dropped";
  if (lane.reason === "failed") return "broke off";
  return lane.numTokens ? plural(lane.numTokens, "token") : lane.thoughts.length ? "thinks" : "";
}

/** A scale that grows in steps while a run continues, and fits once it is over. */
function grown(before, needed, isOver) {
  if (isOver) return needed;
  let most = before;
  while (most < needed) most *= 1.5;
  return most;
}

function headlineOf(run, firstAskedAt) {
  const { answer } = run;
  const laterS = (run.askedAt - firstAskedAt) / 1000;
  if (run.isLost) return "connection lost, coming back…";
  if (!answer || answer.firstS === null) {
    if (run.isOver) return WORDLESS[run.reason] ?? "no answer";
    return `no token yet, ${seconds(run.clockS())}`;
  }
  const updates = answer.steps.length - 1;
  const parts = [`first token ${seconds(answer.firstS)}`];
  if (updates > 0) parts.push(plural(updates, "update"));
  if (run.isOver) parts.push(`whole answer ${seconds(run.nowS)}`);
  if (laterS > 0.5) parts.push(`asked ${laterS < 90 ? `${laterS.toFixed(laterS < 10 ? 1 : 0)} s` : `${Math.round(laterS / 60)} min`} later`);
  return parts.join(" · ");
}

/** The picture in words. */
function describe(run) {
  const { answer } = run;
  if (answer.firstS === null) return `${answer.name} has not begun`;
  const read = run.read.length ? `, reading ${plural(run.read.length, "agent")} in ${plural(answer.steps.length, "step")}` : "";
  const gap = answer.longestGapS >= NOTED_GAP_S ? `; longest gap ${seconds(answer.longestGapS)}` : "";
  return `${answer.name}: first token after ${seconds(answer.firstS)}${read}${gap}`;
}
