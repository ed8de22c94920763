// Loads the page's scripts after its first paint, so that they don't delay it.

requestAnimationFrame(() => setTimeout(() => import("./main.js")));
