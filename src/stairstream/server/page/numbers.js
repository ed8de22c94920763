// What a run used and cost, as a table.

import { make, write } from "./dom.js";
import { count, money, plural, seconds } from "./format.js";
import { seenShare } from "./run.js";

const COLUMNS = ["Agent", "Model", "First token", "Steps", "Prompt", "Cached", "Written", "Cost"];

/** The table of a run that is over, and a line of what is to be said besides. */
export function numbersOf(run, lanes, models) {
  const totals = run.totals;
  const costs = new Map((totals?.agents ?? []).map((one) => [one.name, one.cost]));
  const spoke = new Map((totals?.agents ?? []).map((one) => [one.name, one.model]));
  const body = lanes.map((lane) =>
    row("td", [
      lane.name,
      spoke.get(lane.name) ?? models.get(lane.name) ?? "",
      lane.firstS === null ? "–" : seconds(lane.firstS),
      count(lane.steps.length),
      ...usageCells(lane.usage),
      money(costs.get(lane.name)),
    ]),
  );
  const usages = lanes.map((lane) => lane.usage).filter(Boolean);
  const whole = usages.length ? usages.reduce(plus) : null;
  const steps = lanes.reduce((sum, one) => sum + one.steps.length, 0);
  const foot = row("td", ["Together", "", "", count(steps), ...usageCells(whole), money(totals?.cost)]);
  return make(
    "div",
    { class: "numbers" },
    make("h3", {}, "Usage and cost", make("span", { class: "hint" })),
    make(
      "div",
      { class: "wide-table", tabindex: 0, role: "group", "aria-label": "Usage and cost" },
      make("table", {}, make("thead", {}, row("th", COLUMNS)), make("tbody", {}, ...body), make("tfoot", {}, foot)),
    ),
    make("p", { class: "small" }, notesOf(run, whole)),
  );
}

/** Say of a table that it is wider than the page. */
export function showWidth(element) {
  const table = element.querySelector(".wide-table");
  if (table) write(element.querySelector(".hint"), table.scrollWidth > table.clientWidth ? " · scroll sideways for the rest" : "");
}

function row(tag, cells) {
  return make("tr", {}, ...cells.map((cell, index) => make(index === 0 ? "th" : tag, { scope: index === 0 && tag === "td" ? "row" : tag === "th" ? "col" : null }, cell)));
}

function usageCells(usage) {
  if (!usage) return ["–", "–", "–"];
  return [count(usage.prompt_tokens), usage.cached_tokens === null ? "?" : count(usage.cached_tokens), count(usage.completion_tokens)];
}

function plus(one, other) {
  const isKnown = one.cached_tokens !== null && other.cached_tokens !== null;
  return {
    prompt_tokens: one.prompt_tokens + other.prompt_tokens,
    completion_tokens: one.completion_tokens + other.completion_tokens,
    cached_tokens: isKnown ? one.cached_tokens + other.cached_tokens : null,
    is_estimate: one.is_estimate || other.is_estimate,
  };
}

function notesOf(run, whole) {
  const { totals } = run;
  const share = seenShare(run);
  return [
    share === null ? "" : `Average share of the references read per token: ${share.toFixed(2)} (1 with wait).`,
    run.answer?.stallS > 0.05 ? `The answer stood still for ${seconds(run.answer.stallS)} in all.` : "",
    totals?.tokens_saved ? `${plural(totals.tokens_saved, "token")} saved by stopping early.` : "",
    whole?.is_estimate ? "Some counts are estimates: an endpoint did not say." : "",
    whole && whole.cached_tokens === null ? "?: an endpoint does not say what it had cached." : "",
    totals && totals.cost === null ? "Cost is not known: a model has no price in the configuration." : "",
    run.id ? `Run ${run.id}.` : "",
  ].filter(Boolean).join(" ");
}
