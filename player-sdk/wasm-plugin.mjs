// Puts swarm.wasm into the script, so that the SDK is one file and needs no second request.
//
// `import module from './swarm.wasm?deflated'` is the module, deflated, as base64: base64 of compressed bytes
// compresses back to almost its size on the wire, base64 of the module itself would cost half as much again. Zopfli
// deflates 5 % better than zlib, in two seconds that only a build takes.
import { readFile } from 'node:fs/promises';
import zopfli from '@gfx/zopfli';

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
      const deflated = await zopfli.deflateAsync(await readFile(file), { numiterations: 15 });
      return `export default ${JSON.stringify(Buffer.from(deflated).toString('base64'))};`;
    },
  };
}
