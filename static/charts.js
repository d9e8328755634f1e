// Draws each <figure data-chart="id of its <data value=JSON>"> with Chart.js: points with their intervals, in the
// page's colours. When htmx exchanges the <data>, the chart is drawn on where it stands.
"use strict";

(() => {
  const SHAPES = ["circle", "rectRot", "triangle", "rect"];
  const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];
  const drawn = new Map();

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const colours = () => [style("--accent"), style("--series-2"), style("--series-3"), style("--series-4")];

  // a point's place beside those of the other series, so that intervals do not cover each other
  const shifted = (index, series, count) => index + (series - (count - 1) / 2) * 0.12;

  // an interval is a line of its own: from low to high, at the point's place
  const interval = {
    id: "interval",
    beforeDatasetsDraw(chart) {
      const { ctx, scales } = chart;
      chart.data.datasets.forEach((set, number) => {
        if (!chart.isDatasetVisible(number) || !set.intervals) return;
        ctx.save();
        ctx.strokeStyle = set.borderColor;
        ctx.lineWidth = 2;
        for (const { x, low, high } of set.intervals) {
          const [at, top, bottom] = [scales.x.getPixelForValue(x), scales.y.getPixelForValue(high), scales.y.getPixelForValue(low)];
          ctx.beginPath();
          for (const [from, to] of [[[at, top], [at, bottom]], [[at - 4, top], [at + 4, top]], [[at - 4, bottom], [at + 4, bottom]]]) {
            ctx.moveTo(...from);
            ctx.lineTo(...to);
          }
          ctx.stroke();
        }
        ctx.restore();
      });
    },
  };

  const reference = {
    id: "reference",
    beforeDatasetsDraw(chart, _, { value }) {
      if (value === null || value === undefined) return;
      const { ctx, chartArea, scales } = chart;
      const y = scales.y.getPixelForValue(value);
      if (y < chartArea.top || y > chartArea.bottom) return;
      ctx.save();
      ctx.strokeStyle = style("--soft");
      ctx.setLineDash([4, 4]);
      ctx.beginPath();
      ctx.moveTo(chartArea.left, y);
      ctx.lineTo(chartArea.right, y);
      ctx.stroke();
      ctx.restore();
    },
  };

  const datasets = (found) => found.series.map((one, number) => {
    const placed = one.points.flatMap((point, index) => point ? [{ point, x: shifted(index, number, found.series.length) }] : []);
    const colour = colours()[number % 4];
    return {
      label: one.label,
      data: placed.map(({ point, x }) => ({ x, y: point[0], said: point[3] })),
      intervals: placed.filter(({ point }) => point[1] !== null && point[1] < point[2]).map(({ point, x }) => ({ x, low: point[1], high: point[2] })),
      borderColor: colour,
      backgroundColor: colour,
      borderWidth: 1.5,
      borderDash: DASHES[number % 4],
      showLine: found.joined,
      pointStyle: SHAPES[number % 4],
      pointRadius: found.labels.length > 20 ? 2 : 5,
      pointHoverRadius: 7,
    };
  });

  // the axis reaches around all that is drawn, intervals too
  const reach = (found) => {
    const all = found.series.flatMap((one) => one.points.flatMap((point) => point ? [point[0], point[1], point[2]] : []));
    const values = all.filter((value) => value !== null).concat(found.reference === null ? [] : [found.reference]);
    if (!values.length) return {};
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = Math.max((high - low) * 0.08, 1e-6);
    const percent = found.unit === "%";
    const bottom = percent ? { min: Math.max(Math.floor(low - room), 0) } : { suggestedMin: low - room };
    return {
      ...(found.zero ? { min: 0 } : bottom),
      suggestedMax: percent ? Math.min(Math.ceil(high + room), 100) : high + room,
    };
  };

  const draw = (figure) => {
    const canvas = figure.querySelector("canvas");
    const found = JSON.parse(document.getElementById(figure.dataset.chart).value);
    const [ink, line, soft] = [style("--ink"), style("--line"), style("--soft")];
    const data = { datasets: datasets(found) };
    const options = {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      interaction: { mode: "nearest", intersect: false },
      scales: {
        x: {
          type: "linear",
          min: -0.5,
          max: found.labels.length - 0.5,
          grid: { display: false },
          border: { color: line },
          afterBuildTicks: (axis) => { axis.ticks = found.labels.map((_, value) => ({ value })); },
          ticks: { color: ink, autoSkip: true, maxRotation: 60, callback: (value) => found.labels[value] ?? "" },
        },
        y: { ...reach(found), grid: { color: line }, border: { display: false }, ticks: { color: soft, callback: (value) => `${Number(value.toPrecision(6))}${found.unit ? ` ${found.unit}` : ""}` } },
      },
      plugins: {
        reference: { value: found.reference },
        legend: { display: found.series.length > 1, labels: { color: ink, usePointStyle: true } },
        tooltip: {
          callbacks: {
            title: (items) => found.labels[Math.round(items[0].parsed.x)] ?? "",
            label: (item) => `${item.dataset.label}: ${item.raw.said}`,
          },
        },
      },
    };
    const chart = drawn.get(canvas);
    if (chart) {
      Object.assign(chart, { data, options });
      chart.update("none");
    } else {
      drawn.set(canvas, new Chart(canvas, { type: "line", data, plugins: [interval, reference], options }));
    }
  };

  const drawAll = () => document.querySelectorAll("figure[data-chart]").forEach(draw);

  document.addEventListener("DOMContentLoaded", drawAll);
  document.addEventListener("htmx:oobAfterSwap", ({ target }) => {
    document.querySelectorAll(`figure[data-chart="${target.id}"]`).forEach(draw);
  });
  // what came with another part of the page, and what went with the one before
  document.addEventListener("htmx:afterSwap", () => {
    drawn.forEach((chart, canvas) => {
      if (canvas.isConnected) return;
      chart.destroy();
      drawn.delete(canvas);
    });
    document.querySelectorAll("figure[data-chart]").forEach((figure) => {
      if (!drawn.has(figure.querySelector("canvas"))) draw(figure);
    });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
