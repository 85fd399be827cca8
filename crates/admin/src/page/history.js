// Keeps the newest scrapes and computes rates, increases and quantiles from them.

import { labelsOf } from "./exposition.js";

const STARTED = "process_start_time_seconds";
const SUFFIX = /_(bucket|sum|count)$/;

/** Whether the values of a series only grow while a process runs. */
function accumulates(name, types) {
    const type = types.get(name) ?? types.get(name.replace(SUFFIX, ""));
    return type === "counter" || type === "histogram";
}

export class History {
    #ticks = 0; // number of scrapes, of which the newest is in slot (ticks - 1) % size
    #series = new Map(); // by key
    #byName = new Map();
    #size;
    #times;
    #started = NaN; // start time of the process

    /** Keeps the newest `size` scrapes. */
    constructor(size) {
        this.#size = size;
        this.#times = new Float64Array(size);
    }

    get ticks() {
        return this.#ticks;
    }

    /** Time of the newest scrape, in seconds since the epoch. */
    get time() {
        return this.#times[this.#slot(0)];
    }

    #slot(back) {
        return (this.#ticks - 1 - back + this.#size) % this.#size;
    }

    /**
     * Adds a scrape. Counters are stored as sums of their increments, so that a restart of the
     * process, which resets them, never results in a negative rate. A series that is new in a
     * later scrape started at zero, because the observed process created it.
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
            // A new process may not have the series yet, and then it starts at zero again.
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

    /** Whether any scrape contained the metric. */
    has(name) {
        return this.#byName.has(name);
    }

    /** Names of metrics with this prefix in the newest scrape, in their order. */
    names(prefix) {
        return [...this.#byName.keys()].filter((name) => name.startsWith(prefix)
            && this.#byName.get(name).some((series) => series.seen === this.#ticks));
    }

    #select(name, match) {
        return (this.#byName.get(name) ?? []).filter((series) => !match || match(series.labels));
    }

    /** Number of scrapes to the beginning of the window: at least one, at most all stored ones. */
    #back(seconds) {
        const most = Math.min(this.#ticks, this.#size) - 1;
        let back = Math.min(1, most);
        while (back < most && this.time - this.#times[this.#slot(back + 1)] <= seconds + 0.5) back += 1;
        return back;
    }

    /** Seconds that the scrapes of a window cover. 0 before the second scrape. */
    span(seconds) {
        return this.time - this.#times[this.#slot(this.#back(seconds))];
    }

    /** Sum of the newest scraped values of the series. NaN without any series. */
    now(name, match) {
        const found = this.#select(name, match).filter((series) => series.seen === this.#ticks);
        return found.length ? found.reduce((sum, series) => sum + series.last, 0) : NaN;
    }

    /** Increase of the selected counters over the window. */
    increase(name, seconds, match) {
        const [now, then] = [this.#slot(0), this.#slot(this.#back(seconds))];
        return this.#select(name, match)
            .reduce((sum, { values }) => sum + values[now] - values[then], 0);
    }

    /** Increase in a second. NaN before the second scrape, or without the metric. */
    rate(name, seconds, match) {
        const span = this.span(seconds);
        return this.has(name) && span > 0 ? this.increase(name, seconds, match) / span : NaN;
    }

    /** The values of a label in a metric, in the order of the exposition. */
    values(name, label, match) {
        return [...new Set(this.#select(name, match).map((series) => series.labels[label]))];
    }

    /**
     * The quantile `q` of the observations of a histogram over the window, interpolated like
     * `histogram_quantile` of Prometheus. NaN without observations. For a quantile in the first
     * bucket it returns the bound of that bucket, because nothing else is known. For one beyond
     * the last bound it returns the last bound.
     */
    quantile(q, name, seconds, match) {
        const [now, then] = [this.#slot(0), this.#slot(this.#back(seconds))];
        const counts = new Map(); // observations by upper bound
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
