// Run the code of the README that came with the JavaScript SDK, block after block.
// Arguments: the folder that has the SDK, a JSON object of what stands in the places of placeholders, and one of
// ids that a block would leave to those after it.
// Prints a JSON array: for each block that calls the client the first call and the error, if any.
import fs from "node:fs";
import { createRequire } from "node:module";

const [, , modules, given, left] = process.argv;
const require = createRequire(`${modules}/`);
const text = fs.readFileSync(`${modules}/node_modules/twelvelabs-js/README.md`, "utf8");
const later = globalThis.setTimeout;
globalThis.setTimeout = (call, time, ...more) => later(call, time === 5000 ? 200 : time, ...more); // between looks

const Block = Object.getPrototypeOf(async () => {}).constructor;
const names = { console: null, process, Promise, Error, JSON, setTimeout: globalThis.setTimeout };
for (const [name, id] of Object.entries(JSON.parse(left))) names[name] = { id };
// What blocks declare stays for those that follow, so their declarations become assignments.
const scope = new Proxy(names, { has: () => true, get: (all, name) => (name in all ? all[name] : undefined) });
const report = [];
for (const [, block] of text.matchAll(/^ *```js\n(.*?)^ *```/gms)) {
  let code = block;
  for (const [name, value] of Object.entries(JSON.parse(given))) code = code.replaceAll(`<${name}>`, value);
  const calls = [...code.replaceAll(/^\s*\/\/.*$/gm, "").matchAll(/client\.([\w.]+)\(/g)].map((found) => found[1]);
  const printed = [];
  names.console = { log: (...words) => printed.push(words.join(" ")) };
  let error = null;
  try {
    code = code.replaceAll(/^\s*import (\{.*?\}|\* as \w+) from "([\w-]+)";$/gm, (_, what, from) => {
      const found = require(from);
      if (what.startsWith("*")) names[what.slice(5)] = found;
      else for (const one of what.slice(1, -1).split(",")) {
        const [name, alias] = one.trim().split(" as ");
        names[alias ?? name] = found[name];
      }
      return "";
    });
    code = code.replaceAll(/^ {0,3}(?:const|let) (\w+) =/gm, "$1 =");
    await new Block("scope", `with (scope) {\n${code}\n}`)(scope);
  } catch (failed) {
    error = `${failed.name}: ${failed.message}`;
  }
  if (calls.length || error) report.push({ call: calls[0] ?? "", error, printed: printed.join("\n") });
}
console.log(JSON.stringify(report));
