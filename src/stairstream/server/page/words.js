// One log's text. Events count in characters (code points), the browser in UTF-16 units: this knows both.

export class Words {
  constructor() {
    this.text = "";
    this.length = 0; // in characters
    this.isPlain = true; // a character is a unit so far
    this.starts = []; // of each piece, in characters
    this.units = []; // and in units
  }

  /** A piece that stands at character `start`. */
  add(start, end, text) {
    if (end <= this.length) return;
    if (text.length !== end - start) this.isPlain = false;
    this.starts.push(start);
    this.units.push(this.text.length);
    this.text += text;
    this.length = end;
  }

  /** The unit at which that character stands. */
  unitAt(character) {
    if (this.isPlain || character <= 0) return Math.max(0, Math.min(character, this.text.length));
    if (character >= this.length) return this.text.length;
    const piece = lastAtOrBefore(this.starts, character);
    let unit = this.units[piece];
    for (let left = character - this.starts[piece]; left > 0; left--) {
      unit += this.text.codePointAt(unit) > 0xffff ? 2 : 1;
    }
    return unit;
  }
}

/** The index of the last number that is at most `value`; -1 if there is none. */
export function lastAtOrBefore(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
