// A browser at the far end of a bare data channel: how long it takes to open, and to take so many bytes.
//
//   node channel.mjs '{"edge": {"ip", "port", "ufrag", "password", "sdp_fingerprint"}, "times": 50, "bytes": 1000000}'
//
// The page writes the edge's SDP answer itself (docs/protocol/transport.md). Where the edge is {"signal": "ip:port"}
// instead, the answer is asked for there; with "via" in it, the path there is told where it leads, and stands in the
// answer. `browser` may be `firefox`. Prints one line of JSON.

import { createSocket } from 'node:dgram';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { launch, run } from '../../e2e/browser/launch.mjs';

const CANDIDATE = /^a=candidate:.*\r\n/gm;

await run(async ({ edge, browser: name, times = 0, bytes = 0 }, closing) => {
  const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<!doctype html>'));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing(() => new Promise((resolve) => (server.close(resolve), server.closeAllConnections())));
  const { browser, close } = await launch(name);
  closing(close);
  const page = await browser.newPage();
  await page.exposeFunction('signal', (offer) => signal(edge, offer));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.evaluate(inPage, edge);
  return {
    open_ms: await page.evaluate((times) => window.openOften(times), times),
    seconds: bytes > 0 ? await page.evaluate((bytes) => window.take(bytes), bytes) : null,
  };
});

async function signal({ signal: place, via }, offer) {
  const [host, port] = place.split(':');
  const line = connect(Number(port), host);
  line.write(`${JSON.stringify(offer.replace(CANDIDATE, ''))}\n`);
  let text = '';
  for await (const data of line) text += data;
  const answer = JSON.parse(text);
  if (!via) return answer;
  const [candidate] = answer.match(CANDIDATE);
  const fields = candidate.split(' ');
  await lead(via, `${fields[4]}:${fields[5]}`);
  [fields[4], fields[5]] = via.split(':');
  let seen = 0;
  return answer.replace(CANDIDATE, () => (seen++ ? '' : fields.join(' ')));
}

function lead(via, target) {
  return new Promise((resolve) => {
    const socket = createSocket('udp4', () => resolve(socket.close()));
    const [host, port] = via.split(':');
    socket.send(`leads ${target}`, Number(port), host);
  });
}

function inPage(edge) {
  const answer = (offer) => {
    if (edge.signal) return window.signal(offer);
    const mid = offer.match(/^a=mid:(\S+)/m)[1];
    return [
      'v=0', 'o=- 1 1 IN IP4 0.0.0.0', 's=-', 't=0 0', 'a=ice-lite', `a=group:BUNDLE ${mid}`,
      'm=application 9 UDP/DTLS/SCTP webrtc-datachannel', 'c=IN IP4 0.0.0.0', `a=mid:${mid}`,
      `a=ice-ufrag:${edge.ufrag}`, `a=ice-pwd:${edge.password}`, `a=fingerprint:sha-256 ${edge.sdp_fingerprint}`,
      'a=setup:passive', 'a=sctp-port:5000', 'a=max-message-size:65600',
      `a=candidate:1 1 udp 2113937151 ${edge.ip} ${edge.port} typ host`, 'a=end-of-candidates', '',
    ].join('\r\n');
  };

  const opened = (channel) => new Promise((resolve) => channel.addEventListener('open', resolve, { once: true }));

  const connect = async () => {
    const peer = new RTCPeerConnection();
    const control = peer.createDataChannel('control', { negotiated: true, id: 0 });
    const pieces = peer.createDataChannel('pieces', { negotiated: true, id: 1, ordered: false });
    control.binaryType = pieces.binaryType = 'arraybuffer';
    const open = Promise.all([opened(control), opened(pieces)]);
    await peer.setLocalDescription(await peer.createOffer());
    await peer.setRemoteDescription({ type: 'answer', sdp: await answer(peer.localDescription.sdp) });
    await open;
    return { peer, control, pieces };
  };

  window.openOften = async (times) => {
    const took = [];
    for (let time = 0; time < times; time++) {
      const began = performance.now();
      const { peer } = await connect();
      took.push(performance.now() - began);
      peer.close();
    }
    return took;
  };

  window.take = async (bytes) => {
    const { peer, control, pieces } = await connect();
    const began = performance.now();
    let taken = 0;
    let again;
    await new Promise((resolve, reject) => {
      pieces.onclose = () => reject(new Error(`closed after ${taken} bytes`));
      pieces.onmessage = ({ data }) => {
        taken += data.byteLength;
        if (taken >= bytes) resolve();
      };
      control.send(String(bytes));
      // What is sent as soon as a channel is open is sometimes lost by `webrtc`.
      again = setInterval(() => taken === 0 && control.send(String(bytes)), 2_000);
    });
    clearInterval(again);
    const seconds = (performance.now() - began) / 1_000;
    peer.close();
    return seconds;
  };
}
