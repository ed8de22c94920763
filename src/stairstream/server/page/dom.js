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

/** Calls `draw` at most once per frame, however often it is asked to. */
export class Frame {
  constructor(draw) {
    this.draw = draw;
    this.id = 0;
  }

  ask() {
    if (this.id) return;
    this.id = requestAnimationFrame((now) => {
      this.id = 0;
      this.draw(now);
    });
  }
}
