/** The player in the other engine: Debian's Firefox, which Playwright does not drive. */
import { existsSync } from 'node:fs';
import puppeteer, { type Browser, type Page } from 'puppeteer-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../../../../src/server/index.js';
import { startPaintingServer } from '../../../../test/support/painting-server.js';
import { attachPlayer, PageServer, watchOver } from '../support/kit-page.js';

const executablePath = process.env['FIREFOX_PATH'] ?? '/usr/bin/firefox-esr';
const PATIENCE = { timeout: 40_000 };

describe.skipIf(!existsSync(executablePath))('the player in Firefox', () => {
  let pages: PageServer;
  let browser: Browser;
  let server: RunningServer;
  let page: Page;

  beforeAll(async () => {
    pages = await PageServer.start();
    [browser, server] = await Promise.all([
      puppeteer.launch({ browser: 'firefox', executablePath, headless: true }),
      startPaintingServer({ corsOrigins: pages.url }),
    ]);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    await pages?.stop();
  });
  afterEach(async () => {
    expect(await page.evaluate(() => window.problems)).toEqual([]);
    await page.close();
  });

  async function open(quotaSeconds: number | null = null): Promise<void> {
    page = await browser.newPage();
    await page.evaluateOnNewDocument(watchOver, quotaSeconds);
    await page.goto(pages.url);
  }

  const plays = (from: number, to = Infinity) =>
    page.waitForFunction(
      (least: number, most: number | null) => {
        const { currentTime } = document.querySelector('video') as HTMLVideoElement;
        return currentTime > least && currentTime < (most ?? Infinity) && window.player.state.status === 'playing';
      },
      PATIENCE,
      from,
      to === Infinity ? null : to,
    );

  test('plays at the live edge, says when a prompt is on the screen, and goes back and forth', async () => {
    await open();
    await page.evaluate(attachPlayer, { url: server.url, create: { prompt: 'a red fox' } });
    await plays(3);
    const seen = await page.evaluate(async () => {
      const { status } = await window.player.seen(await window.session.switch('a blue robot in the snow'));
      return [status, (document.querySelector('video') as HTMLVideoElement).currentTime] as const;
    });
    expect(seen[0]).toBe('seen');
    await plays(seen[1] + 2);
    await page.evaluate(() => window.player.seek(0));
    await plays(0.5, 3);
    await page.evaluate(() => window.player.goLive());
    await page.waitForFunction(() => window.player.following && window.player.stats.latencySeconds < 2, PATIENCE);
    await page.evaluate(() => window.session.stop());
    await page.waitForFunction(() => window.player.state.status === 'ended', PATIENCE);
  });

  test('where it has room for a few seconds only, it evicts and goes on', async () => {
    await open(4);
    const create = { prompt: 'a red fox', pace: 'FASTEST', maxSeconds: 8 } as const;
    await page.evaluate(attachPlayer, { url: server.url, create });
    await page.waitForFunction(() => window.player.state.status === 'ended', PATIENCE);
    const [refused, time] = await page.evaluate(() => [window.refused, document.querySelector('video')?.currentTime]);
    expect(refused).toBeGreaterThan(0);
    expect(time).toBeGreaterThan(8);
  });
});
