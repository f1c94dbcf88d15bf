// The committed module against the published vectors: what TypeScript hands to it and takes from it is what
// docs/protocol says, byte by byte.

import { beforeEach, describe, expect, it } from 'vitest';
import {
  b64, CATALOG, challenge, concat, DELEGATION, EDGE, FINGERPRINT, frame, framed, key, media, NONCE, ORIGIN, PART_BYTES, RECORD,
  signature, signed, signingInput, START, Viewer, WALL, welcome,
} from './world';

let viewer: Viewer;
beforeEach(async () => {
  viewer = await Viewer.open();
});

describe('a viewer and its tracker', () => {
  it('joins with its key when it is challenged', () => {
    viewer.tell((port) => port.trackerOpen());
    const [join] = viewer.tell((port) => port.trackerSays(challenge));
    expect(join).toEqual({ kind: 'tracker', message: { type: 'join', stream: 'demo', key: b64(key('session')) } });
  });

  it('shows its ticket', async () => {
    const ticketed = await Viewer.open({ ticket: 'header.payload.signature' });
    ticketed.tell((port) => port.trackerSays(challenge));
    expect(ticketed.last('tracker').message).toMatchObject({ type: 'join', ticket: 'header.payload.signature' });
  });

  it('asks to connect to the edge whose grant the tracker signed', () => {
    viewer.join();
    expect(viewer.last('connect')).toEqual({ kind: 'connect', edge: EDGE });
    expect(viewer.events()).toEqual([{ type: 'joined', session: welcome.session, edges: 1 }]);
  });

  it('connects to nobody whose grant somebody else signed', () => {
    const grant = signed('grant');
    grant[grant.length - 1]! ^= 1;
    viewer.tell((port) => port.trackerSays(challenge));
    viewer.tell((port) => port.trackerSays({ ...welcome, edges: [{ ...welcome.edges[0], grant: b64(grant) }] }));
    expect(viewer.outputs.map(({ kind }) => kind)).not.toContain('connect');
  });

  it('opens no data channels where there are none', async () => {
    const limited = await Viewer.open({ data_channels: false });
    limited.join();
    expect(limited.outputs.map(({ kind }) => kind)).toEqual(['tracker', 'event', 'get']);
  });

  it('resumes its session on a new connection', () => {
    viewer.join();
    viewer.tell((port) => port.trackerClosed());
    viewer.tell((port) => port.trackerOpen());
    viewer.tell((port) => port.trackerSays(challenge));
    const { id, message } = viewer.last('sign');
    expect(message).toEqual(signingInput('resume'));
    viewer.tell((port) => port.signed(id, signature('resume')));
    expect(viewer.last('tracker').message).toEqual({
      type: 'resume', certificate: welcome.certificate, proof: b64(signed('resume')),
    });
    expect(challenge.nonce).toBe(b64(NONCE));
  });

  it('books what a receipt says, and only when the tracker signed it', () => {
    viewer.join();
    const receipt = signed('receipt');
    const forged = receipt.slice();
    forged[70]! ^= 1;
    viewer.tell((port) => port.trackerSays({ type: 'receipt', receipt: b64(forged) }));
    expect(viewer.port.figures().paid).toBe(0);
    viewer.tell((port) => port.trackerSays({ type: 'receipt', receipt: b64(receipt) }));
    expect(viewer.events().at(-1)).toEqual({ type: 'paid', edge: b64(EDGE), earned: 18 });
    expect(viewer.port.figures()).toMatchObject({ paid: 18, vouchers_accepted: 1 });
  });

  it('tells what the tracker refuses', () => {
    viewer.tell((port) => port.trackerSays(challenge));
    viewer.tell((port) => port.trackerSays({ type: 'error', code: 'no_funds', message: 'the budget of today is used up' }));
    expect(viewer.events()).toEqual([{ type: 'fault', code: 'no_funds', message: 'the budget of today is used up' }]);
  });

  it('understands no message that is none', () => {
    expect(viewer.port.trackerSays({ type: 'conquer' })).toBe(false);
    expect(viewer.port.trackerSays({ ...welcome, session: 'short' })).toBe(false);
    expect(viewer.port.trackerSays(null)).toBe(false);
  });

  it('takes the tracker\'s clock', () => {
    viewer.tell((port) => port.trackerSays({ ...challenge, time: WALL + 3_600_000 }));
    expect(viewer.port.wall() - WALL - 3_600_000).toBeLessThan(1_000);
    expect(viewer.port.wall() - WALL - 3_600_000).toBeGreaterThanOrEqual(0);
  });
});

