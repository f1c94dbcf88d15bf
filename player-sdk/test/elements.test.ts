// The elements as a page uses them. What needs a real browser (playback, data channels) is tested in one.
// @vitest-environment happy-dom

import Hls, { type ErrorData, type ManifestParsedData } from 'hls.js';
import { afterEach, beforeEach, describe, expect, it, type Mock, vi } from 'vitest';
import {
  type ErrorDetail, MillstreamPlayer, MillstreamStats, type ModeDetail, type Session, type SessionOptions, SessionRefused,
  type SwarmEvent,
} from '../src/index';
import { bytesText, durationText, moneyText, rateText } from '../src/element/text';
import type { PlayerStats } from '../src/stats';

const STATS: PlayerStats = {
  mode: 'swarm',
  rendition: '720p',
  bytes: { edge: 9_000, peer: 0, origin: 1_000 },
  edges: [
    { id: 'AbCdEfGhIjKl', state: 'primary', roundTripMs: 23.4, payableBytes: 2_097_152, paidMicros: 400 },
    { id: '<img src=x>', state: 'connecting', payableBytes: 0, paidMicros: 12 },
  ],
  pieces: { verified: 1_234, rejected: 0 },
  stalls: { count: 0, ms: 0 },
  latencyMs: 2_930,
  bufferMs: 2_100,
  bitsPerSecond: 12_400_000,
};

const inside = (element: HTMLElement, selector: string) => element.shadowRoot!.querySelector<HTMLElement>(selector)!;

describe('<millstream-stats>', () => {
  const overlay = () => document.createElement('millstream-stats') as MillstreamStats;

  it('shows what comes from where', () => {
    const stats = overlay();
    stats.show(STATS);
    expect(inside(stats, '.mode').textContent).toBe('Edges · 720p');
    expect(inside(stats, '.offload').textContent).toBe('90 % offload');
    expect(inside(stats, '[data-bytes=edge]').textContent).toBe('8.8 KiB');
    expect(inside(stats, '.bar .origin').style.flexGrow).toBe('1000');
    expect(inside(stats, '[data-figure=latency]').textContent).toBe('2.9 s');
    expect(inside(stats, '[data-figure=paid]').textContent).toBe('0.000412');
  });

  it("writes an edge's id as text, whatever it is", () => {
    const stats = overlay();
    stats.show(STATS);
    const rows = [...stats.shadowRoot!.querySelectorAll('.edges li')];
    expect(rows.map((row) => row.className)).toEqual(['primary', 'connecting']);
    expect(rows[0]!.textContent).toBe('AbCdEfGhprimary23 ms2.0 MiB');
    expect(rows[1]!.querySelector('img')).toBeNull();
  });

  it('never claims more offload than there is', () => {
    const stats = overlay();
    stats.show({ ...STATS, bytes: { edge: 9_999, peer: 0, origin: 1 } });
    expect(inside(stats, '.offload').textContent).toBe('99 % offload');
    stats.show({ ...STATS, bytes: { edge: 0, peer: 0, origin: 0 } });
    expect(inside(stats, '.offload').textContent).toBe('');
  });

  it('draws a minute, and no more', () => {
    const stats = overlay();
    for (let n = 0; n < 100; n++) stats.show({ ...STATS, bytes: { edge: n * 1_000, peer: 0, origin: 0 } });
    const path = inside(stats, 'path.edge').getAttribute('d')!;
    expect(path.split('L')).toHaveLength(120);
    expect(path.startsWith('M0.0,')).toBe(true);
    expect(path).not.toContain('NaN');
  });

  it('shows bad pieces', () => {
    const stats = overlay();
    stats.show({ ...STATS, pieces: { verified: 10, rejected: 2 } });
    expect(inside(stats, '[data-figure=verified]').textContent).toBe('10 · 2 bad');
    expect(inside(stats, '[data-figure=verified]').classList.contains('bad')).toBe(true);
  });
});

