// Server-sent events from the bytes of a body, however they were cut.

export class SseDecoder {
  constructor() {
    this.decoder = new TextDecoder();
    this.held = "";
    this.lastId = "";
    this.data = [];
  }

  /** The events that these bytes complete, as {id, data}. */
  feed(bytes) {
    const text = this.held + this.decoder.decode(bytes, { stream: true });
    const events = [];
    let start = 0;
    for (;;) {
      let end = start;
      while (end < text.length && text[end] !== "\n" && text[end] !== "\r") end++;
      // a final \r may be half of \r\n
      if (end === text.length || (text[end] === "\r" && end + 1 === text.length)) break;
      this.line(text.slice(start, end), events);
      start = text[end] === "\r" && text[end + 1] === "\n" ? end + 2 : end + 1;
    }
    this.held = text.slice(start);
    return events;
  }

  line(line, events) {
    if (line === "") {
      if (this.data.length) events.push({ id: this.lastId, data: this.data.join("\n") });
      this.data = [];
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") this.data.push(value);
    else if (name === "id") this.lastId = value;
  }
}
