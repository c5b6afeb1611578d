/**
 * `npm run bench:studio [SECONDS]`: what somebody waits for on the page, in Chromium, of painted pictures, which cost little to make, and of
 * Pocket, by the page's own numbers. Writes bench/results/studio-<date>.json.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import type { Browser } from 'playwright-core';
import type { RunningServer } from '../src/server/index.js';
import { openBrowser } from '../test/support/browser.js';
import { startPaintingServer } from '../test/support/painting-server.js';
import { startPocketServer } from '../test/support/pocket-server.js';
import { Studio } from '../test/support/studio.js';

const SECONDS = Number(process.argv[2] ?? 60);
const PROMPTS = ['a blue robot walks on the road at night', 'a red fox runs on the grass by day'] as const;
/** No multiple of what a chunk lasts. */
const SWITCH_EVERY_SECONDS = 4.3;
const BRANCHES = 3;
const PATIENCE = 60_000;

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN;
const round = (value: number): number => Math.round(value * 1000) / 1000;

/** `820 ms`, `1.3 s`, in seconds. */
function secondsOf(text: string | null): number {
  const [, number, unit] = /([\d.]+) (ms|s)\b/.exec(text ?? '') ?? [];
  return unit === undefined ? NaN : Number(number) / (unit === 'ms' ? 1000 : 1);
}

const figure = ({ page }: Studio, name: string) =>
  page.locator('.inspector dl > div').filter({ hasText: name }).first().locator('dd');

async function firstPicture(studio: Studio): Promise<number> {
  const value = figure(studio, 'First picture');
  await value.getByText(/\d/).waitFor({ timeout: PATIENCE });
  return secondsOf(await value.textContent());
}

/** From Enter to the first frame of the prompt on the screen. */
async function change(studio: Studio, prompt: string, count: number): Promise<number> {
  await studio.send(prompt);
  const seen = studio.story.getByText(/on screen after/);
  await seen.nth(count).waitFor({ timeout: PATIENCE });
  const [, after] = /on screen after ([\d.]+ m?s)/.exec((await seen.first().textContent()) ?? '') ?? [];
  return secondsOf(after ?? null);
}

/** From pressing Branch to the first picture behind the branch point. */
async function branch(studio: Studio, prompt: string): Promise<number> {
  const before = studio.id;
  await studio.prompt.fill(prompt);
  await studio.button('Branch').click();
  await studio.page.waitForURL((url) => url.searchParams.get('session') !== before);
  const seconds = await firstPicture(studio);
  await studio.button('Stop').click();
  await studio.page.goBack();
  await studio.page.waitForURL((url) => url.searchParams.get('session') === before);
  await studio.button('Branch').waitFor();
  return seconds;
}

async function measure(browser: Browser, server: RunningServer): Promise<object> {
  const studio = await Studio.open(browser, server.url);
  await studio.send(PROMPTS[1]);
  const secondsToFirstPicture = await firstPicture(studio);
  const began = Date.now();
  const changes: number[] = [];
  while (Date.now() - began < SECONDS * 1000) {
    await studio.page.waitForTimeout(SWITCH_EVERY_SECONDS * 1000);
    changes.push(await change(studio, PROMPTS[changes.length % 2] as string, changes.length));
  }
  const minutes = (Date.now() - began) / 60_000;
  const stalls = (await figure(studio, 'Stalls').textContent()) ?? '';
  const stallsPerMinute = round((/^(\d+)/.exec(stalls) ? parseInt(stalls, 10) : 0) / minutes);
  const branches: number[] = [];
  for (let i = 0; i < BRANCHES; i++) branches.push(await branch(studio, PROMPTS[i % 2] as string));
  await studio.close();
  return {
    secondsToFirstPicture,
    secondsToFirstChangedFrame: { median: round(median(changes)), most: Math.max(...changes), changes: changes.length },
    stallsPerMinute,
    secondsFromBranchToFirstOwnPicture: {
      median: round(median(branches)),
      most: Math.max(...branches),
      branches: BRANCHES,
    },
  };
}

const browser = await openBrowser();
const results: Record<string, object> = {};
const load = loadavg().map(round);
for (const [name, start] of [
  ['painted', () => startPaintingServer()],
  ['pocket', () => startPocketServer()],
] as const) {
  const server = await start();
  results[name] = await measure(browser, server);
  await server.close();
  console.log(name, results[name]);
}
await browser.close();
const date = new Date().toISOString().slice(0, 10);
const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
const machine = { cpu: cpus()[0]?.model, cores: cpus().length, load };
writeFileSync(
  `bench/results/studio-${date}.json`,
  `${JSON.stringify({ date, commit, machine, seconds: SECONDS, results }, null, 2)}\n`,
);
