// What the portal does beyond its forms and links, all of it optional: clocks that tick, parts
// of a page that refresh, dialogs over the page, themes. Every rule stays on the server: a
// countdown that ends asks the server whether the button may be pressed now.
(() => {
  "use strict";
  const root = document.documentElement;
  const all = (selector, within = document) => within.querySelectorAll(selector);

  // The server's clock, as far from ours as it was when the page came.
  const skew = Number(root.dataset.now) - Date.now();
  const serverNow = () => Date.now() + skew;

  // Clocks ------------------------------------------------------------------
  const RETRY_MS = 3000;

  const clock = (seconds) => {
    const two = (n) => String(n).padStart(2, "0");
    const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
    return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
  };

  const refresh = (region) => {
    if (region) htmx.trigger(region, "portal:refresh");
    else location.reload();
  };

  const tick = () => {
    const now = serverNow();
    for (const el of all("[data-since]")) {
      el.textContent = clock(Math.max(0, Math.floor((now - Number(el.dataset.since)) / 1000)));
    }
    const over = new Set();
    for (const el of all("[data-until]")) {
      // The page took a moment to come; it never shows more than the server said.
      const left = Math.min(Number(el.dataset.left), Math.ceil((Number(el.dataset.until) - now) / 1000));
      el.textContent = el.dataset.unit === "s" ? String(Math.max(0, left)) : clock(Math.max(0, left));
      if (left > 0 || now < Number(el.dataset.asked || 0) + RETRY_MS) continue;
      el.dataset.asked = now;
      over.add(el.closest("[data-live]"));
    }
    over.forEach(refresh);
  };

  // All spinners turn together, so that a refreshed one does not jump.
  const align = (within) => {
    for (const el of all(".spinner, progress:indeterminate", within)) {
      for (const animation of el.getAnimations()) animation.startTime = 0;
    }
  };

  // The live stream ---------------------------------------------------------
  // Closed while the page is hidden: a browser opens only six connections to a server, and
  // pages in the background would use them up. The page refreshes whenever it opens again.
  class LiveSource extends EventTarget {
    constructor(url) {
      super();
      this.url = url;
      this.types = new Set();
      this.closed = false;
      this.inner = null;
      this.relay = (event) => this.dispatchEvent(new MessageEvent(event.type, { data: event.data }));
      this.follow = () => (document.hidden ? this.pause() : this.connect());
      document.addEventListener("visibilitychange", this.follow);
      this.connect();
    }
    get readyState() {
      return this.closed ? EventSource.CLOSED : EventSource.OPEN;
    }
    addEventListener(type, listener) {
      super.addEventListener(type, listener);
      if (!this.types.has(type)) this.inner?.addEventListener(type, this.relay);
      this.types.add(type);
    }
    connect() {
      if (this.closed || this.inner || document.hidden) return;
      const inner = new EventSource(this.url);
      this.inner = inner;
      inner.onopen = (event) => this.onopen?.(event);
      inner.onerror = (event) => {
        if (inner.readyState === EventSource.CLOSED) {
          this.pause();
          setTimeout(() => this.connect(), RETRY_MS);
        }
        this.onerror?.(event);
      };
      this.types.forEach((type) => inner.addEventListener(type, this.relay));
    }
    pause() {
      this.inner?.close();
      this.inner = null;
    }
    close() {
      this.closed = true;
      this.pause();
      document.removeEventListener("visibilitychange", this.follow);
    }
  }
  htmx.createEventSource = (url) => new LiveSource(url);

  const connection = (lost) => {
    const note = document.getElementById("connection");
    if (note) note.hidden = !lost;
  };
  document.addEventListener("htmx:sseError", () => connection(!document.hidden));
  document.addEventListener("htmx:sseOpen", () => {
    connection(false);
    all("[data-live]").forEach(refresh);
  });

  // A region waits until its open menu is closed, and until the pointer that is down is up again:
  // a button that is replaced between the two would never be clicked.
  const waiting = new Set();
  let pressed = false;
  document.addEventListener("pointerdown", () => (pressed = true), true);
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, () => {
      pressed = false;
      waiting.forEach(refresh);
      waiting.clear();
    }, true);
  }
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target, xhr } = event.detail;
    if (target.matches("[data-live]") && pressed) {
      event.detail.shouldSwap = false;
      waiting.add(target);
    } else if (target.matches("[data-live]")) {
      const reading = target.querySelector(":popover-open");
      if (xhr.status === 404 && !reading) location.reload();
      if (xhr.status >= 400 || reading) event.detail.shouldSwap = false;
      if (reading) reading.addEventListener("toggle", () => refresh(target), { once: true });
    } else if (target.id === "dialog" && !xhr.response.includes('id="dialog-content"')) {
      event.detail.shouldSwap = false;
      location.href = event.detail.requestConfig.path;
    }
  });

  // Dialogs: pages of their own that open over the page that links to them --
  const dialog = document.getElementById("dialog");
  let opener = null;

  const openDialog = (config) => {
    if (dialog.open) return;
    const menu = config.elt.closest("[popover]");
    opener = menu ? document.querySelector(`[popovertarget="${menu.id}"]`) : config.elt;
    menu?.hidePopover();
    history.pushState({ dialog: true }, "", config.path);
    dialog.setAttribute("aria-labelledby", "dialog-title");
    dialog.showModal();
  };

  dialog?.addEventListener("close", () => {
    dialog.replaceChildren();
    if (history.state?.dialog) history.back();
    const back = opener?.isConnected ? opener : opener?.id && document.getElementById(opener.id);
    back?.focus?.();
  });
  addEventListener("popstate", () => {
    if (dialog?.open) dialog.close();
    else if (history.state?.dialog) location.reload();
  });

  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === dialog) openDialog(event.detail.requestConfig);
  });
  // A form that was accepted leaves no trace of its dialog in the history.
  document.addEventListener("htmx:beforeOnLoad", (event) => {
    const to = event.detail.xhr.getResponseHeader("HX-Redirect");
    if (!to) return;
    event.preventDefault();
    const here = new URL(to, location.href);
    location.replace(here);
    if (here.pathname === location.pathname && here.hash) location.reload();
  });

  // Type the name to confirm: the button waits for it.
  const confirmable = () => {
    for (const input of all("input[data-confirm]")) {
      const asked = input.checkVisibility();
      const matches = input.value === input.dataset.confirm;
      for (const button of all("button[data-confirmable]", input.form)) {
        button.disabled = asked && !matches;
      }
    }
  };
  document.addEventListener("input", confirmable);
  document.addEventListener("htmx:afterSettle", (event) => {
    align(event.target);
    confirmable();
    tick();
    const wrong = event.target.querySelector?.("#dialog-content .alert, [aria-invalid=true]");
    if (wrong && dialog?.contains(wrong)) wrong.focus();
  });

  // Uploads show how far they are.
  document.addEventListener("htmx:xhr:progress", (event) => {
    const bar = event.target.querySelector?.("progress[data-upload]");
    if (!bar || !event.detail.lengthComputable) return;
    bar.parentElement.hidden = false;
    bar.max = event.detail.total;
    bar.value = event.detail.loaded;
  });

  // Small things ------------------------------------------------------------
  document.addEventListener("click", (event) => {
    const from = (selector) => event.target.closest?.(selector);
    if (from("a[hx-get]") && (event.ctrlKey || event.metaKey || event.shiftKey)) {
      event.stopImmediatePropagation();
    } else if (from("[data-close]") && dialog?.contains(event.target)) {
      event.preventDefault();
      dialog.close();
    } else if (from("[data-dismiss]")) {
      event.preventDefault();
      from(".alert").remove();
      (dialog?.open ? dialog : document.getElementById("main"))?.focus();
    } else if (from("[data-copy]")) {
      const button = from("[data-copy]");
      navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.querySelector("span").textContent = "Copied";
    }
  }, { capture: true });

  // A link that is a button to assistive technology answers to the space bar, too.
  document.addEventListener("keydown", (event) => {
    if (event.key !== " " || !event.target.matches("a[role=button]")) return;
    event.preventDefault();
    event.target.click();
  });

  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-autosubmit]");
    if (form && event.target.matches("select")) form.requestSubmit();
  });

  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-theme-form]") || !event.submitter) return;
    event.preventDefault();
    const theme = event.submitter.value;
    root.dataset.theme = theme;
    document.cookie = `stillpoint_theme=${theme}; path=/; max-age=31536000; samesite=lax`;
    for (const button of all("button", event.target)) {
      button.setAttribute("aria-pressed", String(button === event.submitter));
    }
  });

  if (navigator.clipboard) all("[data-copy]").forEach((button) => (button.hidden = false));
  align(document);
  confirmable();
  tick();
  setInterval(tick, 250);
})();
