// The watch page: one player, and where its bytes come from, drawn live.

const SECONDS = 60;
const stream = decodeURIComponent(location.pathname.split('/').pop());
const $ = (id) => document.getElementById(id);

document.title = `${stream} – Millstream`;
$('stream').textContent = stream;

const player = document.createElement('millstream-player');
player.setAttribute('stream', stream);
player.setAttribute('tracker', location.origin);
for (const name of ['autoplay', 'muted', 'controls', 'stats']) player.toggleAttribute(name, true);
for (const name of ['verify-key', 'ticket-url']) {
  const value = new URLSearchParams(location.search).get(name);
  if (value) player.setAttribute(name, value);
}
$('stage').append(player);

const sources = ['edge', 'peer', 'origin'];
const history = [];
let before;

player.addEventListener('ms-stats', ({ detail: stats }) => {
  if (before) history.push(Object.fromEntries(sources.map((s) => [s, Math.max(0, stats.bytes[s] - before[s])])));
  before = { ...stats.bytes };
  if (history.length > SECONDS) history.shift();
  draw();
  show(stats);
});

function draw() {
  const highest = Math.max(1, ...history.map((second) => second.edge + second.peer + second.origin));
  const width = 300 / SECONDS;
  const bars = history.flatMap((second, index) => {
    const x = 300 - (history.length - index) * width;
    let y = 100;
    return sources.map((source) => {
      const height = (second[source] / highest) * 92;
      y -= height;
      const bar = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
      for (const [name, value] of Object.entries({ x, y, width: width * 0.8, height })) bar.setAttribute(name, value);
      bar.setAttribute('class', source);
      return bar;
    });
  });
  $('flow').replaceChildren(...bars);
}

function show(stats) {
  const total = Math.max(1, stats.bytes.edge + stats.bytes.peer + stats.bytes.origin);
  for (const source of sources) $(`${source}-share`).textContent = `${Math.round((stats.bytes[source] / total) * 100)} %`;
  $('latency').textContent = stats.latencyMs === undefined ? '–' : `${(stats.latencyMs / 1000).toFixed(1)} s`;
  $('verified').textContent = stats.pieces.verified + (stats.pieces.rejected ? ` (${stats.pieces.rejected} refused)` : '');
  $('stalls').textContent = stats.stalls.count;
  $('paid').textContent = (stats.edges.reduce((sum, edge) => sum + edge.paidMicros, 0) / 1e6).toFixed(6);
  const rows = stats.edges.map((edge) => {
    const row = document.createElement('tr');
    const cells = [edge.id.slice(0, 10), edge.state, edge.roundTripMs === undefined ? '–' : `${Math.round(edge.roundTripMs)} ms`, (edge.paidMicros / 1e6).toFixed(6)];
    cells.forEach((text, index) => {
      const cell = document.createElement('td');
      cell.textContent = text;
      if (index > 1) cell.className = 'number';
      row.append(cell);
    });
    return row;
  });
  $('edges').replaceChildren(...rows);
  $('edges').closest('table').hidden = rows.length === 0;
}