describe('a viewer and its edge', () => {
  beforeEach(() => viewer.join());

  it('greets with its grant and the signed hello', () => {
    viewer.tell((port) => port.edgeOpen(EDGE, FINGERPRINT));
    expect(viewer.last('sign').message).toEqual(signingInput('hello'));
    viewer.tell((port) => port.signed(viewer.last('sign').id, signature('hello')));
    const { edge, frame: hello } = viewer.last('send');
    expect(edge).toEqual(EDGE);
    // Type 1, protocol 1, two byte strings whose lengths take two bytes.
    const [grant, proof] = [signed('grant'), signed('hello')];
    const length = ({ length }: Uint8Array) => Uint8Array.of(0x40 | (length >> 8), length & 255);
    expect(hello).toEqual(concat(Uint8Array.of(1, 0, 1), length(grant), grant, length(proof), proof));
  });

  it('reads a welcome, and answers a ping', () => {
    viewer.greet();
    viewer.tell((port) => port.edgeSays(EDGE, frame('welcome')));
    expect(viewer.events().at(-1)).toMatchObject({ type: 'edge_ready', edge: b64(EDGE) });
    const [pong] = viewer.tell((port) => port.edgeSays(EDGE, frame('ping')));
    const answer = frame('ping');
    answer[0] = 0x41;
    expect(pong).toMatchObject({ kind: 'send', frame: answer });
  });

  it('goes when it is refused', () => {
    viewer.greet();
    viewer.tell((port) => port.edgeSays(EDGE, frame('refuse')));
    expect(viewer.last('disconnect').edge).toEqual(EDGE);
    expect(viewer.events().at(-1)).toEqual({ type: 'edge_lost', edge: b64(EDGE), reason: 'unpaid' });
  });

  it.each(['request', 'subscribe'])('leaves an edge that speaks as a viewer does: %s', (name) => {
    viewer.greet();
    viewer.tell((port) => port.edgeSays(EDGE, frame(name)));
    expect(viewer.events().at(-1)).toEqual({ type: 'edge_lost', edge: b64(EDGE), reason: 'malformed' });
  });

  it.each(['piece', 'gap'])('takes a frame that says nothing yet: %s', (name) => {
    viewer.greet();
    viewer.tell((port) => port.edgeSays(EDGE, frame('welcome')));
    viewer.tell((port) => port.edgeSays(EDGE, frame(name)));
    expect(viewer.events().at(-1)).toMatchObject({ type: 'edge_ready' });
  });
});

describe('what is signed', () => {
  beforeEach(async () => {
    viewer = await Viewer.open({ origin: ORIGIN });
    viewer.tell((port) => port.timeout());
  });

  const start = (body: Uint8Array) => viewer.tell((port) => port.got(viewer.last('get').id, body));
  const playlist = (path: string) => viewer.tell((port) => port.want(1, path)).find(({ kind }) => kind === 'answer');

  it('is asked for at the origin', () => {
    expect(viewer.last('get').wish).toMatchObject({ url: `${ORIGIN}/s/demo/start` });
  });

  it('becomes playlists', () => {
    start(START);
    const multivariant = playlist('/s/demo/index.m3u8') as { data: string };
    expect(multivariant.data).toContain('video.m3u8');
    expect(multivariant.data).toContain('avc1.64001f');
    const video = playlist('/s/demo/video.m3u8') as { data: string };
    expect(video.data).toMatch(/#EXT-X-PART:DURATION=0\.25[0-9]*,URI="video\/p100\.m4s",INDEPENDENT=YES/);
    expect(video.data).toContain('video/p101.m4s');
    expect(video.data).toContain('video/init-1-1.mp4');
  });

  it('gives the init segment that the catalog has inside', () => {
    start(START);
    const init = playlist('/s/demo/video/init-1-1.mp4') as { data: Uint8Array };
    expect(new TextDecoder().decode(init.data.subarray(4))).toBe('ftyp');
  });

  it('gives a part when each of its pieces is what was signed, and not before', () => {
    start(START);
    viewer.tell((port) => port.want(5, '/s/demo/video/p101.m4s'));
    const { id, wish } = viewer.last('get');
    expect(wish.url).toBe(`${ORIGIN}/s/demo/video/p101.m4s`);
    expect(wish.bytes_max).toBe(PART_BYTES);
    viewer.tell((port) => port.got(id, media(101)));
    expect(viewer.last('answer')).toEqual({ kind: 'answer', id: 5, data: media(101) });
    expect(viewer.port.figures()).toMatchObject({ origin_bytes: PART_BYTES, pieces_verified: 2, pieces_rejected: 0 });
  });

  it('never gives a wrong byte', () => {
    start(START);
    viewer.tell((port) => port.want(5, '/s/demo/video/p101.m4s'));
    const wrong = media(101);
    wrong[69_999]! ^= 1;
    viewer.tell((port) => port.got(viewer.last('get').id, wrong));
    expect(viewer.outputs.filter(({ kind }) => kind === 'answer')).toEqual([]);
    expect(viewer.events()).toContainEqual({ type: 'bad_piece', rendition: 'video', number: 101 });
    expect(viewer.port.figures()).toMatchObject({ pieces_verified: 1, pieces_rejected: 1 });
  });

  it.each([
    ['delegation', DELEGATION],
    ['catalog', CATALOG],
    ['second_record', RECORD],
  ] as const)('is not believed with one bit changed: %s', (name, kind) => {
    const changed = signed(name);
    changed[changed.length - 70]! ^= 1;
    const objects: [number, Uint8Array][] = [
      [DELEGATION, signed('delegation')],
      [CATALOG, signed('catalog')],
      [RECORD, signed('second_record')],
    ];
    start(framed(...objects.map(([known, object]) => [known, known === kind ? changed : object] as const)));
    expect(viewer.events().filter(({ type }) => type === 'refused')).not.toEqual([]);
    expect(playlist('/s/demo/video.m3u8')).toBeUndefined();
  });

  it('is not believed under another root', async () => {
    viewer = await Viewer.open({ origin: ORIGIN, root: b64(key('packager')) });
    viewer.tell((port) => port.timeout());
    start(START);
    expect(viewer.events()).toMatchObject([{ type: 'refused' }, { type: 'refused' }, { type: 'refused' }, { type: 'refused' }]);
    expect(playlist('/s/demo/index.m3u8')).toBeUndefined();
  });
});
