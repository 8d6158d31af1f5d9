// Keys, countdowns and the form's token for htmx. Pages work without it.
"use strict";

const find = (selector) => document.querySelector(selector);
let underWay = false;

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRF-Token"] = document.body.dataset.token || "";
});

// Show on the page that its lease was lost.
document.addEventListener("htmx:responseError", (event) => {
  const lease = find("#lease");
  if (lease && event.detail.requestConfig.path.endsWith("/beat")) {
    lease.textContent = "no longer yours; claim the case again";
    lease.classList.add("late");
    delete lease.dataset.until;
  }
});

document.addEventListener("submit", (event) => {
  if (underWay) {
    event.preventDefault();
    return;
  }
  if (event.target.method !== "dialog") underWay = true;
});
// On a phone the fields of a decision are far from its bar.
document.addEventListener("change", ({ target }) => {
  if (target.name === "action") find(`#decision .of-${target.value}`)?.scrollIntoView({ block: "nearest" });
});
window.addEventListener("pageshow", () => { underWay = false; });

function press(selector) {
  const element = find(selector);
  if (element) element.click();
  return Boolean(element);
}

function choose(selector, focus) {
  const element = find(selector);
  if (!element) return false;
  element.checked = true;
  (focus && find(focus) ? find(focus) : element).focus();
  return true;
}

function move(by) {
  const rows = [...document.querySelectorAll("[data-row]")].map((row) => row.querySelector("a")).filter(Boolean);
  if (!rows.length) return by > 0 ? press("#next") : (history.back(), true);
  const at = rows.indexOf(document.activeElement);
  rows[Math.min(Math.max(at + by, 0), rows.length - 1)].focus();
  return true;
}

const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  c: () => press("#claim"),
  u: () => press("#undo"),
  a: () => choose("[data-key=a]"),
  e: () => choose("[data-key=e]", "#edit :is(textarea, select, input:not([type=hidden]))"),
  r: () => choose("[data-key=r]", "[name=tier]"),
  q: () => choose("[data-key=q]"),
  x: () => choose("[data-key=x]"),
  d: () => choose("[data-key=d]", "#reason"),
  v: () => press("[data-key=v]"),
  n: () => press("[data-key=n]"),
  w: () => press("#switch"),
  m: () => press("#mine"),
  "/": () => { const search = find("#search"); if (search) search.focus(); return Boolean(search); },
  "?": () => { const legend = find("#legend"); if (legend) legend.showModal(); return Boolean(legend); },
};

document.addEventListener("keydown", (event) => {
  if (underWay || event.isComposing) return;
  const legend = find("#legend");
  if (legend && legend.open) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    if (find("#decision")) { event.preventDefault(); press("#decide"); }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  if (event.key === "Escape" && target !== document.body) { target.blur(); return; }
  const isTyping = target.matches("input:not([type=radio]):not([type=checkbox]), textarea, select");
  if (isTyping) return;
  if (/^[1-9]$/.test(event.key)) {
    if (choose(`[data-attempt="${event.key}"]`)) { choose("[data-key=a]"); event.preventDefault(); }
    return;
  }
  const act = KEYS[event.key];
  if (act && act()) event.preventDefault();
});

function tick() {
  for (const element of document.querySelectorAll("[data-until]")) {
    const left = Math.ceil((Date.parse(element.dataset.until) - Date.now()) / 1000);
    if (element.id === "lease") {
      element.textContent = left > 0 ? `yours for ${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}` : "the claim has ended; claim the case again";
      element.classList.toggle("late", left <= 0);
    } else if (left <= 0) {
      element.remove();
    } else {
      const shown = element.querySelector("[data-left]");
      if (shown) shown.textContent = `${left} s`;
    }
  }
}
setInterval(tick, 500);
tick();
