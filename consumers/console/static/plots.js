// Draws the tables of figures over time as plots. Without it the tables say the same.
"use strict";
{
  const HEIGHT = 240;
  const trimmed = (number) => String(Number(number.toPrecision(3)));
  const UNITS = {
    count: (value) => value.toLocaleString("en"),
    micros: (value) => `$${trimmed(value / 1e6)}`,
    share: (value) => `${trimmed(100 * value)} %`,
    ms: (value) => {
      if (value < 1e3) return `${trimmed(value)} ms`;
      if (value < 6e4) return `${trimmed(value / 1e3)} s`;
      return value < 3.6e6 ? `${trimmed(value / 6e4)} min` : `${trimmed(value / 3.6e6)} h`;
    },
  };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  // The numbers of a table by column, with the words that it shows for them.
  function read(figure) {
    const rows = [...figure.querySelectorAll("tbody tr")].reverse();
    const heads = [...figure.querySelectorAll("thead [data-tone]")];
    const cells = heads.map((_, no) => rows.map((row) => row.cells[no + 1]));
    return {
      rows,
      heads,
      times: rows.map((row) => Number(row.dataset.at)),
      words: cells.map((column) => column.map((cell) => cell.textContent.trim())),
      values: cells.map((column) => column.map(({ dataset }) => (dataset.value === undefined ? null : Number(dataset.value)))),
    };
  }

  // What is stacked is drawn as the sums up to each series, the highest first.
  function sums(values) {
    let below = null;
    return values.map((column) => {
      below = column.map((value, at) => (value || 0) + (below ? below[at] : 0));
      return below;
    });
  }

  function marks(plot, rows) {
    const { ctx, bbox } = plot;
    const scale = window.devicePixelRatio || 1;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour("soft");
    ctx.setLineDash([4 * scale, 3 * scale]);
    ctx.font = `${11 * scale}px system-ui, sans-serif`;
    for (const { dataset } of rows) {
      if (!dataset.release) continue;
      const x = plot.valToPos(Number(dataset.at), "x", true);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const isLate = x > bbox.left + bbox.width * 0.7;
      ctx.textAlign = isLate ? "right" : "left";
      ctx.fillText(`policy ${dataset.release}`, x + (isLate ? -4 : 4) * scale, bbox.top + 11 * scale);
    }
    ctx.restore();
  }

  // A drag chooses a time for the whole page.
  function choose(plot, { rows, times }) {
    // A page that was saved shows one time.
    if (plot.select.width < 8 || !window.location.protocol.startsWith("http")) return;
    const ends = [plot.select.left, plot.select.left + plot.select.width].map((at) => plot.posToVal(at, "x"));
    const row = (end) => rows[Math.max(times.findLastIndex((time) => time <= end), 0)];
    const query = new URLSearchParams(window.location.search);
    query.delete("span");
    query.set("from", row(ends[0]).dataset.from);
    query.set("to", row(ends[1]).dataset.to);
    window.location.search = query;
  }

  // A click leads to the row of the table, whose numbers lead to their requests.
  function follow(plot, { rows }) {
    const row = rows[plot.cursor.idx];
    if (!row || plot.select.width >= 8) return;
    for (const other of rows) other.classList.toggle("chosen", other === row);
    row.scrollIntoView({ block: "nearest" });
    const link = row.querySelector("a");
    if (link) link.focus({ preventScroll: true });
  }

  // Hours of the day, and days where one begins.
  function clock(seconds, no) {
    const [day, time] = [new Date(seconds * 1e3).toISOString()].flatMap((at) => [at.slice(5, 10), at.slice(11, 16)]);
    if (time === "00:00") return day;
    return no ? time : `${time}\n${day}`;
  }

  function draw(figure) {
    const table = read(figure);
    const { rows, heads, times, words, values } = table;
    const isStacked = "stacked" in figure.dataset;
    const place = figure.querySelector(".drawing");
    const step = times.length > 1 ? times[1] - times[0] : 3600;
    const drawn = isStacked ? sums(values) : values;
    const order = heads.map((_, no) => no);
    if (isStacked) order.reverse();
    const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 } };
    const bars = isStacked ? { paths: uPlot.paths.bars({ size: [0.85, 80], align: 1 }), points: { show: false } } : {};
    const series = order.map((no) => {
      const tone = colour(`tone-${heads[no].dataset.tone}`);
      return {
        label: heads[no].textContent.trim(),
        stroke: tone,
        width: isStacked ? 0 : 2,
        fill: isStacked ? tone : undefined,
        value: (_plot, _value, _no, at) => (at == null ? "" : words[no][at]),
        points: { size: 5, fill: tone },
        ...bars,
      };
    });
    const options = {
      width: Math.max(place.clientWidth, 200),
      height: HEIGHT,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
      scales: {
        x: { range: () => [times[0], times[times.length - 1] + step] },
        y: { range: (_plot, _least, most) => [0, (most || 1) * 1.1] },
      },
      axes: [{ ...axis, values: (_plot, splits) => splits.map(clock) }, { ...axis, size: 72, values: (_plot, splits) => splits.map(UNITS[figure.dataset.unit]) }],
      series: [{ label: "From", value: (_plot, _value, _no, at) => (at == null ? "" : rows[at].cells[0].textContent.trim()) }, ...series],
      cursor: { drag: { x: true, y: false, setScale: false } },
      hooks: {
        draw: [(plot) => marks(plot, rows)],
        setSelect: [(plot) => choose(plot, table)],
        ready: [(plot) => plot.over.addEventListener("click", () => follow(plot, table))],
      },
    };
    return new uPlot(options, [times, ...order.map((no) => drawn[no])], place);
  }

  const figures = [...document.querySelectorAll(".plot")];
  let plots = figures.map(draw);
  const resized = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      const plot = plots[figures.indexOf(target.parentElement)];
      if (contentRect.width > 0 && Math.abs(plot.width - contentRect.width) > 1) plot.setSize({ width: contentRect.width, height: HEIGHT });
    }
  });
  for (const figure of figures) resized.observe(figure.querySelector(".drawing"));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const plot of plots) plot.destroy();
    plots = figures.map(draw);
  });
}
