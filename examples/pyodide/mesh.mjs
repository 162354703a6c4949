// Python in WebAssembly with the mesh in it. Nothing is fetched: Pyodide comes from npm, the rest from a bundle that
// `python scripts/pyodide.py DIRECTORY` has made.

import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { loadPyodide } from "pyodide";

/** Pyodide, able to `import mesh`. */
export async function loadMesh(bundle) {
  const python = await loadPyodide();
  const site = python.runPython("import site; site.getsitepackages()[0]");
  for (const name of await readdir(bundle)) {
    if (name.endsWith(".whl") || name.endsWith(".zip")) {
      const bytes = new Uint8Array(await readFile(join(bundle, name)));
      python.unpackArchive(bytes, "zip", { extractDir: site });
    }
  }
  python.runPython("import importlib; importlib.invalidate_caches()");
  return python;
}

/** What `main(files)` of a Python program returns, awaited. What the program prints goes to stderr. */
export async function run(python, program, files = {}) {
  python.setStdout({ batched: (line) => console.error(line) });
  const globals = python.toPy({ __name__: "program" });
  await python.runPythonAsync(program, { globals });
  return await globals.get("main")(python.toPy(files));
}
