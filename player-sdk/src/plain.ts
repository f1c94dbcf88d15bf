// Plain HLS: what plays where there is no swarm.

import { toBase64Url } from './bytes';
import { SessionKey } from './session-key';

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

/** The tracker gives nothing without a ticket, and there is none, or a wrong one. */
export class NoTicket extends UnknownStream {}

/** Fetches a ticket for a key that it is given. */
type GetTicket = (key: string) => Promise<string>;

/** Asks the tracker for the stream's origin, with a ticket where it wants one. */
export async function plainPlaylist(
  tracker: string,
  stream: string,
  signal: AbortSignal,
  getTicket?: GetTicket,
): Promise<Plain> {
  try {
    return await ask(tracker, stream, signal);
  } catch (error) {
    if (!(error instanceof NoTicket) || getTicket === undefined) throw error;
    return ask(tracker, stream, signal, await ticketFrom(getTicket));
  }
}

/** Tickets name a key. Nobody asks for proof of it here, but who gives tickets may want one of each viewer. */
async function ticketFrom(getTicket: GetTicket): Promise<string> {
  if (globalThis.crypto?.subtle === undefined) {
    throw new NoTicket('A ticket wants a key, and browsers make keys on https:// pages only.');
  }
  return getTicket(toBase64Url((await SessionKey.generate()).publicKey));
}

async function ask(tracker: string, stream: string, signal: AbortSignal, ticket?: string): Promise<Plain> {
  // Old browsers come here most: no AbortSignal.any, no AbortSignal.timeout.
  const patience = new AbortController();
  const stop = () => patience.abort();
  const timer = setTimeout(stop, ANSWER_TIMEOUT_MS);
  signal.addEventListener('abort', stop, { once: true });
  try {
    // Without a ticket nothing that would cost a preflight.
    const headers = ticket === undefined ? {} : { Authorization: `Bearer ${ticket}` };
    const response = await fetch(`${tracker}/v1/watch/${encodeURIComponent(stream)}`, {
      signal: patience.signal,
      headers,
    });
    if (!response.ok) {
      const Kind = kindOf(response.status, await codeOf(response));
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

function kindOf(status: number, code: unknown): new (message: string) => Error {
  if (code === 'bad_ticket') return NoTicket;
  return status === 404 && code !== 'not_live' ? UnknownStream : Error;
}

async function codeOf(response: Response): Promise<unknown> {
  try {
    return ((await response.json()) as { code?: unknown }).code;
  } catch {
    return undefined;
  }
}
