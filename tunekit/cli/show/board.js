/* Renews what is shown, counts what is ticked, filters, and sends the planner's form. The server makes every word. */
"use strict";
(() => {
  const by = (id) => document.getElementById(id);
  const parts = (box) => new Map([...box.children].filter((one) => one.dataset.k).map((one) => [one.dataset.k, one]));
  const sources = new WeakMap();
  document.querySelectorAll("[data-live]").forEach((box) => parts(box).forEach((one) => sources.set(one, one.outerHTML)));

  /* Keeps what has not changed, and what somebody is reading off just now. */
  const renewed = (old, made) => {
    const source = made.outerHTML;
    if (old && (sources.get(old) === source || old.querySelector(".plot:is(:hover, :focus-within)"))) return old;
    sources.set(made, source);
    if (!old) return made;
    old.querySelectorAll("details[id]").forEach((part) => {
      const same = made.querySelector(`#${CSS.escape(part.id)}`);
      if (same) same.open = part.open;
    });
    const ticked = old.querySelector("input[type=checkbox]"), tick = made.querySelector("input[type=checkbox]");
    if (ticked && tick) tick.checked = ticked.checked;
    const words = made.dataset.name, status = made.dataset.status;
    if (status && status !== old.dataset.status) by("said").textContent = `${words}: ${made.querySelector(".s").textContent}`;
    return made;
  };
  const renew = (page) => document.querySelectorAll("[data-live]").forEach((box) => {
    const other = page.querySelector(`[data-live="${box.dataset.live}"]`);
    if (!other) return;
    if (box.dataset.status && other.dataset.status !== box.dataset.status) {
      box.dataset.status = other.dataset.status;
      by("said").textContent = `${other.dataset.name}: ${other.querySelector(".lede").textContent}`;
    }
    const before = parts(box), held = document.activeElement, inside = box.contains(held);
    const all = [...parts(other)].map(([key, one]) => renewed(before.get(key), document.adoptNode(one)));
    const fresh = all.filter((one) => one.parentNode !== box);
    if (!fresh.length && all.length === before.size && all.every((one, at) => box.children[at] === one)) return;
    box.replaceChildren(...all);
    fresh.forEach((one) => window.equipPage(one));
    if (!inside || held === document.activeElement) return;
    const name = held.id ? `#${CSS.escape(held.id)}` : held.name ? `[name="${held.name}"][value="${CSS.escape(held.value)}"]`
      : held.getAttribute("href") ? `a[href="${CSS.escape(held.getAttribute("href"))}"]` : "";
    const again = held.isConnected ? held : name ? box.querySelector(name) : null;
    if (again) again.focus({ preventScroll: true });
  });

  let tag = "";
  const ask = async (url, headers) => {
    const answer = await fetch(url, { headers, cache: "no-store" });
    if (answer.status === 304) return null;
    if (!answer.ok) throw new Error(String(answer.status));
    tag = answer.headers.get("ETag") || "";
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  };
  const every = Number(document.body.dataset.every);
  const poll = async () => {
    let next = Number(document.body.dataset.every);
    if (!document.hidden) {
      try {
        const page = await ask(location.href, tag ? { "If-None-Match": tag } : {});
        if (page) {
          renew(page);
          document.body.dataset.every = page.body.dataset.every;
          narrow();
          count();
        }
        by("gone").hidden = true;
      } catch {
        by("gone").hidden = false;
        next = 10000;
      }
    }
    setTimeout(poll, next);
  };
  if (every) setTimeout(poll, every);

  const filter = by("filter"), picked = by("picked"), form = by("planner");
  function narrow() {
    if (!filter) return;
    const words = filter.value.toLowerCase().split(/\s+/);
    const rows = [...document.querySelectorAll("tr[data-words]")];
    rows.forEach((row) => { row.hidden = !words.every((word) => row.dataset.words.includes(word)); });
    by("nomatch").hidden = rows.some((row) => !row.hidden);
  }
  function count() {
    if (!picked) return;
    const names = [...document.querySelectorAll("tr:has(input:checked)")].map((row) => row.dataset.name);
    const few = names.length === 1 ? picked.dataset.one.replace("{}", names[0]) : picked.dataset.none;
    picked.textContent = names.length > 1 ? names.join(", ") : few;
    picked.parentNode.querySelector("button").setAttribute("aria-disabled", names.length < 2);
  }
  if (filter) {
    filter.hidden = false;
    filter.addEventListener("input", narrow);
    picked.setAttribute("role", "status");
    picked.closest("form").addEventListener("change", count);
    picked.closest("form").addEventListener("submit", (event) => {
      if (document.querySelectorAll("tr input:checked").length < 2) event.preventDefault();
    });
    count();
  }
  if (form) {
    let wait = 0, asked = 0;
    by("send").hidden = true;
    const plan = async () => {
      const mine = ++asked, url = `/plan?${new URLSearchParams(new FormData(form))}`;
      try {
        const page = await ask(url, {});
        if (mine !== asked) return;
        renew(page);
        history.replaceState(null, "", url);
        document.querySelector(".lang").href = page.querySelector(".lang").getAttribute("href");
        by("said").textContent = page.querySelector(".verdict").textContent;
        by("gone").hidden = true;
      } catch {
        by("gone").hidden = false;
      }
    };
    form.addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(plan, 120); });
    form.addEventListener("submit", (event) => { event.preventDefault(); plan(); });
  }
})();
