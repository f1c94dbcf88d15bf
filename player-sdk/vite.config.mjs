import { defineConfig } from 'vitest/config';
import { inlineWasm } from './wasm-plugin.mjs';

export default defineConfig({
  plugins: [inlineWasm()],
  test: { include: ['test/**/*.test.ts'], environment: 'node' },
});
