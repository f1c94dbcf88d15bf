// For pages with an hls.js of their own: the swarm under it, in one call.

import Hls from 'hls.js';
import { attachSwarm } from './hls/attach';
import { Playhead } from './playhead';
import type { Session, SessionOptions } from './session';
import { MISSING_TEXT, missingSupport } from './support';
import { openSwarmSession } from './swarm-session';

/**
 * Joins a stream and lets `hls`, which has loaded nothing yet, play it from the swarm: then
 * `hls.loadSource(session.url)`. The session ends with `hls`. Fails where a page has no WebCrypto or no WebAssembly, and
 * with `SessionRefused` when the tracker refuses: play plain HLS then.
 */
export async function attach(hls: Hls, options: SessionOptions): Promise<Session> {
  const missing = missingSupport();
  if (missing !== undefined && missing !== 'webrtc') throw new Error(MISSING_TEXT[missing]);
  const ending = new AbortController();
  hls.once(Hls.Events.DESTROYING, () => ending.abort(new Error('hls.js was destroyed')));
  const tracker = options.tracker.replace(/\/+$/, '');
  const session = await openSwarmSession({ dataChannels: missing === undefined, ...options, tracker }, ending.signal);
  attachSwarm(hls, session.swarm);
  let playhead: Playhead | undefined;
  const watch = (video: HTMLMediaElement | null) => {
    playhead?.close();
    playhead = undefined;
    if (video === null) return;
    playhead = new Playhead(video, hls);
    session.watch(playhead);
  };
  watch(hls.media);
  hls.on(Hls.Events.MEDIA_ATTACHED, (_, { media }) => watch(media));
  hls.on(Hls.Events.MEDIA_DETACHING, () => watch(null));
  hls.on(Hls.Events.DESTROYING, () => {
    watch(null);
    session.close();
  });
  return session;
}
