// Formats numbers and times for readers.

const NOTHING = "–";

/** Three significant digits, no exponents. */
export function plain(value) {
    if (!Number.isFinite(value)) return NOTHING;
    const size = Math.abs(value);
    if (size >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
    return String(Number(value.toPrecision(size < 0.001 ? 1 : 3)));
}

export function perSecond(value) {
    return Number.isFinite(value) ? `${plain(value)}/s` : NOTHING;
}

export function percent(value) {
    return Number.isFinite(value) ? `${plain(value * 100)} %` : NOTHING;
}

/** A time in seconds, with a unit that fits. */
export function seconds(value) {
    if (!Number.isFinite(value)) return NOTHING;
    if (value === 0) return "0";
    if (value < 0.001) return `${plain(value * 1e6)} µs`;
    if (value < 1) return `${plain(value * 1e3)} ms`;
    return `${plain(value)} s`;
}

/** First and last bound of the latency histogram, which does not resolve values beyond them. */
const [FASTEST, SLOWEST] = [0.001, 10];

/** A quantile of the latency. */
export function latency(value) {
    if (value <= FASTEST) return `< ${seconds(FASTEST)}`;
    return value >= SLOWEST ? `≥ ${seconds(SLOWEST)}` : seconds(value);
}

export function bytes(value) {
    return Number.isFinite(value) ? `${plain(value / 1_048_576)} MiB` : NOTHING;
}

/** A duration in its two largest units. */
export function duration(value) {
    if (!Number.isFinite(value)) return NOTHING;
    const whole = Math.max(0, Math.floor(value));
    const parts = [[Math.floor(whole / 86_400), "d"], [Math.floor(whole / 3_600) % 24, "h"],
        [Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"]];
    const first = parts.findIndex(([count]) => count > 0);
    return parts.slice(first === -1 ? 3 : first).slice(0, 2)
        .map(([count, unit]) => `${count} ${unit}`).join(" ");
}

export function clock(time) {
    return new Date(time).toLocaleTimeString("en-GB");
}
