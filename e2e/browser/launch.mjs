// Real browsers for the end-to-end scripts: Debian's Chromium and Firefox, and no process left behind.

import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core';

const CHROMIUM = process.env.MILLSTREAM_CHROMIUM ?? '/usr/bin/chromium';
const FIREFOX = process.env.MILLSTREAM_FIREFOX ?? '/usr/bin/firefox-esr';

// Without these Chromium calls home at every start, and a sandbox needs a user that is not root.
const CHROMIUM_ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
  '--disable-background-networking', '--disable-component-update', '--autoplay-policy=no-user-gesture-required',
  '--disable-features=LocalNetworkAccessChecks', '--disable-dev-shm-usage'];

const FIREFOX_PREFERENCES = {
  'media.autoplay.default': 0,
  'media.autoplay.blocking_policy': 0,
  // Else it waits for a keyring, calls home, and asks for codecs from the net.
  'app.update.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'media.gmp-manager.updateEnabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
};

/** Starts a browser: `chromium` or `firefox`. It takes pages of `origin` for as safe as those of localhost. */
export async function launch(name = 'chromium', origin) {
  const profile = await mkdtemp(join(tmpdir(), 'millstream-browser-'));
  const safe = origin ? { 'dom.securecontext.allowlist': new URL(origin).hostname } : {};
  const options = name === 'firefox'
    ? { browser: 'firefox', executablePath: FIREFOX, headless: true, extraPrefsFirefox: { ...FIREFOX_PREFERENCES, ...safe } }
    : { executablePath: CHROMIUM, args: [...CHROMIUM_ARGUMENTS, ...(origin ? [`--unsafely-treat-insecure-origin-as-secure=${origin}`] : [])] };
  const browser = await puppeteer.launch({ ...options, userDataDir: profile, handleSIGINT: false, handleSIGTERM: false });
  const process_ = browser.process();
  const close = async () => {
    // A browser that does not end when asked to is ended.
    const timer = setTimeout(() => process_?.kill('SIGKILL'), 5_000);
    await browser.close().catch(() => process_?.kill('SIGKILL'));
    clearTimeout(timer);
    rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  };
  return { browser, close };
}

/** Runs a script's `main` with its JSON argument, prints its one result, and ends; closes the browser on every path. */
export async function run(main) {
  const closing = [];
  const close = async () => {
    for (const end of closing.splice(0).reverse()) await end();
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.once(signal, () => close().finally(() => process.exit(1)));
  }
  // Whoever started us is gone: nobody waits for a result.
  process.stdout.on('error', () => close().finally(() => process.exit(1)));
  let code = 0;
  try {
    const result = await main(JSON.parse(process.argv[2] ?? '{}'), (end) => closing.push(end));
    console.log(JSON.stringify(result));
  } catch (error) {
    console.error(error);
    code = 1;
  }
  await close();
  process.exit(code);
}
