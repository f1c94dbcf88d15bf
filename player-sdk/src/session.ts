// One viewer's stay in one stream, as the player element sees it.

import type { Swarm } from './hls/swarm';
import type { PlayerStats } from './stats';

/** What to watch. */
export interface SessionOptions {
  readonly stream: string;
  /** The tracker's base URL, without a slash at its end. */
  readonly tracker: string;
  /** The stream's root public key, base64url. Without it the tracker's word is taken for it. */
  readonly verifyKey?: string;
  /** The broadcaster's permission, for streams that are not open. */
  readonly ticket?: string;
}

/** A running session. */
export interface Session {
  readonly swarm: Swarm;
  /** The multivariant playlist's URL: what hls.js is told to load. */
  readonly url: string;
  stats(): PlayerStats;
  close(): void;
}

/** Opens a session; fails when the tracker refuses or cannot be reached. */
export type OpenSession = (options: SessionOptions, signal: AbortSignal) => Promise<Session>;
