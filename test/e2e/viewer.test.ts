import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createMediaFactory } from '../../src/media/index.js';
import type { RunningServer } from '../../src/server/index.js';
import { difference, hasBrowser, look, openBrowser, playsUntil } from '../support/browser.js';
import { localOpenH264 } from '../support/openh264.js';
import { PAINTING_MODEL } from '../support/painting-engine.js';
import { startPaintingServer } from '../support/painting-server.js';
import { startPocketServer } from '../support/pocket-server.js';

const path = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const hasPocket = existsSync(path('models/pocket/manifest.json')) && existsSync(path('native/build/longlive.node'));

const openh264 = localOpenH264();

const WORLDS = [
  { name: 'painted pictures', start: () => startPaintingServer(), possible: true, patience: 30_000 },
  {
    name: 'painted pictures, encoded by OpenH264',
    start: () =>
      startPaintingServer({}, {}, undefined, createMediaFactory({ encoder: 'openh264', natives: [openh264!] })),
    possible: openh264 !== undefined,
    patience: 30_000,
  },
  {
    name: 'painted pictures of another server',
    start: () => startPaintingServer({}, {}, undefined, createMediaFactory({ threads: 1 }), 'api'),
    possible: true,
    patience: 30_000,
  },
  { name: 'the Pocket model', start: () => startPocketServer(), possible: hasPocket, patience: 120_000 },
];

if (!existsSync(path('dist/studio/index.html'))) throw new Error('The viewer is not built: npm run build:studio');

for (const { name, start, possible, patience } of WORLDS) {
  describe.skipIf(!hasBrowser || !possible)(`the viewer with ${name}`, () => {
    let server: RunningServer;
    let browser: Browser;
    let page: Page;
    const errors: string[] = [];

    beforeAll(async () => {
      [server, browser] = await Promise.all([start(), openBrowser()]);
    });
    afterAll(async () => {
      await browser?.close();
      await server?.close();
    });
    beforeEach(async () => {
      errors.length = 0;
      page = await browser.newPage();
      page.on('pageerror', (error) => errors.push(error.message));
    });
    afterEach(() => page.close());

    const type = async (prompt: string, button: 'Start' | 'Switch') => {
      await page.getByRole('textbox', { name: 'Prompt', exact: true }).fill(prompt);
      await page.getByRole('button', { name: button, exact: true }).click();
    };

    test('plays what is typed, changes with the next prompt, and offers the video in the end', async () => {
      await page.goto(server.url);
      await type('a red fox runs over green grass on a sunny day', 'Start');
      await playsUntil(page, 1, patience);
      const before = await look(page);
      await playsUntil(page, before.time + 0.5, patience);
      const moved = await look(page);
      expect(moved.time).toBeGreaterThan(before.time);
      expect(difference(before.pixels, moved.pixels)).toBeGreaterThan(0.5);

      await type('a blue robot walks through snow at night', 'Switch');
      const applied = page.getByRole('listitem').filter({ hasText: 'took effect after' });
      await applied.waitFor({ timeout: patience });
      expect(await applied.innerText()).toContain('a blue robot walks through snow at night');
      await page.getByText(/on screen after/).waitFor({ timeout: patience });
      await playsUntil(page, (await look(page)).time + 1, patience);
      const changed = await look(page);
      expect(difference(moved.pixels, changed.pixels)).toBeGreaterThan(8);

      const over = page.getByRole('slider', { name: 'Over' });
      await over.fill('3');
      expect(await over.getAttribute('aria-valuetext')).toBe('3 s');
      await type('a yellow bird jumps along the sand at sunset', 'Switch');
      const band = page.locator('.band').filter({ hasText: 'a yellow bird' });
      await band.locator('.coming').waitFor({ timeout: patience });
      await playsUntil(page, (await look(page)).time + 1, patience);

      await page.getByRole('button', { name: 'Stop', exact: true }).click();
      const download = page.getByRole('link', { name: /Download/ });
      await download.waitFor({ timeout: patience });
      const response = await page.request.get(new URL((await download.getAttribute('href')) ?? '', server.url).href);
      expect([response.status(), response.headers()['content-type']]).toEqual([200, 'video/mp4']);
      expect(errors).toEqual([]);
    });

    test('a finished session can be opened again and plays from its file', async () => {
      await page.goto(server.url);
      await page.locator('.card .open').first().click();
      await playsUntil(page, 0.5, patience);
      await page.locator('.state').getByText('Stopped', { exact: true }).waitFor();
      expect(errors).toEqual([]);
    });
  });
}

