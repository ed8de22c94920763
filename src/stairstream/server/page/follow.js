// One run's events from its first to its last, over as many connections as that takes.

import { ApiFailure, Unreachable } from "./api.js";
import { SseDecoder } from "./sse.js";

const KEEP_S = 60; // how long a run that is not durable lives on when the connection is lost
const FIRST_PAUSE_S = 0.2; // before the run is looked for again; each pause is twice as long as the one before
const MOST_PAUSE_S = 15;
const SOUGHT_S = 600; // how long it is looked for
const TOLD_S = 1; // an outage up to this long is only a pause
const SILENCE_S = 40; // the server says something every 15 seconds: so much silence is a connection that is dead

/**
 * Asks, and calls `on.event(event)` for each event in order, `on.lost()` and `on.back()` around a long outage.
 * Resolves when the run is over; throws ApiFailure, Unreachable, or AbortError from `signal`.
 */
export async function follow(api, body, on, signal) {
  const run = { id: null, lastId: "", isOver: false };
  let response = await start(api, body, signal);
  let outage = new Outage(on);
  for (;;) {
    const before = run.lastId;
    const cause = await readAll(response, run, on);
    if (run.isOver) return;
    signal.throwIfAborted();
    if (run.id === null) throw cause ?? new Unreachable("The connection was lost before the run began.");
    if (run.lastId !== before) outage = new Outage(on);
    response = await attachAgain(api, run, outage, signal);
    on.back();
  }
}

/** The time since a run brought its last event: the pauses until it is looked for again. */
class Outage {
  constructor(on) {
    this.on = on;
    this.since = performance.now();
    this.pauseS = FIRST_PAUSE_S;
  }

  /** Waits for the next try; throws Unreachable if there is to be none. */
  async pause(signal) {
    const lastedS = (performance.now() - this.since) / 1000;
    if (lastedS >= SOUGHT_S) {
      throw new Unreachable(`The connection was lost, and the server did not come back within ${SOUGHT_S / 60} minutes.`);
    }
    if (lastedS >= TOLD_S) this.on.lost();
    await sleep(Math.min(this.pauseS, SOUGHT_S - lastedS), signal);
    this.pauseS = Math.min(2 * this.pauseS, MOST_PAUSE_S);
  }
}

/** Asks for a run that outlives a lost connection, or where the server keeps none so long, for one that does not. */
async function start(api, body, signal) {
  try {
    return await api.start({ ...body, stairstream: { ...body.stairstream, keep_s: KEEP_S } }, signal);
  } catch (error) {
    if (error.param !== "stairstream.keep_s") throw error;
    return api.start(body, signal);
  }
}

/** Reads a response to its end; returns what broke it off, if anything did. */
async function readAll(response, run, on) {
  const decoder = new SseDecoder();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await withinSilence(reader);
      if (done) return null;
      for (const { id, data } of decoder.feed(value)) take(id, JSON.parse(data), run, on);
    }
  } catch (error) {
    if (error instanceof ApiFailure || error.name === "AbortError") throw error;
    return new Unreachable("The connection was lost.");
  }
}

/** What the reader has next; throws if it has nothing for too long. */
async function withinSilence(reader) {
  let timer;
  const silence = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error("silent")), SILENCE_S * 1000);
  });
  try {
    return await Promise.race([reader.read(), silence]);
  } catch (error) {
    reader.cancel().catch(() => {}); // it may be broken already
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

function take(id, event, run, on) {
  if (event.error && !event.type) throw new ApiFailure(0, event.error.message);
  if (id !== "") run.lastId = id;
  if (event.type === "run_started") run.id = event.run_id;
  if (event.type === "run_ended") run.isOver = true;
  on.event(event);
}

async function attachAgain(api, run, outage, signal) {
  for (;;) {
    await outage.pause(signal);
    try {
      const response = await api.attach(run.id, run.lastId, signal);
      if (response.status !== 204) return response;
      throw new ApiFailure(204, GONE);
    } catch (error) {
      if (error.status === 404) throw new ApiFailure(404, GONE);
      if (!mayPass(error)) throw error;
    }
  }
}

const GONE = "The rest of the run was lost with its server; only runs of durable pipelines survive that.";
const mayPass = (error) =>
  error instanceof Unreachable || (error instanceof ApiFailure && (error.status === 429 || error.status >= 500));

function sleep(delayS, signal) {
  return new Promise((resolve, reject) => {
    const leave = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", leave);
      resolve();
    }, delayS * 1000);
    signal.addEventListener("abort", leave, { once: true });
  });
}
