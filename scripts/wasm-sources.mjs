// Is swarm.wasm built from today's sources? Needs Node alone, no Rust.
//
// What counts is what can change the module: the sources and manifests of crates/swarm-wasm and of every crate
// of ours below it, the root manifest's lines for what they depend on, the locked versions of everything further
// down, and how the build's script calls the compiler. Not the whole lock file: a new tokio is no reason to rebuild.
//   node scripts/wasm-sources.mjs            check; exit 1 with the command that mends it
//   node scripts/wasm-sources.mjs --write    after a build
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const DOOR = 'crates/swarm-wasm';
const MODULE = 'player-sdk/src/wasm/swarm.wasm';
const RECORD = 'player-sdk/src/wasm/swarm.sources.sha256';

const record = `${sourcesHash()}  sources\n${sha256(readFileSync(join(ROOT, MODULE)))}  swarm.wasm\n`;
if (process.argv.includes('--write')) {
  writeFileSync(join(ROOT, RECORD), record);
} else if (!existsSync(join(ROOT, RECORD)) || read(RECORD) !== record) {
  console.error(`${MODULE} is not what today's sources build. Mend it with: scripts/wasm build`);
  process.exit(1);
} else {
  console.log('swarm.wasm is fresh');
}

function sourcesHash() {
  const workspace = dependencies(read('Cargo.toml'), (section) => section === 'workspace.dependencies');
  const locked = lockedPackages(read('Cargo.lock'));
  const compiling = /CARGO_PROFILE_|RUSTFLAGS|-C|-Z|cargo rustc|_max=|--enable/;
  const inputs = new Map([['scripts/wasm', read('scripts/wasm').split('\n').filter((line) => compiling.test(line)).join('\n')]]);
  const outside = new Set();

  const folders = [DOOR];
  for (const folder of folders) {
    const manifest = read(join(folder, 'Cargo.toml'));
    const own = locked.get(key(packageName(manifest)));
    for (const file of [join(folder, 'Cargo.toml'), ...filesBelow(join(folder, 'src'))]) {
      inputs.set(file, read(file));
    }
    // Tests' own dependencies do not reach the module, nor do those of programs alone.
    const built = (section) =>
      /(^|\.)(build-)?dependencies$/.test(section) &&
      section !== 'workspace.dependencies' &&
      !section.includes('not(target_family = "wasm")');
    for (const [alias, line] of dependencies(manifest, built)) {
      const root = /workspace\s*=\s*true/.test(line) ? workspace.get(alias) : undefined;
      if (root !== undefined) inputs.set(`Cargo.toml ${alias}`, root);
      const said = `${line} ${root ?? ''}`;
      const path = /path\s*=\s*"([^"]+)"/.exec(said)?.[1];
      if (path !== undefined) {
        const below = root === undefined ? relative(ROOT, join(ROOT, folder, path)) : path;
        if (!folders.includes(below)) folders.push(below);
      } else {
        const name = /package\s*=\s*"([^"]+)"/.exec(said)?.[1] ?? alias;
        const exact = own?.dependencies.find((dependency) => dependency.split(' ')[0] === name);
        if (exact === undefined) throw new Error(`${folder}: ${name} is not in Cargo.lock; run cargo metadata`);
        outside.add(exact);
      }
    }
  }

  // A Set grows while it is walked, which makes it a work list.
  for (const dependency of outside) {
    const found = locked.get(key(dependency));
    if (found === undefined) throw new Error(`Cargo.lock has no ${dependency}`);
    inputs.set(`locked ${dependency}`, `${found.version} ${found.checksum}`);
    for (const next of found.dependencies) outside.add(next);
  }

  const hash = createHash('sha256');
  for (const [name, text] of [...inputs].sort(([a], [b]) => (a < b ? -1 : 1))) {
    hash.update(`${name}\0${sha256(text)}\n`);
  }
  return hash.digest('hex');
}

// A manifest's dependency lines by name. Enough TOML for how manifests are written here: one line each.
function dependencies(manifest, wanted) {
  const found = new Map();
  let section = '';
  for (const line of manifest.split('\n')) {
    const head = /^\[([^\]]+)\]/.exec(line);
    if (head !== null) section = head[1];
    const entry = /^([A-Za-z0-9_-]+)\s*[.=]/.exec(line);
    if (head === null && entry !== null && wanted(section)) found.set(entry[1], line);
  }
  return found;
}

// The lock file's packages by name and by "name version": it writes the shorter form where that is unambiguous.
function lockedPackages(lock) {
  const found = new Map();
  for (const block of lock.split('[[package]]').slice(1)) {
    const field = (name) => new RegExp(`^${name} = "([^"]*)"`, 'm').exec(block)?.[1] ?? '';
    const list = /^dependencies = \[([^\]]*)\]/m.exec(block)?.[1] ?? '';
    const locked = {
      version: field('version'),
      checksum: field('checksum'),
      dependencies: [...list.matchAll(/"([^"]+)"/g)].map((match) => match[1]),
    };
    found.set(field('name'), locked);
    found.set(`${field('name')} ${field('version')}`, locked);
  }
  return found;
}

function key(dependency) {
  return dependency.split(' ').slice(0, 2).join(' ');
}

function packageName(manifest) {
  return /^name = "([^"]+)"/m.exec(manifest)[1];
}

function filesBelow(folder) {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(ROOT, join(entry.parentPath ?? entry.path, entry.name)))
    .sort();
}

function read(file) {
  return readFileSync(join(ROOT, file), 'utf8');
}

function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}
