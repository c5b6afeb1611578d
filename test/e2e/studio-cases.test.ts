/** What went wrong once in a real browser, with its number in the list of cases, and what is seen instead. */
import type { Browser, Download } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../../src/server/index.js';
import { hasBrowser, openBrowser } from '../support/browser.js';
import { startPaintingServer } from '../support/painting-server.js';
import { PATIENCE, Studio } from '../support/studio.js';

const BAR = 'a bar that moves';
const RAIN = 'a bar in the rain';

describe.skipIf(!hasBrowser)('the studio', () => {
  let browser: Browser;
  let server: RunningServer;
  const open: Studio[] = [];
  const own: RunningServer[] = [];

  beforeAll(async () => {
    [browser, server] = await Promise.all([openBrowser(), startPaintingServer()]);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });
  afterEach(async () => {
    const errors = await Promise.all(open.splice(0).map((studio) => studio.close()));
    await Promise.all(own.splice(0).map((each) => each.close()));
    expect(errors.flat()).toEqual([]);
  });

  const visit = async (path = '/', at = server, options = {}) => {
    const studio = await Studio.open(browser, at.url + path, options);
    open.push(studio);
    return studio;
  };
  const roomFor = async (maxSessions: number, ...more: Parameters<typeof startPaintingServer>) => {
    const [settings, policy, ...others] = more;
    const started = await startPaintingServer(settings, { maxSessions, ...policy }, ...others);
    own.push(started);
    return started;
  };
  const alone = async (...more: Parameters<typeof startPaintingServer>) => {
    const started = await startPaintingServer(...more);
    own.push(started);
    return started;
  };

  test('1, 5, 6, 7, 15: says what is, wherever playback stands; goes to the start and back to the edge; keeps the keyboard', async () => {
    const studio = await visit();
    const { page, story, state } = studio;
    await studio.start(BAR, 33, 60_000);
    expect(await studio.focus()).toBe('Prompt');
    await studio.button('00:00').click();
    await expect.poll(() => studio.time(), { timeout: 5000 }).toBeLessThan(3);
    await studio.send(RAIN);
    await story.getByText(RAIN).waitFor({ timeout: 5000 });
    await studio.button('Pause').click();
    await state.getByText('Paused').waitFor({ timeout: 5000 });
    await studio.button('Resume').click();
    await state.getByText(/Live|buffering/).waitFor({ timeout: 5000 });
    expect(await studio.time()).toBeLessThan(20);

    await page.reload();
    await studio.plays(30);
    await studio.button('00:00').click();
    await expect.poll(() => studio.time(), { timeout: 5000 }).toBeLessThan(3);
    await page.getByRole('button', { name: /go live/ }).click();
    await expect.poll(() => behind(studio), { timeout: 10_000 }).toBeLessThan(4);
    await page.getByRole('button', { name: /go live/ }).waitFor({ state: 'detached' });

    await studio.button('Stop').focus();
    await page.keyboard.press('Enter');
    await state.getByText('Stopped').waitFor({ timeout: 5000 });
    await studio.button('Stop').waitFor({ state: 'detached' });
    expect(await studio.focus()).toBe('Prompt');
    const waiting = page.waitForEvent('download');
    await page.getByRole('link', { name: /Download/ }).click({ timeout: PATIENCE });
    expect(nameOf(await waiting)).toMatch(/^a-bar-that-moves-\w+\.mp4$/);
  }, 180_000);

  const nameOf = (download: Download) => download.suggestedFilename();
  const behind = async ({ page }: Studio) => parseFloat((await page.locator('.meter').textContent()) ?? '');

  test('2: keeps the prompt when the seed is wrong, when there is no room, and when the service cannot be reached', async () => {
    const one = await roomFor(1);
    const studio = await visit('/', one);
    await studio.page.getByLabel('Seed').fill('minus one');
    await studio.send(BAR);
    await studio.page.getByText('A seed is a whole number').waitFor();
    expect(await studio.prompt.inputValue()).toBe(BAR);
    await studio.page.getByLabel('Seed').fill('7');
    await studio.start(BAR);
    const other = await visit('/', one);
    await other.send(RAIN);
    await other.problem.getByText('Your text is kept').waitFor();
    expect(await other.prompt.inputValue()).toBe(RAIN);
    await other.button('Wait in line').click();
    await other.state.getByText('Waiting in line, place 1').waitFor();
    await other.button('Stop').click();
    await other.state.getByText('Stopped').waitFor();
    await studio.page.context().setOffline(true);
    await studio.send(RAIN);
    await studio.problem.getByText('The service cannot be reached').waitFor({ timeout: PATIENCE });
    expect(await studio.prompt.inputValue()).toBe(RAIN);
    await studio.page.context().setOffline(false);
    await studio.problem.waitFor({ state: 'detached', timeout: PATIENCE });
    expect(await studio.prompt.inputValue()).toBe(RAIN);
  });

  test('3: clears what was sent, and nothing that was typed meanwhile; Up recalls it', async () => {
    const studio = await visit();
    await studio.start(BAR);
    await studio.page.route('**/graphql', async (route) => {
      if (route.request().postData()?.includes('SwitchPrompt'))
        await new Promise((resolve) => setTimeout(resolve, 1200));
      await route.continue();
    });
    await studio.send(RAIN);
    await studio.page.keyboard.type(' and more');
    expect(await studio.prompt.inputValue()).toBe(`${RAIN} and more`);
    await expect.poll(() => studio.prompt.inputValue(), { timeout: 10_000 }).toBe('and more');
    await studio.prompt.fill('');
    await studio.prompt.press('ArrowUp');
    expect(await studio.prompt.inputValue()).toBe(RAIN);
    await studio.prompt.press('ArrowUp');
    expect(await studio.prompt.inputValue()).toBe(BAR);
    await studio.prompt.press('ArrowDown');
    await studio.prompt.press('ArrowDown');
    expect(await studio.prompt.inputValue()).toBe('');
  });

  test('4: tells beside the box what was refused, in view, however long the gallery is', async () => {
    const studio = await visit();
    await studio.page.getByRole('region', { name: 'Recent sessions' }).waitFor();
    await studio.prompt.fill('x'.repeat(2001));
    await studio.prompt.press('Enter');
    const box = await studio.problem.boundingBox();
    expect((box?.y ?? Infinity) + (box?.height ?? 0)).toBeLessThan(720);
  });

  test('8: a branch begins where it branched off, with the picture that was there', async () => {
    const studio = await visit();
    await studio.start(BAR, 9.6);
    await studio.prompt.fill(RAIN);
    const times = studio.page.evaluate(async () => {
      const address = location.search;
      const seen: number[] = [];
      for (const until = performance.now() + 4000; performance.now() < until;) {
        const video = document.querySelector('video');
        if (location.search !== address && video && video.readyState > 1) seen.push(video.currentTime);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      return seen;
    });
    await studio.button('Branch').click();
    await studio.page.locator('.stage .held').waitFor();
    await studio.story.getByText(RAIN).waitFor();
    const seen = await times;
    expect(Math.min(...seen)).toBeGreaterThan(8.5);
    await studio.plays(11);
    await studio.page.locator('.stage .held').waitFor({ state: 'detached' });
    await studio.page.getByRole('navigation', { name: 'Branches' }).getByText(RAIN).waitFor({ timeout: PATIENCE });
  });

  test('9, 10: asks before it pauses what it branches off from; makes room by what it left', async () => {
    const one = await roomFor(1);
    const studio = await visit('/', one);
    await studio.start(BAR, 2);
    const first = studio.id;
    await studio.button('Branch').click();
    await studio.page.getByRole('dialog').getByText('this one has to pause').waitFor();
    await studio.button('Cancel').click();
    expect(studio.id).toBe(first);
    await studio.state.getByText('Live').waitFor();
    await studio.button('Branch').click();
    await studio.button('Pause it and branch').click();
    await studio.page.waitForFunction((id) => !location.search.includes(encodeURIComponent(id)), first);
    await studio.plays(3);
    const second = studio.id;
    await studio.button('New session').click();
    await studio.send(RAIN);
    await studio.page.waitForURL(/session=/);
    expect(studio.id).not.toBe(second);
    await studio.page.getByText('was paused to make room').waitFor();
    await studio.plays(1);
  });

  test('11: says that pictures come too slowly, and plays them in stretches', async () => {
    const slow = await alone({}, {}, undefined, undefined, 'all', 250);
    const studio = await visit('/', slow);
    await studio.send(BAR);
    await studio.page.waitForURL(/session=/);
    await studio.state.getByText(/0\.\d×, buffering \d+ s/).waitFor({ timeout: PATIENCE });
    await studio.plays(2);
    await studio.state.getByText('Live').waitFor();
    // Each time seconds of video in one go, and not block by block.
    expect(await studio.page.evaluate(stretch)).toBeGreaterThan(3);
  }, 120_000);

  test('12, 14: says what became of each prompt; the gallery shows titles with their pictures', async () => {
    const gallery = await alone();
    const studio = await visit('/', gallery);
    await studio.start(BAR, 3);
    await studio.button('Pause').click();
    await studio.state.getByText('Paused').waitFor();
    for (const prompt of [RAIN, 'the rain', 'a bar moves in rain']) {
      await studio.send(prompt);
      await studio.story.getByText(prompt, { exact: true }).waitFor();
    }
    await studio.button('Resume').click();
    await studio.story.getByText('a later prompt took its place').nth(1).waitFor();
    await studio.story.getByText(/took effect after/).waitFor();
    await studio.button('Pause').click();
    await studio.state.getByText('Paused').waitFor();
    await studio.send('never seen');
    await studio.story.getByText('on its way').waitFor();
    await studio.button('Stop').click();
    await studio.story.getByText('the session ended before').waitFor();
    await studio.page.getByRole('link', { name: /Download/ }).waitFor({ timeout: PATIENCE });
    await studio.button('New session').click();
    const recent = studio.page.getByRole('region', { name: 'Recent sessions' });
    await recent.getByText(BAR).waitFor();
    expect(await recent.locator('img').getAttribute('src')).toContain('poster.webp');
    await studio.start('a bar', 2);
    await studio.button('New session').click();
    await recent.getByRole('listitem').filter({ hasText: 'live' }).locator('img').waitFor({ timeout: PATIENCE });
  });

  test('13: uses seed and length with an idea and after an end; refuses a length that is none', async () => {
    const studio = await visit();
    const { page } = studio;
    await page.getByLabel('Length').fill('ten');
    await studio.send(BAR);
    await page.getByText('A length is a number of seconds').waitFor();
    expect(new URL(page.url()).search).toBe('');
    await page.getByLabel('Length').fill('3');
    await page.getByLabel('Seed').fill('77');
    await studio.prompt.fill('');
    await studio.button(BAR).click();
    await page.waitForURL(/session=/);
    const details = page.getByRole('complementary', { name: 'Details' });
    await details.getByText('77', { exact: true }).waitFor();
    await studio.state.getByText('Complete').waitFor({ timeout: PATIENCE });
    const first = studio.id;
    await page.getByLabel('Seed').fill('78');
    await studio.send(RAIN);
    await page.waitForFunction((id) => !location.search.includes(encodeURIComponent(id)), first);
    await details.getByText('78', { exact: true }).waitFor();
    await details.getByText('00:03 at most').waitFor();
  });

  test('16: says why the service paused', async () => {
    const forgetful = await alone({}, { idleSeconds: 1 });
    const studio = await visit('/', forgetful);
    await studio.start(BAR);
    const address = studio.page.url();
    await studio.page.goto('about:blank');
    await expect
      .poll(async () => (await forgetful.sessions.sessions()).items[0]?.state, { timeout: PATIENCE })
      .toBe('PAUSED');
    await studio.page.goto(address);
    await studio.page.getByText('Paused because nobody watched').first().waitFor();
    await studio.button('Resume').click();
    await studio.state.getByText('Live').waitFor();
    await expect.poll(() => studio.page.getByText('Paused because nobody watched').count()).toBe(0);
  });

  test('17: a long prompt covers two lines of the picture; one that is too long is told', async () => {
    const studio = await visit();
    await studio.start(`a bar ${'in the rain '.repeat(160)}`.trim(), 1);
    const caption = studio.page.locator('.caption');
    await caption.waitFor();
    expect((await caption.boundingBox())?.height).toBeLessThan(50);
    await studio.page.keyboard.press('Escape');
    await studio.page.keyboard.press('c');
    await caption.waitFor({ state: 'detached' });
    await studio.prompt.fill('y'.repeat(3000));
    await studio.problem.getByText('The prompt has 3,000 characters').waitFor();
    expect((await studio.prompt.inputValue()).length).toBe(3000);
  });

  test('18: Back leads to the gallery, Forward to the session, and the title says what plays', async () => {
    const studio = await visit();
    const { page } = studio;
    await studio.start(BAR);
    await expect.poll(() => page.title()).toBe(`${BAR} · Live · LongLive`);
    await page.goBack();
    await page.getByRole('region', { name: 'Recent sessions' }).waitFor();
    expect(await page.title()).toBe('LongLive');
    await page.goForward();
    await studio.plays(1);
  });

  test('20: fits 320 pixels; a wrong address is a page', async () => {
    const studio = await visit('/', server, { viewport: { width: 320, height: 640 } });
    const { page } = studio;
    const excess = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(await excess()).toBeLessThanOrEqual(0);
    await studio.start(BAR, 2);
    expect(await excess()).toBeLessThanOrEqual(0);
    for (const sheet of ['Branches', 'Timeline', 'Details']) {
      await studio.button(sheet).click();
      expect(await excess()).toBeLessThanOrEqual(0);
      expect(await studio.prompt.isVisible()).toBe(true);
    }
    await studio.button('Stop').click();
    const answer = await page.goto(`${server.url}/nowhere`);
    expect([answer?.status(), answer?.headers()['content-type']]).toEqual([404, 'text/html; charset=utf-8']);
    await page.getByRole('link', { name: 'on the start page' }).click();
    await studio.prompt.waitFor();
  });

  test('22: asks for a token when the one it has is refused, and goes on with another', async () => {
    const before = await startPaintingServer({ token: 'first' });
    const studio = await visit('/', before);
    const { page } = studio;
    const dialog = page.getByRole('dialog', { name: 'This service asks for its token' });
    const enter = async (token: string) => {
      await dialog.getByLabel('This service asks for its token').fill(token);
      await page.keyboard.press('Enter');
    };
    await enter('wrong');
    await dialog.getByText('does not take the token').waitFor();
    await enter('first');
    await dialog.waitFor({ state: 'hidden' });
    await studio.start(BAR);
    await studio.prompt.fill('kept');
    const port = Number(new URL(before.url).port);
    await before.close();
    await alone({ token: 'second', port });
    await dialog.getByText('does not take the token').waitFor({ timeout: 60_000 });
    await enter('second');
    await dialog.waitFor({ state: 'hidden' });
    expect(await studio.prompt.inputValue()).toBe('kept');
    await page.getByText('There is no such session').first().waitFor({ timeout: PATIENCE });
  }, 120_000);
});

/** In the page: how many seconds are played between the next two times at which it buffers. */
async function stretch(): Promise<number> {
  const said = () => document.querySelector('.stage .state')?.textContent ?? '';
  const time = () => document.querySelector('video')?.currentTime ?? 0;
  const until = async (is: (text: string) => boolean) => {
    while (!is(said())) await new Promise((resolve) => setTimeout(resolve, 50));
    return time();
  };
  await until((text) => text.includes('buffering'));
  const from = await until((text) => text === 'Live');
  return (await until((text) => text.includes('buffering'))) - from;
}
