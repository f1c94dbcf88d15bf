// A session with the real module, its own key and real time, in a world made of the published vectors: a tracker behind a
// WebSocket that the test plays, and an origin behind `fetch`.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { LoadFailure, type MediaAnswer, type MediaRequest } from '../src/hls/swarm';
import type { Playhead } from '../src/playhead';
import { type Session, type SessionOptions, SessionRefused } from '../src/session';
import { openSwarmSession } from '../src/swarm-session';
import { Door, Op } from '../src/wasm/instance';
import type { SwarmEvent } from '../src/wasm/port';
import { b64, challenge, key, media, ORIGIN, signed, START, WALL, welcome } from './world';

class PlayedSocket {
  static all: PlayedSocket[] = [];
  onopen: (() => void) | null = null;
  onclose: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  bufferedAmount = 0;
  readonly sent: { type: string; [field: string]: unknown }[] = [];
  closed = false;

  constructor(readonly url: string) {
    PlayedSocket.all.push(this);
    queueMicrotask(() => this.onopen?.());
    queueMicrotask(() => this.says(challenge));
  }
  says(message: unknown) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
  send(text: string) {
    const message = JSON.parse(text) as { type: string };
    this.sent.push(message);
    for (const answer of PlayedSocket.answers(message.type)) queueMicrotask(() => this.says(answer));
  }
  close() {
    this.closed = true;
  }

  static answers = (_type: string): unknown[] => [];
}

const TOKEN = b64(signed('token'));
const WELCOME = { ...welcome, edges: [] };
const socket = () => PlayedSocket.all.at(-1)!;

/** What the origin has, by path below `/s/demo/`; a number is a status, undefined an answer that never comes. */
let origin: Record<string, Uint8Array | number | undefined>;
let asked: { path: string; headers: Record<string, string> }[];
let events: SwarmEvent[];
let sessions: Session[];

