// The loader under the contract that hls.js holds it to: docs/decisions/0002-hls-js-contract.md.

import type { FragmentLoaderContext, HlsConfig, LoaderCallbacks, LoaderConfiguration, PlaylistLoaderContext } from 'hls.js';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { swarmLoader } from '../src/hls/loader';
import { LoadFailure, type MediaAnswer, type MediaRequest, type Swarm, type Watch } from '../src/hls/swarm';

/** A swarm whose answers the test gives. */
class PlayedSwarm implements Swarm {
  readonly bandwidth = { bitsPerSecond: () => 5_000_000, firstByteMs: () => 40 };
  readonly played = vi.fn();
  request!: MediaRequest;
  watch!: Watch;
  answer!: (answer: MediaAnswer) => void;
  fail!: (error: unknown) => void;

  load(request: MediaRequest, watch: Watch): Promise<MediaAnswer> {
    this.request = request;
    this.watch = watch;
    return new Promise((resolve, reject) => {
      this.answer = resolve;
      this.fail = reject;
    });
  }
}

const FRAGMENT = {
  type: 'media-fragment',
  responseType: 'arraybuffer',
  url: 'http://origin/s/demo/video/p7.m4s',
  rangeStart: 0,
  rangeEnd: 0,
  headers: {},
  frag: { sn: 3 },
  part: { index: 1 },
} as unknown as FragmentLoaderContext;

const PLAYLIST = {
  type: 'level',
  responseType: 'text',
  url: 'http://origin/s/demo/video.m3u8?_HLS_msn=3&_HLS_part=2',
  deliveryDirectives: { msn: 3, part: 2 },
} as unknown as PlaylistLoaderContext;

const config = (maxTimeToFirstByteMs: number, maxLoadTimeMs: number) =>
  ({ loadPolicy: { maxTimeToFirstByteMs, maxLoadTimeMs } }) as LoaderConfiguration;

function load<C extends FragmentLoaderContext | PlaylistLoaderContext>(context: C, limits = config(10_000, 20_000)) {
  const swarm = new PlayedSwarm();
  const loader = new (swarmLoader<C>(swarm))({} as HlsConfig);
  const callbacks = { onSuccess: vi.fn(), onError: vi.fn(), onTimeout: vi.fn(), onAbort: vi.fn(), onProgress: vi.fn() };
  const { stats } = loader;
  loader.load(context, limits, callbacks as unknown as LoaderCallbacks<C>);
  return { swarm, loader, callbacks, stats };
}

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

