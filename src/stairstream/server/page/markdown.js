// The Markdown that models write, as values: blocks with their positions in the source. No element, no link, no image,
// no markup passes: what is not known here stays text. Any text takes time in proportion to its length.

const LONGEST = 3000; // a block that is longer is continued in another, so that one that grows stays cheap to draw

const FENCE = /^ {0,3}(`{3,}|~{3,})(?=[^`]*$)/;
const LANGUAGE = /^\s*([\w+#.-]*)/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(?=\S)/;
const ITEM = /^([ \t]*)([-*+•]|\d{1,9}[.)])[ \t]+/;
const QUOTE = /^ {0,3}>[ \t]?/;
const TABLE = /^ {0,3}\|/;
const RULE = /^ {0,3}([-*_])([ \t]*\1){2,}[ \t]*$/;

/**
 * The blocks of `text` from `from` on: {kind, start, end, from, to, ...}. [start, end) is the whole block with its
 * marks, [from, to) what is to be read of it. `continued`: a block that was cut and is continued there.
 */
export function blocksOf(text, from, continued = null) {
  const blocks = [];
  let block = null;
  let fence = continued?.fence ?? null;
  const begin = (kind, start, readFrom, more) => {
    block = { fence: null, ...more, kind, start, from: readFrom, to: readFrom, end: start };
    blocks.push(block);
    return block;
  };
  const grow = (start, end, next) => {
    block = cut(block, begin, start, text, end);
    block.to = end;
    block.end = next;
  };
  if (continued) begin(continued.kind, from, from, { ...kept(continued), goesOn: true });
  for (let start = from, next; start < text.length; start = next) {
    const newline = text.indexOf("\n", start);
    const end = newline < 0 ? text.length : newline;
    next = newline < 0 ? text.length : newline + 1;
    const line = text.slice(start, Math.min(end, start + LONGEST));
    if (fence) {
      if (closesFence(line.trim(), fence)) {
        block.end = next;
        fence = block = null;
      } else {
        grow(start, end, next);
      }
    } else if (line.trim() === "") {
      if (blocks.length) blocks.at(-1).end = next;
      block = null;
    } else if (continued && start === from) {
      grow(start, end, next);
    } else {
      const marks = marksOf(line);
      if (begins(marks.kind, block)) begin(marks.kind, start, start + marks.length, marks);
      fence = marks.fence ?? null;
      if (fence) block.from = block.to = block.end = next;
      else grow(start, end, next);
    }
  }
  return blocks;
}

const kept = ({ level, depth, fence }) => ({ level, depth, fence });

const closesFence = (line, fence) => line.startsWith(fence.mark) && line.replaceAll(fence.mark[0], "") === "";

/** Whether a line of that kind begins a block after this one. */
function begins(kind, block) {
  if (block === null) return true;
  if (kind === "table") return block.kind !== "table";
  return kind !== "paragraph" || ["heading", "rule", "table"].includes(block.kind);
}

function marksOf(line) {
  const fence = FENCE.exec(line);
  if (fence) return { kind: "code", length: line.length, fence: { mark: fence[1], language: LANGUAGE.exec(line.slice(fence[0].length))[1] } };
  const heading = HEADING.exec(line);
  if (heading) return { kind: "heading", length: heading[0].length, level: heading[1].length };
  if (RULE.test(line)) return { kind: "rule", length: line.length };
  const item = ITEM.exec(line);
  if (item) {
    const depth = Math.min(4, Math.floor(item[1].replaceAll("\t", "    ").length / 2));
    return { kind: "item", length: item[0].length, mark: item[2], depth };
  }
  if (TABLE.test(line)) return { kind: "table", length: 0 };
  const quote = QUOTE.exec(line);
  if (quote) return { kind: "quote", length: quote[0].length };
  return { kind: "paragraph", length: 0 };
}

/** The block that continues when the line [start, end) has joined this one: another one as often as it gets too long. */
function cut(block, begin, start, text, end) {
  while (end - block.from > LONGEST) {
    // whole lines first, then at a space, then anywhere but inside a character
    const most = text.slice(block.from, block.from + LONGEST + 1);
    let at = start > block.from ? start : block.from + most.lastIndexOf(" ") + 1;
    if (at <= block.from) at = block.from + LONGEST;
    const unit = text.charCodeAt(at);
    if (unit >= 0xdc00 && unit <= 0xdfff) at--;
    block.to = text[at - 1] === "\n" ? at - 1 : at;
    block.end = at;
    block = begin(block.kind, at, at, { ...kept(block), goesOn: true });
  }
  return block;
}

const STYLES = { "**": "strong", __: "strong", "*": "em", _: "em" };

/** What stands in [from, to) as runs {style: names of elements from the outside in, from, to}, without their marks. */
export function runsOf(text, from, to) {
  const runs = [];
  inline(text, from, to, [], runs);
  return runs;
}

function inline(text, from, to, style, runs) {
  let plain = from;
  const closers = new Closers(text, from, to);
  for (let at = from; at < to; ) {
    const mark = markAt(text, at, to);
    if (text[at] === "\\" && at + 1 < to && "\\`*_#>-.[]()!~|".includes(text[at + 1])) {
      push(runs, style, plain, at);
      plain = at + 1;
      at += 2;
      continue;
    }
    if (mark === null) {
      at = text[at] === "\\" ? at + 1 : nextMark(text, at + 1, to);
      continue;
    }
    const inner = at + mark.length;
    const close = opens(text, at, inner, to) ? closers.after(inner, mark) : Infinity;
    if (close === Infinity) {
      at = inner;
      continue;
    }
    push(runs, style, plain, at);
    if (mark[0] === "`") push(runs, [...style, "code"], inner, close);
    else if (style.length > 3) push(runs, style, inner, close);
    else inline(text, inner, close, [...style, STYLES[mark]], runs);
    at = plain = close + mark.length;
  }
  push(runs, style, plain, to);
}

function push(runs, style, from, to) {
  if (to > from) runs.push({ style, from, to });
}

function nextMark(text, at, to) {
  while (at < to && !"*_`\\".includes(text[at])) at++;
  return at;
}

function markAt(text, at, to) {
  const character = text[at];
  if (character === "`") {
    let end = at;
    while (end < to && text[end] === "`") end++;
    return text.slice(at, end);
  }
  if (character !== "*" && character !== "_") return null;
  return text[at + 1] === character && at + 1 < to ? character + character : character;
}

/** A mark opens in front of a word; a single one only outside of it, as in snake_case and 2*3*4. */
function opens(text, at, inner, to) {
  if (text[at] === "`") return true;
  if (inner >= to || /\s/.test(text[inner])) return false;
  return (text[at] === "*" && inner - at > 1) || at === 0 || !/[\p{L}\p{N}_]/u.test(text[at - 1]);
}

/** Where each mark is closed next in [from, to). Asked from left to right, it looks at each character once per mark. */
class Closers {
  constructor(text, from, to) {
    this.text = text;
    this.from = from;
    this.part = text.slice(from, to);
    this.next = {}; // by mark, where it is closed next; Infinity: nowhere
    this.ticks = null; // by length, the positions of runs of backticks, last first
  }

  after(inner, mark) {
    if (mark[0] === "`") return this.ticksAfter(inner, mark.length);
    if (!(this.next[mark] > inner)) this.next[mark] = this.find(inner + 1, mark);
    return this.next[mark];
  }

  find(start, mark) {
    const { part, text, from } = this;
    for (let at = part.indexOf(mark, start - from); at >= 0; at = part.indexOf(mark, at + 1)) {
      if (closes(text, from + at, mark)) return from + at;
    }
    return Infinity;
  }

  ticksAfter(inner, length) {
    this.ticks ??= this.findTicks();
    const positions = this.ticks.get(length) ?? [];
    while (positions.length && positions.at(-1) <= inner) positions.pop();
    return positions.at(-1) ?? Infinity;
  }

  findTicks() {
    const found = new Map();
    for (const run of this.part.matchAll(/`+/g)) {
      if (!found.has(run[0].length)) found.set(run[0].length, []);
      found.get(run[0].length).push(this.from + run.index);
    }
    for (const positions of found.values()) positions.reverse();
    return found;
  }
}

/** A mark closes behind a word, and a single one neither beside another nor, as in snake_case, inside of a word. */
function closes(text, at, mark) {
  const before = text[at - 1];
  const after = text[at + mark.length] ?? "";
  if (/\s/.test(before)) return false;
  if (mark.length === 1 && (after === mark || before === mark)) return false;
  return mark[0] !== "_" || !/[\p{L}\p{N}_]/u.test(after);
}
