// What somebody has changed for a while. It stands at the top, because it explains
// figures that would alarm whoever does not know of it.

import { duration, percent } from "./format.js";

const byId = (id) => document.getElementById(id);

const left = (at) => duration((Date.parse(at) - Date.now()) / 1_000);

/** A fault in words. */
function inWords({ path, latency, status, panic, ratio, expires_at: end }) {
    const effects = [latency && `waits ${latency}`, panic && "panics", status && `answers ${status}`];
    const does = effects.filter(Boolean).join(", ") || "does nothing";
    return `${path} ${does}${ratio < 1 ? `, ${percent(ratio)} of the time` : ""}${end ? `, for ${left(end)}` : ""}`;
}

/** Shows the faults that are set, and the switches whose old value will return. */
export function overrides(faults, returning) {
    const parts = returning.filter(({ at }) => Date.parse(at) > Date.now())
        .map(({ name, value, at, then }) => `${name} is ${value} for ${left(at)}, then ${then}`);
    if (faults.length) parts.unshift(`Faults are injected: ${faults.map(inWords).join("; ")}`);
    const node = byId("overrides");
    node.textContent = parts.map((part) => `${part}. `).join("").trim();
    node.hidden = parts.length === 0;
}
