// The page that page-probe.mjs looks at: the service, the browser, what the browser
// complains of, and how the page is read.

import assert from "node:assert/strict";
import { browser, Service } from "./page-rig.mjs";
import { read } from "./page-metrics.mjs";

const PATIENCE = 30_000; // bound of every wait, in milliseconds

export const service = await Service.start(process.argv[2], { APP__RATE_LIMIT__AUTH__BURST: "100" });
export const chromium = await browser();
const context = await chromium.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
export const page = await context.newPage();
page.setDefaultTimeout(PATIENCE);

export const complaints = [];
export const strangers = [];
page.on("pageerror", (error) => complaints.push(error.stack));
page.on("console", (message) => {
    // The browser itself notes each answer that is an error; we ask for one on purpose.
    const refused = /\/log-filter$/.test(message.location().url) && /status of 422/.test(message.text());
    if (["error", "warning"].includes(message.type()) && !refused) complaints.push(message.text());
});
page.on("request", (request) => {
    if (!request.url().startsWith(`${service.admin}/`)) strangers.push(request.url());
});

/** What the page was told itself: its first and its newest scrape. */
export const told = { first: undefined, newest: undefined };
page.on("response", async (response) => {
    if (response.url() !== `${service.admin}/metrics` || !response.ok()) return;
    told.newest = read(await response.text());
    told.first ??= told.newest;
});

export const data = (selector) => page.$eval(selector, (node) => ({ ...node.dataset }));
export const rows = (id) => page.$$eval(`#${id} tr`, (all) => all.map((row) => ({ ...row.dataset })));
export const value = async (selector) => Number((await data(selector)).value);
export const ticks = () => page.evaluate(() => Number(document.body.dataset.ticks));
export const tick = async (more = 1) => {
    const wanted = (await ticks()) + more;
    await page.waitForFunction((count) => Number(document.body.dataset.ticks) >= count, wanted);
};
export const near = (shown, expected, what) => assert.ok(
    Math.abs(shown - expected) <= 1e-9 + 1e-6 * Math.abs(expected), `${what}: ${shown}, not ${expected}`);
export const said = (text) => console.log(`ok  ${text}`);