describe.skipIf(!hasBrowser)('the viewer', () => {
  let browser: Browser;
  beforeAll(async () => void (browser = await openBrowser()));
  afterAll(() => browser?.close());

  test('goes on where it was when the connection breaks: nothing missing, nothing twice', async () => {
    const server = await startPaintingServer();
    const page = await browser.newPage();
    await page.goto(server.url);
    await page.getByRole('textbox', { name: 'Prompt', exact: true }).fill('a bar that moves');
    await page.getByRole('button', { name: 'Start', exact: true }).click();
    await playsUntil(page, 1, 30_000);
    const chunks: string[] = [];
    page.on('request', (request) => {
      const chunk = /chunks\/(\d+)\.m4s/.exec(request.url())?.[1];
      if (chunk) chunks.push(chunk);
    });
    await page.context().setOffline(true);
    await page.waitForTimeout(1500);
    await page.context().setOffline(false);
    await playsUntil(page, 6, 60_000);
    const ranges = await page.evaluate(() => document.querySelector('video')?.buffered.length);
    expect(ranges).toBe(1);
    expect(Number(chunks.at(-1))).toBeGreaterThan(Number(chunks[0]));
    await page.close();
    await server.close();
  });

  test.each([
    ['which goes on', 16, 'LIVE'],
    ['which pauses where there is room for one', 1, 'PAUSED'],
  ])('branches off from the picture that is seen in a session %s, and leads back', async (_, maxSessions, state) => {
    const server = await startPaintingServer({}, { maxSessions });
    const page = await browser.newPage();
    await page.goto(server.url);
    const prompt = page.getByRole('textbox', { name: 'Prompt', exact: true });
    await prompt.fill('a bar that moves');
    await page.getByRole('button', { name: 'Start', exact: true }).click();
    await playsUntil(page, 2, 30_000);
    const first = new URL(page.url()).searchParams.get('session');
    await prompt.fill('a bar in the rain');
    await page.getByRole('button', { name: 'Branch', exact: true }).click();
    if (maxSessions === 1) await page.getByRole('button', { name: 'Pause it and branch' }).click();
    await page.waitForFunction((id) => new URL(location.href).searchParams.get('session') !== id, first);
    const branches = page.getByRole('navigation', { name: 'Branches' });
    await branches.getByText('a bar that moves').first().waitFor({ timeout: 30_000 });
    const [fork, parent] = (await server.sessions.sessions()).items;
    expect(`Session:${parent?.id}`).toBe(first);
    expect(fork?.parent).toEqual({ sessionId: parent?.id, chunk: expect.any(Number) as number });
    const own = fork?.parent?.chunk ?? 0;
    expect(own).toBeGreaterThan(1);
    await page.getByRole('list', { name: 'Prompts' }).getByText('a bar in the rain').waitFor();
    await playsUntil(page, 4, 30_000);
    const { timeline } = await server.sessions.session(fork?.id ?? '');
    expect(timeline.map(({ prompt, block }) => [prompt, block])).toEqual([
      ['a bar that moves', 0],
      ['a bar in the rain', own],
    ]);
    const left = await server.sessions.session(parent?.id ?? '');
    expect([left.state, left.timeline.length]).toEqual([state, 1]);
    await branches
      .getByRole('button', { name: /^a bar that moves/ })
      .first()
      .click();
    await page.waitForFunction((id) => new URL(location.href).searchParams.get('session') === id, first);
    await branches.locator('[aria-current=page]').getByText('a bar that moves').waitFor();
    await page.close();
    await server.close();
  });

  test('offers what the model can draw, and names words that it was never taught', async () => {
    const server = await startPaintingServer();
    const page = await browser.newPage();
    await page.goto(server.url);
    await page.getByText('A bar, and rain.').waitFor();
    await page.getByRole('button', { name: 'a bar that moves' }).click();
    await playsUntil(page, 0.5, 30_000);
    expect(await page.getByRole('note').count()).toBe(0);
    await page.getByRole('textbox', { name: 'Prompt', exact: true }).fill('a cat in the rain');
    await page.getByRole('button', { name: 'Switch', exact: true }).click();
    await page.getByRole('note').waitFor();
    expect(await page.getByRole('note').innerText()).toContain('never taught: “cat”.');
    await page.close();
    await server.close();
  });

  test('asks for the token when the service has one', async () => {
    const server = await startPaintingServer({ token: 'open-sesame' });
    const page = await browser.newPage();
    await page.goto(server.url);
    await page.locator('#token').fill('open-sesame');
    await page.getByRole('button', { name: 'Enter' }).click();
    await page.getByRole('dialog').waitFor({ state: 'hidden' });
    await page.close();
    await server.close();
  });

  test('shows what the service says to a bad request', async () => {
    const server = await startPaintingServer();
    const page = await browser.newPage();
    await page.goto(server.url);
    await page.getByLabel('Seed').fill('7');
    await page.route('**/graphql', async (route) => {
      const body = route.request().postData() ?? '';
      await route.continue({ postData: body.replace('"seed":"7"', '"seed":"7","width":17') });
    });
    await page.getByRole('textbox', { name: 'Prompt', exact: true }).fill('a bar');
    await page.getByRole('button', { name: 'Start', exact: true }).click();
    await page.getByRole('alert').waitFor();
    expect(await page.getByRole('alert').innerText()).toContain('width must be');
    // What was refused is there to be corrected.
    expect(await page.getByRole('textbox', { name: 'Prompt', exact: true }).inputValue()).toBe('a bar');
    await page.close();
    await server.close();
  });

  describe('where there is a choice of models', () => {
    const INK = { name: 'ink', digest: 'i1', bytes: 5_400_000, matrices: 40 };
    const RAIN = { name: 'rain-at-night', digest: 'r1', bytes: 180_000_000, matrices: 300 };
    const LARGE = {
      ...PAINTING_MODEL,
      ...{
        name: 'large',
        title: 'Painting, large',
        precision: 'int8',
        storedPrecision: 'int8',
        state: 'AVAILABLE' as const,
      },
      ...{ bytes: 7.4 * 2 ** 30, license: 'CC-BY-NC-SA-4.0', loras: [INK, RAIN] },
    };

    test('starts the session with the model and the adapters that were picked', async () => {
      const server = await startPaintingServer({}, {}, [PAINTING_MODEL, LARGE]);
      const page = await browser.newPage();
      await page.goto(server.url);
      const picker = page.getByRole('combobox', { name: 'Model' });
      await picker.locator('option').nth(1).waitFor({ state: 'attached' });
      expect(await picker.locator('option').allInnerTexts()).toEqual([
        'Painting · 1 KB · fp32 · Apache-2.0',
        'Painting, large · 7.4 GB · int8 · CC-BY-NC-SA-4.0',
      ]);
      expect(await page.getByRole('group', { name: 'Adapters' }).count()).toBe(0);
      await picker.selectOption('large');
      await page.getByRole('checkbox', { name: 'ink 5.1 MB' }).check();
      await page.getByRole('checkbox', { name: 'rain-at-night' }).check();
      await page.getByRole('checkbox', { name: 'rain-at-night' }).uncheck();
      const weight = page.getByRole('spinbutton', { name: 'Weight of ink' });
      expect(await weight.inputValue()).toBe('1');
      await weight.fill('0.5');
      await page.getByRole('textbox', { name: 'Prompt', exact: true }).fill('a bar that moves');
      await page.getByRole('button', { name: 'Start', exact: true }).click();
      await playsUntil(page, 0.5, 30_000);
      await page.getByText('Painting, large · cpu · int8', { exact: true }).waitFor();
      await page.getByText('ink 0.5', { exact: true }).waitFor();
      const [session] = (await server.sessions.sessions()).items;
      expect(session).toMatchObject({ model: 'large', loras: [{ name: 'ink', weight: 0.5, digest: 'i1' }] });
      await page.close();
      await server.close();
    });

    test('shows no picker where there is none', async () => {
      const server = await startPaintingServer();
      const page = await browser.newPage();
      await page.goto(server.url);
      await page.getByText('Painting · cpu · fp32').waitFor();
      expect(await page.getByRole('combobox').count()).toBe(0);
      expect(await page.getByRole('group', { name: 'Adapters' }).count()).toBe(0);
      await page.close();
      await server.close();
    });
  });
});
