/** Sessions are named, marked, searched for and found again. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../../src/server/index.js';
import { hasBrowser, openBrowser } from '../support/browser.js';
import { startPaintingServer } from '../support/painting-server.js';
import { PATIENCE, Studio } from '../support/studio.js';

const FILM = 'pace: FASTEST, maxSeconds: 1';
const PROMPTS = ['a bar that moves', 'a bar in the rain', 'the sun over a bar'];

describe.skipIf(!hasBrowser)('the gallery of the studio', () => {
  let browser: Browser;
  let server: RunningServer;

  beforeAll(async () => {
    [browser, server] = await Promise.all([openBrowser(), startPaintingServer()]);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });

  const ask = async (query: string, it?: string) => {
    const headers = { 'content-type': 'application/json' };
    const body = JSON.stringify({ query, variables: { it } });
    const answer = await fetch(`${server.url}/graphql`, { method: 'POST', headers, body });
    return ((await answer.json()) as { data: { sessions: { nodes: { id: string; ended: boolean }[] } } }).data;
  };
  const found = async (filter: string) =>
    (await ask(`{ sessions(${filter}) { ... on SessionConnection { nodes { id ended } } } }`)).sessions.nodes;

  test('names a session, keeps favourites, and searches all that there are', async () => {
    for (const prompt of PROMPTS) {
      await ask(`mutation ($it: String) { createSession(input: { prompt: $it, ${FILM} }) { __typename } }`, prompt);
      await expect.poll(async () => (await found('first: 1'))[0]?.ended, { timeout: PATIENCE }).toBe(true);
    }
    const studio = await Studio.open(browser, server.url);
    const { page } = studio;
    const recent = page.getByRole('region', { name: 'Recent sessions' });
    const card = (title: string) => recent.getByRole('listitem').filter({ hasText: title });
    const titles = () => recent.locator('.card .open p').allTextContents();

    await card(PROMPTS[2]!).waitFor();
    await card(PROMPTS[0]!).getByRole('button', { name: 'Rename' }).click();
    const title = recent.getByLabel('Title');
    await title.fill('never mind');
    await title.press('Escape');
    await card(PROMPTS[0]!).getByRole('button', { name: 'Rename' }).click();
    await title.fill('Opening shot');
    await title.press('Enter');
    await card('Opening shot').waitFor();
    await recent.getByRole('button', { name: `Favourite: ${PROMPTS[1]}` }).click();
    await expect.poll(() => found('favourite: true'), { timeout: PATIENCE }).toHaveLength(1);
    await recent.getByRole('button', { name: 'Favourites', exact: true }).click();
    await expect.poll(titles, { timeout: PATIENCE }).toEqual([PROMPTS[1]]);
    await recent.getByRole('button', { name: `Favourite: ${PROMPTS[1]}` }).click();
    await recent.getByText('No favourites yet').waitFor();
    await recent.getByRole('button', { name: 'Favourites', exact: true }).click();
    await expect.poll(titles, { timeout: PATIENCE }).toEqual([PROMPTS[2], PROMPTS[1], 'Opening shot']);

    const search = recent.getByLabel('Search the sessions');
    await search.fill('BAR moves');
    await expect.poll(titles, { timeout: PATIENCE }).toEqual(['Opening shot']);
    await search.fill('opening');
    await expect.poll(titles, { timeout: PATIENCE }).toEqual(['Opening shot']);
    await search.fill('nowhere');
    await recent.getByText('No session has these words.').waitFor();
    await search.fill('');
    await expect.poll(titles, { timeout: PATIENCE }).toEqual([PROMPTS[2], PROMPTS[1], 'Opening shot']);

    const [one] = await found('search: "opening"');
    await page.reload();
    await expect.poll(titles, { timeout: PATIENCE }).toEqual([PROMPTS[2], PROMPTS[1], 'Opening shot']);
    await ask('mutation ($it: ID!) { updateSession(sessionId: $it, title: null) { __typename } }', one?.id);
    await page.reload();
    await expect.poll(titles, { timeout: PATIENCE }).toEqual([PROMPTS[2], PROMPTS[1], PROMPTS[0]]);
    expect(await studio.close()).toEqual([]);
  });
});
