// Describes a run in sentences: above all the reason for its time to first token.

import { list, percent, plural, seconds } from "./format.js";
import { allEndedS, seenShare } from "./run.js";

/** Sentences about the first of a round's runs, beside the others: {lead, more}, those about its first token first. */
export function sayWhy(runs) {
  const [run] = runs;
  const { answer } = run;
  if (!answer) return { lead: [], more: [] };
  if (answer.firstS === null) return { lead: run.isOver ? [] : [waiting(run)], more: [] };
  const more = [beside(runs), ...(run.isOver ? [seen(run), gap(run)] : [])];
  return { lead: [begun(run), instead(run)].filter(Boolean), more: more.filter(Boolean) };
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
  const shown = longestGapS > 0.25 ? `Its longest gap was ${seconds(longestGapS)}` : null;
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