beforeEach(() => {
  PlayedSocket.all = [];
  PlayedSocket.answers = (type) => (type === 'join' || type === 'resume' ? [WELCOME] : []);
  origin = { start: START, 'video/p100.m4s': media(100), 'video/p101.m4s': media(101) };
  asked = [];
  events = [];
  sessions = [];
  vi.stubGlobal('WebSocket', PlayedSocket);
  vi.stubGlobal('fetch', async (url: string, { headers, signal }: { headers: Record<string, string>; signal: AbortSignal }) => {
    const [, path] = new RegExp(`^${ORIGIN}/s/demo/([^?]+)`).exec(url) ?? [];
    asked.push({ path: path!, headers });
    const body = origin[path!];
    if (typeof body === 'number') return new Response(null, { status: body });
    if (body !== undefined) return new Response(body as Uint8Array<ArrayBuffer>);
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
  });
});
afterEach(async () => {
  for (const session of sessions) session.close();
  await vi.waitFor(() => expect(PlayedSocket.all.every(({ closed }) => closed)).toBe(true), { timeout: 2_000 });
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

async function open(options: Partial<SessionOptions> = {}): Promise<Session> {
  const session = await openSwarmSession(
    {
      stream: 'demo', tracker: 'http://tracker.example', dataChannels: false, verifyKey: b64(key('root')),
      onevent: (event) => events.push(event), ...options,
    },
    new AbortController().signal,
  );
  sessions.push(session);
  return session;
}

function load(
  session: Session, path: string, more: Partial<MediaRequest> = {}, signal = new AbortController().signal,
): Promise<MediaAnswer> {
  const kind = path.includes('.m3u8') ? 'playlist' : 'part';
  const request = { kind, url: new URL(`/s/demo/${path}`, session.url).href, answerBy: performance.now() + 5_000, ...more } as const;
  return session.swarm.load(request, { signal, onprogress: () => {} });
}

describe('a session', () => {
  it('joins with a key of its own and plays what the packager signed', async () => {
    const session = await open();
    expect(socket().url).toBe('ws://tracker.example/v1/viewer');
    expect(socket().sent[0]).toMatchObject({ type: 'join', stream: 'demo' });
    expect(socket().sent[0]!.key).toMatch(/^A[\w-]{43}$/);
    expect(session.url).toBe('http://tracker.example/s/demo/index.m3u8');

    expect((await load(session, 'index.m3u8')).data).toContain('video.m3u8');
    expect((await load(session, 'video.m3u8')).data).toContain('video/p101.m4s');
    const { data } = await load(session, 'video/p101.m4s');
    expect(Buffer.compare(data as Uint8Array, media(101))).toBe(0);
    expect(session.stats()).toMatchObject({
      mode: 'swarm', bytes: { edge: 0, peer: 0, origin: 70_000 }, pieces: { verified: 2, rejected: 0 }, edges: [],
    });
    expect(session.swarm.bandwidth.bitsPerSecond()).toBeGreaterThan(0);
  });

  it('gives the part of an answer that was asked for', async () => {
    const session = await open();
    const { data } = await load(session, 'video/p101.m4s', { range: { start: 10, end: 15 } });
    expect([...(data as Uint8Array)]).toEqual([1, 1, 1, 1, 1]);
  });

  it('gives no byte that was not signed', async () => {
    const wrong = media(101);
    wrong[0] = 7;
    origin['video/p101.m4s'] = wrong;
    const session = await open();
    const giveUp = new AbortController();
    const answer = load(session, 'video/p101.m4s', {}, giveUp.signal);
    await vi.waitFor(() => expect(events).toContainEqual({ type: 'bad_piece', rendition: 'video', number: 101 }));
    giveUp.abort();
    await expect(answer).rejects.toThrow(LoadFailure);
  });

  it('says what the origin says when a part is gone', async () => {
    origin['video/p101.m4s'] = 404;
    await expect(load(await open(), 'video/p101.m4s')).rejects.toMatchObject({ code: 404 });
  });

  it('refuses what is nothing of a stream', async () => {
    await expect(load(await open(), 'video/x1.m4s')).rejects.toMatchObject({ code: 404 });
  });

  it('answers a blocking request with what there is, in time', async () => {
    const session = await open();
    await load(session, 'video.m3u8');
    const answerBy = performance.now() + 150;
    const blocking = { msn: 10, part: 2 };
    const { data } = await load(session, 'video.m3u8?_HLS_msn=10&_HLS_part=2', { blocking, answerBy });
    expect(data).toContain('video/p101.m4s');
    expect(performance.now() - answerBy).toBeGreaterThanOrEqual(-1);
    expect(performance.now() - answerBy).toBeLessThan(250);
  });

  it('shows the token that the tracker gave', async () => {
    PlayedSocket.answers = (type) => (type === 'join' ? [{ ...WELCOME, token: TOKEN }] : []);
    await load(await open(), 'index.m3u8');
    expect(asked[0]!.headers.Authorization).toBe(`Bearer ${TOKEN}`);
  });

  it('tells the tracker where its player is', async () => {
    PlayedSocket.answers = (type) => (type === 'join' ? [{ ...WELCOME, report_ms: 1_000 }] : []);
    const session = await open();
    const playhead = { programDateTime: WALL - 3_000, bufferMs: 1_234, stalls: { count: 2, ms: 450 } } as Playhead;
    session.watch(playhead);
    await vi.waitFor(() => expect(socket().sent.at(-1)).toMatchObject({ type: 'report' }), { timeout: 3_000 });
    const report = socket().sent.at(-1)! as unknown as { latency_ms: number };
    expect(report).toMatchObject({ buffer_ms: 1_234, stalls: 2, stalled_ms: 450 });
    expect(report.latency_ms).toBeGreaterThanOrEqual(3_000);
    expect(report.latency_ms).toBeLessThan(6_000);
    expect(session.stats().latencyMs).toBeGreaterThanOrEqual(3_000);
  });

  it('comes back to a tracker that was away, with the same session', async () => {
    await open();
    socket().onclose!();
    await vi.waitFor(() => expect(PlayedSocket.all).toHaveLength(2), { timeout: 2_000 });
    await vi.waitFor(() => expect(socket().sent[0]).toMatchObject({ type: 'resume' }));
    expect(socket().sent[0]).toMatchObject({ certificate: welcome.certificate });
  });

  it('says farewell when it is closed, and holds nothing open', async () => {
    origin['video/p101.m4s'] = undefined;
    const session = await open();
    const waiting = load(session, 'video/p101.m4s');
    session.close();
    await expect(waiting).rejects.toThrow(LoadFailure);
    expect(socket().sent.at(-1)).toEqual({ type: 'leave' });
    expect(socket().closed).toBe(true);
    expect(session.stats().mode).toBe('swarm');
    await expect(load(session, 'index.m3u8')).rejects.toThrow(LoadFailure);
  });

  it('ends when the module traps, and says so', async () => {
    const onended = vi.fn();
    const session = await open({ onended });
    const call = Door.prototype.call;
    vi.spyOn(Door.prototype, 'call').mockImplementation(function (this: Door, op, ...inputs) {
      if (op === Op.Input) throw new Error('unreachable');
      return call.call(this, op, ...inputs);
    });
    await expect(load(session, 'index.m3u8')).rejects.toThrow(LoadFailure);
    expect(onended).toHaveBeenCalledOnce();
    expect(socket().closed).toBe(true);
  });

  it('hands on what is played only when somebody listens', async () => {
    expect((await open()).swarm.played).toBeUndefined();
    const onplayed = () => {};
    expect((await open({ onplayed })).swarm.played).toBeDefined();
  });
});

describe('a session that does not come about', () => {
  it.each(['unknown_stream', 'not_live', 'bad_ticket', 'no_funds'])('has a name: %s', async (code) => {
    PlayedSocket.answers = (type) => (type === 'join' ? [{ type: 'error', code, message: 'for people' }] : []);
    const refused = open();
    await expect(refused).rejects.toThrow(SessionRefused);
    await expect(refused).rejects.toMatchObject({ code, message: 'for people' });
    expect(socket().closed).toBe(true);
  });

  it('ends when its page does not want it any more', async () => {
    PlayedSocket.answers = () => [];
    const ending = new AbortController();
    const opening = openSwarmSession({ stream: 'demo', tracker: 'http://tracker.example', dataChannels: false }, ending.signal);
    await vi.waitFor(() => expect(socket()?.sent[0]).toMatchObject({ type: 'join' }));
    ending.abort(new Error('gone'));
    await expect(opening).rejects.toThrow('gone');
    expect(socket().closed).toBe(true);
  });

  it('is not waited for for ever', async () => {
    PlayedSocket.answers = () => [];
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const opening = expect(open()).rejects.toMatchObject({ code: 'unreachable' });
      await vi.waitFor(async () => {
        expect(socket()?.sent[0]).toMatchObject({ type: 'join' });
      }, { interval: 1 });
      await vi.advanceTimersByTimeAsync(8_000);
      await opening;
    } finally {
      vi.useRealTimers();
    }
  });
});
