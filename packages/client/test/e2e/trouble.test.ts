/** What goes wrong on the way, in the players of two engines: Chromium and Debian's Firefox. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer, { type Browser, type Page } from 'puppeteer-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { RunningServer } from '../../../../src/server/index.js';
import { startPaintingServer } from '../../../../test/support/painting-server.js';
import { ServiceProcess } from '../../../../test/support/service-process.js';
import { attachPlayer, PageServer, type PlayOptions, watchOver } from '../support/kit-page.js';
import { WildProxy } from '../support/wild-proxy.js';

const ENGINES = [
  ['chrome', process.env['CHROMIUM_PATH'] ?? '/usr/bin/chromium', ['--no-sandbox', '--disable-gpu']],
  ['firefox', process.env['FIREFOX_PATH'] ?? '/usr/bin/firefox-esr', []],
] as const;
/** Frames, which it would wait for otherwise, come only in the tab in front. */
const PATIENCE = { timeout: 60_000, polling: 200 };
const PROMPT = 'a red fox';
/** Only one tab is in front. */
const IN_ANY_TAB = { whileHidden: 'PLAY' } as const;

describe.each(ENGINES.filter(([, path]) => existsSync(path)))('in %s', (name, executablePath, args) => {
  let pages: PageServer;
  let browser: Browser;
  let server: RunningServer;
  let proxy: WildProxy;
  let open: Page[] = [];

  beforeAll(async () => {
    pages = await PageServer.start();
    [browser, server] = await Promise.all([
      puppeteer.launch({ browser: name, executablePath, args: [...args], headless: true }),
      startPaintingServer({ corsOrigins: pages.url, heartbeatSeconds: 2 }, { heartbeatSeconds: 2 }),
    ]);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    await pages?.stop();
  });
  beforeEach(async () => {
    proxy = await WildProxy.start(server.url);
  });
  afterEach(async () => {
    for (const page of open) {
      expect(await page.evaluate(() => window.problems)).toEqual([]);
      await page.evaluate(async () => window.session.stop()).catch(() => undefined);
      await page.close();
    }
    open = [];
    await proxy.stop();
  });

  async function play(options: Partial<PlayOptions> = {}): Promise<Page> {
    const page = await browser.newPage();
    open.push(page);
    await page.evaluateOnNewDocument(watchOver, null);
    await page.goto(pages.url);
    await page.evaluate(attachPlayer, {
      ...{ url: proxy.url, player: IN_ANY_TAB },
      ...(options.id === undefined && { create: { prompt: PROMPT } }),
      ...options,
    });
    return page;
  }

  const playsUntil = (page: Page, seconds: number) =>
    page.waitForFunction(
      (until: number) => (document.querySelector('video') as HTMLVideoElement).currentTime >= until,
      PATIENCE,
      seconds,
    );

  const status = (page: Page, wanted: string, timeout = PATIENCE.timeout) =>
    page.waitForFunction((wanted: string) => window.player.state.status === wanted, { ...PATIENCE, timeout }, wanted);

  const time = (page: Page) => page.evaluate(() => (document.querySelector('video') as HTMLVideoElement).currentTime);

  const stretches = (page: Page) =>
    page.evaluate(() => (document.querySelector('video') as HTMLVideoElement).buffered.length);

  test('two tabs play one session, and each sees what the other asks for', async () => {
    const one = await play();
    await playsUntil(one, 1);
    const id = await one.evaluate(() => window.session.id);
    const two = await play({ id });
    await playsUntil(two, 2);
    const heard = one.evaluate(
      (prompt: string) =>
        new Promise<void>((resolve) =>
          window.session.watch((event) => event?.type === 'applied' && event.prompt === prompt && resolve()),
        ),
      'a blue robot',
    );
    await two.evaluate(async () => (await window.session.switch('a blue robot')).applied);
    await heard;
    for (const page of [one, two]) {
      await page.bringToFront(); // Chromium lets no silent video play behind.
      await playsUntil(page, (await time(page)) + 2);
    }
  });

  test('30 s without network: it waits and says so, and plays on', async () => {
    const page = await play();
    await playsUntil(page, 2);
    proxy.dark = true;
    await status(page, 'buffering');
    await new Promise((resolve) => setTimeout(resolve, 30_000));
    expect(await page.evaluate(() => window.player.state.status)).toBe('buffering');
    const stood = await time(page);
    proxy.dark = false;
    await playsUntil(page, stood + 3);
    expect(await stretches(page)).toBe(1);
  });

  test('where WebSockets are refused it plays by SSE', async () => {
    proxy.refuseWebSockets = true;
    const page = await play();
    await playsUntil(page, 3);
    expect(proxy.webSockets).toBe(0);
  });

  test('through a proxy that drops, delays and cuts frames it plays everything', async () => {
    proxy.dropOneIn = 12;
    proxy.delayMilliseconds = 40;
    proxy.cutAfter = 4000;
    const page = await play({ create: { prompt: PROMPT, maxSeconds: 6 }, player: { ...IN_ANY_TAB, from: 'START' } });
    // Which frames are lost is left to chance, and each loss costs three heartbeats.
    await status(page, 'ended', 150_000);
    expect(proxy.cuts).toBeGreaterThan(0);
    expect(await time(page)).toBeGreaterThan(5.9);
    expect(await stretches(page)).toBe(1);
  });

  test('where generation is half as fast as playback it waits, says how long, and plays to the end', async () => {
    const slow = await startPaintingServer({ corsOrigins: pages.url }, {}, undefined, undefined, 'all', 250);
    const page = await play({ url: slow.url, create: { prompt: PROMPT, maxSeconds: 5 } });
    await status(page, 'ended');
    const states = await page.evaluate(() => window.states);
    expect(states.some(({ status, seconds }) => status === 'buffering' && (seconds as number) > 0)).toBe(true);
    expect(await page.evaluate(() => window.frozen)).toBeLessThan(750);
    await page.evaluate(() => window.player.close());
    await slow.close();
  });

  test('a service that is killed, and takes another token when it is back: it plays on', async () => {
    const store = mkdtempSync(join(tmpdir(), 'longlive-trouble-'));
    const start = (token: string) =>
      ServiceProcess.start({
        store: `file://${store}`,
        settings: { IDLE_SECONDS: 0, LEASE_SECONDS: 3, CORS_ORIGINS: pages.url, TOKEN: token },
      });
    let service = await start('old');
    proxy.leadTo(service.url);
    const page = await play({ token: 'old', create: { prompt: PROMPT } });
    await playsUntil(page, 1);
    await service.stop();
    proxy.cut();
    await page.evaluate(() => (window.token = 'new'));
    service = await start('new');
    proxy.leadTo(service.url);
    const before = await page.evaluate(() => window.player.stats.latencySeconds + window.player.stats.bufferedSeconds);
    await page.waitForFunction(() => window.session.state.status !== 'reconnecting', PATIENCE);
    await page.evaluate(async () => window.session.resume());
    await playsUntil(page, (await time(page)) + before + 2);
    expect(await page.evaluate(() => window.asked)).toBe(2);
    await page.evaluate(async () => window.session.stop());
    await page.evaluate(() => window.player.close());
    await service.stop();
    rmSync(store, { recursive: true, force: true });
  });

  test('without Media Source Extensions the browser is given the playlist', async () => {
    const page = await browser.newPage();
    open.push(page);
    const asked: string[] = [];
    page.on('request', (request) => asked.push(new URL(request.url()).pathname));
    await page.evaluateOnNewDocument(watchOver, null);
    await page.evaluateOnNewDocument(() => {
      Reflect.deleteProperty(window, 'MediaSource');
      Reflect.deleteProperty(window, 'ManagedMediaSource');
      HTMLMediaElement.prototype.canPlayType = (type) => (type === 'application/vnd.apple.mpegurl' ? 'maybe' : '');
    });
    await page.goto(pages.url);
    const id = await page.evaluate(attachPlayer, { url: proxy.url, create: { prompt: PROMPT } });
    const playlist = `/sessions/${id.replace(/^Session:/, '')}/index.m3u8`;
    await expect.poll(() => asked, { timeout: 20_000 }).toContain(playlist);
    expect(await page.evaluate(() => document.querySelector('video')?.src)).toContain(playlist);
    expect(asked.filter((path) => path.endsWith('init.mp4') && name === 'firefox')).toEqual([]);
    await page.evaluate(() => window.player.close());
    expect(await page.evaluate(() => document.querySelector('video')?.getAttribute('src'))).toBeNull();
  });
});
