// Draws the plots of a load test's page, joined by one time axis.
(() => {
  "use strict";
  const page = JSON.parse(document.getElementById("plots").textContent);
  const root = document.documentElement;
  const holders = [...document.querySelectorAll("[data-plot]")];
  const readout = document.getElementById("readout");
  const dashes = page.lines;
  const font = "12px system-ui, sans-serif";
  const paperWidth = 660; // CSS pixels between the margins of A4 and of Letter
  const end = page.at_s.length ? page.at_s[page.at_s.length - 1] + page.step_s : 1;
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  function clock(seconds) {
    if (end <= 300) return `${seconds} s`;
    const pad = (value) => String(value).padStart(2, "0");
    const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds % 60)];
    return end < 3600 ? `${m}:${pad(s)}` : `${h}:${pad(m)}:${pad(s)}`;
  }

  function short(value) {
    if (value == null) return "–";
    if (Math.abs(value) >= 10000) return `${+(value / 1000).toPrecision(3)}k`;
    return `${+value.toPrecision(3)}`;
  }

  function stageAt(seconds) {
    return page.stages.find((stage) => stage.start_s <= seconds && seconds < stage.end_s);
  }

  // Every other stage is shaded; each is named where its name has room, else numbered.
  function shade(u, sampled) {
    const { ctx } = u;
    const { left, top, width, height } = u.bbox;
    const x = (seconds) => Math.min(Math.max(u.valToPos(seconds, "x", true), left), left + width);
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "top";
    ctx.textAlign = "left";
    page.stages.forEach((stage, index) => {
      const [from, to] = [x(stage.start_s), x(stage.end_s)];
      ctx.fillStyle = colour("--stage");
      if (index % 2) ctx.fillRect(from, top, to - from, height);
      ctx.fillStyle = colour("--muted");
      const room = to - from - 8 * ratio;
      const text = [stage.name, `${index + 1}`].find((name) => ctx.measureText(name).width <= room);
      if (text) ctx.fillText(text, from + 4 * ratio, top + 2 * ratio);
    });
    if (sampled) page.missing.forEach(([from, to]) => hatch(ctx, x(from), x(to), top, height, ratio));
    ctx.restore();
  }

  function hatch(ctx, from, to, top, height, ratio) {
    if (to <= from) return;
    ctx.save();
    ctx.beginPath();
    ctx.rect(from, top, to - from, height);
    ctx.clip();
    ctx.strokeStyle = colour("--gap");
    ctx.lineWidth = ratio;
    ctx.beginPath();
    for (let x = from - height; x < to; x += 6 * ratio) {
      ctx.moveTo(x, top + height);
      ctx.lineTo(x + height, top);
    }
    ctx.stroke();
    ctx.restore();
  }

  function series(line) {
    const name = `--c${line.colour}`;
    return {
      label: line.label,
      stroke: () => colour(name),
      width: 1.75,
      dash: dashes[line.line],
      paths: line.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
      value: (u, value) => short(value),
      points: line.values.every((value) => value === line.values[0]) ? { show: false } : { size: 4 },
    };
  }

  function axis(extra) {
    const grid = { stroke: () => colour("--rule"), width: 1 };
    return { stroke: () => colour("--muted"), font, grid, ticks: { ...grid, size: 4 }, ...extra };
  }

  function options(plot, width) {
    const seconds = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200];
    const whole = plot.sampled ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] : undefined;
    return {
      width,
      height: plot.sampled ? 150 : 180,
      padding: [8, 20, 0, 0],
      cursor: { sync: { key: "time", scales: ["x", null] }, y: false, points: { size: 7 } },
      scales: {
        x: { time: false, range: (u, min, max) => (page.at_s.length > 1 ? [min, max] : [0, end]) },
        y: { range: (u, min, max) => [0, max > 0 ? max * 1.12 : 1] },
      },
      axes: [
        axis({ incrs: seconds, values: (u, splits) => splits.map(clock), size: 26, gap: 3 }),
        axis({ incrs: whole, values: (u, splits) => splits.map(short), size: 52, gap: 4 }),
      ],
      series: [{}, ...plot.lines.map(series)],
      hooks: {
        drawClear: [(u) => shade(u, plot.sampled)],
        setCursor: [tell],
      },
    };
  }

  // A piece of the line, with its dashes.
  function mark(marker, line) {
    marker.removeAttribute("style");
    marker.innerHTML = `<svg width="28" height="10" aria-hidden="true"><line x1="0" x2="28" y1="5" y2="5"
      stroke="var(--c${line.colour})" stroke-width="2" stroke-dasharray="${dashes[line.line].join(" ")}"/></svg>`;
  }

  function tell(u) {
    const at = page.at_s[u.cursor.idx];
    if (at === undefined) {
      readout.textContent = readout.dataset.hint;
      return;
    }
    const stage = stageAt(at);
    readout.textContent = `at ${clock(at)}${stage ? ` · ${stage.name}` : ""}`;
  }

  const width = () => Math.max(260, holders[0].clientWidth);
  if (holders.length === 0) return;
  const drawn = holders.map((holder, index) => {
    const plot = page.plots[index];
    const data = [page.at_s, ...plot.lines.map((line) => line.values)];
    const u = new uPlot(options(plot, width()), data, holder);
    const [time, ...rows] = u.root.querySelectorAll(".u-legend .u-series");
    time.remove(); // it is in the readout
    rows.forEach((row, at) => mark(row.querySelector(".u-marker"), plot.lines[at]));
    return u;
  });

  function resize(to) {
    drawn.forEach((u) => u.setSize({ width: to, height: u.height }));
  }

  // --- keys: the crosshair moves by one step, or by ten ---

  let key = 0;
  document.getElementById("timeline").addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    key = Math.min(Math.max(key + by * (event.shiftKey ? 10 : 1), 0), page.at_s.length - 1);
    drawn.forEach((u) => u.setCursor({ left: u.valToPos(page.at_s[key], "x"), top: 1 }));
  });

  // --- themes ---

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  let chosen = null;
  function paint(theme) {
    root.dataset.theme = theme ?? chosen ?? (dark.matches ? "dark" : "light");
    button.textContent = root.dataset.theme === "dark" ? "Light page" : "Dark page";
    drawn.forEach((u) => u.redraw());
  }
  dark.addEventListener("change", () => paint());
  button.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    paint();
  });
  button.textContent = root.dataset.theme === "dark" ? "Light page" : "Dark page";
  new ResizeObserver(() => resize(width())).observe(holders[0]);
  addEventListener("beforeprint", () => {
    paint("light");
    resize(paperWidth);
  });
  addEventListener("afterprint", () => {
    paint();
    resize(width());
  });
})();
