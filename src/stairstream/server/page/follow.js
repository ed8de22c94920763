// One run's events from its first to its last, over as many connections as that takes.

import { ApiFailure, Unreachable } from "./api.js";
import { SseDecoder } from "./sse.js";

const KEEP_S = 60; // how long the run lives on when the connection is lost
const DELAYS_S = [0.2, 0.5, 1, 2, 4, 8, 15, 25];

/**
 * Asks, and calls `on.event(event)` for each event in order, `on.lost()` and `on.back()` around a lost connection.
 * Resolves when the run is over; throws ApiFailure, Unreachable, or AbortError from `signal`.
 */
export async function follow(api, body, on, signal) {
  const run = { id: null, lastId: "", isOver: false };
  let response = await start(api, body, signal);
  for (;;) {
    const cause = await readAll(response, run, on);
    if (run.isOver) return;
    signal.throwIfAborted();
    if (run.id === null) throw cause ?? new Unreachable("The connection was lost before the run began.");
    on.lost();
    response = await attachAgain(api, run, signal);
    on.back();
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
      const { done, value } = await reader.read();
      if (done) return null;
      for (const { id, data } of decoder.feed(value)) take(id, JSON.parse(data), run, on);
    }
  } catch (error) {
    if (error instanceof ApiFailure || error.name === "AbortError") throw error;
    return new Unreachable("The connection was lost.");
  }
}

function take(id, event, run, on) {
  if (event.error && !event.type) throw new ApiFailure(0, event.error.message);
  if (id !== "") run.lastId = id;
  if (event.type === "run_started") run.id = event.run_id;
  if (event.type === "run_ended") run.isOver = true;
  on.event(event);
}

async function attachAgain(api, run, signal) {
  for (const delay of DELAYS_S) {
    await sleep(delay, signal);
    try {
      const response = await api.attach(run.id, run.lastId, signal);
      if (response.status !== 204) return response;
      throw new ApiFailure(204, "The connection was lost, and the rest of the run with it.");
    } catch (error) {
      if (!mayPass(error)) throw error;
    }
  }
  throw new Unreachable("The connection was lost, and the server did not come back.");
}

const mayPass = (error) => error instanceof Unreachable || (error instanceof ApiFailure && error.status >= 500);

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
