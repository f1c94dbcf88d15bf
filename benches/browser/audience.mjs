// Several watch pages that play in one Chromium.
//
//   node audience.mjs '{"url": "http://…/watch/show", "pages": 3, "seconds": 30}'
//
// Prints one line of JSON: in what modes they played, and all their stalls.

import { launch, run } from '../../e2e/browser/launch.mjs';

await run(async ({ url, pages: count, seconds }, closing) => {
  const { browser, close } = await launch();
  closing(close);
  const pages = [];
  for (let number = 0; number < count; number++) {
    // A window of its own, so that none is in the background.
    const page = await (await browser.createBrowserContext()).newPage();
    await page.goto(url, { waitUntil: 'domcontentloaded' });
    pages.push(page);
  }
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
  const stats = await Promise.all(pages.map((page) => page.evaluate(() => document.querySelector('millstream-player').stats)));
  return {
    modes: [...new Set(stats.map(({ mode }) => mode))],
    stalls: stats.reduce((sum, { stalls }) => sum + stalls.count, 0),
    bytes: stats.map(({ bytes }) => bytes),
  };
});
