// The state of one run, from its events. No DOM element here: the drawing code reads it.

import { Words } from "./words.js";

/** A pause up to this long is not felt as one. */
export const STALL_AFTER_S = 0.1;
/** A gap from this on is told to the person. */
export const NOTED_GAP_S = 0.25;

/** One agent. Times in seconds since the run began. */
export class Lane {
  constructor(name) {
    this.name = name;
    this.words = new Words();
    this.thoughts = new Words();
    this.timesS = [];
    this.paced = []; // whether the word at the same index was written before it was shown
    this.sizes = []; // tokens written up to and with the delta at the same index
    this.thoughtTimesS = [];
    this.numTokens = 0;
    this.steps = [];
    this.usage = null;
    this.firstS = null;
    this.gap = null; // the longest: {fromS, toS}
    this.writtenS = null; // when the last word was written, which may be before it was shown
    this.writtenGapS = 0; // the longest gap as written
    this.stallS = 0;
    this.layout = null;
    this.notes = [];
    this.maxRead = 0; // the most characters that anybody has read of it
    this.endedS = null;
    this.reason = null;
    this.error = null;
  }

  get longestGapS() {
    return this.gap ? this.gap.toS - this.gap.fromS : 0;
  }

  /** The position, in units of this lane's text, at which a reading ends: readers may see thoughts, in front. */
  unitRead(character) {
    const forwards = this.thoughts.length && this.maxRead > this.words.length ? this.thoughts.length : 0;
    return this.words.unitAt(character - forwards);
  }
}

export class Run {
  /** `key` is which of a round's runs: "staircase", "wait" or "single". */
  constructor(key, title) {
    this.key = key;
    this.title = title;
    this.id = null;
    this.answer = null; // the lane that answers
    this.lanes = new Map();
    this.startedAt = null; // performance.now() at 0 s
    this.askedAt = null; // performance.now() when it was sent
    this.nowS = 0;
    this.reason = null;
    this.degraded = [];
    this.error = null;
    this.isLost = false;
    this.retryAfterS = null;
    this.totals = null; // what the server says at the end, where it does
    this.version = 0;
  }

  /** Whether it ended without a whole answer, and not because the person stopped it. */
  get isBroken() {
    return this.reason === "failed" || this.reason === "shutdown";
  }

  get isOver() {
    return this.reason !== null;
  }

  /** Seconds since it began: until now, or in all. */
  clockS() {
    if (this.isOver || this.startedAt === null) return this.nowS;
    return Math.max(this.nowS, (performance.now() - this.startedAt) / 1000);
  }

  /** Those that the answer reads, once it has. */
  get read() {
    const step = this.answer?.steps.at(-1);
    return step ? step.readings.map((reading) => this.lanes.get(reading.agent)) : [];
  }

  /** The run broke off on its way here, not by what the server said. */
  breakOff(message, retryAfterS = null) {
    this.end("failed");
    this.error = message;
    this.retryAfterS = retryAfterS;
  }

  /** The person stopped it. */
  stop() {
    this.end("cancelled");
  }

  end(reason) {
    this.nowS = this.clockS();
    this.reason = reason;
  }

  take(event) {
    this.nowS = Math.max(this.nowS, event.at_s ?? 0);
    const take = TAKE[event.type];
    if (take) take(this, event, this.lanes.get(event.agent));
  }
}

