/** Prompts for a time to come on the page's timeline: by mouse, by keyboard, in two pages, on a phone. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Browser, Locator } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../../src/server/index.js';
import { hasBrowser, openBrowser } from '../support/browser.js';
import { startPaintingServer } from '../support/painting-server.js';
import { PATIENCE, Studio } from '../support/studio.js';

const DAY = 'a bar by day';
const DUSK = 'a bar at dusk';
const NIGHT = 'a bar at night';

describe.skipIf(!hasBrowser)('planned prompts in the studio', () => {
  let browser: Browser;
  let server: RunningServer;
  const open: Studio[] = [];

  beforeAll(async () => {
    [browser, server] = await Promise.all([openBrowser(), startPaintingServer()]);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });
  afterEach(async () => {
    const errors = await Promise.all(open.splice(0).map((studio) => studio.close()));
    expect(errors.flat()).toEqual([]);
  });

  const visit = async (path = '/', options = {}) => {
    const studio = await Studio.open(browser, server.url + path, options);
    open.push(studio);
    return studio;
  };

  const plans = ({ page }: Studio) => page.getByRole('group', { name: 'Planned prompts' });
  const span = (studio: Studio, prompt: string) =>
    plans(studio).getByRole('button', { name: new RegExp(`Planned for .*${prompt}`) });
  const names = async (studio: Studio) =>
    (await plans(studio).getByRole('button').all()).map((each) => each.getAttribute('aria-label'));
  const secondsOf = async (planned: Locator) => {
    const [, minutes, seconds] = /(\d+):(\d+)/.exec((await planned.getAttribute('aria-label')) ?? '') ?? [];
    return Number(minutes) * 60 + Number(seconds);
  };

  /** Without a time, at the one that the page proposes. */
  async function plan(studio: Studio, prompt: string, at?: string): Promise<void> {
    await studio.page.getByText('Later', { exact: true }).click();
    if (at !== undefined) await studio.page.getByLabel('Time of the planned prompt').fill(at);
    await studio.send(prompt);
    await span(studio, prompt).waitFor({ timeout: PATIENCE });
  }

  /** A session that rests after some seconds, with two prompts planned. */
  async function planned(): Promise<Studio> {
    const studio = await visit();
    await studio.start(DAY, 2);
    await studio.button('Pause').click();
    await studio.state.getByText('Paused').waitFor();
    await plan(studio, DUSK, '1:00');
    await plan(studio, NIGHT, '70');
    return studio;
  }

  test('are planned beside the box, seen in another page, dragged, and edited there', async () => {
    const one = await planned();
    expect(await one.prompt.inputValue()).toBe('');
    const two = await visit(`/?session=${one.id}`);
    await span(two, NIGHT).waitFor({ timeout: PATIENCE });

    const track = await plans(two).boundingBox();
    const box = await span(two, NIGHT).boundingBox();
    if (!track || !box) throw new Error('not on the screen');
    const before = await secondsOf(span(two, NIGHT));
    await two.page.mouse.move(box.x + 10, box.y + 10);
    await two.page.mouse.down();
    await two.page.mouse.move(box.x - track.width * 0.1, box.y + 10, { steps: 5 });
    await two.page.mouse.move(box.x - track.width * 0.3, box.y + 10, { steps: 5 });
    await two.page.mouse.up();
    // Before the other one now, in both pages.
    for (const studio of [one, two]) {
      await expect.poll(() => secondsOf(span(studio, NIGHT)), { timeout: 10_000 }).toBeLessThan(before - 10);
      expect((await names(studio)).length).toBe(2);
    }

    await span(two, NIGHT).click();
    const editor = two.page.getByRole('form', { name: 'Planned prompt' });
    await editor.getByLabel('Text').fill('a bar under stars');
    await editor.getByLabel('Time').fill('soon');
    await editor.getByRole('button', { name: 'Save' }).click();
    await editor.getByText('This is no time of the video').waitFor();
    expect(await editor.getByLabel('Text').inputValue()).toBe('a bar under stars');
    await editor.getByLabel('Time').fill('1:30');
    await editor.getByRole('button', { name: 'Save' }).click();
    await editor.waitFor({ state: 'detached' });
    await expect.poll(() => secondsOf(span(one, 'a bar under stars')), { timeout: 10_000 }).toBe(90);
    expect(await two.focus()).toMatch(/^Planned for 01:30/);
    await one.story.getByText('planned for 01:30').waitFor();
  }, 120_000);

  test('are moved, changed with each other and removed by keys alone', async () => {
    const studio = await planned();
    const { page } = studio;
    await span(studio, DUSK).focus();
    const before = await secondsOf(span(studio, DUSK));
    for (let i = 0; i < 4; i++) await page.keyboard.press('ArrowRight');
    await expect.poll(() => secondsOf(span(studio, DUSK)), { timeout: 10_000 }).toBe(before + 3);
    expect(await studio.focus()).toContain(DUSK);
    await page.keyboard.press('Shift+ArrowRight');
    await expect.poll(() => secondsOf(span(studio, DUSK)), { timeout: 10_000 }).toBeGreaterThanOrEqual(70);
    expect(await secondsOf(span(studio, NIGHT))).toBe(before + 3);
    await page.keyboard.press('Enter');
    const editor = page.getByRole('form', { name: 'Planned prompt' });
    await editor.waitFor();
    await page.keyboard.press('Escape');
    await editor.waitFor({ state: 'detached' });
    expect(await studio.focus()).toContain(DUSK);
    await page.keyboard.press('Delete');
    await span(studio, DUSK).waitFor({ state: 'detached' });
    expect(await studio.focus()).toContain(NIGHT);
    await page.keyboard.press('Delete');
    await plans(studio).waitFor({ state: 'detached' });
    expect(await studio.focus()).toBe('Prompt');
    await studio.story.getByText('taken back').first().waitFor();
  }, 120_000);

  test('take effect where they stand, and then are part of what was', async () => {
    const studio = await visit();
    await studio.start(DAY, 1);
    await studio.button('Pause').click();
    await studio.state.getByText('Paused').waitFor();
    await plan(studio, DUSK);
    await span(studio, DUSK).click();
    const editor = studio.page.getByRole('form', { name: 'Planned prompt' });
    await editor.getByLabel('Text').fill('typed too late');
    await studio.button('Resume').click();
    await editor.getByText('It waits no more').waitFor({ timeout: PATIENCE });
    await editor.getByRole('button', { name: 'Into the prompt box' }).click();
    expect(await studio.prompt.inputValue()).toBe('typed too late');
    await studio.prompt.fill('');
    await studio.story
      .getByRole('listitem')
      .filter({ hasText: DUSK })
      .getByRole('button')
      .waitFor({ timeout: PATIENCE });
    await studio.page.getByText('Later', { exact: true }).click();
    await studio.page.getByLabel('Time of the planned prompt').fill('1');
    await studio.send(NIGHT);
    await studio.problem.getByText('Second 1 has passed').waitFor();
    expect(await studio.prompt.inputValue()).toBe(NIGHT);
  }, 120_000);

  test.each([
    ['a laptop', { viewport: { width: 1280, height: 720 } }],
    ['a phone', { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true }],
    ['320 px', { viewport: { width: 320, height: 640 } }],
  ] as const)(
    'on %s nothing hinders anybody, and nothing sticks out',
    async (name, options) => {
      const host = await planned();
      const studio = await visit(`/?session=${host.id}`, options);
      const { page } = studio;
      if (name !== 'a laptop') await studio.button('Timeline').click();
      await span(studio, NIGHT).waitFor({ timeout: PATIENCE });
      if (name === 'a phone') await span(studio, NIGHT).tap();
      else await span(studio, NIGHT).click();
      await page.getByRole('form', { name: 'Planned prompt' }).waitFor();
      await page.getByText('Later', { exact: true }).first().click();
      expect(await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)).toBeLessThanOrEqual(
        0,
      );
      const last = await studio.button('Full screen').boundingBox();
      expect((last?.x ?? Infinity) + (last?.width ?? 0)).toBeLessThanOrEqual(page.viewportSize()?.width ?? 0);
      await page.evaluate(AXE);
      const found = await page.evaluate(async () => {
        const { violations } = await (window as unknown as { axe: Axe }).axe.run();
        return violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)]);
      });
      expect(found).toEqual([]);
      const folder = process.env['LONGLIVE_SCREENSHOTS'];
      if (folder)
        await page.screenshot({ path: `${folder}/planned-${name.replace(/^an? /, '').replace(' ', '')}.png` });
    },
    120_000,
  );
});

interface Axe {
  run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }>;
}
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
