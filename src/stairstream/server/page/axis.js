// A time axis of round numbers that grows in steps, so that the picture does not wobble while time passes.

const SPANS_S = [0.5, 1, 2, 3, 4, 6, 8, 10, 12, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 900, 1200, 1800, 3600];

/** The least of these spans in which `untilS` has room; once all is over, what it needs and no more. */
export function spanFor(untilS, isOver) {
  const needed = untilS * 1.02;
  if (isOver) return needed;
  return SPANS_S.find((span) => span >= needed) ?? Math.ceil(needed / 3600) * 3600;
}

/** Where to write numbers on an axis of that span: round ones, about `most` of them at most. */
export function ticksFor(spanS, most) {
  const units = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
  const step = units.find((unit) => spanS / unit <= most) ?? 3600;
  const ticks = [];
  for (let number = 0; number * step <= spanS + 1e-9; number++) ticks.push(number * step);
  return ticks;
}

/** A number as the label of an axis, without more digits than it needs. */
export const tickLabel = (s) => (s >= 120 && s % 60 === 0 ? `${s / 60} min` : `${+s.toFixed(1)}${s === 0 ? "" : " s"}`);