const TAKE = {
  run_started(run, event) {
    run.id = event.run_id;
    run.startedAt = performance.now() - event.at_s * 1000;
    for (const name of event.agents) run.lanes.set(name, new Lane(name));
    run.answer = run.lanes.get(event.answer);
  },

  step_started(run, event, lane) {
    for (const reading of event.readings) {
      const upstream = run.lanes.get(reading.agent);
      upstream.maxRead = Math.max(upstream.maxRead, reading.end);
    }
    lane.steps.push({
      step: event.step,
      atS: event.at_s,
      endS: null,
      readings: event.readings,
      from: lane.words.text.length,
      numBefore: lane.numTokens,
    });
  },

  wrote(run, event, lane) {
    lane.words.add(event.start, event.end, event.text);
    said(lane, event);
    if (event.written_s !== undefined) leaveToEarlierSteps(lane, event.written_s);
  },

  called(run, event, lane) {
    said(lane, event);
  },

  thought(run, event, lane) {
    lane.thoughts.add(event.start, event.end, event.text);
    lane.thoughtTimesS.push(event.at_s);
  },

  layout_chosen(run, event, lane) {
    lane.layout = event.layout;
  },

  noted(run, event, lane) {
    lane.notes.push(event.note.text);
  },

  step_ended(run, event, lane) {
    const step = lane.steps.at(-1);
    if (step) step.endS = event.at_s;
    lane.usage = added(lane.usage, event.usage);
  },

  agent_ended(run, event, lane) {
    lane.endedS = event.at_s;
    lane.reason = event.reason;
    lane.error = event.error;
  },

  run_ended(run, event) {
    run.nowS = event.at_s;
    run.reason = event.reason;
    run.degraded = event.degraded;
    run.error = event.error;
  },
};

/** A paced word may be shown after later steps have begun: it comes before their words. */
function leaveToEarlierSteps(lane, writtenS) {
  for (const step of lane.steps) {
    if (step.atS >= writtenS) {
      step.from = lane.words.text.length;
      step.numBefore = lane.numTokens;
    }
  }
}

function said(lane, event) {
  const last = lane.timesS.at(-1);
  const writtenS = event.written_s ?? event.at_s;
  if (lane.writtenS !== null) lane.writtenGapS = Math.max(lane.writtenGapS, writtenS - lane.writtenS);
  lane.writtenS = writtenS;
  if (last === undefined) {
    lane.firstS = event.at_s;
  } else {
    const gapS = event.at_s - last;
    if (gapS > lane.longestGapS) lane.gap = { fromS: last, toS: event.at_s };
    if (gapS > STALL_AFTER_S) lane.stallS += gapS - STALL_AFTER_S;
  }
  lane.numTokens += event.num_tokens;
  lane.timesS.push(event.at_s);
  lane.paced.push(event.written_s !== undefined);
  lane.sizes.push(lane.numTokens);
}

function added(before, usage) {
  if (!before) return usage;
  const isKnown = before.cached_tokens !== null && usage.cached_tokens !== null;
  return {
    prompt_tokens: before.prompt_tokens + usage.prompt_tokens,
    completion_tokens: before.completion_tokens + usage.completion_tokens,
    cached_tokens: isKnown ? before.cached_tokens + usage.cached_tokens : null,
    is_estimate: before.is_estimate || usage.is_estimate,
  };
}

/** Of what the read agents have written until now, the share that had been read at a step. */
export function shareRead(run, step) {
  const whole = step.readings.reduce((sum, one) => sum + Math.max(run.lanes.get(one.agent).words.length, one.end), 0);
  return whole ? step.readings.reduce((sum, one) => sum + one.end, 0) / whole : 1;
}

/** Per token of the answer the share of its references' text that had been read; null without references. */
export function seenShare(run) {
  const { steps, numTokens } = run.answer;
  if (!steps.length || !steps.at(-1).readings.length || !numTokens) return null;
  let sum = 0;
  steps.forEach((step, index) => {
    sum += shareRead(run, step) * ((steps[index + 1]?.numBefore ?? numTokens) - step.numBefore);
  });
  return sum / numTokens;
}

/** When the last of those that the answer reads had ended: earlier `wait` could not have begun. Null: not known. */
export function allEndedS(run) {
  const ends = run.read.map((lane) => (lane.reason === "cancelled" ? null : lane.endedS));
  return ends.length && !ends.includes(null) ? Math.max(...ends) : null;
}

/** The lanes in order: the answer, those that it reads, those that they read... */
export function lanesInOrder(run, reads) {
  const order = [];
  let row = run.answer ? [run.answer.name] : [];
  while (row.length) {
    order.push(...row.filter((name, index) => !order.includes(name) && row.indexOf(name) === index));
    row = row.flatMap((name) => reads.get(name) ?? []).filter((name) => !order.includes(name));
  }
  for (const name of run.lanes.keys()) if (!order.includes(name)) order.push(name);
  return order.map((name) => run.lanes.get(name)).filter(Boolean);
}
