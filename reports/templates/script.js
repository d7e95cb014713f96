"use strict";
// Everything on the page is there without this script; it adds sorting, the mask switch, copying and the zoom.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (id) => document.getElementById(id);

  // Tables: a click on a heading sorts by it, a second one the other way round; empty cells stay last.
  for (const table of all("table.sortable")) {
    const headings = all("thead th:not(.group)", table);
    headings.forEach((th, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...th.childNodes);
      button.setAttribute("aria-label", `Sort by ${th.dataset.name || th.textContent || button.textContent.trim()}`);
      th.append(button);
      button.addEventListener("click", () => {
        const down = th.getAttribute("aria-sort") !== "descending" && (th.getAttribute("aria-sort") === "ascending" || !th.classList.contains("text"));
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        th.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
        const rows = all("tbody tr", table).sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (x === "" || y === "") return (x === "") - (y === "");
          const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
          return down ? -order : order;
        });
        table.tBodies[0].append(...rows);
      });
    });
  }

  // Filters: rows that hold every word typed stay.
  for (const input of all("input[data-filters]")) {
    const rows = all("tbody tr", one(input.dataset.filters)), texts = rows.map((row) => row.textContent.toLowerCase());
    const count = document.querySelector(`[data-counts="${input.dataset.filters}"]`), label = count.textContent;
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach((row, at) => { row.hidden = !words.every((word) => texts[at].includes(word)); });
      count.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${label}` : label;
    });
  }

  // Masks: one switch for all sections, kept in the address so that a link leads to the same mask.
  const radios = all(".masks input");
  const names = [...new Set(radios.map((radio) => radio.value))];
  const show = (mask) => {
    radios.forEach((radio) => { radio.checked = radio.value === mask; });
    all(".mask-panel").forEach((panel) => { panel.hidden = panel.dataset.mask !== mask; });
  };
  radios.forEach((radio) => radio.addEventListener("change", () => {
    show(radio.value);
    const address = new URL(location);
    address.searchParams.set("mask", radio.value);
    try { history.replaceState(null, "", address); } catch { /* some browsers keep the address of a file as it is */ }
  }));
  if (names.length) {
    const asked = new URLSearchParams(location.search).get("mask");
    show(names.includes(asked) ? asked : names[0]);
    if (location.hash) document.querySelector(`[id="${CSS.escape(location.hash.slice(1))}"]`)?.scrollIntoView();
  }

  // Copying, also from a file that the browser does not count as a safe place.
  for (const button of all(".copy-button")) {
    const label = button.textContent;
    button.addEventListener("click", async () => {
      const pre = button.closest(".copyable").querySelector("pre");
      try {
        await navigator.clipboard.writeText(pre.textContent);
      } catch {
        getSelection().selectAllChildren(pre);
        document.execCommand("copy");
      }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = label; }, 1500);
    });
  }

  // Zoom: the model's image over the truth (or the input), cut by the slider. A completion's file holds the pixels of
  // its hole; the truth is the background of both, as everywhere on the page.
  const zoom = one("zoom");
  if (!zoom) return;
  const stage = zoom.querySelector(".stage");
  const [under, over] = ["zoom-under", "zoom-over"].map((id) => Object.assign(new Image(), { id }));
  stage.prepend(under, over);
  let rows = [], outputs = [], at = 0, map = false, against = "truth";
  const truthOf = (row) => getComputedStyle(row).getPropertyValue("--truth");
  const paint = () => {
    const figure = outputs[at], row = figure.closest(".image-row");
    const image = figure.querySelector("img"), other = row.querySelector(`img.${against}`);
    one("zoom-title").textContent = `${figure.dataset.label}, ${row.getAttribute("aria-label")}`;
    one("zoom-scores").textContent = all(".score", figure).map((s) => s.textContent).join(" · ");
    stage.style.setProperty("--truth", truthOf(row));
    Object.assign(over, { src: image.src, alt: image.alt });
    Object.assign(under, { src: other.src, alt: other.alt });
    one("zoom-left").textContent = figure.dataset.label;
    one("zoom-right").textContent = against;
    one("zoom-map").setAttribute("aria-pressed", map);
    one("zoom-against").setAttribute("aria-pressed", against === "input");
    one("zoom-error").hidden = one("zoom-scale").hidden = !map;
    if (map) errorMap(image.src, truthOf(row).trim().replace(/^url\(["']?|["']?\)$/g, ""));
  };
  const load = async (src) => { const image = new Image(); image.src = src; await image.decode(); return image; };
  const errorMap = async (hole, whole) => {
    const [image, truth] = await Promise.all([hole, whole].map(load));
    const canvas = one("zoom-error"), [width, height] = [truth.naturalWidth, truth.naturalHeight];
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const read = () => context.getImageData(0, 0, width, height);
    context.drawImage(truth, 0, 0);
    const b = read();
    context.drawImage(image, 0, 0);
    const a = read();
    for (let i = 0; i < a.data.length; i += 4) {
      const error = (Math.abs(a.data[i] - b.data[i]) + Math.abs(a.data[i + 1] - b.data[i + 1]) + Math.abs(a.data[i + 2] - b.data[i + 2])) / 3;
      const heat = Math.min(1, error / 64) * 3;
      for (let c = 0; c < 3; c++) a.data[i + c] = 255 * Math.max(0, Math.min(1, heat - c));
      a.data[i + 3] = 255;
    }
    context.putImageData(a, 0, 0);
  };
  const otherModel = (by) => { at = (at + by + outputs.length) % outputs.length; paint(); };
  const otherImage = (by) => {
    const place = rows.indexOf(outputs[at].closest(".image-row"));
    const label = outputs[at].dataset.label;
    outputs = all("figure.output", rows[(place + by + rows.length) % rows.length]);
    at = Math.max(0, outputs.findIndex((figure) => figure.dataset.label === label));
    paint();
  };
  const cut = (percent) => stage.style.setProperty("--cut", `${percent}%`);
  for (const figure of all("figure.output")) {
    const image = figure.querySelector("img"), button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-label", `Enlarge: ${image.alt}`);
    image.replaceWith(button);
    button.append(image);
    button.addEventListener("click", () => {
      rows = all(".image-row").filter((row) => !row.closest("[hidden]"));
      outputs = all("figure.output", figure.parentElement);
      at = outputs.indexOf(figure);
      paint();
      zoom.showModal();
      stage.focus();
    });
  }
  zoom.addEventListener("keydown", (event) => {
    if (event.target === one("zoom-slider")) return; // there the arrows move the slider
    const moves = {
      ArrowLeft: () => otherModel(-1), ArrowRight: () => otherModel(1),
      ArrowUp: () => otherImage(-1), ArrowDown: () => otherImage(1),
    };
    if (event.key in moves) { event.preventDefault(); moves[event.key](); }
  });
  one("zoom-slider").addEventListener("input", (event) => cut(event.target.value));
  one("zoom-map").addEventListener("click", () => { map = !map; paint(); });
  one("zoom-against").addEventListener("click", () => { against = against === "truth" ? "input" : "truth"; paint(); });
  one("zoom-previous").addEventListener("click", () => otherModel(-1));
  one("zoom-next").addEventListener("click", () => otherModel(1));
})();
