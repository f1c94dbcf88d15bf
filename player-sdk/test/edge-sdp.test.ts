import { describe, expect, it } from 'vitest';
import { toBase64Url } from '../src/bytes';
import { answerSdp, candidateSocket, type EdgeAddress, fingerprintOf, iceOf, iceServers, SdpError } from '../src/edge-sdp';

const OFFER = 'v=0\r\na=group:BUNDLE data\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:data\r\n';

const FINGERPRINT = Uint8Array.from({ length: 32 }, (_, at) => at * 7);

const ADDRESS: EdgeAddress = {
  sockets: ['192.0.2.7:4443', '[2001:db8::7]:4444'],
  ufrag: 'edge0',
  password: 'A0+/A0+/A0+/A0+/A0+/A0+/',
  fingerprint: toBase64Url(FINGERPRINT),
};

describe('the answer an edge would have sent', () => {
  it('names every address, the best with the highest priority', () => {
    const candidates = answerSdp(ADDRESS, OFFER)
      .split('\r\n')
      .filter((line) => line.startsWith('a=candidate:'));
    expect(candidates).toEqual([
      'a=candidate:1 1 udp 2130706431 192.0.2.7 4443 typ host',
      'a=candidate:2 1 udp 2130706175 2001:db8::7 4444 typ host',
    ]);
  });

  it("keeps the offer's mid and the edge's fingerprint", () => {
    const answer = answerSdp(ADDRESS, OFFER);
    expect(answer).toContain('a=group:BUNDLE data\r\n');
    expect(answer).toContain('a=mid:data\r\n');
    expect(answer).toContain('a=setup:passive\r\n');
    expect(fingerprintOf(answer)).toEqual(FINGERPRINT);
  });

  it('is that of a lite agent but for an edge behind NAT, which sends checks of its own', () => {
    expect(answerSdp(ADDRESS, OFFER)).toContain('\r\na=ice-lite\r\n');
    expect(answerSdp({ ...ADDRESS, behind_nat: true }, OFFER)).not.toContain('ice-lite');
  });

  const hostile: [string, Partial<EdgeAddress>][] = [
    ['a line break in the ufrag', { ufrag: 'edge\r\na=setup:active' }],
    ['a short password', { password: 'short' }],
    ['a line break in the password', { password: `${ADDRESS.password}\r\na=x` }],
    ['a name for an address', { sockets: ['edge.example:4443'] }],
    ['no address', { sockets: [] }],
    ['too many addresses', { sockets: Array.from({ length: 5 }, () => '192.0.2.7:1') }],
    ['an octet above 255', { sockets: ['192.0.2.256:4443'] }],
    ['port zero', { sockets: ['192.0.2.7:0'] }],
    ['a port above 65535', { sockets: ['192.0.2.7:65536'] }],
    ['half an IPv6 address', { sockets: ['[2001:db8]:4443'] }],
    ['a line break after the address', { sockets: ['192.0.2.7:4443\n'] }],
    ['a short fingerprint', { fingerprint: 'AAAA' }],
    ['a fingerprint that is none', { fingerprint: 'not base64url!' }],
  ];
  it.each(hostile)('is not written for %s', (_, change) => {
    expect(() => answerSdp({ ...ADDRESS, ...change }, OFFER)).toThrow(SdpError);
  });

  it('finds no fingerprint where there is none', () => {
    expect(() => fingerprintOf('a=fingerprint:sha-1 00:11\r\n')).toThrow(SdpError);
  });
});

describe('the servers that say where we are', () => {
  const of = (stun: unknown) => iceServers({ ...ADDRESS, behind_nat: true, stun } as EdgeAddress);

  it('are asked for edges behind NAT alone', () => {
    const stun = ['stun.example.com:3478', '192.0.2.1:4443', '[2001:db8::1]:65535'];
    expect(of(stun)).toEqual(stun.map((server) => ({ urls: `stun:${server}` })));
    expect(iceServers({ ...ADDRESS, stun })).toEqual([]);
  });

  it('are four at most', () => {
    expect(of(Array.from({ length: 9 }, (_, at) => `s${at}.example:1`))).toHaveLength(4);
  });

  it.each([
    'stun:stun.example:3478', 'stun.example', 'stun.example:0', 'stun.example:65536', 'stun.example:', ':3478',
    'a b:1', 'a?transport=tcp:1', 'a:1?transport=tcp', 'a:1\n', 'a@b:1', 'ü.example:1', '[2001:db8]:1', '[::g]:1', '[]:1',
    `${'a'.repeat(254)}:1`, '', 7, null, { toString: () => 'stun.example:1' },
  ])('are left out when they are none: %j', (wrong) => {
    expect(of([wrong, 'stun.example:1'])).toEqual([{ urls: 'stun:stun.example:1' }]);
  });

  it.each([undefined, null, 'stun.example:1', 7, {}])('are none in %j', (stun) => expect(of(stun)).toEqual([]));
});

describe('where we are', () => {
  it.each([
    ['candidate:1 1 udp 2113937151 192.168.1.7 50000 typ host generation 0', '192.168.1.7:50000'],
    ['candidate:0 1 UDP 1677729535 203.0.113.9 40001 typ srflx raddr 0.0.0.0 rport 0', '203.0.113.9:40001'],
    ['candidate:2 1 udp 2113939711 2001:db8::7 50000 typ host', '[2001:db8::7]:50000'],
    ['candidate:3 1 udp 2113937151 0d5b1a7c-9d1e-4f3e.local 50000 typ host', undefined],
    ['candidate:4 1 tcp 1518280447 192.168.1.7 9 typ host tcptype active', undefined],
    ['candidate:5 2 udp 2113937151 192.168.1.7 50001 typ host', undefined],
    ['candidate:6 1 udp 41885695 198.51.100.1 3478 typ relay raddr 203.0.113.9 rport 40001', undefined],
    ['candidate:7 1 udp 2113937151 192.168.1.7 0 typ host', undefined],
    ['', undefined],
  ])('is read from %j', (line, socket) => expect(candidateSocket(line)).toBe(socket));

  it('goes with the name and the password of the offer', () => {
    expect(iceOf('v=0\r\na=ice-ufrag:aB+/\r\na=ice-pwd:0123456789012345678901\r\n')).toEqual({
      ufrag: 'aB+/', password: '0123456789012345678901',
    });
  });
});
