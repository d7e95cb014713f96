"use strict";
// A blind comparison: shows pairs, keeps the choices in the browser, exports them as rows.
(() => {
  const one = (id) => document.getElementById(id);
  const data = JSON.parse(one("content").textContent);
  const store = `inpaint-bench-blind-${data.key}`;
  const random = () => crypto.getRandomValues(new Uint32Array(1))[0] / 2 ** 32;
  const shuffled = (items) => {
    for (let i = items.length - 1; i > 0; i--) { const j = Math.floor(random() * (i + 1)); [items[i], items[j]] = [items[j], items[i]]; }
    return items;
  };
  // A reader's order and sides are drawn once and kept with the choices, so that reloading changes nothing.
  const fresh = () => ({
    reader: Math.floor(random() * 2 ** 32).toString(16).padStart(8, "0"),
    order: shuffled(data.pairs.map((_, at) => at)),
    swapped: data.pairs.map(() => random() < 0.5),
    choices: [],
  });
  let state = fresh();
  try {
    const kept = JSON.parse(localStorage.getItem(store));
    if (kept && kept.order.length === data.pairs.length && Array.isArray(kept.choices)) state = kept;
  } catch { /* no store, or nothing of ours in it: the choices last as long as the page */ }
  const keep = () => { try { localStorage.setItem(store, JSON.stringify(state)); } catch { /* as above */ } };

  const sides = (at) => {
    const [image, a, b] = data.pairs[at];
    const [left, right] = state.swapped[at] ? [b, a] : [a, b];
    return { image: data.images[image], left, right };
  };
  const show = (said = "") => {
    const done = state.choices.length, all = data.pairs.length;
    one("progress").value = done;
    one("said").textContent = said;
    one("undo").disabled = done === 0;
    one("trial").classList.toggle("over", done === all);
    one("number").textContent = Math.min(done + 1, all);
    const { image, left, right } = sides(state.order[Math.min(done, all - 1)]);
    one("trial").style.setProperty("--truth", `url(${image.truth})`);
    one("input").src = image.input;
    one("left").src = image.completions[left];
    one("right").src = image.completions[right];
    for (const id of ["choose-left", "choose-right", "choose-tie"]) one(id).disabled = done === all;
    if (done === all) one("said").textContent = "That was the last pair. Thank you: export your choices below.";
    one("export").download = `choices-${state.reader}.csv`;
    one("export").href = "data:text/csv;charset=utf-8," + encodeURIComponent(csv());
    if (!one("results").hidden) results();
  };
  const choose = (choice) => {
    if (state.choices.length === data.pairs.length) return;
    state.choices.push({ choice, at: new Date().toISOString() });
    keep();
    show({ left: "Left chosen.", right: "Right chosen.", tie: "No difference." }[choice]);
  };
  const undo = () => { if (state.choices.pop()) { keep(); show("Undone."); } };

  // One row a choice, in the words of the results: experiment, mask and image_id join them to its rows.
  const rows = () => state.choices.map(({ choice, at }, number) => {
    const { image, left, right } = sides(state.order[number]);
    const winner = choice === "tie" ? "" : choice === "left" ? left : right;
    return { experiment: data.experiment, reader: state.reader, number: number + 1, mask: image.mask, image_id: image.id, left, right, choice, winner, time: at, image };
  });
  const columns = ["experiment", "reader", "number", "mask", "image_id", "left", "right", "choice", "winner", "time"];
  // A text that a spreadsheet would take for a formula is preceded by an apostrophe.
  const cell = (value) => `"${String(value).replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  const csv = () => [columns.join(","), ...rows().map((row) => columns.map((name) => cell(row[name])).join(","))].join("\n") + "\n";

  const wilson = (won, of) => {
    if (!of) return "–";
    const z = 1.959964, p = won / of, middle = (p + z * z / (2 * of)) / (1 + z * z / of);
    const half = z * Math.sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / (1 + z * z / of);
    return `${(100 * p).toFixed(0)} % [${(100 * Math.max(0, middle - half)).toFixed(0)}, ${(100 * Math.min(1, middle + half)).toFixed(0)}], n = ${of}`;
  };
  const element = (tag, text, attributes = {}) => {
    const made = document.createElement(tag);
    made.textContent = text;
    Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
    return made;
  };
  const line = (heading, values) => {
    const row = document.createElement("tr");
    row.append(element("th", heading, { scope: "row" }), ...values.map((value) => element("td", value)));
    return row;
  };
  // Which of two scores a metric prefers: 1 the first, -1 the second, 0 neither.
  const prefers = (metric, image, a, b) => {
    const [x, y] = [a, b].map((label) => image.scores[label][metric]);
    return x === null || y === null || x === y ? 0 : (x > y) === data.metrics[metric].up ? 1 : -1;
  };
  const results = () => {
    const chosen = rows();
    one("models-head").replaceChildren(element("th", "Model", { scope: "col", class: "text" }), element("th", "Chosen", { scope: "col" }), ...data.metrics.map((m) => element("th", m.title, { scope: "col" })));
    one("models-body").replaceChildren(...data.labels.map((label) => {
      const own = chosen.filter((row) => row.left === label || row.right === label);
      const won = own.reduce((sum, row) => sum + (row.choice === "tie" ? 0.5 : row.winner === label ? 1 : 0), 0);
      return line(label, [wilson(won, own.length), ...data.means[label].map((value, m) => value === null ? "–" : value.toFixed(data.metrics[m].digits))]);
    }));
    const agreement = (metric, among) => {
      const compared = among.filter((row) => row.choice !== "tie" && prefers(metric, row.image, row.left, row.right));
      const agreed = compared.filter((row) => (prefers(metric, row.image, row.left, row.right) === 1) === (row.choice === "left"));
      return wilson(agreed.length, compared.length);
    };
    const disputed = chosen.filter((row) => new Set(data.metrics.map((_, m) => prefers(m, row.image, row.left, row.right)).filter(Boolean)).size > 1);
    one("metrics-body").replaceChildren(...data.metrics.map((metric, m) => line(metric.title, [agreement(m, chosen), agreement(m, disputed)])));
  };

  one("choose-left").addEventListener("click", () => choose("left"));
  one("choose-right").addEventListener("click", () => choose("right"));
  one("choose-tie").addEventListener("click", () => choose("tie"));
  one("undo").addEventListener("click", undo);
  one("reveal").addEventListener("click", () => {
    const hidden = !one("results").hidden;
    one("results").hidden = hidden;
    one("reveal").setAttribute("aria-expanded", !hidden);
    one("reveal").textContent = hidden ? "Show results" : "Hide results";
    if (!hidden) results();
  });
  one("restart").addEventListener("click", () => {
    if (state.choices.length && !confirm("Forget all choices?")) return;
    state = fresh();
    keep();
    show();
  });
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const moves = { ArrowLeft: () => choose("left"), ArrowRight: () => choose("right"), ArrowDown: () => choose("tie"), ArrowUp: undo };
    if (event.target.closest(".scroll")) return; // there the arrows scroll a table
    if (event.key in moves) { event.preventDefault(); moves[event.key](); }
  });
  show();
})();
