/** Every state of the studio, wide and narrow: nothing that axe finds, nothing that sticks out; with LONGLIVE_SCREENSHOTS=1 into docs/screenshots. */
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../../src/server/index.js';
import { hasBrowser, openBrowser } from '../support/browser.js';
import { startPaintingServer } from '../support/painting-server.js';
import { PATIENCE, Studio } from '../support/studio.js';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const FOLDER = fileURLToPath(new URL('../../docs/screenshots/', import.meta.url));
const keeps = process.env['LONGLIVE_SCREENSHOTS'] === '1';

const SIZES = [
  { name: 'wide', width: 1440, height: 900 },
  { name: 'laptop', width: 1280, height: 720 },
  { name: 'zoomed', width: 640, height: 360 },
  { name: 'phone', width: 390, height: 844 },
  { name: 'small', width: 320, height: 640 },
];

interface Violation {
  id: string;
  nodes: { html: string; failureSummary?: string }[];
}

describe.skipIf(!hasBrowser)('every state of the studio', () => {
  let browser: Browser;
  let server: RunningServer;

  beforeAll(async () => {
    if (keeps) mkdirSync(FOLDER, { recursive: true });
    [browser, server] = await Promise.all([
      openBrowser(),
      startPaintingServer({ token: 'sesame' }, { maxSessions: 2 }),
    ]);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  /** Looks at it in every size, light and dark. */
  async function look({ page }: Studio, state: string): Promise<void> {
    for (const { name, ...size } of SIZES) {
      await page.setViewportSize(size);
      await page.emulateMedia({ colorScheme: name === 'laptop' ? 'light' : 'dark', reducedMotion: 'reduce' });
      const excess = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      expect(excess, `${state} sticks out, ${name}`).toBeLessThanOrEqual(0);
      if (['laptop', 'small'].includes(name)) expect(await violations({ page }), `${state}, ${name}`).toEqual([]);
      if (keeps) await page.screenshot({ path: `${FOLDER}${state}-${name}.png` });
    }
    await page.setViewportSize({ width: 1280, height: 720 });
  }

  async function violations({ page }: Pick<Studio, 'page'>): Promise<string[]> {
    await page.evaluate(readAxe());
    const found = await page.evaluate(async () => {
      const { axe } = globalThis as unknown as { axe: { run(): Promise<{ violations: Violation[] }> } };
      return (await axe.run()).violations;
    });
    return found.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html} ${node.failureSummary}`));
  }

  test('from the token to the end', async () => {
    const studio = await Studio.open(browser, server.url);
    const { page } = studio;
    const dialog = page.getByRole('dialog');
    await dialog.waitFor();
    await look(studio, 'token');
    await dialog.getByLabel('This service asks for its token').fill('sesame');
    await page.keyboard.press('Enter');
    await page.getByText('A bar, and rain.').waitFor();
    await look(studio, 'start');
    await page.getByLabel('Length').fill('ten');
    await studio.send('a bar that moves');
    await page.getByText('A length is a number of seconds').waitFor();
    await look(studio, 'refused');
    await page.getByLabel('Length').fill('');
    await studio.start('a bar that moves', 2);
    await studio.send('a bar in the rain');
    await studio.story.getByText(/on screen after/).waitFor({ timeout: PATIENCE });
    await studio.plays((await studio.time()) + 1);
    await look(studio, 'live');
    await studio.button('Pause').click();
    await studio.state.getByText('Paused').waitFor();
    await studio.send('the rain');
    await studio.story.getByText('on its way').waitFor();
    await look(studio, 'paused');
    await studio.button('Resume').click();
    await studio.plays((await studio.time()) + 1);
    const first = studio.id;
    await studio.prompt.fill('a bar');
    await studio.button('Branch').click();
    await page.waitForFunction((id) => !location.search.includes(encodeURIComponent(id)), first);
    await studio.story
      .getByText('took effect')
      .waitFor({ timeout: PATIENCE })
      .catch(() => undefined);
    await studio.plays((await studio.time()) + 2);
    await page.getByRole('navigation', { name: 'Branches' }).locator('img').nth(1).waitFor({ timeout: PATIENCE });
    await look(studio, 'branched');
    await page.locator('.twig').getByRole('button', { name: 'Compare' }).first().click();
    const beside = page.getByRole('region', { name: 'Compared with' });
    await beside.locator('.caption').waitFor();
    await expect.poll(() => apart(studio), { timeout: PATIENCE }).toBeLessThan(0.4);
    await look(studio, 'compare');
    await studio.button('End the comparison').click();
    await page.context().setOffline(true);
    await studio.state
      .getByText('Reconnecting')
      .waitFor({ timeout: 60_000 })
      .catch(() => undefined);
    await look(studio, 'offline');
    await page.context().setOffline(false);
    await studio.state.getByText(/Live|buffering/).waitFor({ timeout: PATIENCE });
    await studio.button('Stop').click();
    await page.getByRole('link', { name: /Download/ }).waitFor({ timeout: PATIENCE });
    await look(studio, 'ended');
    await studio.button('New session').click();
    await page.locator('.card img').nth(1).waitFor({ timeout: PATIENCE });
    await look(studio, 'gallery');
    await page.locator('.card').first().getByRole('button', { name: 'Delete' }).click();
    await dialog.getByText('are gone then').waitFor();
    await look(studio, 'confirm');
    await studio.button('Cancel').click();
    await page.locator('.card').first().getByRole('button', { name: 'Remix' }).click();
    await page.getByRole('textbox', { name: 'Prompt 2' }).waitFor();
    await look(studio, 'remix');
    await page.goto(`${server.url}/?session=Session%3Anone`);
    await page.getByText('There is no such session').waitFor();
    await look(studio, 'missing');
    expect(await studio.close()).toEqual([]);
  }, 240_000);

  const apart = ({ page }: Studio) =>
    page.evaluate(() => {
      const [one, other] = [...document.querySelectorAll('video')];
      return one && other && one.currentTime > 0 ? Math.abs(one.currentTime - other.currentTime) : Infinity;
    });
});

const readAxe = () => axeSource ?? (axeSource = readFileSync(AXE, 'utf8'));
let axeSource: string | undefined;
