// Plain HLS: what plays where there is no swarm.

/** A tracker's answer is a few hundred bytes; this is time for a slow handshake. */
const ANSWER_TIMEOUT_MS = 8_000;

/** What to play without a swarm. */
export interface Plain {
  /** The multivariant playlist on the stream's origin. */
  readonly url: string;
  /** What the origin wants as bearer token on streams that are not public. */
  readonly token?: string;
}

/** The tracker knows no such stream. Anything else may be different in a while. */
export class UnknownStream extends Error {}

/** Asks the tracker for the stream's origin. */
export async function plainPlaylist(tracker: string, stream: string, signal: AbortSignal): Promise<Plain> {
  // Old browsers come here most: no AbortSignal.any, no AbortSignal.timeout.
  const patience = new AbortController();
  const stop = () => patience.abort();
  const timer = setTimeout(stop, ANSWER_TIMEOUT_MS);
  signal.addEventListener('abort', stop, { once: true });
  try {
    const response = await fetch(`${tracker}/v1/watch/${encodeURIComponent(stream)}`, { signal: patience.signal });
    if (!response.ok) {
      const Kind = response.status === 404 && (await codeOf(response)) !== 'not_live' ? UnknownStream : Error;
      throw new Kind(`the tracker answered ${response.status} for stream ${stream}`);
    }
    const { origin, token } = (await response.json()) as { origin?: unknown; token?: unknown };
    if (typeof origin !== 'string') throw new Error('the tracker named no origin');
    const url = new URL(`${origin}/s/${encodeURIComponent(stream)}/index.m3u8`, tracker);
    return { url: url.href, ...(typeof token === 'string' ? { token } : {}) };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
  }
}

async function codeOf(response: Response): Promise<unknown> {
  try {
    return ((await response.json()) as { code?: unknown }).code;
  } catch {
    return undefined;
  }
}
