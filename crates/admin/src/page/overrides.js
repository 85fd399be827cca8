// Shows temporary changes of the process. They are at the top of the page, because they explain
// figures that would otherwise look like a failure.

import { duration, percent } from "./format.js";

const byId = (id) => document.getElementById(id);

const left = (at) => duration((Date.parse(at) - Date.now()) / 1_000);

/** Describes a fault. */
function inWords({ path, latency, status, panic, ratio, expires_at: end }) {
    const effects = [latency && `waits ${latency}`, panic && "panics", status && `answers ${status}`];
    const does = effects.filter(Boolean).join(", ") || "does nothing";
    return `${path} ${does}${ratio < 1 ? `, ${percent(ratio)} of the time` : ""}${end ? `, for ${left(end)}` : ""}`;
}

/** Shows the active faults, and the switches whose old value will return. */
export function overrides(faults, returning) {
    const parts = returning.filter(({ at }) => Date.parse(at) > Date.now())
        .map(({ name, value, at, then }) => `${name} is ${value} for ${left(at)}, then ${then}`);
    if (faults.length) parts.unshift(`Faults are injected: ${faults.map(inWords).join("; ")}`);
    const node = byId("overrides");
    node.textContent = parts.map((part) => `${part}. `).join("").trim();
    node.hidden = parts.length === 0;
}
