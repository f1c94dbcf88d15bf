// What hls.js's side of the player asks of the swarm's side. The swarm answers from memory, over data channels or by
// HTTP; whoever asks cannot tell.

/** How fast bytes come, as the transport sees it. Loader times are nonsense with a cache in memory. */
export interface Bandwidth {
  /** Bits a second that the network could deliver; 0 while nothing is known. */
  bitsPerSecond(): number;
  /** Milliseconds until the first byte of something not yet here; 0 while nothing is known. */
  firstByteMs(): number;
}

/** What hls.js wants. */
export interface MediaRequest {
  readonly kind: 'multivariant' | 'playlist' | 'init' | 'segment' | 'part';
  /** As it stood in the playlist, absolute, delivery directives included. */
  readonly url: string;
  /** Bytes wanted, `end` exclusive; absent for the whole. */
  readonly range?: { readonly start: number; readonly end: number };
  /** A playlist that has this part (or, without one, this segment) at least: wait for it (RFC 8216bis 6.2.5.2). */
  readonly blocking?: { readonly msn: number; readonly part?: number };
  /** On `performance.now()`'s clock. A blocking playlist request is answered with what there is by then: hls.js takes
   * an unchanged playlist calmly and counts a timeout as an error. */
  readonly answerBy: number;
}

/** What it gets. */
export interface MediaAnswer {
  /** A playlist's text, or media. Media may be a view of anything: it is copied before it is handed on. */
  readonly data: string | Uint8Array;
}

/** How an answer's making is watched, and ended. */
export interface Watch {
  readonly signal: AbortSignal;
  /** Tells hls.js how far it is, which its rule for abandoning a slow segment looks at. */
  readonly onprogress: (loadedBytes: number, totalBytes: number) => void;
}

/** An answer there will not be. */
export class LoadFailure extends Error {
  override readonly name = 'LoadFailure';

  /** `code` is an HTTP status, or 0 when no server said anything. */
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/** The swarm, as the loader and the ABR controller see it. */
export interface Swarm {
  readonly bandwidth: Bandwidth;
  /** Fails with `LoadFailure`. Retries are the swarm's own: what fails here is an error in hls.js. */
  load(request: MediaRequest, watch: Watch): Promise<MediaAnswer>;
  /** What hls.js is about to be given, byte for byte. The bytes are gone (transferred) when this returns. */
  readonly played?: ((request: MediaRequest, bytes: Uint8Array<ArrayBuffer>) => void) | undefined;
}

/** A swarm that hls.js is given before its session is open. Nothing is loaded before that. */
export class ComingSwarm implements Swarm {
  session: { readonly swarm: Swarm } | undefined;

  readonly bandwidth: Bandwidth = {
    bitsPerSecond: () => this.session?.swarm.bandwidth.bitsPerSecond() ?? 0,
    firstByteMs: () => this.session?.swarm.bandwidth.firstByteMs() ?? 0,
  };

  get played(): Swarm['played'] {
    return this.session?.swarm.played;
  }

  async load(request: MediaRequest, watch: Watch): Promise<MediaAnswer> {
    if (this.session === undefined) throw new LoadFailure(0, 'the session is not open');
    return this.session.swarm.load(request, watch);
  }
}
