// Draws the panels. The plotting library is a plain script, available as `window.uPlot`.

import { clock } from "./format.js";
import { PANELS } from "./panels.js";

const HEIGHT = 150;
/** Seconds without data that are drawn as a gap: the page was hidden or the process silent. */
const HOLE = 7;

function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
}

/** The computed colour of the style sheet, because the canvas does not support variables. */
const colourOf = (node, property) => getComputedStyle(node)[property];

class Chart {
    #panel;
    #columns; // times, then one column for each curve
    #figure;
    #plot;
    #legend = [];
    #nothing; // text that replaces a chart without points
    #keep;

    constructor(panel, parent, keep) {
        this.#panel = panel;
        this.#keep = keep;
        this.#columns = [[], ...panel.curves.map(() => [])];
        const list = element("ul", { class: "legend" });
        for (const { label, colour } of panel.curves) {
            const value = element("b", { "data-curve": label });
            const swatch = element("i", { class: `swatch ${colour}`, "aria-hidden": "true" });
            const item = element("li", {}, swatch, `${label} `, value);
            this.#legend.push({ value, swatch, item });
            list.append(item);
        }
        const canvas = element("div", { class: "plot", role: "img" });
        this.#nothing = element("p", { class: "empty dim" }, panel.nothing ?? "Nothing yet.");
        this.#figure = element("figure", { id: `chart-${panel.id}`, class: "card" },
            element("figcaption", {}, panel.title), canvas, this.#nothing, list);
        parent.append(this.#figure);
    }

    get #canvas() {
        return this.#figure.querySelector(".plot");
    }

    push(history) {
        const { time } = history;
        const [times] = this.#columns;
        if (times.length && time - times.at(-1) > HOLE) this.#append(times.at(-1) + 1, () => null);
        this.#append(time, (curve) => {
            const value = curve.value(history);
            return Number.isFinite(value) ? value : null;
        });
        this.#panel.curves.forEach(({ where }, at) => {
            this.#legend[at].item.hidden = where !== undefined && !history.has(where);
        });
        this.#nothing.hidden = this.#columns.slice(1).some((column) => column.some(Number.isFinite));
        this.#tell(times.length - 1);
        this.#canvas.setAttribute("aria-label", `${this.#panel.title}: ${this.#legend
            .filter(({ item }) => !item.hidden).map(({ item }) => item.textContent).join(", ")}`);
        this.draw();
    }

    #append(time, value) {
        this.#columns[0].push(time);
        this.#panel.curves.forEach((curve, at) => this.#columns[at + 1].push(value(curve)));
        if (this.#columns[0].length > this.#keep) this.#columns.forEach((column) => column.shift());
    }

    /** Shows the values at one index in the legend. */
    #tell(index) {
        this.#legend.forEach(({ value }, at) => {
            const exact = this.#columns[at + 1][index] ?? NaN;
            value.textContent = (this.#panel.curves[at].format ?? this.#panel.format)(exact);
            value.dataset.value = String(exact);
        });
    }

    draw() {
        if (this.#plot) this.#plot.setData(this.#columns);
        else this.rebuild();
    }

    resize() {
        this.#plot?.setSize({ width: this.#canvas.clientWidth, height: HEIGHT });
    }

    /** Creates the plot again, which applies changed colours. */
    rebuild() {
        this.#plot?.destroy();
        const text = colourOf(this.#figure, "color");
        const grid = { stroke: colourOf(this.#figure, "borderTopColor"), width: 1 };
        const axis = { stroke: text, grid, ticks: grid, font: "11px system-ui, sans-serif" };
        const { format, curves, steps, logarithmic } = this.#panel;
        this.#plot = new window.uPlot({
            width: this.#canvas.clientWidth,
            height: HEIGHT,
            legend: { show: false },
            cursor: { drag: { x: false, y: false }, sync: { key: "page" }, points: { size: 6 } },
            scales: {
                x: { range: (_, min, max) => [Math.min(min, max - 60), max] },
                // The scale shows a few of one kind beside thousands of another, and zero.
                y: {
                    ...(logarithmic && { distr: 4, asinh: 1 }),
                    range: (_, min, max) => [0, max > 0 ? max * 1.1 : 1],
                },
            },
            axes: [
                { ...axis, size: 26, space: 70, values: (_, ticks) => ticks.map((at) => clock(at * 1_000)) },
                { ...axis, size: 62, space: 24, values: (_, ticks) => ticks.map(format), ...(steps && { incrs: steps }) },
            ],
            series: [{}, ...curves.map(({ label, dash }, at) => ({
                label, dash, width: 1.75, points: { show: false },
                stroke: colourOf(this.#legend[at].swatch, "backgroundColor"),
            }))],
            hooks: {
                setCursor: [({ cursor }) => this.#tell(cursor.idx ?? this.#columns[0].length - 1)],
            },
        }, this.#columns, this.#canvas);
    }
}

/** All charts below a parent. Each keeps the newest `keep` points. */
export class Charts {
    #charts;

    constructor(parent, keep) {
        this.#charts = PANELS.map((panel) => new Chart(panel, parent, keep));
        new ResizeObserver(() => this.#charts.forEach((chart) => chart.resize())).observe(parent);
    }

    push(history) {
        this.#charts.forEach((chart) => chart.push(history));
    }

    recolour() {
        this.#charts.forEach((chart) => chart.rebuild());
    }
}
