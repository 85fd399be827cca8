// Reads the Prometheus text format, version 0.0.4.

const ESCAPES = { "\\\\": "\\", '\\"': '"', "\\n": "\n" };
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/gy;

function number(text) {
    if (text === "+Inf") return Infinity;
    if (text === "-Inf") return -Infinity;
    return Number(text);
}

/** Parses labels such as `a="1",b="2"` into an object. */
export function labelsOf(text) {
    const labels = {};
    let at = 0;
    while (at < text.length) {
        LABEL.lastIndex = at;
        const match = LABEL.exec(text);
        if (!match) throw new Error(`not labels: ${text}`);
        labels[match[1]] = match[2].replace(/\\[\\"n]/g, (escape) => ESCAPES[escape]);
        at = LABEL.lastIndex;
        if (text[at] === ",") at += 1;
    }
    return labels;
}

/** Index of the end of the labels, which is the first closing brace outside of quotes. */
function closingBrace(line, from) {
    let quoted = false;
    for (let at = from; at < line.length; at += 1) {
        if (quoted && line[at] === "\\") at += 1;
        else if (line[at] === '"') quoted = !quoted;
        else if (line[at] === "}" && !quoted) return at;
    }
    throw new Error(`labels without an end: ${line}`);
}

/**
 * Parses a scrape into `types` by family name, and `samples`. A sample has a `key` (name and
 * labels as written), a `name`, `labels` (as written) and a `value`.
 */
export function parse(text) {
    const types = new Map();
    const samples = [];
    for (const line of text.split("\n")) {
        if (line === "") continue;
        if (line[0] === "#") {
            const [, word, name, type] = line.split(" ");
            if (word === "TYPE") types.set(name, type);
            continue;
        }
        const brace = line.indexOf("{");
        const space = line.indexOf(" ");
        const labelled = brace !== -1 && brace < space;
        const end = labelled ? closingBrace(line, brace + 1) + 1 : space;
        samples.push({
            key: line.slice(0, end),
            name: line.slice(0, labelled ? brace : space),
            labels: labelled ? line.slice(brace + 1, end - 1) : "",
            // A timestamp may follow the value.
            value: number(line.slice(end).trim().split(" ")[0]),
        });
    }
    return { types, samples };
}
