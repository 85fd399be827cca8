// The forms for the switches of the process.

import { clock } from "./format.js";

/** The admin token. It is kept in memory until the page closes and is never stored. */
let token = "";

const byId = (id) => document.getElementById(id);

async function call(path, method, body) {
    const headers = {};
    if (token) headers.authorization = `Bearer ${token}`;
    if (body) headers["content-type"] = "application/json";
    const answer = await fetch(path, {
        method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(5_000),
    });
    return { status: answer.status, content: await answer.json().catch(() => ({})) };
}

/** The text of a refusal for readers. */
function reason({ status, content }) {
    const fields = (content.errors ?? []).map(({ field, message }) => `${field} ${message}`);
    return `${status}: ${[content.detail ?? content.title ?? "refused", ...fields].join("; ")}`;
}

class Switch {
    #form;
    #path;
    #member;
    #read;
    #text = "";
    #state = {};

    constructor(form, member, read) {
        this.#form = form;
        this.#path = form.dataset.path;
        this.#member = member;
        this.#read = read;
        form.addEventListener("submit", (event) => {
            event.preventDefault();
            this.#apply();
        });
    }

    #field(name) {
        return this.#form.elements[name];
    }

    #say(state, text) {
        const result = this.#form.querySelector("[role=status]");
        result.dataset.state = state;
        result.textContent = text;
    }

    /** The pending return: present value, time and returning value. Empty without one. */
    get returning() {
        const { [this.#member]: value, returns_at: at, returns_to: then } = this.#state;
        const name = this.#form.querySelector("h3").textContent;
        return at ? [{ name, value, at, then }] : [];
    }

    /** Requests and shows the value in force. */
    async refresh() {
        const answer = await call(this.#path, "GET");
        if (answer.status === 200) this.#show(answer.content);
        else this.#missing(answer);
    }

    #show(content) {
        this.#state = content;
        const value = String(content[this.#member]);
        const returns = content.returns_at
            ? ` until ${clock(content.returns_at)}, then ${content.returns_to}` : "";
        const current = this.#form.querySelector("output");
        current.textContent = value + returns;
        current.dataset.value = value;
        // An edited field keeps the text of the user. An unedited one follows the process.
        const field = this.#field("value");
        if (field.value === this.#text) field.value = value;
        this.#text = value;
        this.#form.dataset.state = "ok";
    }

    #missing(answer) {
        this.#form.querySelector("output").textContent = "not told";
        this.#refused(answer);
    }

    #refused(answer) {
        const needsToken = answer.status === 401 || answer.status === 404;
        this.#form.dataset.state = needsToken ? "needs-token" : "bad";
        byId("token-form").hidden &&= !needsToken;
        const hint = answer.status === 401 ? "needs admin.token: enter it above"
            : "needs admin.token: switches are not there until the configuration sets it";
        this.#say("bad", needsToken ? hint : reason(answer));
    }

    async #apply() {
        const body = { [this.#member]: this.#read(this.#field("value").value) };
        const ttl = this.#field("ttl").value.trim();
        if (ttl) body.ttl = ttl;
        const button = this.#form.querySelector("button");
        button.disabled = true;
        try {
            const answer = await call(this.#path, "PUT", body);
            if (answer.status === 200) {
                this.#text = this.#field("value").value;
                this.#show(answer.content);
                const said = ttl ? `In force for ${ttl}.` : "In force until changed.";
                const { hint } = answer.content;
                this.#say(hint ? "warn" : "ok", hint ? `${said} ${hint}` : said);
            } else {
                this.#refused(answer);
            }
        } catch {
            this.#say("bad", "The process did not answer.");
        } finally {
            button.disabled = false;
        }
    }
}

/** Both switches and the field for the token. */
export class Switches {
    #all = [
        new Switch(byId("log-filter"), "filter", (text) => text),
        new Switch(byId("trace-sampling"), "ratio", Number),
    ];

    constructor() {
        byId("token-form").addEventListener("submit", (event) => {
            event.preventDefault();
            const field = byId("token");
            token = field.value.trim();
            field.value = "";
            byId("token-form").querySelector("[role=status]").textContent = token ? "Kept until this page closes." : "Forgotten.";
        });
    }

    /** The switches whose old value will return. */
    returning() {
        return this.#all.flatMap((one) => one.returning);
    }

    /** Requests all values. Errors are ignored, because the main loop reports a silent process. */
    async refresh() {
        await Promise.allSettled(this.#all.map((one) => one.refresh()));
    }
}
