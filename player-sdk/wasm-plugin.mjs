// Puts swarm.wasm into the script, so that the SDK is one file and needs no second request.
//
// `import module from './swarm.wasm?deflated'` is the module, deflated, as base64: base64 of compressed bytes
// compresses back to almost its size on the wire, base64 of the module itself would cost half as much again.
import { readFile } from 'node:fs/promises';
import { deflateRawSync } from 'node:zlib';

const SUFFIX = '.wasm?deflated';

/** @returns {import('vite').Plugin} */
export function inlineWasm() {
  return {
    name: 'millstream-inline-wasm',
    enforce: 'pre',
    async load(id) {
      if (!id.endsWith(SUFFIX)) return null;
      const file = id.slice(0, -'?deflated'.length);
      this.addWatchFile(file);
      const text = deflateRawSync(await readFile(file), { level: 9 }).toString('base64');
      return `export default ${JSON.stringify(text)};`;
    },
  };
}
