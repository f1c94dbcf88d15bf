// hls.js's playlist and fragment loader, answered by the swarm. What hls.js expects of a loader, and where in its
// source that stands: `docs/decisions/0002-hls-js-contract.md`.

import type {
  FragmentLoaderContext,
  HlsConfig,
  Loader,
  LoaderCallbacks,
  LoaderConfiguration,
  LoaderContext,
  LoaderStats,
  PlaylistLoaderContext,
} from 'hls.js';
import { LoadFailure, type MediaAnswer, type MediaRequest, type Swarm } from './swarm';

/** An unchanged playlist must be parsed before hls.js's own timer ends the request. */
const ANSWER_MARGIN_MS = 300;

type Context = PlaylistLoaderContext | FragmentLoaderContext;

/** A loader class for hls.js's `pLoader` or `fLoader`; it makes one instance a request. */
export function swarmLoader<C extends LoaderContext>(swarm: Swarm): new (config: HlsConfig) => Loader<C> {
  return class extends SwarmLoader {
    constructor(_config: HlsConfig) {
      super(swarm);
    }
  } as unknown as new (config: HlsConfig) => Loader<C>;
}

class SwarmLoader implements Loader<Context> {
  readonly #swarm: Swarm;
  readonly #abort = new AbortController();
  #callbacks: LoaderCallbacks<Context> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  context: Context | null = null;
  /** hls.js writes to it before `load` and keeps it after `destroy`. */
  stats: LoaderStats = freshStats();

  constructor(swarm: Swarm) {
    this.#swarm = swarm;
  }

  load(context: Context, config: LoaderConfiguration, callbacks: LoaderCallbacks<Context>): void {
    const { stats } = this;
    if (stats.loading.start !== 0) throw new Error('Loader can only be used once.');
    stats.loading.start = performance.now();
    this.context = context;
    this.#callbacks = callbacks;
    const { maxTimeToFirstByteMs, maxLoadTimeMs } = config.loadPolicy;
    // The answer comes whole, so its first byte is its last: the shorter limit is the limit.
    const timeoutMs = Math.min(maxTimeToFirstByteMs || Infinity, maxLoadTimeMs);
    if (Number.isFinite(timeoutMs)) this.#timer = setTimeout(() => this.#timedOut(), timeoutMs);
    const request = requestOf(context, stats.loading.start + Math.max(timeoutMs - ANSWER_MARGIN_MS, 0));
    const watch = {
      signal: this.#abort.signal,
      onprogress: (loaded: number, total: number) => this.#progressed(loaded, total),
    };
    this.#swarm.load(request, watch).then(
      (answer) => this.#answered(request, answer),
      (error: unknown) => this.#failed(error),
    );
  }

  abort(): void {
    const callbacks = this.#callbacks;
    const { context } = this;
    this.#stop();
    if (context !== null) callbacks?.onAbort?.(this.stats, context, null);
  }

  destroy(): void {
    this.#stop();
    this.context = null;
  }

  /** Seconds an answer sat in a cache. Ours are computed when asked. */
  getCacheAge(): number | null {
    return null;
  }

  getResponseHeader(): string | null {
    return null;
  }

  #progressed(loaded: number, total: number): void {
    if (this.#callbacks === undefined || loaded === 0) return;
    this.stats.loading.first ||= performance.now();
    this.stats.loaded = loaded;
    this.stats.total = total;
  }

  #answered(request: MediaRequest, answer: MediaAnswer): void {
    const [callbacks, context, stats] = [this.#callbacks, this.context, this.stats];
    if (callbacks === undefined || context === null) return;
    this.#finish();
    const data = typeof answer.data === 'string' ? answer.data : this.#copy(request, answer.data);
    const now = performance.now();
    stats.loading.first ||= now;
    stats.loading.end = now;
    stats.loaded = stats.total = typeof data === 'string' ? data.length : data.byteLength;
    stats.bwEstimate = this.#swarm.bandwidth.bitsPerSecond();
    // With `progressive` on, hls.js demuxes what it gets here and ignores what success brings.
    callbacks.onProgress?.(stats, context, data, null);
    callbacks.onSuccess({ url: request.url, data, code: 200 }, stats, context, null);
  }

  /** hls.js transfers the buffer to its worker, and may write into it when it has none. */
  #copy(request: MediaRequest, bytes: Uint8Array): ArrayBuffer {
    const copy = bytes.slice() as Uint8Array<ArrayBuffer>;
    this.#swarm.played?.(request, copy);
    return copy.buffer;
  }

  #failed(error: unknown): void {
    const [callbacks, context] = [this.#callbacks, this.context];
    if (callbacks === undefined || context === null) return;
    this.#finish();
    const code = error instanceof LoadFailure ? error.code : 0;
    callbacks.onError({ code, text: String(error) }, context, null, this.stats);
  }

  #timedOut(): void {
    const [callbacks, context] = [this.#callbacks, this.context];
    if (callbacks === undefined || context === null) return;
    this.#stop();
    callbacks.onTimeout(this.stats, context, null);
  }

  /** Ends a request that has no answer. */
  #stop(): void {
    if (this.#callbacks === undefined) return;
    this.#finish();
    this.stats.aborted = true;
    this.#abort.abort();
  }

  #finish(): void {
    clearTimeout(this.#timer);
    this.#callbacks = undefined;
  }
}

function requestOf(context: Context, answerBy: number): MediaRequest {
  const request = { kind: kindOf(context), url: absolute(context.url), answerBy };
  if ('frag' in context) {
    const { rangeStart: start, rangeEnd: end } = context;
    return end ? { ...request, range: { start: start ?? 0, end } } : request;
  }
  const { msn, part } = context.deliveryDirectives ?? {};
  if (msn === undefined) return request;
  return { ...request, blocking: part === undefined ? { msn } : { msn, part } };
}

/** As a response's URL would be: hls.js resolves what stands in a playlist against it, and needs it whole. */
function absolute(url: string): string {
  try {
    return new URL(url, globalThis.location?.href).href;
  } catch {
    return url;
  }
}

function kindOf(context: Context): MediaRequest['kind'] {
  if (!('frag' in context)) return (context.type as string) === 'manifest' ? 'multivariant' : 'playlist';
  if (context.frag.sn === 'initSegment') return 'init';
  return context.part === null ? 'segment' : 'part';
}

function freshStats(): LoaderStats {
  return {
    aborted: false,
    loaded: 0,
    retry: 0,
    total: 0,
    chunkCount: 0,
    bwEstimate: 0,
    loading: { start: 0, first: 0, end: 0 },
    parsing: { start: 0, end: 0 },
    buffering: { start: 0, first: 0, end: 0 },
  };
}
