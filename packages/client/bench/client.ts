/**
 * `npm run bench:client [SECONDS]`: what somebody waits for in a page that plays with the kit, in Chromium, at the live edge: of painted
 * pictures, which cost little to make, and of Pocket. Writes bench/results/client-<date>.json.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import type { Browser } from 'playwright-core';
import type { RunningServer } from '../../../src/server/index.js';
import { openBrowser } from '../../../test/support/browser.js';
import { startPaintingServer } from '../../../test/support/painting-server.js';
import { startPocketServer } from '../../../test/support/pocket-server.js';
import { openPage, PageServer } from '../test/support/kit-page.js';

const SECONDS = Number(process.argv[2] ?? 60);
const PROMPTS = ['a blue robot walks on the road at night', 'a red fox runs on the grass by day'];
const WHEN = ['NEXT_BLOCK', 'IMMEDIATE'] as const;
/** No multiple of what a chunk lasts. */
const SWITCH_EVERY_SECONDS = 4.3;

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN;
const round = (value: number): number => Math.round(value * 1000) / 1000;

/** In the page: from Enter to the first frame that is presented. */
async function begin(url: string): Promise<number> {
  const video = document.querySelector('video') as HTMLVideoElement;
  const entered = performance.now();
  const live = window.longlive.createClient({ url });
  window.session = await live.create({ prompt: 'a red fox runs on the grass by day' });
  window.player = window.longlive.attach(window.session, video);
  const at = await new Promise<number>((resolve) => video.requestVideoFrameCallback((now) => resolve(now)));
  return (at - entered) / 1000;
}

interface Change {
  when: 'NEXT_BLOCK' | 'IMMEDIATE';
  seen: number;
  waited: number;
}

/** In the page: from Enter to the first frame of another prompt that is presented, and how long generation took to begin with it. */
async function change({ prompt, when }: { prompt: string; when: Change['when'] }): Promise<Change> {
  const entered = performance.now();
  const receipt = await window.session.switch(prompt, { when });
  const seen = await window.player.seen(receipt);
  const outcome = await receipt.applied;
  if (seen.status !== 'seen' || outcome.status !== 'applied') throw new Error(seen.status);
  return { when, seen: (seen.at - entered) / 1000, waited: (outcome.waitedMilliseconds ?? 0) / 1000 };
}

/** In the page: seconds that each block of the last minute cost. */
async function generated(): Promise<number[]> {
  const seconds: number[] = [];
  const { cursor } = await window.session.refresh();
  for await (const event of window.session.events({ media: 'NONE' })) {
    if (event.type === 'chunk') seconds.push((event.generateMilliseconds ?? 0) / 1000);
    if (event.cursor === cursor) return seconds.slice(-80);
  }
  return seconds;
}

async function measure(browser: Browser, pages: PageServer, server: RunningServer): Promise<object> {
  const page = await openPage(browser, pages.url);
  const devtools = await page.context().newCDPSession(page);
  await devtools.send('Performance.enable');
  const busy = async (): Promise<number> =>
    (await devtools.send('Performance.getMetrics')).metrics.find(({ name }) => name === 'TaskDuration')?.value ?? 0;
  const firstPicture = await page.evaluate(begin, server.url);
  const [busyBefore, began] = [await busy(), Date.now()];
  const changes: Change[] = [];
  while (Date.now() - began < SECONDS * 1000) {
    await page.waitForTimeout(SWITCH_EVERY_SECONDS * 1000);
    const turn = {
      prompt: PROMPTS[changes.length % 2] as string,
      when: WHEN[(changes.length >> 1) % 2] as Change['when'],
    };
    changes.push(await page.evaluate(change, turn));
  }
  const minutes = (Date.now() - began) / 60_000;
  const stats = await page.evaluate(() => ({
    ...window.player.stats,
    shown: document.querySelector('video')?.currentTime ?? 0,
  }));
  const busyAfter = await busy();
  const blocks = await page.evaluate(generated);
  await page.close();
  return {
    secondsToFirstPicture: round(firstPicture),
    secondsOfOneBlocksGeneration: round(median(blocks)),
    toFirstChangedFrame: Object.fromEntries(
      WHEN.map((when) => {
        const those = changes.filter((one) => one.when === when);
        const seconds = round(median(those.map(({ seen }) => seen)));
        return [
          when,
          {
            seconds,
            ofThatUntilGenerationTookIt: round(median(those.map(({ waited }) => waited))),
            changes: those.length,
          },
        ];
      }),
    ),
    stallsPerMinute: round(stats.stalls / minutes),
    stalledSecondsPerMinute: round(stats.stalledSeconds / minutes),
    latencySeconds: round(stats.latencySeconds),
    kilobytesPerMinuteOfVideo: Math.round(stats.bytes / 1000 / (stats.shown / 60)),
    mainThreadSecondsPerMinute: round((busyAfter - busyBefore) / minutes),
  };
}

const [browser, pages] = await Promise.all([openBrowser(), PageServer.start()]);
const results: Record<string, object> = {};
for (const [name, start] of [
  ['painted', () => startPaintingServer({ corsOrigins: pages.url })],
  ['pocket', () => startPocketServer({ corsOrigins: pages.url })],
] as const) {
  const server = await start();
  results[name] = await measure(browser, pages, server);
  await server.close();
  console.log(name, results[name]);
}
await browser.close();
await pages.stop();
const date = new Date().toISOString().slice(0, 10);
const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
const machine = { cpu: cpus()[0]?.model, cores: cpus().length, load: loadavg().map(round) };
writeFileSync(
  `bench/results/client-${date}.json`,
  `${JSON.stringify({ date, commit, machine, seconds: SECONDS, results }, null, 2)}\n`,
);
