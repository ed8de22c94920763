// A long text in a box of limited height: it fades where there is more of it, and a button unfolds it.

import { make, set, write } from "./dom.js";

const NEAR = 8; // pixels that are not worth a word

export class Fold {
  /** `box` is the element of limited height; `what` names its text to those who hear the button only. */
  constructor(box, what) {
    this.box = box;
    this.what = what;
    this.isOpen = false;
    this.button = make("button", { type: "button", class: "quiet small fold", hidden: true, click: () => this.toggle() });
    box.addEventListener("scroll", () => this.update(), { passive: true });
    new ResizeObserver(() => this.update()).observe(box);
  }

  toggle() {
    this.isOpen = !this.isOpen;
    this.update();
    if (!this.isOpen) this.box.scrollIntoView({ block: "nearest" });
  }

  update() {
    this.measure();
    this.show();
  }

  /** Reads the layout. With several boxes all are measured first, then all are shown, so that they are laid out once. */
  measure() {
    const { scrollTop, clientHeight, scrollHeight } = this.box;
    this.isMoreAbove = scrollTop > NEAR;
    this.isMoreBelow = scrollTop + clientHeight < scrollHeight - NEAR;
  }

  show() {
    const { isOpen, isMoreAbove, isMoreBelow, box, button } = this;
    box.classList.toggle("unfolded", isOpen);
    box.classList.toggle("more-above", !isOpen && isMoreAbove);
    box.classList.toggle("more-below", !isOpen && isMoreBelow);
    button.hidden = !isOpen && !isMoreAbove && !isMoreBelow;
    const label = isOpen ? "Fold" : "Unfold";
    write(button, label);
    set(button, "aria-label", `${label} ${this.what}`);
    set(button, "aria-expanded", isOpen);
  }
}
