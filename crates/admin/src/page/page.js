// The main loop of the page: requests the data every two seconds and shows it.

import { parse } from "./exposition.js";
import { History } from "./history.js";
import { Charts } from "./charts.js";
import { figures, health, identity, uptime } from "./figures.js";
import { overrides } from "./overrides.js";
import { Switches } from "./switches.js";
import { clock } from "./format.js";

const EVERY = 2_000; // milliseconds
const KEEP = 301; // scrapes, which are ten minutes
const TIMEOUT = 5_000;
const SWITCHES_EVERY = 5; // scrapes
const THEMES = ["system", "light", "dark"];

const byId = (id) => document.getElementById(id);

const history = new History(KEEP);
const charts = new Charts(byId("charts"), KEEP);
const switches = new Switches();
let timer;
let asking = false;
let paused = false;
let answered; // time of the last answer, in milliseconds since the epoch
let known; // start time of the process whose identity is shown

const seconds = () => Number(byId("window").value);

async function get(path, accept) {
    const answer = await fetch(path, {
        headers: { accept }, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT),
    });
    return answer;
}

/** The active faults. They are requested only if the metrics show some. */
async function faults() {
    if (!(history.now("faults_active") > 0)) return [];
    const answer = await get("/faults", "application/json");
    return answer.ok ? (await answer.json()).items : [];
}

async function scrape() {
    const [metrics, ready] = await Promise.all([
        get("/metrics", "text/plain;version=0.0.4"), get("/health/ready", "application/json")]);
    if (!metrics.ok) throw new Error(`/metrics answers ${metrics.status}`);
    const scraped = parse(await metrics.text());
    history.add(Date.now() / 1_000, scraped);
    health(await ready.json());
    const started = history.now("process_start_time_seconds");
    if (started !== known) {
        identity(await (await get("/info", "application/json")).json());
        known = started;
    }
    uptime(started, history.time);
    figures(history, seconds());
    charts.push(history);
    if (history.ticks % SWITCHES_EVERY === 1) await switches.refresh();
    overrides(await faults(), switches.returning());
}

function silent(error) {
    const since = answered ? `The last answer came at ${clock(answered)}.` : "It has not answered yet.";
    byId("silence").textContent = `The process does not answer (${error.message}). ${since}`
        + " What is shown is old; asking again every two seconds.";
}

function announce(state) {
    document.body.dataset.connection = state;
    byId("silence").hidden = state !== "silent";
    const of = answered ? clock(answered) : "never";
    byId("connection").textContent =
        { live: `live, ${of}`, paused: `paused, last answer ${of}`, silent: `last answer ${of}` }[state];
    byId("connection").dataset.state = { paused: "warn", silent: "bad" }[state] ?? "";
    const badge = byId("state");
    if (state === "silent") {
        badge.textContent = "no answer";
        Object.assign(badge.dataset, { value: "", state: "bad", status: "" });
        byId("trouble").hidden = byId("overrides").hidden = true;
    }
    const ready = badge.dataset.status === "ok" || state !== "live";
    const word = state === "silent" ? "no answer" : ready ? state : badge.textContent;
    // The title starts with the problem, because a tab shows only its beginning.
    document.title = word === "live" ? `${byId("name").textContent} – live` : `${word} – ${byId("name").textContent}`;
}

async function tick() {
    if (asking) return;
    asking = true;
    try {
        await scrape();
        answered = Date.now();
        document.body.dataset.ticks = String(history.ticks);
        announce("live");
    } catch (error) {
        silent(error);
        announce("silent");
    } finally {
        asking = false;
        schedule();
    }
}

function schedule() {
    clearTimeout(timer);
    if (paused || document.hidden) {
        if (document.body.dataset.connection !== "silent") announce("paused");
        return;
    }
    timer = setTimeout(tick, EVERY);
}

function theme(choice) {
    if (choice === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
    byId("theme").textContent = `Colours: ${choice}`;
    byId("theme").dataset.value = choice;
    if (history.ticks > 0) charts.recolour();
}

byId("theme").addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(byId("theme").dataset.value) + 1) % THEMES.length];
    theme(next);
});
byId("pause").addEventListener("click", () => {
    paused = !paused;
    byId("pause").setAttribute("aria-pressed", String(paused));
    if (paused) schedule();
    else tick();
});
byId("window").addEventListener("change", () => history.ticks > 0 && figures(history, seconds()));
document.addEventListener("visibilitychange", () => {
    if (document.hidden) schedule();
    else if (!paused) tick();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change",
    () => history.ticks > 0 && charts.recolour());

byId("zone").textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
theme("system");
tick();
