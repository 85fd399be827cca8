// Parses Mermaid diagrams with Mermaid's own parser.
//
// mermaid_parse.mjs MODULES, called by markdown_fences.py: a list of texts as JSON on
// standard input, a list of errors (or null) in the same order on standard output.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { resolve } = createRequire(`${process.argv[2]}/node_modules/`);
const { JSDOM } = createRequire(import.meta.url)(resolve("jsdom"));
// Labels are sanitised while they are parsed, and that needs a document.
const { window } = new JSDOM("");
globalThis.window = window;
globalThis.document = window.document;
const { default: mermaid } = await import(pathToFileURL(resolve("mermaid")));

const errors = [];
for (const text of JSON.parse(readFileSync(0, "utf8"))) {
  errors.push(await mermaid.parse(text).then(() => null, (error) => error.message));
}
process.stdout.write(JSON.stringify(errors));
