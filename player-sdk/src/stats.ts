// What the player can tell about itself at a moment: for pages, for the overlay and for tests.

/** Where media bytes came from. */
export interface BytesBySource {
  readonly edge: number;
  readonly peer: number;
  readonly origin: number;
}

/** One edge of this session. */
export interface EdgeStats {
  /** The edge's id, base64url. */
  readonly id: string;
  readonly state: 'connecting' | 'primary' | 'standby' | 'lost';
  readonly roundTripMs?: number;
  /** Verified bytes used, which a voucher promises pay for. */
  readonly payableBytes: number;
  /** What that is worth, in micro-units. */
  readonly paidMicros: number;
}

/** The player at a moment. Counts are since the session began. */
export interface PlayerStats {
  readonly mode: 'swarm' | 'plain';
  readonly bytes: BytesBySource;
  readonly edges: readonly EdgeStats[];
  readonly pieces: { readonly verified: number; readonly rejected: number };
  /** What the swarm signed for edges, and what of it is in the tracker's book. */
  readonly vouchers?: { readonly signed: number; readonly accepted: number };
  /** Each time the playhead stood still for 200 ms or more after start. */
  readonly stalls: { readonly count: number; readonly ms: number };
  /** Milliseconds from the player's start until the picture moved; absent before. */
  readonly startupMs?: number;
  /** Milliseconds behind live, absent before playback. In the swarm: tracker time minus the program date time at the
   * playhead. By plain HLS: as hls.js reckons it, since no clock can be trusted. */
  readonly latencyMs?: number;
  readonly bufferMs: number;
  /** The estimate that chooses renditions. */
  readonly bitsPerSecond: number;
  /** The rendition playing, as the catalog names it. */
  readonly rendition?: string;
}

/** The share of media bytes that did not come from the origin, 0 to 1; undefined before the first byte. */
export function offload(bytes: BytesBySource): number | undefined {
  const total = bytes.edge + bytes.peer + bytes.origin;
  return total === 0 ? undefined : (bytes.edge + bytes.peer) / total;
}
