// The page: a question becomes a round, which is shown; earlier ones are listed.

import { Api } from "./api.js";
import { byId, Frame, make } from "./dom.js";
import { seconds, sentence } from "./format.js";
import { HistoryList, TabHistory } from "./history.js";
import { KeyDialog } from "./key.js";
import { PastList } from "./past.js";
import { Round, RoundView } from "./round.js";
import { Sentences, Speaker } from "./speaking.js";
import { SureDialog } from "./sure.js";

const form = byId("ask");
const question = byId("question");
const pipeline = byId("pipeline");
const policy = byId("policy");
const beside = byId("beside");
const send = byId("send");
const stop = byId("stop");
const stage = byId("stage");
const notice = byId("notice");

const dialog = new KeyDialog();
const api = new Api((problem) => dialog.ask(problem));
const store = new TabHistory();
const history = new HistoryList(byId("history"), store, open);
const sure = new SureDialog();
const past = new PastList(byId("past"), api, { open, ask: askAgain, sure: (...said) => sure.ask(...said), fail: tell });
const speaker = new Speaker(byId("spoken"));
const intro = byId("intro");

const unseen = new Frame(() => changed()); // something happened in a round that is not shown

let models = [];
let view = null;
let spoken = null;

async function load() {
  notice.replaceChildren();
  let hasHistory = false;
  try {
    ({ models, hasHistory } = await api.models());
  } catch (error) {
    tell(error, load);
    return;
  }
  pipeline.replaceChildren(...models.map((model) => make("option", { value: model.id }, model.id)));
  pipeline.disabled = false;
  send.disabled = false;
  showChoices();
  if (hasHistory) past.load();
}

function tell(error, again) {
  const retry = make("button", { type: "button", class: "quiet small", click: again }, "Try again");
  const later = error.retryAfterS ? ` Try again in ${seconds(error.retryAfterS)}.` : "";
  notice.replaceChildren(make("p", { class: "notice" }, `${sentence(error.message)}${later} `, retry));
}

const isCoarse = () => matchMedia("(pointer: coarse)").matches;
const chosenModel = () => models.find((model) => model.id === pipeline.value);

/** A single model has nothing to choose: no policy, nothing beside it. */
function showChoices() {
  const model = chosenModel()?.stairstream;
  const reads = model?.agents.find((agent) => agent.name === model.answer)?.reads ?? [];
  byId("policy-field").hidden = !reads.length;
  byId("beside-field").hidden = !reads.length;
  policy.options[0].textContent = model ? `${model.policy} (default)` : "default";
}

function ask(text) {
  const model = chosenModel();
  if (!text || !model || send.hidden) return;
  const isReader = !byId("policy-field").hidden;
  begin(new Round(text, model, isReader ? policy.value : ""), isReader && beside.checked);
  if (isCoarse()) question.blur(); // the keyboard would hide the answer
}

/** One that the server has kept; the button for it goes away with it. */
function askAgain(round, isBeside) {
  begin(round, isBeside);
  if (isCoarse()) view.element.scrollIntoView();
  else question.focus();
}

/** One from a list, which may stand far below it. */
function open(round) {
  show(round);
  const { top } = view.element.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) view.element.scrollIntoView();
}

function begin(round, isBeside) {
  round.ask(api);
  if (isBeside) round.askBeside(api);
  store.add(round);
  speaker.clear();
  spoken = { round, sentences: new Sentences(), hasBegun: false, isOver: false };
  show(round);
}

function show(round) {
  notice.replaceChildren();
  if (view) {
    view.close();
    view.round.changed = () => unseen.ask();
  }
  intro.remove();
  view = new RoundView(round, {
    changed,
    beside: () => {
      round.askBeside(api);
      round.changed();
      view.element.scrollIntoView();
    },
  });
  stage.append(view.element);
  changed();
}

function changed() {
  const isRunning = view !== null && !view.round.isOver;
  send.hidden = isRunning;
  stop.hidden = !isRunning;
  history.update(view?.round);
  past.update(view?.round, view?.chosen);
  if (spoken !== null) speak(spoken);
}

/** Tells the answer's beginning, its sentences and its end. */
function speak(now) {
  const [run] = now.round.runs;
  if (!run.answer || now.isOver) return;
  if (!now.hasBegun && run.answer.firstS !== null) {
    now.hasBegun = true;
    speaker.say(`First token after ${seconds(run.answer.firstS)}.`);
  }
  now.sentences.take(run.answer.words.text, run.isOver).forEach((text) => speaker.say(text));
  if (run.isOver) {
    now.isOver = true;
    speaker.say(run.isBroken ? "The answer broke off." : `The answer has ended after ${seconds(run.nowS)}.`);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask(question.value.trim());
});
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});
stop.addEventListener("click", () => {
  view?.round.stop(api);
  question.focus();
});
pipeline.addEventListener("change", showChoices);
for (const example of byId("examples").querySelectorAll("button")) {
  example.addEventListener("click", () => {
    if (!question.value.trim()) question.value = example.textContent; // a draft stays
    ask(example.textContent);
  });
}
// runs live on when a connection is lost, but no client comes back to those of a page that is closed
addEventListener("pagehide", () => {
  for (const round of store.list()) round.stop(api);
});

load();
