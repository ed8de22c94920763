// Numbers as people read them.

export const seconds = (s) => `${s < 9.995 ? s.toFixed(2) : s < 99.95 ? s.toFixed(1) : Math.round(s)} s`;

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (number) => whole.format(number);

export const percent = (share) => {
  const rounded = Math.round(share * 100);
  return rounded === 0 && share > 0 ? "under 1 %" : `${rounded} %`;
};

/** Prices have no currency here: that of the configuration. */
export const money = (cost) =>
  cost === null || cost === undefined ? "–" : cost === 0 ? "0" : cost >= 0.01 ? cost.toFixed(3) : cost.toPrecision(2);

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** "a, b and c" */
export const list = (names) =>
  names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;

/** With the full stop that it may lack. */
export const sentence = (text) => (/[.!?…。！？]["')\]]*$/.test(text.trim()) ? text.trim() : `${text.trim()}.`);

/** Without its full stop: a part of a longer sentence. */
export const clause = (text) => text.trim().replace(/[.;]+$/, "");

/** Short facts in a row, of which none is broken over two lines. */
export const joinFacts = (parts) => parts.map((part) => part.replaceAll(" ", "\u00a0")).join("\u00a0· ");

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "numeric", minute: "numeric" });

/** A time of day, with the day if it is not today; `ms` is since 1970. */
export const moment = (ms) => (new Date(ms).toDateString() === new Date().toDateString() ? clock : day).format(ms);
