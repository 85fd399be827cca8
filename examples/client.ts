// A client in TypeScript that is typed by the service's own description alone: `schema.ts` is
// generated from it by openapi-typescript. The argument is the URL of the service.
// `scripts/verify 73` compiles and runs it.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { components, operations, paths } from "./schema.js";

// Names that generators take from operationId.
type Named = operations["listTransfers"] | operations["createTransfer"] | operations["createDeposit"];
export type { Named };

const baseUrl = process.argv[2];
assert(baseUrl);
let token: string | undefined;
const client = createClient<paths>({ baseUrl });
client.use({
    onRequest({ request }) {
        if (token) request.headers.set("Authorization", `Bearer ${token}`);
        return request;
    },
});

let answers = 0;
/** The body of an answer that went well. */
function good<T>(result: { data?: T; error?: unknown; response: Response }, status: number): T {
    assert.equal(result.response.status, status, JSON.stringify(result.error));
    answers += 1;
    return result.data as T;
}
/** The code of an answer that is a problem. */
function refused(result: { error?: components["schemas"]["Problem"]; response: Response }): string {
    assert(result.error, `status ${result.response.status}`);
    assert.equal(result.error.status, result.response.status);
    answers += 1;
    return result.error.code;
}

async function logIn(login: components["schemas"]["Login"]): Promise<components["schemas"]["TokenBody"]> {
    const tokens = good(await client.POST("/api/v1/auth/login", { body: login }), 200);
    token = tokens.access_token;
    return tokens;
}

const pong = good(await client.GET("/api/v1/ping"), 200);
assert.equal(pong.message, "pong");
good(await client.GET("/.well-known/jwks.json"), 200);

const email = `${randomUUID()}@example.com`;
const password = `${randomUUID()}-Zebra`;
const user = good(await client.POST("/api/v1/auth/register", { body: { email, name: "Ada", password } }), 201);
assert.equal(user.email, email);
assert.equal(refused(await client.POST("/api/v1/auth/register", { body: { email, name: "Ada", password } })), "EMAIL_TAKEN");
assert.equal(refused(await client.GET("/api/v1/users/me")), "UNAUTHENTICATED");

let tokens = await logIn({ email, password });
tokens = good(await client.POST("/api/v1/auth/refresh", { body: { refresh_token: tokens.refresh_token } }), 200);
token = tokens.access_token;
const accounts = [];
for (const name of ["one", "two"]) {
    accounts.push(good(await client.POST("/api/v1/accounts", { body: { currency: "EUR", name } }), 201));
}
const [one, two] = accounts;
assert(one && two);
assert.equal(good(await client.GET("/api/v1/accounts"), 200).items.length, 2);

const order = { from_account: one.id, to_account: two.id, amount: 1250, reference: "rent" };
assert.equal(refused(await client.POST("/api/v1/transfers", { body: order })), "INSUFFICIENT_FUNDS");
const own = token;
// The login of the description's example.
await logIn({ email: "admin@example.com", password: "development-only-password" });
good(await client.POST("/api/v1/deposits", { body: { account: one.id, amount: 5000, reference: "start" } }), 201);
token = own;

const key = { header: { "Idempotency-Key": randomUUID() } };
const first = good(await client.POST("/api/v1/transfers", { params: key, body: order }), 201);
const again = good(await client.POST("/api/v1/transfers", { params: key, body: order }), 201);
assert.equal(again.id, first.id);
const read = good(await client.GET("/api/v1/transfers/{id}", { params: { path: { id: first.id } } }), 200);
assert.deepEqual(read, first);
assert.equal(good(await client.GET("/api/v1/accounts/{id}", { params: { path: { id: two.id } } }), 200).balance, 1250);
const page = good(await client.GET("/api/v1/transfers", { params: { query: { limit: 1 } } }), 200);
assert.equal(page.items.length, 1);
assert(page.next_cursor);
assert.equal(refused(await client.GET("/api/v1/accounts/{id}", { params: { path: { id: randomUUID() } } })), "NOT_FOUND");
good(await client.PATCH("/api/v1/users/me", { body: { name: "Ada King" } }), 200);
good(await client.POST("/api/v1/auth/logout", { body: { refresh_token: tokens.refresh_token } }), 204);
console.log(`the generated client compiles and works: ${answers} answers as described`);
