// Plays an HLS URL with plain hls.js, no SDK anywhere near, and says how it went.
//
//   node plain.mjs '{"url": "http://…/s/demo/index.m3u8", "seconds": 20, "browser": "chromium"}'
//
// Prints one line of JSON at the end. `config` in the argument goes to hls.js.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { launch, run } from './launch.mjs';

const HLS = createRequire(import.meta.url).resolve('hls.js/dist/hls.min.js');
const PLAYER = fileURLToPath(new URL('page/plain.js', import.meta.url));

const PAGE = `<!doctype html><meta charset="utf-8"><title>plain</title>
<video id="video" muted playsinline></video><script src="/hls.js"></script><script src="/plain.js"></script>`;

await run(async ({ url, seconds = 20, browser: name = 'chromium', config = {} }, closing) => {
  const server = createServer((request, response) => {
    const file = { '/hls.js': HLS, '/plain.js': PLAYER }[request.url];
    if (file) return response.setHeader('content-type', 'text/javascript').end(readFileSync(file));
    return response.setHeader('content-type', 'text/html').end(PAGE);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing(() => new Promise((resolve) => (server.close(resolve), server.closeAllConnections())));

  const { browser, close } = await launch(name);
  closing(close);
  const page = await browser.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(`page: ${error.message}`));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.evaluate((url, config) => window.play(url, config), url, config);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
  const seen = await page.evaluate(() => window.seen());
  return { ...seen, errors: [...errors, ...seen.errors] };
});
