// One viewer's stay in one stream, as the player element sees it.

import type { MediaRequest, Swarm } from './hls/swarm';
import type { Playhead } from './playhead';
import type { PlayerStats } from './stats';
import type { FaultCode } from './tracker-messages';
import type { SwarmEvent } from './wasm/port';

/** Why a session ended by itself: its module trapped (plain HLS is left), the tracker wants a new ticket (open another
 * session), or the browser put the page away (open another when it is shown again). */
export type EndReason = 'trapped' | 'bad-ticket' | 'put-away';

/** What to watch. */
export interface SessionOptions {
  readonly stream: string;
  /** The tracker's base URL, without a slash at its end. */
  readonly tracker: string;
  /** The stream's root public key, base64url. Without it the tracker's word is taken for it. */
  readonly verifyKey?: string;
  /** Fetches the broadcaster's permission, for streams that are not open: a JWT for this session's public key (base64url),
   * used at once and once. */
  readonly ticket?: (key: string) => Promise<string>;
  /** False where data channels cannot be had: everything comes by HTTP, verified all the same. */
  readonly dataChannels?: boolean;
  /** What happens in the swarm. */
  readonly onevent?: (event: SwarmEvent) => void;
  /** The session is over, and what hls.js asks for is refused from now on. Not called after `close`. */
  readonly onended?: (error: unknown, reason: EndReason) => void;
  /** What hls.js is given, byte for byte. The bytes are gone when this returns: copy or hash them. */
  readonly onplayed?: (request: MediaRequest, bytes: Uint8Array<ArrayBuffer>) => void;
}

/** A running session. */
export interface Session {
  readonly swarm: Swarm;
  /** The multivariant playlist's URL: what hls.js is told to load. Nothing is fetched there. */
  readonly url: string;
  /** Tells the swarm where this player is from now on. */
  watch(playhead: Playhead): void;
  stats(): PlayerStats;
  /** Pays what is due, says farewell, and lets go of everything. */
  close(): void;
}

/** Why there is no session: what the tracker said, or that it said nothing. */
export class SessionRefused extends Error {
  override readonly name = 'SessionRefused';

  constructor(
    readonly code: FaultCode | 'unreachable',
    message: string,
  ) {
    super(message);
  }
}

/** Opens a session; fails with `SessionRefused` when the tracker refuses or cannot be reached. */
export type OpenSession = (options: SessionOptions, signal: AbortSignal) => Promise<Session>;
