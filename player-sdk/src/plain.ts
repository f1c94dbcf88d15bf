// Plain HLS: what plays where there is no swarm.

/** A tracker's answer is a few hundred bytes; this is time for a slow handshake. */
const ANSWER_TIMEOUT_MS = 8_000;

/** The stream's multivariant playlist on its origin, asked from the tracker. */
export async function plainPlaylist(tracker: string, stream: string, signal: AbortSignal): Promise<string> {
  // Old browsers come here most: no AbortSignal.any, no AbortSignal.timeout.
  const patience = new AbortController();
  const stop = () => patience.abort();
  const timer = setTimeout(stop, ANSWER_TIMEOUT_MS);
  signal.addEventListener('abort', stop, { once: true });
  try {
    const response = await fetch(`${tracker}/v1/watch/${encodeURIComponent(stream)}`, { signal: patience.signal });
    if (!response.ok) throw new Error(`the tracker answered ${response.status} for stream ${stream}`);
    const { origin, token } = (await response.json()) as { origin?: unknown; token?: unknown };
    if (typeof origin !== 'string') throw new Error('the tracker named no origin');
    const url = new URL(`${origin}/s/${encodeURIComponent(stream)}/index.m3u8`, tracker);
    if (typeof token === 'string') url.searchParams.set('token', token);
    return url.href;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}
