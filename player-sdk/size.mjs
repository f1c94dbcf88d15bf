// The SDK without hls.js stays small enough that nobody hesitates to embed it.
import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

/** Half of hls.js itself (189 KB gzipped), which the page loads too. */
const GZIP_BYTES_MAX = 90_000;

const file = new URL('./dist/millstream.script.js', import.meta.url);
const bytes = gzipSync(readFileSync(file), { level: 9 }).length;
console.log(`SDK without hls.js: ${bytes} bytes gzipped of ${GZIP_BYTES_MAX}`);
if (bytes > GZIP_BYTES_MAX) {
  console.error('The SDK is too large: look at what was added to the script or to swarm.wasm.');
  process.exit(1);
}
