// page-picture.mjs FOLDER SECONDS: see scripts/page-picture.

import { statSync } from "node:fs";
import { browser, load, overload, Service } from "./page-rig.mjs";

const [folder, seconds] = [process.argv[2], Number(process.argv[3])];
const SIZE = { width: 1280, height: 1000 };

// More calls to the log-in than a client makes: for requests that fail.
const service = await Service.start(folder, { APP__RATE_LIMIT__AUTH__BURST: "60" });
const chromium = await browser();
const pages = await Promise.all(["light", "dark"].map(async (colorScheme) => {
    const page = await chromium.newPage({ viewport: SIZE, colorScheme });
    await page.goto(`${service.admin}/`);
    return [colorScheme, page];
}));
const loading = load(service.api, seconds);
setTimeout(() => overload(service.api, 6), seconds * 500);
await Promise.race([loading, new Promise((resolve) => setTimeout(resolve, (seconds - 3) * 1_000))]);
for (const [scheme, page] of pages) {
    const path = `${import.meta.dirname}/../docs/images/page-${scheme}.png`;
    // The main part of it: three columns, down to the routes. With ALL, all of it.
    const height = await page.$eval(process.env.ALL ? "body" : "section:has(#routes)",
        (node) => Math.ceil(node.getBoundingClientRect().bottom + scrollY + 12));
    await page.screenshot({ path, fullPage: true, clip: { x: 0, y: 0, width: SIZE.width, height } });
    console.log(`docs/images/page-${scheme}.png: ${Math.round(statSync(path).size / 1_024)} KiB`);
}
await loading;
await chromium.close();
process.exit(0);
