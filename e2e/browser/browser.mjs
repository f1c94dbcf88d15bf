// Chromium on a page of our own, and a server on loopback for pages and the SDK's files.

import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { launch } from './launch.mjs';

const FOLDERS = [['/sdk/', '../../player-sdk/dist/'], ['/page/', './page/']];
const TYPES = { '.js': 'text/javascript', '.html': 'text/html; charset=utf-8' };

/** A browser and a page at `path`; `close` ends both. `answers` maps further paths to JSON. */
export async function open(path, answers = {}) {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    if (pathname in answers) return response.setHeader('content-type', 'application/json').end(JSON.stringify(answers[pathname]));
    const [prefix, folder] = FOLDERS.find(([prefix]) => pathname.startsWith(prefix)) ?? [];
    const file = prefix && fileURLToPath(new URL(folder + pathname.slice(prefix.length), import.meta.url));
    if (!file || !existsSync(file)) return response.writeHead(404).end();
    response.setHeader('content-type', TYPES[extname(file)] ?? 'application/octet-stream').end(readFileSync(file));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { browser, close: closeBrowser } = await launch();
  const page = await browser.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  await page.goto(`http://127.0.0.1:${server.address().port}${path}`);
  const close = async () => {
    await closeBrowser();
    server.close();
  };
  return { page, complaints, close };
}
