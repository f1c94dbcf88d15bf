// Somebody else's page, on another origin than tracker and packager, with an hls.js of its own under `attach`.
//
//   node embed.mjs '{"tracker": "http://…", "stream": "demo", "verifyKey": "…", "seconds": 10}'
//
// Prints one line of JSON at the end: the session's stats, hls.js's errors, and whether the farewell was said.

import { open } from './browser.mjs';
import { run } from './launch.mjs';

await run(async ({ seconds = 10, ...options }, closing) => {
  const { page, complaints, close } = await open('/page/embed.html');
  closing(close);
  const refused = await page.evaluate(async (options) => {
    /* global Millstream */
    const hls = new Millstream.Hls({ lowLatencyMode: true, liveSyncDuration: 3, maxLiveSyncPlaybackRate: 1.05 });
    const seen = (window.seen = { hls, errors: [], events: [] });
    hls.on('hlsError', (_, { details, error }) => seen.errors.push(`${details}: ${error?.message}`));
    try {
      seen.session = await Millstream.attach(hls, { ...options, onevent: ({ type }) => seen.events.push(type) });
    } catch (error) {
      return { name: error.name, code: error.code, message: error.message };
    }
    hls.loadSource(seen.session.url);
    const video = document.getElementById('video');
    hls.attachMedia(video);
    await video.play();
    return null;
  }, options);
  if (refused) return { refused };
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
  const seen = await page.evaluate(async () => {
    const { hls, session, errors, events } = window.seen;
    const stats = session.stats();
    hls.destroy();
    await new Promise((resolve) => setTimeout(resolve, 300));
    return { stats, errors, events: [...new Set(events)], position: document.getElementById('video').currentTime };
  });
  return { ...seen, errors: [...complaints, ...seen.errors] };
});
