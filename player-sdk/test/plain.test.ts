import { afterEach, expect, test, vi } from 'vitest';
import { NoTicket, plainPlaylist, UnknownStream } from '../src/plain';

const TRACKER = 'https://tracker.example';
const signal = new AbortController().signal;

function answers(...answers: readonly [status: number, body: unknown][]) {
  const fetching = vi.fn<typeof fetch>();
  for (const [status, body] of answers) fetching.mockResolvedValueOnce(new Response(JSON.stringify(body), { status }));
  vi.stubGlobal('fetch', fetching);
  return fetching;
}

function sent(fetching: ReturnType<typeof answers>, call: number): unknown {
  return (fetching.mock.calls[call]?.[1]?.headers as Record<string, string>).Authorization;
}

afterEach(() => vi.unstubAllGlobals());

test('a token of the tracker is passed on, and none is asked for with a ticket first', async () => {
  const fetching = answers([200, { origin: 'https://origin.example', root: 'r', token: 't' }]);
  const getTicket = vi.fn();
  expect(await plainPlaylist(TRACKER, 'show', signal, getTicket)).toEqual({
    url: 'https://origin.example/s/show/index.m3u8',
    token: 't',
  });
  expect(sent(fetching, 0)).toBeUndefined();
  expect(getTicket).not.toHaveBeenCalled();
});

test('where the tracker wants a ticket, one is fetched for a fresh key and shown', async () => {
  const fetching = answers([403, { code: 'bad_ticket' }], [200, { origin: 'https://origin.example', token: 't' }]);
  const keys: string[] = [];
  const plain = await plainPlaylist(TRACKER, 'show', signal, (key) => {
    keys.push(key);
    return Promise.resolve('a.b.c');
  });
  expect(plain.token).toBe('t');
  expect(sent(fetching, 1)).toBe('Bearer a.b.c');
  expect(keys).toHaveLength(1);
  // 33 bytes of a compressed P-256 point.
  expect(keys[0]).toHaveLength(44);
});

test('without a ticket, or with one that is refused, nothing is tried again', async () => {
  const refused: [number, unknown] = [403, { code: 'bad_ticket' }];
  answers(refused);
  await expect(plainPlaylist(TRACKER, 'show', signal)).rejects.toBeInstanceOf(NoTicket);
  const fetching = answers(refused, refused);
  await expect(plainPlaylist(TRACKER, 'show', signal, () => Promise.resolve('x'))).rejects.toBeInstanceOf(NoTicket);
  expect(fetching).toHaveBeenCalledTimes(2);
});

test('a stream that is not on yet is no unknown stream', async () => {
  answers([404, { code: 'not_live' }]);
  await expect(plainPlaylist(TRACKER, 'show', signal)).rejects.not.toBeInstanceOf(UnknownStream);
  answers([404, { code: 'unknown_stream' }]);
  await expect(plainPlaylist(TRACKER, 'show', signal)).rejects.toBeInstanceOf(UnknownStream);
});
