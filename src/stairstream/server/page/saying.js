// Describes a run in sentences: above all the reason for its time to first token.

import { clause, list, percent, plural, seconds, sentence } from "./format.js";
import { allEndedS, NOTED_GAP_S, seenShare } from "./run.js";

/** Sentences about the first of a round's runs, beside the others: {lead, more}, those about its first token first. */
export function sayWhy(runs) {
  const [run] = runs;
  const { answer } = run;
  if (!answer) return { lead: [], more: [] };
  if (answer.firstS === null) return { lead: [run.isOver ? wordless(run) : waiting(run)], more: [] };
  const more = [beside(runs), ...(run.isOver ? [seen(run), gap(run)] : [])];
  return { lead: [begun(run), instead(run)].filter(Boolean), more: more.filter(Boolean) };
}

function wordless(run) {
  if (run.isBroken) return "There is no answer.";
  return run.reason === "cancelled" ? "It was stopped before its first token." : "The answer is empty.";
}

function waiting(run) {
  const writing = [...run.lanes.values()].filter((lane) => lane !== run.answer && lane.numTokens);
  if (!writing.length) return "No agent has written yet.";
  return `${list(writing.map((lane) => lane.name))} ${writing.length === 1 ? "writes" : "write"}; ${run.answer.name} has not begun.`;
}

function begun(run) {
  const { answer } = run;
  const [step] = answer.steps;
  if (!step?.readings.length) return `The first token came after ${seconds(answer.firstS)}: one model, which reads no other agent.`;
  if (step.readings.every((one) => one.is_final)) {
    return `The first token came after ${seconds(answer.firstS)}: the answering agent, ${answer.name}, had waited until ${plural(step.readings.length, "agent")} had ended.`;
  }
  const read = step.readings.filter((one) => one.end > 0);
  const tokens = read.map((one) => tokensAt(run.lanes.get(one.agent), step.atS));
  const least = Math.min(...tokens);
  const most = Math.max(...tokens);
  const many = least === most ? plural(most, "token") : `${least} to ${most} tokens`;
  const who = read.length === 1 ? read[0].agent : `each of ${list(read.map((one) => one.agent))}`;
  return `The first token came after ${seconds(answer.firstS)}, because the answering agent, ${answer.name}, began when it had read ${many} of ${who}.`;
}

function tokensAt(lane, atS) {
  let index = 0;
  while (index < lane.timesS.length && lane.timesS[index] <= atS) index++;
  return index ? lane.sizes[index - 1] : 0;
}

/** The time to first token if the agent had waited. */
function instead(run) {
  const endedS = allEndedS(run);
  if (endedS === null || run.answer.firstS === null || endedS < run.answer.firstS + 0.2) return null;
  return `Had it waited for them to end, there would have been no token before ${seconds(endedS)}.`;
}

function seen(run) {
  const share = seenShare(run);
  const updates = run.answer.steps.length - 1;
  if (share === null || updates < 1) return null;
  return `It read more in ${plural(updates, "update")}; on average a token was written knowing ${percent(share)} of what there was to read in the end.`;
}

function gap(run) {
  const { longestGapS, writtenGapS } = run.answer;
  const shown = longestGapS > NOTED_GAP_S ? `Its longest gap was ${seconds(longestGapS)}` : null;
  if (writtenGapS > longestGapS + 0.1) {
    return `${shown ?? "It was shown evenly"}; it was written with gaps of up to ${seconds(writtenGapS)}.`;
  }
  return shown && `${shown}.`;
}

function beside(runs) {
  const heard = runs.filter((run) => run.answer?.firstS !== null && run.answer);
  if (heard.length < 2) return null;
  const parts = heard.map((run) => `${run.title.toLowerCase()} ${seconds(run.answer.firstS)}`);
  const apartS = (Math.max(...runs.map((run) => run.askedAt)) - Math.min(...runs.map((run) => run.askedAt))) / 1000;
  return `Time to first token side by side${apartS < 0.5 ? ", all asked at once" : ""}: ${parts.join(", ")}.`;
}

/** What went wrong in a round, as {text, isMild}: mild where there is an answer. */
export function sayProblems(runs) {
  return runs.flatMap((run) => {
    const title = runs.length > 1 ? `${run.title}: ` : "";
    const found = [];
    if (run.isBroken) found.push({ text: [broken(run), again(run)].filter(Boolean).join(" "), isMild: false });
    if (run.reason === "deadline" || run.reason === "budget") found.push({ text: `Ended early: its ${run.reason === "deadline" ? "time" : "budget"} was up.`, isMild: true });
    if (run.degraded.length) found.push({ text: `The answer had to do without something: ${run.degraded.map(clause).join("; ")}.`, isMild: !run.isBroken });
    return found.map(({ text, isMild }) => ({ text: title + text, isMild }));
  });
}

function broken({ answer, error, reason }) {
  const kept = answer?.words.length ? " What had been said stays." : "";
  const cause = error ? sentence(error) : "";
  if (reason === "shutdown" || !(answer?.reason === "failed" || answer?.reason === "dropped")) return `${cause || "The run broke off."}${kept}`;
  const when = kept ? `broke off after ${plural(answer.numTokens, "token")}` : "failed before its first token";
  return `The answering agent, ${answer.name}, ${when}${cause ? `: ${cause}` : "."}${kept}`;
}

const again = (run) => (run.retryAfterS ? `Try again in ${seconds(run.retryAfterS)}.` : "");
