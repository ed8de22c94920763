// Shapes of the picture as SVG paths, from a run's numbers; no element here.

import { NOTED_GAP_S, STALL_AFTER_S } from "./run.js";
import { lastAtOrBefore } from "./words.js";

const round = (number) => Math.round(number * 10) / 10;

/**
 * Where words flowed, as [fromS, toS] without pauses that one would feel; `leastS` is the shortest part worth drawing.
 * Between words that the server spread evenly there is no pause, though they come slowly: `paced` tells which they are.
 */
export function flows(timesS, leastS, paced = []) {
  const parts = [];
  let from = timesS[0];
  for (let index = 1; index <= timesS.length; index++) {
    const last = timesS[index - 1];
    if (index === timesS.length || timesS[index] - last > (paced[index] ? NOTED_GAP_S : STALL_AFTER_S)) {
      parts.push([from, Math.max(last, from + leastS)]);
      from = timesS[index];
    }
  }
  return timesS.length ? parts : [];
}

/** A bar for each part, between two heights. */
export function bars(parts, x, top, bottom) {
  return parts.map(([from, to]) => `M${round(x(from))} ${top}H${round(x(to))}V${bottom}H${round(x(from))}Z`).join("");
}

/** A slope: how much had been written at each time, one point for every two pixels at most. */
export function slope(lane, untilS, x, y, inverse) {
  const { timesS, sizes } = lane;
  if (!timesS.length) return { line: "", area: "" };
  const end = Math.max(untilS, timesS.at(-1));
  const points = [`${round(x(timesS[0]))} ${round(y(0))}`];
  for (let pixel = x(timesS[0]); pixel < x(timesS.at(-1)); pixel += 2) {
    const index = lastAtOrBefore(timesS, inverse(pixel));
    if (index >= 0) points.push(`${round(pixel)} ${round(y(sizes[index]))}`);
  }
  points.push(`${round(x(timesS.at(-1)))} ${round(y(sizes.at(-1)))}`);
  const line = `M${points.join("L")}`;
  const right = round(x(end));
  return { line, area: `${line}H${right}V${round(y(0))}Z` };
}

/** The staircase: for each step {index, left, right, height}, in pixels. */
export function stairs(run, untilS, x, y) {
  const { steps } = run.answer;
  return steps.map((step, index) => ({
    index,
    left: round(x(step.atS)),
    right: round(x(steps[index + 1]?.atS ?? untilS)),
    top: round(y(step.readings.reduce((sum, one) => sum + one.end, 0))),
  }));
}

/** Its outline, from the ground up to the last step. */
export function outline(parts, ground) {
  if (!parts.length) return "";
  return `M${parts[0].left} ${ground}${parts.map(({ top, left, right }) => `L${left} ${top}H${right}`).join("")}`;
}
