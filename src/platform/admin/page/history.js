// What was scraped, for ten minutes, and what can be asked of it.

import { labelsOf } from "./exposition.js";

const STARTED = "process_start_time_seconds";
const SUFFIX = /_(bucket|sum|count)$/;

/** Whether values of this series only ever grow while a process lives. */
function accumulates(name, types) {
    const type = types.get(name) ?? types.get(name.replace(SUFFIX, ""));
    return type === "counter" || type === "histogram";
}

export class History {
    #ticks = 0; // scrapes so far; the newest is in slot (ticks - 1) % size
    #series = new Map(); // by key
    #byName = new Map();
    #size;
    #times;
    #started = NaN; // of the process

    /** Keeps the newest `size` scrapes. */
    constructor(size) {
        this.#size = size;
        this.#times = new Float64Array(size);
    }

    get ticks() {
        return this.#ticks;
    }

    /** Seconds since the epoch of the newest scrape. */
    get time() {
        return this.#times[this.#slot(0)];
    }

    #slot(back) {
        return (this.#ticks - 1 - back + this.#size) % this.#size;
    }

    /**
     * Takes a scrape in. Counters are kept as sums of their steps, so that a restart
     * of the process, where they begin again, never reads as a negative rate. A series
     * that was not there before began at zero: counters are born in the process that
     * we watch.
     */
    add(time, { types, samples }) {
        this.#ticks += 1;
        const slot = this.#slot(0);
        this.#times[slot] = time;
        const started = samples.find((sample) => sample.name === STARTED)?.value;
        const anew = started !== this.#started;
        this.#started = started;
        for (const sample of samples) {
            const series = this.#series.get(sample.key) ?? this.#born(sample, types);
            if (series.accumulates) {
                const fresh = series.seen === 0 && this.#ticks === 1;
                const step = sample.value - series.last;
                series.sum += fresh ? 0 : step < 0 || anew ? sample.value : step;
            }
            series.last = sample.value;
            series.seen = this.#ticks;
        }
        for (const series of this.#series.values()) {
            const there = series.seen === this.#ticks;
            // A new process may not have the series yet: then it begins at zero again.
            if (!there) series.last = series.accumulates ? 0 : NaN;
            series.values[slot] = series.accumulates ? series.sum : series.last;
        }
    }

    #born(sample, types) {
        const series = {
            labels: labelsOf(sample.labels),
            accumulates: accumulates(sample.name, types),
            values: new Float64Array(this.#size),
            sum: 0,
            last: 0,
            seen: 0,
        };
        if (!series.accumulates) series.values.fill(NaN);
        this.#series.set(sample.key, series);
        const family = this.#byName.get(sample.name) ?? [];
        family.push(series);
        this.#byName.set(sample.name, family);
        return series;
    }

    /** Whether there is, or was, such a metric. */
    has(name) {
        return this.#byName.has(name);
    }

    /** Names of metrics that begin so and are in the newest scrape, in their order. */
    names(prefix) {
        return [...this.#byName.keys()].filter((name) => name.startsWith(prefix)
            && this.#byName.get(name).some((series) => series.seen === this.#ticks));
    }

    #select(name, match) {
        return (this.#byName.get(name) ?? []).filter((series) => !match || match(series.labels));
    }

    /** How many scrapes back the window begins: as far as there is something, at least one. */
    #back(seconds) {
        const most = Math.min(this.#ticks, this.#size) - 1;
        let back = Math.min(1, most);
        while (back < most && this.time - this.#times[this.#slot(back + 1)] <= seconds + 0.5) back += 1;
        return back;
    }

    /** Seconds that a window really covers; 0 before the second scrape. */
    span(seconds) {
        return this.time - this.#times[this.#slot(this.#back(seconds))];
    }

    /** The newest value as it was scraped, summed over the series; NaN without any. */
    now(name, match) {
        const found = this.#select(name, match).filter((series) => series.seen === this.#ticks);
        return found.length ? found.reduce((sum, series) => sum + series.last, 0) : NaN;
    }

    /** By how much the selected counters grew over the window. */
    increase(name, seconds, match) {
        const [now, then] = [this.#slot(0), this.#slot(this.#back(seconds))];
        return this.#select(name, match)
            .reduce((sum, { values }) => sum + values[now] - values[then], 0);
    }

    /** Increase by second; NaN before the second scrape, or where there is no such metric. */
    rate(name, seconds, match) {
        const span = this.span(seconds);
        return this.has(name) && span > 0 ? this.increase(name, seconds, match) / span : NaN;
    }

    /** The values that a label has in a metric, in the order of the exposition. */
    values(name, label, match) {
        return [...new Set(this.#select(name, match).map((series) => series.labels[label]))];
    }

    /**
     * The value below which the share `q` of what the histogram saw over the window
     * lies, interpolated as Prometheus's `histogram_quantile` does; NaN for nothing.
     * Inside the first bucket nothing is known but its bound, which is returned, as the
     * last bound is for what lies beyond it.
     */
    quantile(q, name, seconds, match) {
        const [now, then] = [this.#slot(0), this.#slot(this.#back(seconds))];
        const counts = new Map(); // by upper bound
        for (const { labels, values } of this.#select(`${name}_bucket`, match)) {
            const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
            counts.set(bound, (counts.get(bound) ?? 0) + values[now] - values[then]);
        }
        const bounds = [...counts.keys()].sort((a, b) => a - b);
        const total = counts.get(Infinity) ?? 0;
        if (!(total > 0)) return NaN;
        const rank = q * total;
        const at = bounds.findIndex((bound) => counts.get(bound) >= rank);
        if (at === 0) return bounds[0];
        const [below, upper] = [bounds[at - 1], bounds[at]];
        if (upper === Infinity) return below;
        const before = counts.get(below);
        return below + (upper - below) * (rank - before) / (counts.get(upper) - before);
    }
}
