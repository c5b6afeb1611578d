import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../../../../src/server/index.js';
import { difference, hasBrowser, look, openBrowser, playsUntil } from '../../../../test/support/browser.js';
import { startPaintingServer } from '../../../../test/support/painting-server.js';
import { openPage, PageServer, play } from '../support/kit-page.js';

const PATIENCE = 30_000;
const PROMPT = 'a red fox runs';

describe.skipIf(!hasBrowser)('the player in Chromium', () => {
  let pages: PageServer;
  let browser: Browser;
  let server: RunningServer;
  let page: Page;

  const start = (stepMilliseconds?: number) =>
    startPaintingServer({ corsOrigins: pages.url }, {}, undefined, undefined, 'all', stepMilliseconds);

  beforeAll(async () => {
    [pages, browser] = await Promise.all([PageServer.start(), openBrowser()]);
    server = await start();
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    await pages?.stop();
  });
  afterEach(async () => {
    expect(await page.evaluate(() => window.problems)).toEqual([]);
    // What is left running would take the next test's place on the device, and its time on the processor.
    await page.evaluate(async () => window.session?.stop()).catch(() => undefined);
    await page.close();
  });

  const buffered = () =>
    page.evaluate(() => {
      const { buffered } = document.querySelector('video') as HTMLVideoElement;
      return Array.from({ length: buffered.length }, (_, place) => [buffered.start(place), buffered.end(place)]);
    });

  test('plays near the live edge, and says when a prompt is on the screen', async () => {
    page = await openPage(browser, pages.url);
    await play(page, { url: server.url, create: { prompt: PROMPT } });
    await playsUntil(page, 4, PATIENCE);
    const before = await look(page);
    const took = await page.evaluate(async () => {
      const began = performance.now();
      const seen = await window.player.seen(await window.session.switch('a blue robot in the snow'));
      return seen.status === 'seen' ? { took: seen.at - began, seconds: seen.seconds } : undefined;
    });
    expect(took?.took).toBeLessThan(3500);
    const after = await look(page);
    expect(difference(before.pixels, after.pixels)).toBeGreaterThan(8);
    expect(after.time).toBeGreaterThanOrEqual((took?.seconds ?? Infinity) - 0.07);
    await playsUntil(page, 10, PATIENCE);
    const { stats, following } = await page.evaluate(() => {
      const { stats, following } = window.player;
      return { stats: { ...stats }, following };
    });
    expect(following).toBe(true);
    expect(stats).toMatchObject({ stalls: 0 });
    expect(stats.latencySeconds).toBeLessThan(1.6);
    expect(await buffered()).toHaveLength(1);
    expect(await page.evaluate(() => window.frozen)).toBeLessThan(750);
  });

  const made = () => page.evaluate(async () => (await window.session.refresh()).seconds);
  const time = () => page.evaluate(() => (document.querySelector('video') as HTMLVideoElement).currentTime);

  test.each([
    [
      'paused by its viewer',
      () => (document.querySelector('video') as HTMLVideoElement).pause(),
      () => void (document.querySelector('video') as HTMLVideoElement).play(),
    ],
    ['hidden', () => window.hide(true), () => window.hide(false)],
  ])('while it is %s nothing is made for it, and then it goes on where it was', async (_how, rest, goOn) => {
    page = await openPage(browser, pages.url);
    await play(page, { url: server.url, create: { prompt: PROMPT } });
    await playsUntil(page, 3, PATIENCE);
    await page.evaluate(rest);
    await page.waitForTimeout(3000);
    expect(await page.evaluate(() => window.player.state)).toEqual({ status: 'paused' });
    const [stood, before] = [await time(), await made()];
    expect(before).toBeLessThan(stood + 3.6);
    await page.waitForTimeout(3000);
    expect([await time(), await made()]).toEqual([stood, before]);
    // And a prompt comes behind what is there already.
    const { expectedSeconds } = await page.evaluate(async () => window.session.switch('a blue robot in the snow'));
    expect(expectedSeconds).toBeLessThan(stood + 3.6);
    await page.evaluate(goOn);
    await playsUntil(page, stood + 5, PATIENCE);
    expect(await page.evaluate(() => window.player.stats.stalls)).toBe(0);
    expect(await page.evaluate(() => window.frozen)).toBeLessThan(750);
  });

  test('goes back to any moment, also before it joined, and to the live edge again', async () => {
    page = await openPage(browser, pages.url);
    const id = await play(page, { url: server.url, create: { prompt: PROMPT } });
    await playsUntil(page, 9, PATIENCE);
    await page.close();
    page = await openPage(browser, pages.url);
    await play(page, { url: server.url, id });
    await page.waitForFunction(() => window.player.state.status === 'playing', undefined, { timeout: PATIENCE });
    expect((await look(page)).time).toBeGreaterThan(8);
    await page.evaluate(() => {
      window.player.seek(0);
      // Whatever the element says before it says that it seeks: nobody is taken back to the edge.
      document.querySelector('video')?.dispatchEvent(new Event('waiting'));
    });
    await page.waitForFunction(() => {
      const { currentTime } = document.querySelector('video') as HTMLVideoElement;
      return currentTime > 0.5 && currentTime < 3;
    });
    expect(await page.evaluate(() => window.player.following)).toBe(false);
    await page.evaluate(() => window.player.goLive());
    await page.waitForFunction(
      () => window.player.state.status === 'playing' && window.player.stats.latencySeconds < 2,
    );
    expect(await page.evaluate(() => window.player.following)).toBe(true);
    await page.evaluate(() => window.session.stop());
    await page.waitForFunction(() => window.player.state.status === 'ended', undefined, { timeout: PATIENCE });
    // And what has ended can be gone back in.
    await page.evaluate(() => {
      window.player.seek(1);
      void (document.querySelector('video') as HTMLVideoElement).play();
    });
    await page.waitForFunction(() => {
      const { currentTime } = document.querySelector('video') as HTMLVideoElement;
      return currentTime > 1.5 && currentTime < 5 && window.player.state.status === 'playing';
    });
  });

  test('where the browser has room for a few seconds only, it evicts and goes on', async () => {
    page = await openPage(browser, pages.url, 4);
    await play(page, { url: server.url, create: { prompt: PROMPT, pace: 'FASTEST', maxSeconds: 10 } });
    await playsUntil(page, 9, 2 * PATIENCE);
    await page.waitForFunction(() => window.player.state.status === 'ended');
    expect(await page.evaluate(() => window.refused)).toBeGreaterThan(0);
    expect(await page.evaluate(() => window.frozen)).toBeLessThan(750);
    const [[from, to] = []] = await buffered();
    expect((to ?? 0) - (from ?? 0)).toBeLessThan(6);
  });

  test('where generation is half as fast as playback it waits, says how long, and plays in stretches', async () => {
    const slow = await start(250);
    page = await openPage(browser, pages.url);
    await play(page, { url: slow.url, create: { prompt: PROMPT, maxSeconds: 7 } });
    await page.waitForFunction(() => window.player.state.status === 'ended', undefined, { timeout: 60_000 });
    const states = await page.evaluate(() => window.states);
    const waits = states.filter(({ status }) => status === 'buffering');
    expect(waits.length).toBeGreaterThan(0);
    expect(waits.every(({ seconds }) => (seconds as number) > 0)).toBe(true);
    expect(await page.evaluate(() => window.frozen)).toBeLessThan(750);
    const stretches = states.flatMap((state, place) =>
      state.status === 'playing' ? [((states[place + 1]?.at ?? Infinity) - state.at) / 1000] : [],
    );
    expect(Math.min(...stretches.slice(0, -1))).toBeGreaterThan(2); // The last one ends with the session.
    await page.evaluate(() => window.player.close());
    await slow.close();
  });

  test('goes on by itself when the network comes back, and is closed without a trace', async () => {
    page = await openPage(browser, pages.url);
    await play(page, { url: server.url, create: { prompt: PROMPT } });
    await playsUntil(page, 2, PATIENCE);
    // A machine that is busy elsewhere may have it wait for other reasons, before and afterwards.
    const stalls = await page.evaluate(() => window.player.stats.stalls);
    await page.context().setOffline(true);
    await page.waitForFunction(
      () => window.player.state.status === 'buffering' && window.player.stats.bufferedSeconds < 0.1,
      undefined,
      { timeout: PATIENCE },
    );
    const stood = await time();
    await page.waitForTimeout(3000);
    expect(await page.evaluate(() => window.player.state.status)).toBe('buffering');
    expect(await time()).toBe(stood);
    expect(await page.evaluate(() => window.player.stats.stalls)).toBeGreaterThan(stalls);
    await page.context().setOffline(false);
    await page.waitForFunction(() => window.player.state.status === 'playing', undefined, { timeout: PATIENCE });
    await playsUntil(page, stood + 2, PATIENCE);
    expect(await buffered()).toHaveLength(1);
    const left = await page.evaluate(() => {
      void window.player.seen({ applied: new Promise(() => undefined) });
      window.player.close();
      return (document.querySelector('video') as HTMLVideoElement).getAttribute('src');
    });
    expect(left).toBeNull();
  });
});
