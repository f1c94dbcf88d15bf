// The start page: asks the overview every two seconds and draws it.

const EVERY_MS = 2_000;
const $ = (id) => document.getElementById(id);

const units = (micros) => (micros / 1e6).toFixed(6);
const rate = (bits) => (bits >= 1e6 ? `${(bits / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bits / 1e3)} kbit/s`);

function cell(content, kind) {
  const td = document.createElement('td');
  if (kind) td.className = kind;
  td.append(content);
  return td;
}

function code(text) {
  const element = document.createElement('code');
  element.textContent = text.slice(0, 10);
  element.title = text;
  return element;
}

function behindNat(element) {
  const both = document.createDocumentFragment();
  both.append(element, ' behind NAT');
  return both;
}

function link(stream) {
  const a = document.createElement('a');
  a.href = `/watch/${encodeURIComponent(stream)}`;
  a.textContent = stream;
  return a;
}

function fill(body, rows) {
  body.replaceChildren(
    ...rows.map((cells) => {
      const tr = document.createElement('tr');
      tr.append(...cells);
      return tr;
    }),
  );
  body.closest('table').hidden = rows.length === 0;
  body.closest('section').querySelector('.empty').hidden = rows.length > 0;
}

function draw(overview) {
  $('live').textContent = overview.streams.filter((stream) => stream.state === 'live').length;
  $('viewers').textContent = overview.viewers;
  $('sending').textContent = rate(overview.edges.reduce((sum, edge) => sum + edge.sending, 0));
  $('earned').textContent = units(overview.earned);
  fill(
    $('streams'),
    overview.streams.map((stream) => [
      cell(link(stream.id)),
      cell(stream.state, stream.state),
      cell(String(stream.viewers), 'number'),
      cell(stream.renditions.join(', ') || '–'),
      cell(units(stream.price_per_gib), 'number'),
    ]),
  );
  fill(
    $('edges'),
    overview.edges.map((edge) => [
      cell(edge.behind_nat ? behindNat(code(edge.id)) : code(edge.id)),
      cell(`${edge.viewers} of ${edge.viewers_max}`, 'number'),
      cell(rate(edge.sending), 'number'),
      cell(edge.draining ? 'draining' : edge.warm.join(', ') || '–'),
      cell(units(edge.earned), 'number'),
      cell(edge.version),
    ]),
  );
}

async function refresh() {
  try {
    const response = await fetch('/v1/overview', { cache: 'no-store' });
    if (!response.ok) throw new Error(`the tracker answers ${response.status}`);
    draw(await response.json());
    $('fault').hidden = true;
  } catch (error) {
    $('fault').textContent = `Not up to date: ${error.message}`;
    $('fault').hidden = false;
  }
  setTimeout(refresh, EVERY_MS);
}

refresh();
