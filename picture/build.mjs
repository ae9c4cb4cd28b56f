// Build the page's script and style into the Python package, byte for byte the same on every machine.
//
//     node build.mjs [folder]      the default is the package's own folder
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2] ?? join(here, "../packages/rivers-core/src/rivers/_report/page");
const MOST_BYTES = 500_000;

const result = await build({
  absWorkingDir: here,
  entryPoints: { page: "src/main.tsx" },
  bundle: true,
  minify: true,
  format: "iife",
  target: ["chrome123", "firefox120", "safari17.5"],
  charset: "ascii",
  legalComments: "none",
  jsx: "automatic",
  jsxImportSource: "preact",
  outdir: target,
  metafile: true,
  write: false,
  logLevel: "warning",
});

await mkdir(target, { recursive: true });
let bytes = 0;
for (const file of result.outputFiles) {
  // The script stands in a page: what would end its element, or change how its end is found, must not occur in it.
  // In strings and regular expressions, the only places that have it, the escape means the same.
  const text = file.path.endsWith(".js") ? file.text.replaceAll("<!--", "\\x3C!--") : file.text;
  if (/<\/(script|style)|<script/i.test(text)) throw new Error(`${file.path} holds a tag of a script or a style`);
  bytes += Buffer.byteLength(text);
  await writeFile(file.path, text);
}
await copyFile(join(here, "src/page.html"), join(target, "page.html"));
if (bytes > MOST_BYTES) throw new Error(`the bundle has ${bytes} bytes: expected at most ${MOST_BYTES}`);

// The licences of what was bundled go with it.
const names = new Set(
  Object.keys(result.metafile.inputs).flatMap((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? []),
);
const texts = [];
for (const name of [...names].sort()) {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  let text = "";
  for (const file of ["LICENSE", "LICENSE.md", "LICENSE.txt", "license"]) {
    text ||= await readFile(join(folder, file), "utf8").catch(() => "");
  }
  texts.push(`${name} ${version} (${license})\n\n${text.trim() || `Licence: ${license}`}\n`);
}
await writeFile(join(target, "licences.txt"), texts.join(`\n${"-".repeat(100)}\n\n`));
console.log(`${bytes} bytes of script and style, ${names.size} packages`);
