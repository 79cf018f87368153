/* Reads curves off, copies commands, opens what is folded for print. Every number and word is text of the page. */
"use strict";
(() => {
  const make = (name, kind) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    made.setAttribute("class", kind);
    return made;
  };
  const steps = (text) => {
    if (!text.includes(":")) return text.split(" ").map(Number);
    const [first, by, last] = text.split(":").map(Number);
    return Array.from({ length: (last - first) / by + 1 }, (_, at) => first + at * by);
  };
  /* The place of the last step that is not behind the one asked for. */
  const before = (list, step) => {
    let low = 0, high = list.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (list[middle] <= step) low = middle; else high = middle - 1;
    }
    return low;
  };
  const figures = new Map();
  const show = (step) => figures.forEach((figure, root) => {
    if (root.isConnected) figure(step); else figures.delete(root);
  });

  const equip = (root) => {
    const plot = root.querySelector(".plot"), is = plot.dataset, at = root.querySelector(".at");
    const last = Number(is.last), from = Number(is.from), to = Number(is.to);
    const cursor = make("g", "cursor"), line = make("line", "");
    line.setAttribute("y1", is.top);
    line.setAttribute("y2", Number(is.top) + Number(is.high));
    cursor.append(line);
    const series = [...root.querySelectorAll("[data-v]")].map((read) => {
      const dot = make("circle", read.dataset.look);
      dot.setAttribute("r", 4);
      cursor.append(dot);
      return { read, dot, end: read.textContent, steps: steps(read.dataset.x), values: read.dataset.v.split(" ") };
    });
    const main = series.reduce((most, one) => (one.steps.length > most.steps.length ? one : most));
    cursor.setAttribute("visibility", "hidden");
    plot.querySelector("svg").append(cursor);
    const range = document.createElement("input");
    range.type = "range";
    range.max = main.steps.length - 1;
    range.value = range.max;
    range.setAttribute("aria-label", root.querySelector("figcaption b").textContent);
    plot.append(range);
    figures.set(root, (step) => {
      cursor.setAttribute("visibility", step === null ? "hidden" : "visible");
      at.textContent = step === null ? "" : `${is.step} ${step.toLocaleString("en-US")}`;
      for (const one of series) {
        const place = step === null ? -1 : before(one.steps, step);
        const there = step !== null && one.steps[place] <= step;
        one.dot.setAttribute("visibility", there ? "inherit" : "hidden");
        one.read.textContent = step === null ? one.end : there ? one.values[place] : "–";
        if (!there) continue;
        const share = Math.min(1, Math.max(0, (Number(one.values[place]) - from) / (to - from)));
        one.dot.setAttribute("cx", `${(100 * one.steps[place]) / last}%`);
        one.dot.setAttribute("cy", Number(is.top) + Number(is.high) * (1 - share));
      }
      if (step === null) return;
      line.setAttribute("x1", `${(100 * step) / last}%`);
      line.setAttribute("x2", `${(100 * step) / last}%`);
      range.value = before(main.steps, step);
      range.setAttribute("aria-valuetext", root.querySelector(".read").innerText.replace(/\s+/g, " "));
    });
    const point = (event) => {
      const box = plot.querySelector("svg").getBoundingClientRect();
      const step = ((event.clientX - box.left) / box.width) * last, place = before(main.steps, step);
      const next = main.steps[Math.min(place + 1, main.steps.length - 1)];
      show(next - step < step - main.steps[place] ? next : main.steps[place]);
    };
    range.addEventListener("pointermove", point);
    range.addEventListener("pointerdown", point);
    range.addEventListener("input", () => show(main.steps[Number(range.value)]));
    range.addEventListener("focus", () => range.matches(":focus-visible") && show(main.steps[Number(range.value)]));
    range.addEventListener("blur", () => show(null));
    range.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && show(null));
    range.addEventListener("keydown", (event) => event.key === "Escape" && show(null));
  };

  const copies = (text) => {
    const button = document.createElement("button"), { copy, copied } = document.body.dataset;
    button.type = "button";
    button.className = "copy";
    button.textContent = copy;
    button.setAttribute("aria-label", `${copy}: ${text.textContent.slice(0, 60)}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text.textContent);
      } catch {
        getSelection().selectAllChildren(text);
        document.execCommand("copy");
        getSelection().removeAllRanges();
      }
      button.textContent = copied;
      setTimeout(() => { button.textContent = copy; }, 1500);
    });
    text.after(button);
  };

  window.equipPage = (root) => {
    root.querySelectorAll("figure").forEach(equip);
    root.querySelectorAll("[data-copy]").forEach((text) => text !== document.body && copies(text));
  };
  window.equipPage(document.body);
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((part) => { part.open = false; }));
})();
