// What is published: an ES module (hls.js is a peer), the same as a classic script (`Millstream`, expects `Hls`),
// one script with hls.js in it, and the types.
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { inlineWasm } from './wasm-plugin.mjs';

const root = fileURLToPath(new URL('.', import.meta.url));
const outDir = `${root}dist`;

const outputs = [
  { file: 'millstream.js', format: 'es', external: ['hls.js'] },
  { file: 'millstream.script.js', format: 'iife', external: ['hls.js'] },
  { file: 'millstream.full.js', format: 'iife', external: [] },
];

rmSync(outDir, { recursive: true, force: true });
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