describe('<millstream-player>', () => {
  let errors: ErrorDetail[];
  let modes: ModeDetail[];

  beforeEach(() => {
    errors = [];
    modes = [];
    vi.spyOn(Hls, 'isSupported').mockReturnValue(true);
    vi.spyOn(Hls.prototype, 'attachMedia').mockImplementation(() => {});
    vi.spyOn(Hls.prototype, 'loadSource').mockImplementation(() => {});
    vi.spyOn(HTMLMediaElement.prototype, 'play').mockResolvedValue();
    vi.stubGlobal('isSecureContext', true);
    vi.stubGlobal('RTCPeerConnection', class {});
  });
  afterEach(() => {
    document.body.replaceChildren();
    MillstreamPlayer.openSession = undefined;
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
  });

  async function player(attributes: Record<string, string>): Promise<MillstreamPlayer> {
    const element = document.createElement('millstream-player') as MillstreamPlayer;
    element.addEventListener('ms-error', (event) => errors.push((event as CustomEvent<ErrorDetail>).detail));
    element.addEventListener('ms-mode', (event) => modes.push((event as CustomEvent<ModeDetail>).detail));
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    document.body.append(element);
    await settle();
    return element;
  }

  const settle = () => new Promise((resolve) => setTimeout(resolve, 0));

  function session(): Session & { close: Mock<() => void> } {
    return {
      swarm: { bandwidth: { bitsPerSecond: () => 0, firstByteMs: () => 0 }, load: () => new Promise(() => {}) },
      url: 'http://origin/s/demo/index.m3u8',
      stats: () => STATS,
      watch: vi.fn(),
      close: vi.fn<() => void>(),
    };
  }

  const KEY = 'A'.repeat(43);
  const tracker = { stream: 'demo', tracker: 'http://tracker.example/' };
  const answers = (body: unknown) =>
    vi.stubGlobal('fetch', vi.fn().mockResolvedValue({ ok: true, json: () => Promise.resolve(body) }));

  it('opens a session and plays its playlist through the swarm', async () => {
    const opened = session();
    const open = vi.fn().mockResolvedValue(opened);
    MillstreamPlayer.openSession = open;
    const element = await player({ ...tracker, 'verify-key': KEY, autoplay: '', muted: '' });
    expect(open.mock.calls[0]![0]).toMatchObject({
      stream: 'demo', tracker: 'http://tracker.example', verifyKey: KEY, dataChannels: true,
    });
    expect(opened.watch).toHaveBeenCalledOnce();
    expect(Hls.prototype.loadSource).toHaveBeenCalledWith(opened.url);
    expect(element.hls!.config.fLoader).toBeDefined();
    expect(element.video.muted).toBe(true);
    expect(element.stats).toBe(STATS);
    expect(modes).toEqual([{ mode: 'swarm' }]);
    expect(errors).toEqual([]);
    element.remove();
    expect(opened.close).toHaveBeenCalledOnce();
  });

  it.each([
    ['secure-context', () => vi.stubGlobal('isSecureContext', false)],
    ['webcrypto', () => vi.stubGlobal('crypto', {})],
    ['wasm', () => vi.stubGlobal('WebAssembly', undefined)],
  ] as const)('plays plain HLS with a named error where %s is missing', async (name, take) => {
    take();
    MillstreamPlayer.openSession = vi.fn();
    answers({ origin: 'http://origin.example' });
    const element = await player(tracker);
    expect(MillstreamPlayer.openSession).not.toHaveBeenCalled();
    expect(errors).toMatchObject([{ name, fatal: false }]);
    expect(modes).toEqual([{ mode: 'plain', reason: name }]);
    expect(Hls.prototype.loadSource).toHaveBeenCalledWith('http://origin.example/s/demo/index.m3u8');
    expect(element.hls!.config.fLoader).toBeUndefined();
  });

  it('plays plain HLS where no session can be had', async () => {
    MillstreamPlayer.openSession = vi.fn().mockRejectedValue(new SessionRefused('no_funds', 'the budget is used up'));
    answers({ origin: 'http://origin.example', token: 'abc' });
    const element = await player(tracker);
    expect(errors).toMatchObject([{ name: 'no-session', code: 'no_funds', fatal: false }]);
    expect(modes).toEqual([{ mode: 'plain', reason: 'no-session' }]);
    expect(Hls.prototype.loadSource).toHaveBeenCalledWith('http://origin.example/s/demo/index.m3u8');
    const xhr = { setRequestHeader: vi.fn() };
    element.hls!.config.xhrSetup!(xhr as unknown as XMLHttpRequest, 'http://origin.example/', undefined as never);
    expect(xhr.setRequestHeader).toHaveBeenCalledWith('Authorization', 'Bearer abc');
    expect(element.stats).toMatchObject({ mode: 'plain', stalls: { count: 0, ms: 0 } });
  });

  it('stays in the swarm without data channels where WebRTC is missing, and says so', async () => {
    vi.stubGlobal('RTCPeerConnection', undefined);
    const open = vi.fn().mockResolvedValue(session());
    MillstreamPlayer.openSession = open;
    await player(tracker);
    expect(open.mock.calls[0]![0]).toMatchObject({ dataChannels: false });
    expect(errors).toMatchObject([{ name: 'webrtc', fatal: false }]);
    expect(modes).toEqual([{ mode: 'swarm', reason: 'webrtc' }]);
  });

  it('does not play with a root key that is none', async () => {
    MillstreamPlayer.openSession = vi.fn();
    await player({ ...tracker, 'verify-key': 'typo' });
    expect(errors).toMatchObject([{ name: 'bad-attributes', fatal: true }]);
    expect(MillstreamPlayer.openSession).not.toHaveBeenCalled();
  });

  it('tells of edges, bad pieces and payments', async () => {
    let tell!: (event: SwarmEvent) => void;
    MillstreamPlayer.openSession = (options: SessionOptions) => {
      tell = options.onevent!;
      return Promise.resolve(session());
    };
    const told: unknown[] = [];
    const element = await player(tracker);
    for (const name of ['ms-edge', 'ms-bad-piece', 'ms-paid']) {
      element.addEventListener(name, (event) => told.push([name, (event as CustomEvent).detail]));
    }
    tell({ type: 'edge_ready', edge: 'a', after_ms: 40 });
    tell({ type: 'bad_piece', edge: 'a', rendition: 'video', number: 7 });
    tell({ type: 'bad_piece', rendition: 'video', number: 8 });
    tell({ type: 'edge_lost', edge: 'a', reason: 'bad' });
    tell({ type: 'paid', edge: 'a', earned: 18 });
    expect(told).toEqual([
      ['ms-edge', { edge: 'a', state: 'connected', afterMs: 40 }],
      ['ms-bad-piece', { source: 'a', rendition: 'video', number: 7 }],
      ['ms-bad-piece', { source: 'origin', rendition: 'video', number: 8 }],
      ['ms-edge', { edge: 'a', state: 'lost', reason: 'bad' }],
      ['ms-paid', { edge: 'a', earnedMicros: 18 }],
    ]);
  });

  it('says once that nothing is signed by the root key', async () => {
    let tell!: (event: SwarmEvent) => void;
    const none = { ...session(), stats: () => ({ ...STATS, pieces: { verified: 0, rejected: 0 } }) };
    MillstreamPlayer.openSession = (options: SessionOptions) => {
      tell = options.onevent!;
      return Promise.resolve(none);
    };
    await player(tracker);
    tell({ type: 'refused', why: 'no delegation of generation 1 is known' });
    tell({ type: 'refused', why: 'no delegation of generation 1 is known' });
    expect(errors).toMatchObject([{ name: 'untrusted', fatal: false }]);
  });

  it('goes on with plain HLS when the swarm ends', async () => {
    let end!: NonNullable<SessionOptions['onended']>;
    const opened = session();
    MillstreamPlayer.openSession = (options: SessionOptions) => {
      end = options.onended!;
      return Promise.resolve(opened);
    };
    answers({ origin: 'http://origin.example' });
    await player(tracker);
    end(new Error('the swarm trapped'), 'trapped');
    await settle();
    expect(opened.close).toHaveBeenCalledOnce();
    expect(errors).toMatchObject([{ name: 'wasm', fatal: false }]);
    expect(modes).toEqual([{ mode: 'swarm' }, { mode: 'plain', reason: 'wasm' }]);
    expect(Hls.prototype.loadSource).toHaveBeenLastCalledWith('http://origin.example/s/demo/index.m3u8');
  });

  it.each([
    ['secure-context', () => vi.stubGlobal('isSecureContext', false)],
    ['wasm', () => vi.stubGlobal('WebAssembly', undefined)],
  ] as const)('plays nothing where %s is missing and the page names a root key', async (name, take) => {
    take();
    answers({ origin: 'http://origin.example' });
    const element = await player({ ...tracker, 'verify-key': KEY });
    expect(errors).toMatchObject([{ name, fatal: true }]);
    expect(inside(element, '.message').textContent).toContain('verified media alone');
    expect(Hls.prototype.loadSource).not.toHaveBeenCalled();
  });

  it.each([{}, { src: 'http://cdn.example/live.m3u8' }])('plays nothing unverified when a tracker refuses a page with a root key: %o', async (more) => {
    MillstreamPlayer.openSession = vi.fn().mockRejectedValue(new SessionRefused('unavailable', 'not now'));
    answers({ origin: 'http://origin.example' });
    await player({ ...tracker, ...more, 'verify-key': KEY });
    expect(errors).toMatchObject([{ name: 'no-session', code: 'unavailable', fatal: false }]);
    expect(Hls.prototype.loadSource).not.toHaveBeenCalled();
    const opened = session();
    MillstreamPlayer.openSession = vi.fn().mockResolvedValue(opened);
    await vi.waitFor(() => expect(Hls.prototype.loadSource).toHaveBeenCalledWith(opened.url), { timeout: 2_000 });
  });

  it('gives up when the tracker will never let in a page with a root key', async () => {
    MillstreamPlayer.openSession = vi.fn().mockRejectedValue(new SessionRefused('bad_ticket', 'used'));
    await player({ ...tracker, 'verify-key': KEY });
    expect(errors.at(-1)).toMatchObject({ name: 'no-session', code: 'bad_ticket', fatal: true });
  });

  it('plays plain HLS beside a root key where the page allows it', async () => {
    MillstreamPlayer.openSession = vi.fn().mockRejectedValue(new SessionRefused('unavailable', 'not now'));
    answers({ origin: 'http://origin.example' });
    await player({ ...tracker, 'verify-key': KEY, 'allow-unverified': '' });
    expect(modes).toEqual([{ mode: 'plain', reason: 'no-session' }]);
  });

  it('opens another session when a trapped swarm may not be replaced by plain HLS', async () => {
    let end!: NonNullable<SessionOptions['onended']>;
    MillstreamPlayer.openSession = (options: SessionOptions) => {
      end = options.onended!;
      return Promise.resolve(session());
    };
    await player({ ...tracker, 'verify-key': KEY });
    end(new Error('the swarm trapped'), 'trapped');
    const again = vi.fn().mockResolvedValue(session());
    MillstreamPlayer.openSession = again;
    await vi.waitFor(() => expect(modes).toEqual([{ mode: 'swarm' }, { mode: 'swarm' }]), { timeout: 2_000 });
    expect(again).toHaveBeenCalledOnce();
  });

  it('asks the page for a ticket for its key, and for another when that one is used up', async () => {
    const opened: SessionOptions[] = [];
    MillstreamPlayer.openSession = (options: SessionOptions) => {
      opened.push(options);
      return Promise.resolve(session());
    };
    const response = { ok: true, text: () => Promise.resolve('header.payload.signature\n') };
    vi.stubGlobal('fetch', vi.fn().mockResolvedValue(response));
    await player({ ...tracker, 'ticket-url': 'https://page.example/ticket?show=7' });
    expect(await opened[0]!.ticket!('the-key')).toBe('header.payload.signature');
    const [url, options] = vi.mocked(fetch).mock.calls[0]!;
    expect(String(url)).toBe('https://page.example/ticket?show=7&stream=demo&key=the-key');
    expect(options).toMatchObject({ credentials: 'include', cache: 'no-store' });
    opened[0]!.onended!(new SessionRefused('bad_ticket', 'used'), 'bad-ticket');
    await settle();
    expect(opened).toHaveLength(2);
    expect(errors).toMatchObject([{ name: 'no-session', fatal: false }]);
  });

  it('stays quiet when the browser puts the page away', async () => {
    let end!: NonNullable<SessionOptions['onended']>;
    MillstreamPlayer.openSession = (options: SessionOptions) => {
      end = options.onended!;
      return Promise.resolve(session());
    };
    await player(tracker);
    end(new Error('put away'), 'put-away');
    expect([errors, modes]).toEqual([[], [{ mode: 'swarm' }]]);
  });

  describe('when hls.js fails', () => {
    const failing = async (attributes: Record<string, string> = {}) => {
      const element = await player({ src: 'http://cdn.example/live.m3u8', ...attributes });
      const fail = (type: string) =>
        element.hls!.trigger(Hls.Events.ERROR, { type, details: 'some', fatal: true } as unknown as ErrorData);
      const parsed = () => {
        const nothing = { levels: [], audioTracks: [], subtitleTracks: [], sessionData: null, sessionKeys: null, stats: {} };
        element.hls!.trigger(Hls.Events.MANIFEST_PARSED, nothing as unknown as ManifestParsedData);
      };
      return { element, fail, parsed };
    };

    it('plays on after a network error, if it played before', async () => {
      const { element, fail, parsed } = await failing();
      element.video.dispatchEvent(new Event('play'));
      fail(Hls.ErrorTypes.NETWORK_ERROR);
      // It loads anew, which pauses the video without an event.
      await vi.waitFor(() => expect(Hls.prototype.loadSource).toHaveBeenCalledTimes(2), { timeout: 2_000 });
      expect(HTMLMediaElement.prototype.play).not.toHaveBeenCalled();
      parsed();
      expect(HTMLMediaElement.prototype.play).toHaveBeenCalledOnce();
    });

    it('stays paused after a network error, if somebody had paused it', async () => {
      const { element, fail, parsed } = await failing();
      element.video.dispatchEvent(new Event('play'));
      element.video.dispatchEvent(new Event('pause'));
      fail(Hls.ErrorTypes.NETWORK_ERROR);
      parsed();
      expect(HTMLMediaElement.prototype.play).not.toHaveBeenCalled();
    });

    it('begins from the start when media errors cannot be mended, and never gives up', async () => {
      const recover = vi.spyOn(Hls.prototype, 'recoverMediaError').mockImplementation(() => {});
      const { element, fail } = await failing();
      const first = element.hls!;
      for (let n = 0; n < 4; n++) fail(Hls.ErrorTypes.MEDIA_ERROR);
      expect(recover).toHaveBeenCalledTimes(3);
      await vi.waitFor(() => expect(element.hls).not.toBe(first), { timeout: 2_000 });
      expect(errors.some(({ fatal }) => fatal)).toBe(false);
    });

    it('mends a media error a minute for ever', async () => {
      const recover = vi.spyOn(Hls.prototype, 'recoverMediaError').mockImplementation(() => {});
      const { fail } = await failing();
      const now = vi.spyOn(performance, 'now');
      for (let minute = 1; minute <= 10; minute++) {
        now.mockReturnValue(minute * 60_001);
        fail(Hls.ErrorTypes.MEDIA_ERROR);
      }
      expect(recover).toHaveBeenCalledTimes(10);
    });
  });

  it('waits for a stream that nobody publishes yet', async () => {
    MillstreamPlayer.openSession = vi.fn().mockRejectedValue(new SessionRefused('not_live', 'nobody publishes demo'));
    const response = { ok: false, status: 404, json: () => Promise.resolve({ code: 'not_live' }) };
    vi.stubGlobal('fetch', vi.fn().mockResolvedValue(response));
    const element = await player(tracker);
    expect(errors.at(-1)).toMatchObject({ name: 'no-stream', fatal: false });
    expect(inside(element, '.message').textContent).toContain('Waiting');
    MillstreamPlayer.openSession = vi.fn().mockResolvedValue(session());
    await vi.waitFor(() => expect(modes).toEqual([{ mode: 'swarm' }]), { timeout: 2_000 });
  });

  it('plays src without asking anybody', async () => {
    vi.stubGlobal('fetch', vi.fn());
    await player({ src: 'http://cdn.example/live.m3u8' });
    expect(fetch).not.toHaveBeenCalled();
    expect(Hls.prototype.loadSource).toHaveBeenCalledWith('http://cdn.example/live.m3u8');
  });

  it('says what is missing when it has nothing to play', async () => {
    const element = await player({ stream: 'demo' });
    expect(errors).toMatchObject([{ name: 'bad-attributes', fatal: true }]);
    expect(inside(element, '.message').hidden).toBe(false);
  });

  it('says so when the tracker knows no such stream', async () => {
    vi.stubGlobal('fetch', vi.fn().mockResolvedValue({ ok: false, status: 404 }));
    await player(tracker);
    expect(errors.at(-1)).toMatchObject({ name: 'no-stream', fatal: true });
  });

  it('starts once for several attributes, and anew when the stream changes', async () => {
    const first = session();
    const open = vi.fn().mockResolvedValueOnce(first).mockResolvedValue(session());
    MillstreamPlayer.openSession = open;
    const element = await player(tracker);
    expect(open).toHaveBeenCalledOnce();
    element.setAttribute('stream', 'other');
    await settle();
    expect(first.close).toHaveBeenCalledOnce();
    expect(open.mock.calls[1]![0]).toMatchObject({ stream: 'other' });
    expect(open.mock.calls[0]![1].aborted).toBe(true);
  });

  it('closes a session that arrives after the player is gone', async () => {
    const late = session();
    let arrive!: (session: Session) => void;
    MillstreamPlayer.openSession = () => new Promise((resolve) => (arrive = resolve));
    const element = await player(tracker);
    element.remove();
    arrive(late);
    await settle();
    expect(late.close).toHaveBeenCalledOnce();
    expect(Hls.prototype.loadSource).not.toHaveBeenCalled();
  });

  it('mutes itself when the browser allows nothing else, and offers sound', async () => {
    MillstreamPlayer.openSession = vi.fn().mockResolvedValue(session());
    const refused = Object.assign(new Error('no'), { name: 'NotAllowedError' });
    vi.mocked(HTMLMediaElement.prototype.play).mockRejectedValueOnce(refused).mockResolvedValue();
    const element = await player({ ...tracker, autoplay: '' });
    expect(element.video.muted).toBe(true);
    expect(inside(element, '.unmute').hidden).toBe(false);
    inside(element, '.unmute').click();
    expect(element.video.muted).toBe(false);
  });

  it('shows a button when the browser allows nothing at all', async () => {
    MillstreamPlayer.openSession = vi.fn().mockResolvedValue(session());
    const refused = Object.assign(new Error('no'), { name: 'NotAllowedError' });
    vi.mocked(HTMLMediaElement.prototype.play).mockRejectedValue(refused);
    const element = await player({ ...tracker, autoplay: '', muted: '' });
    expect(inside(element, '.play').hidden).toBe(false);
  });
});

describe('numbers', () => {
  it('read as people write them', () => {
    expect([0, 1023, 1024, 1.5 * 2 ** 20, 2 ** 50].map(bytesText)).toEqual(['0 B', '1023 B', '1.0 KiB', '1.5 MiB', '1024 TiB']);
    expect([0, Number.NaN, 640_000, 2_400_000].map(rateText)).toEqual(['–', '–', '640 kbit/s', '2.4 Mbit/s']);
    expect([undefined, 870, 2_930].map(durationText)).toEqual(['–', '870 ms', '2.9 s']);
    expect([412, 12_345, 1_234_567].map(moneyText)).toEqual(['0.000412', '0.0123', '1.23']);
  });
});
