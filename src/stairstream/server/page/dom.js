// Elements and frames. Text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `props` are attributes, except functions ("click": listener) and `class`; children are nodes or text. */
export function make(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function draw(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Change an element's text only where it differs: an unchanged one costs no layout. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Change an attribute only where it differs. */
export function set(element, name, value) {
  const text = String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

export const byId = (id) => document.getElementById(id);

/** Calls `draw` in a frame that somebody asked for, however often; frames in between that draw nothing cost too. */
export class Frame {
  /** `leastMs` is the time between the beginnings of two drawings. */
  constructor(draw, leastMs = 0) {
    this.draw = draw;
    this.leastMs = leastMs;
    this.lastAt = -Infinity;
    this.isAsked = false;
  }

  ask() {
    if (this.isAsked) return;
    this.isAsked = true;
    const waitMs = this.lastAt + this.leastMs - performance.now();
    if (waitMs > 4) setTimeout(() => this.next(), waitMs - 4);
    else this.next();
  }

  next() {
    requestAnimationFrame((now) => {
      this.isAsked = false;
      this.lastAt = now;
      this.draw(now);
    });
  }
}
