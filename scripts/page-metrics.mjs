// What /metrics says, worked out apart from the page's own code: the other half of the
// comparison in page-probe.mjs.

const LINE = /^([a-z0-9_]+)(?:\{(.*)\})? (\S+)$/;

export async function scrape(url) {
    return read(await (await fetch(`${url}/metrics`)).text());
}

export function read(text) {
    const samples = text.split("\n").filter((line) => line && !line.startsWith("#")).map((line) => {
        const [, name, labels = "", value] = LINE.exec(line) ?? [];
        if (!name) throw new Error(`not a sample: ${line}`);
        const pairs = [...labels.matchAll(/([a-z_]+)="([^"]*)"/g)].map(([, label, text]) => [label, text]);
        return { name, labels: Object.fromEntries(pairs), value: value === "+Inf" ? Infinity : Number(value) };
    });
    return new Scrape(samples);
}

const fits = (wanted, labels) => Object.entries(wanted)
    .every(([name, value]) => (value instanceof RegExp ? value.test(labels[name]) : labels[name] === value));

export class Scrape {
    constructor(samples) {
        this.samples = samples;
    }

    find(name, wanted = {}) {
        return this.samples.filter((sample) => sample.name === name && fits(wanted, sample.labels));
    }

    sum(name, wanted) {
        return this.find(name, wanted).reduce((sum, { value }) => sum + value, 0);
    }

    values(name, label) {
        return [...new Set(this.find(name).map(({ labels }) => labels[label]))];
    }
}

/** Two scrapes of one process, and what happened between them. */
export class Between {
    constructor(before, after) {
        Object.assign(this, { before, after });
    }

    sum(name, wanted) {
        return this.after.sum(name, wanted) - this.before.sum(name, wanted);
    }

    /** Walks the buckets from below, as the definition says. */
    quantile(q, name, wanted = {}) {
        const edges = this.after.values(`${name}_bucket`, "le").map(Number.parseFloat)
            .map((edge, at, all) => (Number.isNaN(edge) ? Infinity : all[at])).sort((a, b) => a - b);
        const upTo = (edge) => this.sum(`${name}_bucket`,
            { ...wanted, le: edge === Infinity ? "+Inf" : String(edge) });
        const rank = q * upTo(Infinity);
        let [low, below] = [0, 0];
        for (const edge of edges) {
            const count = upTo(edge);
            // Of the first bucket only its bound is known.
            if (count >= rank && edge === edges[0]) return edge;
            if (count >= rank) return edge === Infinity ? low : low + ((edge - low) * (rank - below)) / (count - below);
            [low, below] = [edge, count];
        }
        return NaN;
    }
}
