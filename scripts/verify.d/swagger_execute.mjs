// Presses Execute on every operation of Swagger UI in a real browser, and compares the
// method and path of what is sent with the operation that it was pressed on. Called by
// 73-openapi-client with the service's URL, after scripts/page-tools.
import assert from "node:assert/strict";
import { browser } from "../page-rig.mjs";

const url = process.argv[2];
const document = await (await fetch(`${url}/openapi.json`)).json();
const expected = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.keys(item).filter((method) => item[method].operationId).map((method) => `${method.toUpperCase()} ${path}`));

const chromium = await browser();
const page = await chromium.newPage({ viewport: { width: 1280, height: 1000 } });
const complaints = [], strangers = [];
page.on("pageerror", (error) => complaints.push(String(error)));
page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) strangers.push(request.url());
});
await page.goto(`${url}/docs/`);
await page.locator(".opblock").first().waitFor();
const shown = await page.$$eval(".opblock", (blocks) => blocks.map((block) =>
    `${block.querySelector(".opblock-summary-method").textContent} ${block.querySelector(".opblock-summary-path").dataset.path}`));
assert.deepEqual([...shown].sort(), [...expected].sort(), "operations on the page");

/** Opens an operation, presses Execute, and returns what was sent with its answer. */
async function execute(name, fill = {}) {
    const block = page.locator(".opblock").nth(shown.indexOf(name));
    if (await block.locator(".opblock-body").count() === 0) await block.locator(".opblock-summary-control").click();
    await block.locator(".try-out__btn").first().waitFor();
    if (await block.locator(".try-out__btn.cancel").count() === 0) await block.locator(".try-out__btn").click();
    const [method, path] = name.split(" ");
    for (const parameter of document.paths[path][method.toLowerCase()].parameters ?? []) {
        if (parameter.required) {
            await block.locator(`tr[data-param-name="${parameter.name}"] input`).fill(fill[parameter.name] ?? "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e6f");
        }
    }
    if (fill.body) await block.locator("textarea.body-param__text").fill(JSON.stringify(fill.body));
    const sent = page.waitForRequest((request) => request.resourceType() === "fetch" || request.resourceType() === "xhr", { timeout: 10_000 });
    await block.locator("button.execute").click();
    const request = await sent;
    const response = await request.response();
    return { method: request.method(), path: decodeURIComponent(new URL(request.url()).pathname), status: response.status(),
        body: await response.json().catch(() => undefined), request: request.postData() };
}

// The example of the login is the administrator of development: it works as it stands.
const login = await execute("POST /api/v1/auth/login");
assert.equal(login.status, 200, JSON.stringify(login.body));
await page.locator(".auth-wrapper > .btn.authorize").click();
const form = page.locator(".auth-container").filter({ has: page.locator("#auth-bearer-value") });
await form.locator("#auth-bearer-value").fill(login.body.access_token);
await form.locator("button[type=submit]").click();
await page.locator(".auth-btn-wrapper .btn-done").first().click();

// What ends the login comes last.
const last = ["POST /api/v1/auth/logout", "POST /api/v1/users/me/password", "DELETE /api/v1/users/me"];
const order = [...shown.filter((name) => !last.includes(name)), ...last];
const statuses = {};
for (const name of order) {
    const [method, path] = name.split(" ");
    const sent = await execute(name);
    const shape = new RegExp(`^${path.replace(/[.]/g, "\\.").replace(/\{[^}]*\}/g, "[^/]+")}$`);
    assert.equal(sent.method, method, `${name}: method`);
    assert.match(sent.path, shape, `${name}: path`);
    const described = document.paths[path][method.toLowerCase()].responses;
    assert.ok(String(sent.status) in described, `${name}: ${sent.status} is not described`);
    assert.ok(sent.status !== 405 && sent.status < 500, `${name}: ${sent.status}`);
    if (document.paths[path][method.toLowerCase()].security) {
        assert.notEqual(sent.status, 401, `${name}: the token is not sent`);
    }
    // An example that does not fit its own schema is no example.
    if (sent.status === 400) assert.fail(`${name}: its example is refused: ${JSON.stringify(sent.body)}`);
    statuses[sent.status] = (statuses[sent.status] ?? 0) + 1;
}
assert.deepEqual(complaints, []);
assert.deepEqual(strangers, [], "no request to another origin");
console.log(`Execute sends what it says on all ${order.length} operations of Swagger UI: ${Object.entries(statuses)
    .map(([status, count]) => `${count} answers of ${status}`).join(", ")}`);
await chromium.close();
process.exit(0);
