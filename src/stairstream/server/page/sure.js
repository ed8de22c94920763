// Asks before something is deleted.

import { byId, write } from "./dom.js";

export class SureDialog {
  constructor() {
    this.dialog = byId("sure");
    byId("sure-cancel").addEventListener("click", () => this.dialog.close());
  }

  /** Whether the person agrees; Escape and Cancel are no. */
  ask(question, more) {
    write(byId("sure-title"), question);
    write(byId("sure-more"), more);
    this.dialog.returnValue = "";
    this.dialog.showModal();
    return new Promise((resolve) => {
      this.dialog.addEventListener("close", () => resolve(this.dialog.returnValue === "yes"), { once: true });
    });
  }
}
