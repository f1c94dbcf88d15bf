// Connections to edges, with a browser's peer connection that the test plays.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { EdgeAddress } from '../src/edge-sdp';
import { Edges } from '../src/edges';
import { b64, EDGE, FINGERPRINT, welcome } from './world';

const SDP = [
  'v=0', 'a=mid:0', 'a=ice-ufrag:mine', 'a=ice-pwd:0123456789012345678901',
  `a=fingerprint:sha-256 ${Array.from({ length: 32 }, () => '07').join(':')}`, '',
].join('\r\n');

class PlayedChannel {
  readyState = 'connecting';
  onopen: (() => void) | null = null;
}

class PlayedPeer {
  static all: PlayedPeer[] = [];
  localDescription: { sdp: string } | undefined;
  answer = '';
  closed = false;
  readonly channels: PlayedChannel[] = [];
  onicecandidate: ((event: { candidate: { candidate: string } | null }) => void) | null = null;

  constructor(public configuration: RTCConfiguration) {
    PlayedPeer.all.push(this);
  }
  /** As Firefox, which refuses the whole for one port that it blocks. */
  setConfiguration(configuration: RTCConfiguration) {
    if (JSON.stringify(configuration).includes(':6000"')) throw new SyntaxError('a port that is blocked');
    this.configuration = configuration;
  }
  createDataChannel() {
    this.channels.push(new PlayedChannel());
    return this.channels.at(-1);
  }
  createOffer = async () => ({ type: 'offer', sdp: SDP });
  setLocalDescription = async (offer: { sdp: string }) => void (this.localDescription = offer);
  setRemoteDescription = async ({ sdp }: { sdp: string }) => void (this.answer = sdp);
  close = () => void (this.closed = true);

  finds(line: string | null) {
    this.onicecandidate?.({ candidate: line === null ? null : { candidate: line } });
  }
  opens() {
    for (const channel of this.channels) channel.readyState = 'open';
    for (const channel of this.channels) channel.onopen?.();
  }
}

const peer = () => PlayedPeer.all.at(-1)!;
const host = (ip: string) => `candidate:1 1 udp 2113937151 ${ip} 50000 typ host`;
const NAT = { ...welcome.edges[0].address, behind_nat: true, stun: ['blocked.example:6000', 'stun.example:3478', 'stun:bad', '192.0.2.7:4443'] };

let signals: { peer: string; ufrag: string; password: string; candidates: string[] }[];
let opened: number;
let closed: number;
let edges: Edges;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('RTCPeerConnection', PlayedPeer);
  PlayedPeer.all = [];
  signals = [];
  opened = closed = 0;
  edges = new Edges({
    onopen: () => void opened++,
    onclose: () => void closed++,
    onmessage: () => {},
    onsignal: (peer, data) => signals.push({ peer, ...(JSON.parse(data) as Omit<(typeof signals)[0], 'peer'>) }),
    certificate: undefined,
  });
});
afterEach(() => {
  edges.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function connect(address: unknown): Promise<void> {
  edges.know([{ id: b64(EDGE), address: address as EdgeAddress, grant: '' }]);
  edges.connect(EDGE);
  await vi.advanceTimersByTimeAsync(1);
}

describe('an edge behind NAT', () => {
  it('is told where we are, as the browser finds it', async () => {
    await connect(NAT);
    expect(peer().configuration.iceServers).toEqual([{ urls: 'stun:stun.example:3478' }, { urls: 'stun:192.0.2.7:4443' }]);
    expect(peer().answer).not.toContain('ice-lite');
    expect(signals).toEqual([]);
    peer().finds('candidate:1 1 udp 2113937151 0d5b1a7c.local 50000 typ host');
    expect(signals).toEqual([]);
    peer().finds(host('203.0.113.1'));
    peer().finds(host('203.0.113.2'));
    peer().finds(host('203.0.113.2'));
    peer().finds(null);
    const known = { peer: b64(EDGE), ufrag: 'mine', password: '0123456789012345678901' };
    expect(signals).toEqual([{ ...known, candidates: ['203.0.113.1:50000'] }]);
    await vi.advanceTimersByTimeAsync(50);
    expect(signals.slice(1)).toEqual([{ ...known, candidates: ['203.0.113.1:50000', '203.0.113.2:50000'] }]);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(signals).toHaveLength(2);
    expect(JSON.stringify(signals[1])).not.toContain('local');
  });

  it('is told of eight addresses at most, the last ones found', async () => {
    await connect(NAT);
    for (let n = 1; n < 20; n++) peer().finds(host(`203.0.113.${n}`));
    await vi.advanceTimersByTimeAsync(50);
    expect(signals).toHaveLength(2);
    expect(signals[1]!.candidates).toEqual(Array.from({ length: 8 }, (_, n) => `203.0.113.${12 + n}:50000`));
  });

  it('is told nothing once it is reached, or given up', async () => {
    await connect(NAT);
    peer().finds(host('203.0.113.1'));
    peer().finds(host('203.0.113.2'));
    peer().opens();
    await vi.advanceTimersByTimeAsync(100);
    expect([opened, signals.length]).toEqual([1, 1]);
    await connect(NAT);
    const { onicecandidate } = peer();
    edges.disconnect(EDGE);
    onicecandidate?.({ candidate: { candidate: host('203.0.113.3') } });
    expect([peer().onicecandidate, signals.length]).toEqual([null, 1]);
  });
});

describe('a public edge', () => {
  it('is told nothing, and nobody is asked', async () => {
    await connect({ ...welcome.edges[0].address, stun: ['stun.example:3478'] });
    expect(peer().configuration.iceServers).toBeUndefined();
    expect(peer().answer).toContain('a=ice-lite');
    expect(peer().onicecandidate).toBeNull();
    peer().opens();
    await vi.advanceTimersByTimeAsync(1);
    expect([opened, closed, signals.length]).toEqual([1, 0, 0]);
  });
});

describe('an edge that nobody could reach', () => {
  it.each([undefined, null, 7, {}, { ...NAT, sockets: 'here' }, { ...NAT, sockets: [{}] }, { ...NAT, fingerprint: b64(FINGERPRINT.subarray(1)) }])(
    'counts as closed: %j',
    async (address) => {
      await connect(address);
      expect([opened, closed]).toEqual([0, 1]);
      expect(PlayedPeer.all.every(({ closed }) => closed)).toBe(true);
    },
  );

  it('is one whose address was never told', async () => {
    edges.connect(EDGE);
    await vi.advanceTimersByTimeAsync(1);
    expect(closed).toBe(1);
  });

  it('is one whose address many others came after', async () => {
    edges.know([{ id: b64(EDGE), address: welcome.edges[0].address, grant: '' }]);
    for (let n = 0; n < 100; n++) edges.know([{ id: `edge${n}`, address: welcome.edges[0].address, grant: '' }]);
    edges.connect(EDGE);
    await vi.advanceTimersByTimeAsync(1);
    expect(closed).toBe(1);
  });
});
