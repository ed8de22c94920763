// A text that grows, drawn as blocks. Finished blocks are never touched again, only the last one is drawn anew; and
// every text node knows where it stands in the source, both ways.

import { make } from "./dom.js";
import { blocksOf, runsOf } from "./markdown.js";
import { lastAtOrBefore } from "./words.js";

export class Prose {
  constructor(element) {
    this.element = element;
    this.text = "";
    this.blocks = []; // {start, element, nodes: [{node, from}]}
    this.starts = new WeakMap(); // of text nodes, in the source
    this.tail = null; // the block that may still change, as markdown.js gave it
  }

  /** The text is now this; it must begin with what it was. Returns whether anything was drawn. */
  update(text) {
    if (text.length === this.text.length) return false;
    this.text = text;
    const found = blocksOf(text, this.tail?.start ?? 0, this.tail?.goesOn ? this.tail : null);
    if (!found.length) return false;
    if (this.tail) this.blocks.pop().element.remove();
    const shown = document.createDocumentFragment();
    for (const block of found) shown.append(this.add(block));
    this.element.append(shown);
    this.tail = found.at(-1);
    return true;
  }

  add(block) {
    const element = elementOf(block);
    const nodes = [];
    if (block.kind === "code" || block.kind === "table") {
      this.addText(element.lastChild ?? element, block.from, block.to, nodes);
    } else if (block.kind !== "rule") {
      for (const run of runsOf(this.text, block.from, block.to)) {
        let inside = element;
        for (const tag of run.style) {
          // runs of one style that follow each other could share an element; few do
          const inner = make(tag);
          inside.append(inner);
          inside = inner;
        }
        this.addText(inside, run.from, run.to, nodes);
      }
    }
    this.blocks.push({ start: block.start, element, nodes });
    return element;
  }

  addText(parent, from, to, nodes) {
    const node = document.createTextNode(this.text.slice(from, to));
    parent.append(node);
    nodes.push({ node, from });
    this.starts.set(node, from);
  }

  /** The position in the source of a position in the page; null if it is not in this text. */
  positionOf(node, offset) {
    const start = this.starts.get(node);
    return start === undefined ? null : start + offset;
  }

  /** A range of the page for [from, to) of the source; null if nothing of it is drawn. */
  rangeOf(from, to) {
    const first = this.nodeAt(from, true);
    const last = this.nodeAt(to, false);
    if (to <= from || !first || !last) return null;
    const range = document.createRange();
    range.setStart(first.node, first.offset);
    range.setEnd(last.node, last.offset);
    return range.collapsed ? null : range;
  }

  /** The element of the block that holds that position. */
  blockAt(position) {
    const found = lastAtOrBefore(this.blocks.map((block) => block.start), position);
    return this.blocks[Math.max(0, found)]?.element ?? null;
  }

  nodeAt(position, isStart) {
    let number = lastAtOrBefore(this.blocks.map((block) => block.start), isStart ? position : position - 1);
    for (number = Math.max(0, number); number >= 0 && number < this.blocks.length; number += isStart ? 1 : -1) {
      const { nodes } = this.blocks[number];
      if (!nodes.length) continue;
      const found = lastAtOrBefore(nodes.map((one) => one.from), isStart ? position : position - 1);
      const { node, from } = nodes[Math.max(0, found)];
      return { node, offset: Math.max(0, Math.min(node.data.length, position - from)) };
    }
    return null;
  }
}

function elementOf(block) {
  const goesOn = block.goesOn ? " goes-on" : "";
  switch (block.kind) {
    case "code": {
      const code = make("code", { dir: "ltr" });
      const label = block.fence?.language && !block.goesOn ? make("span", { class: "language" }, block.fence.language) : null;
      return make("pre", { class: `block${goesOn}` }, label, code);
    }
    case "heading":
      return make("p", { class: `block heading h${Math.min(4, block.level)}${goesOn}`, dir: "auto", role: "heading", "aria-level": block.level + 2 });
    case "item":
      return make("p", { class: `block item d${block.depth}${goesOn}`, dir: "auto", "data-mark": block.goesOn ? "" : markOf(block.mark) });
    case "quote":
      return make("blockquote", { class: `block${goesOn}`, dir: "auto" });
    case "table":
      return make("pre", { class: `block table${goesOn}`, dir: "auto" });
    case "rule":
      return make("hr", { class: "block" });
    default:
      return make("p", { class: `block${goesOn}`, dir: "auto" });
  }
}

const markOf = (mark) => (/\d/.test(mark) ? mark : "•");
