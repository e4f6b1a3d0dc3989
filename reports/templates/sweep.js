"use strict";
/* Sorting and filtering of the table, and the explorer, both on what the table holds. The page is whole without. */
(() => {
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const columns = heads.map((head, i) => ({
    i, key: head.dataset.key, name: head.textContent, number: head.classList.contains("n"),
    unit: head.dataset.unit, scale: Number(head.dataset.scale),
  }));
  const rows = [...body.rows].map((row) => {
    const texts = [...row.cells].map((cell) => cell.textContent);
    const values = [...row.cells].map((cell, i) => {
      if (!columns[i].number) return NaN;
      const number = cell.dataset.v ?? cell.textContent;
      return number === "" || number === "–" ? NaN : Number(number);
    });
    return { row, texts, values, all: texts.join("\n").toLowerCase(), front: texts[0] === "front", shown: true };
  });

  /* --- filter ---------------------------------------------------------------------------------------------------- */

  const filter = document.getElementById("filter");
  const onlyFront = document.getElementById("only-front");
  const compare = {
    "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
    "=": (a, b) => a === b, "!=": (a, b) => a !== b,
  };

  const PREFIXES = { p: 1e-12, n: 1e-9, u: 1e-6, "µ": 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9 };

  /* A number, or one with the column's unit and a prefix, in what the column counts. */
  const quantity = (text, column) => {
    const parts = /^([-+]?[\d.]+(?:e[-+]?\d+)?)(\D*2?)$/i.exec(text);
    if (!parts) return NaN;
    const unit = parts[2].replace("2", "²");
    if (unit === "") return Number(parts[1]);
    if (unit === column.unit) return Number(parts[1]) / column.scale;
    const factor = PREFIXES[unit[0]];
    return factor && (unit.slice(1) === column.unit || unit.length === 1) ? (Number(parts[1]) * factor) / column.scale : NaN;
  };

  /* A condition `column<=number` or `column=text`; anything else is a word to be found anywhere in a row. */
  const reading = (token) => {
    const parts = /^([^<>=!]+)(<=|>=|!=|<|>|=)(.*)$/.exec(token);
    if (!parts) return (one) => one.all.includes(token.toLowerCase());
    const column = columns.find((c) => c.key.toLowerCase() === parts[1].toLowerCase())
      ?? columns.find((c) => c.key.toLowerCase().endsWith("." + parts[1].toLowerCase()));
    const sign = parts[2], asked = parts[3].trim();
    if (!column || asked === "") return null;
    const number = quantity(asked, column);
    if (asked !== "" && !Number.isNaN(number) && column.number) {
      return (one) => !Number.isNaN(one.values[column.i]) && compare[sign](one.values[column.i], number);
    }
    if (sign !== "=" && sign !== "!=") {
      return Number.isNaN(number) ? null : (one) => compare[sign](Number(one.texts[column.i] || NaN), number);
    }
    return (one) => compare[sign](one.texts[column.i].toLowerCase(), asked.toLowerCase());
  };

  const apply = () => {
    const tests = filter.value.trim().split(/\s+/).filter(Boolean).map(reading);
    const wrong = tests.includes(null);
    filter.classList.toggle("problem", wrong);
    filter.title = wrong ? "columns: " + columns.map((c) => c.key).join(", ") : "";
    let count = 0;
    for (const one of rows) {
      one.shown = (!onlyFront.checked || one.front) && tests.every((test) => test === null || test(one));
      one.row.hidden = !one.shown;
      count += one.shown;
    }
    const paper = document.getElementById("paper");
    paper.textContent = `1–${Math.min(Number(paper.dataset.most), count)} of ${count}`;
    document.getElementById("shown").textContent = count === rows.length ? `${count} points` : `${count} of ${rows.length} points`;
    plot();
  };

  /* --- sorting --------------------------------------------------------------------------------------------------- */

  const sort = (column, head) => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sign = down ? -1 : 1, i = column.i;
    const order = column.number
      ? (a, b) => {
          const x = a.values[i], y = b.values[i];
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
          return sign * (x - y);
        }
      : (a, b) => sign * a.texts[i].localeCompare(b.texts[i], "en", { numeric: true });
    rows.sort(order);
    body.append(...rows.map((one) => one.row));
  };

  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(columns[i], head));
    head.replaceChildren(button);
  });

  /* --- explorer -------------------------------------------------------------------------------------------------- */

  const SVG = "http://www.w3.org/2000/svg";
  const place = document.getElementById("plot");
  const axisX = document.getElementById("axis-x"), axisY = document.getElementById("axis-y");
  const axisC = document.getElementById("axis-c"), axisLog = document.getElementById("axis-log");
  const explorer = document.querySelector(".explorer");

  const option = (select, column) => {
    const made = document.createElement("option");
    made.value = column.key;
    made.textContent = column.name;
    select.append(made);
  };
  columns.filter((c) => c.number).forEach((c) => { option(axisX, c); option(axisY, c); });
  columns.filter((c) => c.key !== "point" && new Set(rows.map((one) => one.texts[c.i])).size <= 40).forEach((c) => option(axisC, c));
  axisY.value = "accuracy";
  axisX.value = "energy";
  axisC.value = "standing";

  const element = (name, attributes, parent) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent.append(made);
    return made;
  };
  const short = (value) => {
    if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) return value.toExponential(2).replace(/\.?0+e/, "e");
    return String(Number(value.toPrecision(4)));
  };
  const STEPS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"], [1e-12, "p"], [1e-15, "f"]];
  const words = (value, column) => {
    const scaled = value * column.scale;
    if (!column.unit || scaled === 0) return short(scaled) + (column.unit === "%" ? " %" : "");
    if (column.unit === "%" || column.unit === "mm²") return `${short(scaled)} ${column.unit}`;
    const [factor, prefix] = STEPS.find(([f]) => Math.abs(scaled) >= f * (1 - 1e-9)) ?? STEPS.at(-1);
    return `${short(scaled / factor)} ${prefix}${column.unit}`;
  };
  const rounded = (step) => {
    const power = 10 ** Math.floor(Math.log10(step));
    return [1, 2, 2.5, 5, 10].map((f) => f * power).find((s) => s >= step * (1 - 1e-9));
  };
  const axis = (values, start, end, log) => {
    let low = values.reduce((a, b) => Math.min(a, b), Infinity), high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    if (log && low > 0) {
      const margin = Math.max((high / low) ** 0.04, 1.02);
      low /= margin; high *= margin;
      const ticks = [];
      const factors = high / low > 1e3 ? [1] : high / low > 20 ? [1, 3] : [1, 1.5, 2, 3, 5, 7];
      for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p++) {
        for (const f of factors) if (f * 10 ** p >= low && f * 10 ** p <= high) ticks.push(f * 10 ** p);
      }
      return { ticks, at: (v) => start + (Math.log(v / low) / Math.log(high / low)) * (end - start) };
    }
    if (high - low < 1e-12 * Math.abs(high)) { low -= Math.abs(low) * 0.05 || 1; high += Math.abs(high) * 0.05 || 1; }
    const step = rounded((high - low) / 5);
    low = Math.floor(low / step + 1e-9); high = Math.ceil(high / step - 1e-9);
    const ticks = [];
    for (let i = low; i <= high; i++) ticks.push(i * step);
    return { ticks, at: (v) => start + ((v / step - low) / (high - low)) * (end - start) };
  };

  let dots = [];
  function plot() {
    const [cx, cy, cc] = [axisX, axisY, axisC].map((select) => columns.find((c) => c.key === select.value));
    const log = axisLog.checked;
    const shown = rows.filter((one) => one.shown && !Number.isNaN(one.values[cx.i]) && !Number.isNaN(one.values[cy.i])
      && (!log || one.values[cx.i] > 0));
    place.replaceChildren();
    dots = [];
    if (!shown.length) { place.textContent = "No point fulfils the filter."; return; }
    const width = Math.max(300, place.clientWidth), height = Math.round(Math.max(280, Math.min(440, width * 0.5)));
    const kinds = [...new Set(shown.map((one) => one.texts[cc.i]))];
    kinds.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    if (cc.key === "standing") kinds.sort((a, b) => ["front", "undecided", "behind"].indexOf(a) - ["front", "undecided", "behind"].indexOf(b));
    const svg = element("svg", { class: "figure", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${cy.name} over ${cx.name}` }, place);
    let lx = 0, ly = 12;
    const legend = kinds.length <= 16 ? kinds : [];
    const color = (kind) => (cc.key === "standing" ? { front: 1, undecided: 2, behind: 8 }[kind] ?? 8 : (kinds.indexOf(kind) % 8) + 1);
    for (const kind of legend) {
      const long = 26 + 7.2 * kind.length;
      if (lx && lx + long > width) { lx = 0; ly += 17; }
      const group = element("g", { class: `legend series k-${color(kind)}` }, svg);
      element("circle", { class: "spot", cx: lx + 6, cy: ly - 4, r: 4.5 }, group);
      element("text", { x: lx + 16, y: ly, class: "tick" }, svg).textContent = kind;
      lx += long;
    }
    const top = ly + 36, bottom = height - 42;
    const down = axis(shown.map((one) => one.values[cy.i]), bottom, top, false);
    const left = Math.max(...down.ticks.map((t) => words(t, cy).length)) * 7.2 + 10;
    const across = axis(shown.map((one) => one.values[cx.i]), left + 10, width - 14, log);
    element("text", { x: 0, y: top - 11, class: "axis" }, svg).textContent = cy.name;
    element("text", { x: width, y: height - 4, class: "axis", "text-anchor": "end" }, svg).textContent = cx.name;
    for (const tick of down.ticks) {
      element("line", { class: "grid", x1: left, x2: width, y1: down.at(tick), y2: down.at(tick) }, svg);
      element("text", { class: "tick", x: left - 6, y: down.at(tick) + 4, "text-anchor": "end" }, svg).textContent = words(tick, cy);
    }
    for (const tick of across.ticks) {
      element("line", { class: "grid", y1: top, y2: bottom, x1: across.at(tick), x2: across.at(tick) }, svg);
      element("text", { class: "tick", x: across.at(tick), y: bottom + 17, "text-anchor": "middle" }, svg).textContent = words(tick, cx);
    }
    for (const kind of [...kinds].reverse()) {
      const group = element("g", { class: `series k-${color(kind)}` }, svg);
      for (const one of shown) {
        if (one.texts[cc.i] !== kind) continue;
        const x = across.at(one.values[cx.i]), y = down.at(one.values[cy.i]);
        dots.push({ x, y, one, dot: element("circle", { class: "spot", cx: x.toFixed(1), cy: y.toFixed(1), r: shown.length > 400 ? 3 : 4.5 }, group) });
      }
    }
  }

  let tip = null, chosen = null;
  const hide = () => {
    tip?.remove();
    chosen?.dot.classList.remove("chosen");
    tip = chosen = null;
  };
  const point = (event) => {
    const svg = place.querySelector("svg");
    if (!svg) return;
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = null, near = 24 ** 2;
    for (const dot of dots) {
      const d = (dot.x - x) ** 2 + (dot.y - y) ** 2;
      if (d < near) { near = d; best = dot; }
    }
    if (best === chosen) return;
    hide();
    if (!best) return;
    chosen = best;
    best.dot.classList.add("chosen");
    tip = document.createElement("div");
    tip.className = "tip";
    const title = document.createElement("b");
    title.textContent = `${best.one.texts[1]} · ${best.one.texts[0]}`;
    tip.append(title, columns.slice(2).map((c) => `${c.name} ${best.one.texts[c.i]}`).join(" · "));
    place.append(tip);
    const wide = place.clientWidth, at = best.x / scale;
    tip.style.left = `${Math.max(0, Math.min(at + 14, wide - tip.offsetWidth))}px`;
    tip.style.top = `${best.y / scale + 14}px`;
  };
  place.addEventListener("pointermove", point);
  place.addEventListener("pointerdown", point);
  place.addEventListener("pointerleave", hide);

  document.querySelectorAll(".tools, .explorer").forEach((one) => { one.hidden = false; });
  let waiting = 0;
  filter.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(apply, 120); });
  onlyFront.addEventListener("change", apply);
  [axisX, axisY, axisC, axisLog].forEach((one) => one.addEventListener("change", plot));
  window.addEventListener("resize", () => { if (explorer.clientWidth) plot(); });
  plot();
})();
