// page-picture.mjs FOLDER SECONDS: see scripts/page-picture.

import { statSync } from "node:fs";
import { browser, load, overload, Service } from "./page-rig.mjs";

const [folder, seconds] = [process.argv[2], Number(process.argv[3])];
// The main part of it: three columns, down to the routes.
const SIZE = { width: 1280, height: 1340 };

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
    await page.screenshot({ path });
    console.log(`docs/images/page-${scheme}.png: ${Math.round(statSync(path).size / 1_024)} KiB`);
}
await loading;
await chromium.close();
process.exit(0);
