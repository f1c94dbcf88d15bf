// What is published: an ES module (hls.js is a peer), the same as a classic script (`Millstream`, expects `Hls`),
// one script with hls.js in it, and the types.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { inlineWasm } from './wasm-plugin.mjs';

const root = fileURLToPath(new URL('.', import.meta.url));
const published = `${root}dist`;
// Beside it, so that source maps name the same paths; of this process, for others may build at the same time.
const outDir = `${root}.dist-${process.pid}`;

const outputs = [
  { file: 'millstream.js', format: 'es', external: ['hls.js'] },
  { file: 'millstream.script.js', format: 'iife', external: ['hls.js'] },
  { file: 'millstream.full.js', format: 'iife', external: [] },
];

process.on('exit', () => rmSync(outDir, { recursive: true, force: true }));
for (const { file, format, external } of outputs) {
  await build({
    root,
    configFile: false,
    logLevel: 'warn',
    plugins: [inlineWasm()],
    build: {
      outDir,
      emptyOutDir: false,
      target: 'es2022',
      sourcemap: true,
      lib: { entry: 'src/index.ts', name: 'Millstream', formats: [format], fileName: () => file },
      rolldownOptions: { external, output: { globals: { 'hls.js': 'Hls' } } },
    },
  });
}
execFileSync('npx', ['tsc', '-p', root, '--noEmit', 'false', '--emitDeclarationOnly', '--outDir', `${outDir}/types`], {
  stdio: 'inherit',
});

// Only what changed is written: the tracker embeds these files, and cargo compiles it anew when they are touched.
const made = files(outDir);
for (const file of files(published)) if (!made.includes(file)) rmSync(join(published, file));
for (const file of made) {
  const [from, to] = [join(outDir, file), join(published, file)];
  if (existsSync(to) && readFileSync(from).equals(readFileSync(to))) continue;
  mkdirSync(dirname(to), { recursive: true });
  // In one step: cargo may be reading it.
  renameSync(from, to);
}

/** The files below a folder, by their paths in it. */
function files(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true }).filter((path) => statSync(join(folder, path)).isFile());
}
