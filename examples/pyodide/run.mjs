// node run.mjs BUNDLE PROGRAM.py [FILE…]: run a Python program in WebAssembly and print what its `main(files)` returns.
// `files` is a dict: the texts of the files named, by name.

import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { loadMesh, run } from "./mesh.mjs";

const [bundle, program, ...paths] = process.argv.slice(2);
if (!program) {
  console.error("usage: node run.mjs BUNDLE PROGRAM.py [FILE…]");
  process.exit(2);
}
try {
  const files = {};
  for (const path of paths) files[basename(path)] = await readFile(path, "utf8");
  const python = await loadMesh(bundle);
  const told = await run(python, await readFile(program, "utf8"), files);
  process.stdout.write(`${told}\n`, () => process.exit(0));
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
