// Live parts of a page: an element with an id and `data-live` names what it follows. When that has
// changed, the page is fetched again and the element replaced. Pages work without it.
"use strict";
{
  const BREATH_MS = 500, LATER_MS = 10_000;
  const GONE = [401, 403, 404, 405];
  const due = new Set();
  let source = null, followed = "", seen = "", timer = 0, isFetching = false;

  const parts = () => [...document.querySelectorAll("[data-live][id]")];
  const names = () => [...new Set(parts().map((part) => part.dataset.live))].sort();
  const pause = (span) => new Promise((done) => { setTimeout(done, span); });

  // Only a page that somebody sees has a stream: browsers allow six connections to a host.
  function connect() {
    if (source) source.close();
    source = null;
    clearTimeout(timer);
    const follow = names();
    if (!follow.length || document.hidden) return;
    if (follow.join("\n") !== followed) seen = "";
    followed = follow.join("\n");
    const query = new URLSearchParams(follow.map((name) => ["follow", name]));
    if (seen) query.set("seen", seen);
    source = new EventSource(`/events?${query}`);
    source.onmessage = (event) => {
      seen = event.lastEventId;
      refresh(JSON.parse(event.data));
    };
    source.onerror = () => {
      // The browser comes back by itself, except where the reply was no stream.
      if (source && source.readyState === EventSource.CLOSED) again();
    };
  }

  // Without a stream the page is fetched every now and then.
  function again() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      refresh(names());
      connect();
    }, LATER_MS);
  }

  async function refresh(changed) {
    changed.forEach((name) => due.add(name));
    if (isFetching) return;
    isFetching = true;
    try {
      while (due.size) {
        const now = new Set(due);
        const reply = await fetch(location.href, { headers: { "X-Live": "1" } });
        if (reply.redirected || GONE.includes(reply.status)) return stop();
        if (!reply.ok) throw new Error(reply.status);
        now.forEach((name) => due.delete(name));
        replace(new DOMParser().parseFromString(await reply.text(), "text/html"), now);
        await pause(BREATH_MS);
      }
    } catch {
      again(); // what is due stays so
    } finally {
      isFetching = false;
    }
  }

  function stop() {
    due.clear();
    clearTimeout(timer);
    if (source) source.close();
    source = null;
  }

  function replace(page, changed) {
    for (const part of parts()) {
      const fresh = changed.has(part.dataset.live) && page.getElementById(part.id);
      if (fresh && !fresh.isEqualNode(part) && !isInUse(part)) put(part, fresh);
    }
    if (names().join("\n") !== followed) connect();
  }

  // What somebody types into or marks is not taken away from them.
  function isInUse(part) {
    const active = document.activeElement, marked = getSelection();
    const isTyping = part.contains(active) && active.matches("input, textarea, select");
    return isTyping || (!marked.isCollapsed && marked.containsNode(part, true));
  }

  // What was unfolded stays so, and what has the focus keeps it.
  function put(part, fresh) {
    const unfolded = [...part.querySelectorAll("details")].map((details) => details.open);
    const active = part.contains(document.activeElement) ? document.activeElement : null;
    part.replaceWith(document.adoptNode(fresh));
    [...fresh.querySelectorAll("details")].forEach((details, no) => {
      if (no in unfolded) details.open = unfolded[no];
    });
    if (active && active.id) document.getElementById(active.id)?.focus();
    else if (active && active.href) {
      [...fresh.querySelectorAll("a")].find((link) => link.href === active.href)?.focus();
    }
    if (window.htmx) htmx.process(fresh);
  }

  // What htmx fetches by itself waits in the same way.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const part = event.detail.target;
    if (part.matches("[hx-get]") && isInUse(part)) event.detail.shouldSwap = false;
  });

  document.addEventListener("visibilitychange", connect);
  window.addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
  connect();
}
