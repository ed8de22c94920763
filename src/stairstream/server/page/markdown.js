// The Markdown that models write, as values: blocks with their positions in the source. No element, no link, no image,
// no markup passes: what is not known here stays text.

const LONGEST = 3000; // a block that is longer is continued in another, so that one that grows stays cheap to draw

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)[^`\n]*$/;
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
      if (closes(line.trim(), fence)) {
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

const closes = (line, fence) => line.startsWith(fence.mark) && line.replaceAll(fence.mark[0], "") === "";

/** Whether a line of that kind begins a block after this one. */
function begins(kind, block) {
  if (block === null) return true;
  if (kind === "table") return block.kind !== "table";
  return kind !== "paragraph" || ["heading", "rule", "table"].includes(block.kind);
}

function marksOf(line) {
  const fence = FENCE.exec(line);
  if (fence) return { kind: "code", length: line.length, fence: { mark: fence[1], language: fence[2] } };
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
    let at = start > block.from ? start : text.lastIndexOf(" ", block.from + LONGEST) + 1;
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
  const missing = new Set(); // marks that nothing closes from here on
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
    const close = missing.has(mark) || !opens(text, at, inner, to) ? -1 : closing(text, inner, to, mark);
    if (close < 0) {
      if (text.indexOf(mark, inner) < 0 || text.indexOf(mark, inner) >= to) missing.add(mark);
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

function closing(text, inner, to, mark) {
  for (let at = text.indexOf(mark, inner + 1); at >= 0 && at + mark.length <= to; at = text.indexOf(mark, at + 1)) {
    const after = text[at + mark.length] ?? "";
    if (mark[0] === "`") {
      if (after !== "`" && text[at - 1] !== "`") return at;
      continue;
    }
    if (/\s/.test(text[at - 1])) continue;
    if (mark.length === 1 && (after === mark || text[at - 1] === mark)) continue;
    if (mark[0] === "_" && /[\p{L}\p{N}_]/u.test(after)) continue;
    return at;
  }
  return -1;
}
