// Asks for the API key. It is returned to the caller, and not kept here.

import { byId, write } from "./dom.js";

export class KeyDialog {
  constructor() {
    this.dialog = byId("key");
    this.input = byId("key-input");
    this.asking = null;
    byId("key-cancel").addEventListener("click", () => this.dialog.close());
    this.dialog.querySelector("form").addEventListener("submit", () => {
      this.given = this.input.value.trim() || null;
    });
  }

  /** A key, or null. Whoever asks while the dialog is open gets the same. */
  ask(problem) {
    this.asking ??= new Promise((resolve) => {
      this.given = null;
      write(byId("key-problem"), problem);
      this.dialog.showModal();
      this.input.focus();
      this.dialog.addEventListener(
        "close",
        () => {
          this.input.value = "";
          this.asking = null;
          resolve(this.given);
          this.given = null;
        },
        { once: true },
      );
    });
    return this.asking;
  }
}
