// The text of one agent, as it comes.

import { make, write } from "./dom.js";
import { Fold } from "./fold.js";
import { plural, seconds } from "./format.js";
import { Prose } from "./prose.js";

const ENDS = {
  length: "cut at its length",
  content_filter: "was cut by a filter",
  tool_calls: "called a tool",
  failed: "broke off",
  dropped: "failed, and was left out",
  cancelled: "stopped: no agent reads it any more",
  agreed: "stopped: other agents agree",
  deadline: "ran out of time",
  budget: "ran out of budget",
  shutdown: "stopped with the server",
};

export class Panel {
  /** `on.position(unit)` is called for a click on the text, where it is wanted. */
  constructor({ name, model, colour, isAnswer }, on = null) {
    this.isAtEnd = true;
    this.top = 0; // where the text was scrolled to last
    this.hasGrown = false;
    this.state = make("span", { class: "state" });
    this.thoughts = null;
    this.text = make("div", { class: "prose" });
    this.prose = new Prose(this.text);
    this.problem = make("p", { class: "problem" });
    this.scroller = make("div", { class: "scroller", tabindex: 0, role: "group", "aria-label": `What ${name} says` }, this.text);
    this.scroller.addEventListener("scroll", () => this.noteScroll(), { passive: true });
    this.fold = new Fold(this.scroller, `what ${name} says`);
    this.title = make("h3", { class: "name" }, name);
    this.head = make("header", {}, make("i", { class: "dot" }), this.title, model ? make("span", { class: "model" }, model) : null, this.state);
    this.element = make("article", { class: `panel ${colour} ${isAnswer ? "answer" : "upstream"}` }, this.head, this.scroller, this.fold.button, this.problem);
    if (on) this.text.addEventListener("click", (event) => this.click(event, on));
  }

  /** Draw what is new of a lane's text. */
  update(run, lane) {
    this.follows ??= !run.isOver; // what is over is read from its beginning
    if (lane.thoughts.length) this.showThoughts(lane);
    this.hasGrown = this.prose.update(lane.words.text);
  }

  /** Go to the end with a text that grows; after the updates of all panels, since this makes the browser lay out. */
  goToEnd() {
    if (this.hasGrown && this.isAtEnd && this.follows) this.scroller.scrollTop = 1e9;
    this.hasGrown = false;
  }

  /** Say how the lane stands. */
  describe(run, lane) {
    write(this.state, stateOf(run, lane));
    write(this.problem, lane === run.answer ? "" : (lane.error ?? "")); // the answer's is told above
  }

  showThoughts(lane) {
    if (!this.thoughts) {
      this.thoughts = document.createTextNode("");
      const body = make("div", { class: "thought", dir: "auto" }, this.thoughts);
      this.text.before(make("details", { class: "thoughts" }, make("summary", {}, "Thoughts"), body));
    }
    const { text } = lane.thoughts;
    if (text.length > this.thoughts.length) this.thoughts.appendData(text.slice(this.thoughts.length));
  }

  noteScroll() {
    const { scrollTop, clientHeight, scrollHeight } = this.scroller;
    const isNear = scrollTop + clientHeight >= scrollHeight - 24;
    this.isAtEnd = isNear || (this.isAtEnd && scrollTop >= this.top); // only a person leaves the end, not the text's growth
    this.top = scrollTop;
  }

  click(event, on) {
    if (!getSelection().isCollapsed) return;
    const at = caretAt(event.clientX, event.clientY);
    const unit = at && this.prose.positionOf(at.node, at.offset);
    if (unit !== null) on.position(unit);
  }

  /** Bring a position of the text into view. */
  reveal(unit) {
    const block = this.prose.blockAt(unit);
    if (!block) return;
    const top = block.offsetTop - this.scroller.offsetTop;
    const { scrollTop, clientHeight } = this.scroller;
    if (top < scrollTop || top + Math.min(block.offsetHeight, clientHeight) > scrollTop + clientHeight) {
      this.scroller.scrollTop = top - clientHeight / 3;
    }
  }
}

function caretAt(x, y) {
  if (document.caretPositionFromPoint) {
    const found = document.caretPositionFromPoint(x, y);
    return found && { node: found.offsetNode, offset: found.offset };
  }
  const range = document.caretRangeFromPoint(x, y);
  return range && { node: range.startContainer, offset: range.startOffset };
}

/** How a lane came to its end, or with the run to none of its own. */
function endOf(run, lane) {
  if (run.reason === "cancelled" && (lane.reason === null || lane.reason === "cancelled")) return "stopped";
  if (lane.reason === null) return "broke off";
  if (lane === run.answer && lane.reason === "dropped") return "failed before its first token";
  return ENDS[lane.reason];
}

function stateOf(run, lane) {
  if (lane.reason !== null) {
    const parts = [endOf(run, lane), lane.numTokens ? `${plural(lane.numTokens, "token")} · ${seconds(lane.endedS)}` : null];
    return parts.filter(Boolean).join(" · ") || "said nothing";
  }
  if (run.isOver) return endOf(run, lane);
  if (lane.numTokens) return `writes · ${plural(lane.numTokens, "token")}`;
  return lane.thoughts.length ? "thinks…" : "waits";
}
