import { readFileSync } from 'node:fs';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../../../../src/server/index.js';
import { difference, hasBrowser, look, openBrowser, playsUntil } from '../../../../test/support/browser.js';
import { startPaintingServer } from '../../../../test/support/painting-server.js';
import { openPage, PageServer } from '../support/kit-page.js';
import { WildProxy } from '../support/wild-proxy.js';

const PAGE = readFileSync(new URL('../../../../examples/page.html', import.meta.url), 'utf8');

describe.skipIf(!hasBrowser)('in a browser', () => {
  let browser: Browser;
  let pages: PageServer;
  let server: RunningServer;
  beforeAll(async () => {
    pages = await PageServer.start(() => PAGE.replace('http://localhost:4000', server.url));
    [browser, server] = await Promise.all([openBrowser(), startPaintingServer({ corsOrigins: pages.url })]);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
    await pages?.stop();
  });

  test('page.html plays what is typed, in eight lines of script', async () => {
    const [, script] = /<script>\n(.*?)<\/script>/s.exec(PAGE) ?? [];
    expect(script?.trim().split('\n').length).toBeLessThanOrEqual(8);
    const page = await openPage(browser, pages.url);
    const prompt = page.locator('input');
    await prompt.fill('a red fox');
    await prompt.press('Enter');
    await playsUntil(page, 1, 30_000);
    const before = await look(page);
    await prompt.fill('a blue robot in the snow');
    await prompt.press('Enter');
    await playsUntil(page, before.time + 4, 30_000);
    expect(difference(before.pixels, (await look(page)).pixels)).toBeGreaterThan(8);
    expect(await page.evaluate(() => window.problems)).toEqual([]);
    await page.close();
  });

  test('EventSource has every event once, through connections that break', async () => {
    const proxy = await WildProxy.start(server.url);
    const query =
      'mutation { createSession(input: {prompt: "a fox", pace: REALTIME, maxSeconds: 5}) { ... on Session { id } } }';
    const made = await fetch(`${server.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query }),
    });
    const { data } = (await made.json()) as { data: { createSession: { id: string } } };
    proxy.cutAfter = 1000;
    const page = await openPage(browser, `${proxy.url}/healthz`);
    const seen = await page.evaluate(async (id) => {
      const query = `subscription ($id: ID!) { sessionStream(sessionId: $id, media: NONE) {
        __typename ... on SessionEvent { cursor } ... on FrameChunk { index } } }`;
      const variables = JSON.stringify({ id });
      const source = new EventSource(`/graphql?${new URLSearchParams({ query, variables }).toString()}`);
      const events: { id: string; type: string; index?: number }[] = [];
      let opened = 0;
      source.onopen = () => opened++;
      source.addEventListener('next', ({ data, lastEventId }) => {
        const { sessionStream: event } = (
          JSON.parse(data as string) as { data: { sessionStream: { __typename: string; index?: number } } }
        ).data;
        events.push({ id: lastEventId, type: event.__typename, index: event.index });
      });
      await new Promise((resolve) => source.addEventListener('complete', resolve));
      source.close();
      return { events, opened };
    }, data.createSession.id);
    const stored = seen.events.filter(({ type }) => type !== 'Heartbeat');
    expect(seen.opened).toBeGreaterThan(1);
    expect(new Set(stored.map(({ id }) => id)).size).toBe(stored.length);
    expect(stored.flatMap(({ index }) => index ?? [])).toEqual(Array.from({ length: 7 }, (_, index) => index));
    await page.close();
    await proxy.stop();
  });
});
