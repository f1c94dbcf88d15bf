// The socket's life with a WebSocket that the test plays and a clock that it turns.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { TrackerSocket, type TrackerState, type Typed } from '../src/tracker-socket';

class PlayedSocket {
  static all: PlayedSocket[] = [];
  onopen: (() => void) | null = null;
  onclose: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  bufferedAmount = 0;
  sent: string[] = [];
  closed = false;

  constructor(readonly url: string) {
    PlayedSocket.all.push(this);
  }
  send(text: string) {
    this.sent.push(text);
  }
  close() {
    this.closed = true;
  }
}

let states: TrackerState[];
let messages: Typed[];

function socket(random = 0) {
  return new TrackerSocket<Typed, Typed & Record<string, unknown>>('ws://tracker/v1/viewer', {
    onmessage: (message) => messages.push(message),
    onstate: (state) => states.push(state),
    random: () => random,
    WebSocket: PlayedSocket as unknown as typeof WebSocket,
  });
}

const latest = () => PlayedSocket.all.at(-1)!;

/** Loses the connection and turns the clock until the next one is tried; the pause in milliseconds. */
function lose(): number {
  const sockets = PlayedSocket.all.length;
  const lostAt = Date.now();
  latest().onclose!();
  while (PlayedSocket.all.length === sockets) vi.advanceTimersByTime(1);
  return Date.now() - lostAt;
}

beforeEach(() => {
  vi.useFakeTimers();
  PlayedSocket.all = [];
  states = [];
  messages = [];
});
afterEach(() => vi.useRealTimers());

describe('the tracker socket', () => {
  it('opens, speaks and listens', () => {
    const tracker = socket();
    tracker.connect();
    expect(tracker.send({ type: 'join' })).toBe(false);
    latest().onopen!();
    expect(tracker.send({ type: 'join', stream: 'demo' })).toBe(true);
    expect(latest().sent).toEqual(['{"type":"join","stream":"demo"}']);
    latest().onmessage!({ data: '{"type":"welcome","time":1}' });
    expect(messages).toEqual([{ type: 'welcome', time: 1 }]);
    expect(states).toEqual(['connecting', 'open']);
  });

  it('comes back with doubling pauses, bounded', () => {
    const tracker = socket(1);
    tracker.connect();
    const pauses = Array.from({ length: 12 }, lose);
    expect(pauses.slice(0, 4)).toEqual([500, 1_000, 2_000, 4_000]);
    expect(Math.max(...pauses)).toBe(30_000);
    tracker.close();
  });

  it('waits between half a pause and a whole one', () => {
    const tracker = socket(0);
    tracker.connect();
    latest().onclose!();
    vi.advanceTimersByTime(249);
    expect(PlayedSocket.all).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(PlayedSocket.all).toHaveLength(2);
    tracker.close();
  });

  it('forgets failures after a good connection, and not after a short one', () => {
    const tracker = socket(0);
    tracker.connect();
    for (let n = 0; n < 5; n++) lose();
    const pauseAfter = (livedMs: number) => {
      latest().onopen!();
      vi.advanceTimersByTime(livedMs);
      return lose();
    };
    expect(pauseAfter(1_000)).toBeGreaterThan(4_000);
    expect(pauseAfter(10_000)).toBe(250);
    tracker.close();
  });

  it('gives up a connection that neither opens nor fails', () => {
    const tracker = socket();
    tracker.connect();
    const first = latest();
    vi.advanceTimersByTime(10_000);
    expect(first.closed).toBe(true);
    expect(states.at(-1)).toBe('waiting');
    tracker.close();
  });

  it('stays away as long as the tracker asks', () => {
    const tracker = socket(0);
    tracker.connect();
    latest().onopen!();
    tracker.comeBack(5_000);
    expect(latest().closed).toBe(true);
    vi.advanceTimersByTime(4_999);
    expect(PlayedSocket.all).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(PlayedSocket.all).toHaveLength(2);
    tracker.close();
  });

  it('drops what cannot be read, and a tracker that says nothing else', () => {
    const tracker = socket();
    tracker.connect();
    const first = latest();
    first.onopen!();
    const garbage = ['', '{', 'null', '[]', '{"type":7}', '7', new ArrayBuffer(4), `{"type":"${'x'.repeat(65_536)}"}`];
    for (const data of garbage) first.onmessage!({ data });
    expect(messages).toEqual([]);
    expect(first.closed).toBe(false);
    first.onmessage!({ data: 'one more' });
    expect(first.closed).toBe(true);
    tracker.close();
  });

  it('sends nothing that is too long', () => {
    const tracker = socket();
    tracker.connect();
    latest().onopen!();
    // Two bytes a character: the bound is on bytes.
    expect(tracker.send({ type: 'signal', data: 'é'.repeat(33_000) })).toBe(false);
    expect(latest().closed).toBe(false);
    expect(tracker.send({ type: 'leave' })).toBe(true);
    tracker.close();
  });

  it('gives up a connection that takes nothing any more', () => {
    const tracker = socket();
    tracker.connect();
    latest().onopen!();
    latest().bufferedAmount = 256 * 1024;
    expect(tracker.send({ type: 'leave' })).toBe(false);
    expect(latest().closed).toBe(true);
    expect(states.at(-1)).toBe('waiting');
    tracker.close();
  });

  it('connects anew at once on another network, open or waiting, and not when closed', () => {
    const tracker = socket();
    tracker.again();
    tracker.connect();
    latest().onopen!();
    tracker.again();
    expect(latest().closed).toBe(true);
    vi.advanceTimersByTime(0);
    expect(PlayedSocket.all).toHaveLength(2);
    latest().onclose!();
    tracker.again();
    vi.advanceTimersByTime(0);
    expect(PlayedSocket.all).toHaveLength(3);
    tracker.close();
    tracker.again();
    vi.advanceTimersByTime(60_000);
    expect(PlayedSocket.all).toHaveLength(3);
  });

  it('is silent after it was closed', () => {
    const tracker = socket();
    tracker.connect();
    latest().onclose!();
    tracker.close();
    vi.advanceTimersByTime(120_000);
    expect(PlayedSocket.all).toHaveLength(1);
    expect(states.at(-1)).toBe('closed');
  });
});