describe('the swarm loader', () => {
  it('says what is wanted', () => {
    expect(load(FRAGMENT).swarm.request).toMatchObject({ kind: 'part', url: FRAGMENT.url });
    expect(load({ ...FRAGMENT, part: null }).swarm.request.kind).toBe('segment');
    const init = { ...FRAGMENT, part: null, frag: { sn: 'initSegment' } } as FragmentLoaderContext;
    expect(load(init).swarm.request.kind).toBe('init');
    expect(load({ ...FRAGMENT, rangeStart: 10, rangeEnd: 20 }).swarm.request.range).toEqual({ start: 10, end: 20 });
    expect(load(PLAYLIST).swarm.request).toMatchObject({ kind: 'playlist', blocking: { msn: 3, part: 2 } });
    const manifest = { ...PLAYLIST, type: 'manifest', deliveryDirectives: null } as unknown as PlaylistLoaderContext;
    expect(load(manifest).swarm.request).toMatchObject({ kind: 'multivariant' });
    expect(load(manifest).swarm.request.blocking).toBeUndefined();
  });

  it('answers under an absolute URL, or hls.js cannot resolve what stands in the playlist', async () => {
    vi.stubGlobal('location', { href: 'http://page.example/watch/demo' });
    const { swarm, callbacks } = load({ ...PLAYLIST, url: '/s/demo/index.m3u8' });
    swarm.answer({ data: '#EXTM3U' });
    await vi.advanceTimersByTimeAsync(0);
    vi.unstubAllGlobals();
    expect(swarm.request.url).toBe('http://page.example/s/demo/index.m3u8');
    expect(callbacks.onSuccess.mock.calls[0]![0]).toMatchObject({ url: 'http://page.example/s/demo/index.m3u8' });
  });

  it('hands over a copy, and shows it to the swarm first', async () => {
    const { swarm, callbacks } = load(FRAGMENT);
    const cache = Uint8Array.of(9, 1, 2, 3, 9);
    const seen: number[][] = [];
    swarm.played.mockImplementation((_, bytes: Uint8Array) => seen.push([...bytes]));
    callbacks.onSuccess.mockImplementation((response: { data: ArrayBuffer }) => {
      // As hls.js may: write into it, then transfer it.
      new Uint8Array(response.data).fill(0);
      structuredClone(response.data, { transfer: [response.data] });
    });
    swarm.answer({ data: cache.subarray(1, 4) });
    await vi.advanceTimersByTimeAsync(0);
    expect(callbacks.onSuccess).toHaveBeenCalledOnce();
    expect(seen).toEqual([[1, 2, 3]]);
    expect([...cache]).toEqual([9, 1, 2, 3, 9]);
  });

  it('fills in the statistics that hls.js reads', async () => {
    const { swarm, stats, callbacks } = load(FRAGMENT);
    vi.advanceTimersByTime(120);
    swarm.watch.onprogress(100, 300);
    expect(stats).toMatchObject({ loaded: 100, total: 300 });
    const first = stats.loading.first;
    expect(first - stats.loading.start).toBeCloseTo(120);
    vi.advanceTimersByTime(80);
    swarm.answer({ data: new Uint8Array(300) });
    await vi.advanceTimersByTimeAsync(0);
    expect(stats).toMatchObject({ loaded: 300, total: 300, aborted: false, bwEstimate: 5_000_000 });
    expect(stats.loading.first).toBe(first);
    expect(stats.loading.end - stats.loading.start).toBeCloseTo(200);
    // With `progressive` on, hls.js takes the bytes from here.
    expect(callbacks.onProgress).toHaveBeenCalledBefore(callbacks.onSuccess);
    expect(callbacks.onSuccess.mock.calls[0]![0]).toMatchObject({ url: FRAGMENT.url, code: 200 });
  });

  it('counts the wait of a blocking reload as latency, not as load time', async () => {
    const { swarm, stats } = load(PLAYLIST);
    vi.advanceTimersByTime(900);
    swarm.answer({ data: '#EXTM3U' });
    await vi.advanceTimersByTimeAsync(0);
    expect(stats.loading.end - stats.loading.first).toBe(0);
    expect(stats.loading.end - stats.loading.start).toBeCloseTo(900);
  });

  it('leaves time for an unchanged playlist before hls.js gives up', () => {
    const { swarm, stats, callbacks } = load(PLAYLIST, config(3_200, 3_200));
    expect(swarm.request.answerBy - stats.loading.start).toBeCloseTo(2_900);
    vi.advanceTimersByTime(3_199);
    expect(callbacks.onTimeout).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1);
    expect(callbacks.onTimeout).toHaveBeenCalledOnce();
    expect(swarm.watch.signal.aborted).toBe(true);
  });

  it('never times out where hls.js sets no limit', () => {
    const { callbacks } = load(PLAYLIST, config(Infinity, Infinity));
    vi.advanceTimersByTime(3_600_000);
    expect(callbacks.onTimeout).not.toHaveBeenCalled();
  });

  it('passes failures on with their status', async () => {
    const known = load(FRAGMENT);
    known.swarm.fail(new LoadFailure(404, 'not in the window'));
    const unknown = load(FRAGMENT);
    unknown.swarm.fail(new TypeError('bug'));
    await vi.advanceTimersByTimeAsync(0);
    expect(known.callbacks.onError.mock.calls[0]![0]).toMatchObject({ code: 404 });
    expect(unknown.callbacks.onError.mock.calls[0]![0]).toMatchObject({ code: 0 });
  });

  it('says that it was aborted, once, and nothing after', async () => {
    const { swarm, loader, callbacks, stats } = load(FRAGMENT);
    loader.abort();
    loader.abort();
    expect(callbacks.onAbort).toHaveBeenCalledOnce();
    expect(stats.aborted).toBe(true);
    expect(swarm.watch.signal.aborted).toBe(true);
    swarm.answer({ data: new Uint8Array(1) });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(callbacks.onSuccess).not.toHaveBeenCalled();
    expect(callbacks.onTimeout).not.toHaveBeenCalled();
    expect(swarm.played).not.toHaveBeenCalled();
  });

  it('says nothing when it is destroyed', async () => {
    const { swarm, loader, callbacks } = load(FRAGMENT);
    loader.destroy();
    swarm.fail(new LoadFailure(0, 'aborted'));
    await vi.advanceTimersByTimeAsync(60_000);
    for (const callback of Object.values(callbacks)) expect(callback).not.toHaveBeenCalled();
    expect(loader.context).toBeNull();
  });

  it('keeps its statistics for hls.js after an answer, unaborted', async () => {
    const { swarm, loader, stats } = load(FRAGMENT);
    swarm.answer({ data: new Uint8Array(5) });
    await vi.advanceTimersByTimeAsync(0);
    loader.destroy();
    expect(stats).toMatchObject({ loaded: 5, aborted: false });
  });

  it('is used once', () => {
    vi.advanceTimersByTime(10);
    const { loader } = load(FRAGMENT);
    expect(() => loader.load(FRAGMENT, config(1, 1), {} as LoaderCallbacks<FragmentLoaderContext>)).toThrow('once');
  });
});
