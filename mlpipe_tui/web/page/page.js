"use strict";
// Keys reach the app only once its hidden text field has the focus; nothing else gives it to it.
const wait = setInterval(() => {
  const field = document.querySelector(".xterm-helper-textarea");
  if (field !== null) {
    field.focus();
    clearInterval(wait);
  }
}, 50);
window.addEventListener("focus", () => document.querySelector(".xterm-helper-textarea")?.focus());
document.getElementById("again").addEventListener("click", () => window.location.assign("/"));
