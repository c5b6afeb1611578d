/** The manners of the player, by keyboard; timelines that come and go as files. */
import { readFileSync } from 'node:fs';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../../src/server/index.js';
import { hasBrowser, openBrowser } from '../support/browser.js';
import { startPaintingServer } from '../support/painting-server.js';
import { PATIENCE, Studio } from '../support/studio.js';

describe.skipIf(!hasBrowser)('the studio, by keyboard and by file', () => {
  let browser: Browser;
  let server: RunningServer;

  beforeAll(async () => {
    [browser, server] = await Promise.all([openBrowser(), startPaintingServer()]);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  test('plays, stands, steps, skips, fills the screen; a link leads to a moment', async () => {
    const studio = await Studio.open(browser, server.url);
    const { page } = studio;
    const paused = () => page.evaluate(() => document.querySelector('video')?.paused);
    await studio.start('a bar that moves', 8);
    await page.keyboard.press('Escape');
    expect(await studio.focus()).toBe('BODY');
    await page.keyboard.press('Space');
    await expect.poll(paused).toBe(true);
    await page.keyboard.press('.');
    const here = await settled(studio);
    await page.keyboard.press('.');
    await expect.poll(() => studio.time()).toBeCloseTo(here + 1 / 16, 2);
    await page.keyboard.press(',');
    await expect.poll(() => studio.time()).toBeCloseTo(here, 2);
    await page.keyboard.press('ArrowLeft');
    await expect.poll(() => studio.time()).toBeCloseTo(here - 5, 1);
    await page.keyboard.press('l');
    await expect.poll(() => studio.time()).toBeGreaterThan(here);
    await page.keyboard.press('Home');
    await expect.poll(() => studio.time()).toBe(0);
    const position = page.getByRole('slider', { name: 'Position' });
    await expect.poll(() => position.inputValue()).toBe('0'); // It shows where playback is a few times a second.
    await position.focus();
    for (let press = 0; press < 20; press++) await page.keyboard.press('ArrowRight');
    await expect.poll(() => studio.time()).toBeCloseTo(2, 1);
    await expect.poll(() => position.getAttribute('aria-valuetext')).toMatch(/^00:0[12] of 00:/);
    await studio.button('Play').first().focus();
    await page.keyboard.press('k');
    await expect.poll(paused).toBe(false);
    await page.keyboard.press('f');
    await page.waitForFunction(() => document.fullscreenElement?.className === 'session');
    expect(await studio.prompt.isVisible()).toBe(true);
    expect(await page.getByRole('region', { name: 'Timeline' }).isVisible()).toBe(true);
    await page.keyboard.press('f');
    await page.waitForFunction(() => document.fullscreenElement === null);
    await page.keyboard.press('/');
    expect(await studio.focus()).toBe('Prompt');
    expect(await studio.prompt.inputValue()).toBe('');
    await studio.button('Stop').click();
    await studio.state.getByText('Stopped').waitFor();
    await page.goto(`${server.url}/?session=${encodeURIComponent(studio.id)}&t=4.5`);
    await expect.poll(() => studio.time(), { timeout: PATIENCE }).toBeGreaterThan(4);
    expect(await studio.time()).toBeLessThan(7);
    expect(await studio.close()).toEqual([]);
  });

  test('pictures of the timeline that the network did not bring come later', async () => {
    const studio = await Studio.open(browser, server.url);
    const { page } = studio;
    await studio.start('a bar that moves', 2);
    await studio.button('Stop').click();
    await studio.state.getByText('Stopped').waitFor();
    const media = /\.(m4s|mp4)/;
    let refused = 0;
    await page.route(media, (route) => (refused++, route.abort()));
    await page.reload();
    await expect.poll(() => refused, { timeout: PATIENCE }).toBeGreaterThan(0);
    const drawn = page.locator('.pictures img[src^="data:image/webp"]');
    expect(await drawn.count()).toBe(0);
    await page.unroute(media);
    await drawn.first().waitFor({ timeout: PATIENCE });
    expect(await studio.close()).toEqual([]);
  });

  const settled = async (studio: Studio) => {
    await studio.page.waitForFunction(() => document.querySelector('video')?.seeking === false);
    return studio.time();
  };

  test('a state and a prompt are spoken, and chunks are not', async () => {
    const studio = await Studio.open(browser, server.url);
    const { page } = studio;
    await studio.start('a bar that moves', 1);
    const region = page.locator('.stage [role=status]');
    await expect.poll(() => region.textContent()).toMatch(/On the screen: a bar that moves$/);
    await region.evaluate((element) => {
      Object.assign(globalThis, { spoken: [] });
      new MutationObserver(() =>
        (globalThis as unknown as { spoken: (string | null)[] }).spoken.push(element.textContent),
      ).observe(element, {
        ...{ childList: true, characterData: true, subtree: true },
      });
    });
    await studio.plays(5);
    const spoken = await page.evaluate(() => (globalThis as unknown as { spoken: string[] }).spoken);
    expect(spoken.filter((text) => /\d/.test(text))).toEqual([]);
    expect(spoken.length).toBeLessThan(4); // Of five chunks.
    await studio.send('a bar in the rain');
    await expect.poll(() => region.textContent(), { timeout: PATIENCE }).toMatch(/On the screen: a bar in the rain$/);
    expect(await page.getByRole('heading', { level: 1 }).count()).toBe(1);
    expect(await studio.close()).toEqual([]);
  });

  test('a timeline is saved, opened, changed and rendered under the same seed', async () => {
    const studio = await Studio.open(browser, server.url);
    const { page } = studio;
    const story = {
      prompts: [
        { startTime: 0, endTime: 3, prompts: [{ text: 'a bar', weight: 1 }] },
        { startTime: 3, endTime: 6, prompts: [{ text: 'the rain', weight: 1 }] },
      ],
      settings: { seed: 42 },
    };
    const open = (text: string) =>
      page
        .getByLabel('Timeline file')
        .setInputFiles({ name: 'story.json', mimeType: 'application/json', buffer: Buffer.from(text) });
    await open('{"something": "else"}');
    await page.getByText('This is no timeline that is known').waitFor();
    await open(JSON.stringify(story));
    const second = page.getByRole('textbox', { name: 'Prompt 2' });
    expect(await second.inputValue()).toBe('the rain');
    await second.fill('a bar in the rain');
    await studio.button('Render it in the background').click();
    await studio.state.getByText('Complete').waitFor({ timeout: PATIENCE });
    await studio.story.getByText('a bar in the rain').waitFor();
    await page.getByRole('complementary', { name: 'Details' }).getByText('42', { exact: true }).waitFor();
    const saving = page.waitForEvent('download');
    await page.getByRole('link', { name: 'Timeline' }).click();
    const saved = JSON.parse(readFileSync(await (await saving).path(), 'utf8')) as {
      seed: string;
      entries: { prompt: string }[];
    };
    expect([saved.seed, saved.entries.map(({ prompt }) => prompt)]).toEqual(['42', ['a bar', 'a bar in the rain']]);
    await studio.button('New session').click();
    await page.locator('.card').first().getByRole('button', { name: 'Remix' }).click();
    await expect.poll(() => page.getByLabel('Seed').inputValue()).toBe('42');
    expect(await page.getByRole('textbox', { name: 'Prompt 2' }).inputValue()).toBe('a bar in the rain');
    await page.locator('.card').first().getByRole('button', { name: 'Delete' }).click();
    await studio.button('Delete it').click();
    await page.locator('.card', { hasText: '00:06' }).waitFor({ state: 'detached' });
    expect(await studio.close()).toEqual([]);
  });
});
