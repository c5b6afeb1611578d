/**
 * Many healthy subscribers of one live session, with hostile clients beside them: how long after it was published each chunk
 * arrives, alone and under attack. The hostile ones send what the fuzzer sends, and storms of streams that they leave.
 *
 *     npm run crowd:edge -- [seconds: 30] [--healthy 200] [--hostile 50] [--seed 1] [--out result.json]
 */

import { fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Arrival, SubscriberTask } from '../../bench/subscribers.js';
import { create } from '../support/control.js';
import { footprintOf, spreadOf } from './bystander.js';
import { Hostile } from './hostile.js';
import { startTarget, type Target } from './target.js';
import { complaintAbout, type Script, send } from './wire.js';

const HEALTHY_ADDRESS = '127.0.0.2';

/** In a process of its own, so that the attackers do not slow it down. */
function watch(task: SubscriberTask, connected: () => void): Promise<Arrival[]> {
  return new Promise((resolve, reject) => {
    const child = fork(new URL('../../bench/subscribers.ts', import.meta.url), { execArgv: ['--import', 'tsx'] });
    child.on('message', (message) => (message === 'connected' ? connected() : resolve(message as Arrival[])));
    child.once('exit', (code) => reject(new Error(`The subscribers ended with code ${code}.`)));
    child.send(task);
  });
}

/** Leaves streams of a finished session before they are answered. */
function leaving({ prey }: Target): Script {
  const body = JSON.stringify({
    query: 'subscription ($id: ID!) { sessionStream(sessionId: $id) { __typename } }',
    variables: { id: prey.sessionId },
  });
  const write = `POST /graphql HTTP/1.1\r\nhost: ${prey.host}\r\ncontent-type: application/json\r\naccept: text/event-stream\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  return { kind: 'stream, left', steps: [{ write }], end: 'reset', patience: 100 };
}

async function round(target: Target, seconds: number, healthy: number, hostile: number, seed: number) {
  const { service, prey, secrets } = target;
  const { id, message } = await create(service.url, { prompt: 'a fox', maxSeconds: seconds, width: 64, height: 64 });
  if (id === undefined) throw new Error(message);
  const scripts = new Hostile(prey);
  const complaints: string[] = [];
  let [sent, over] = [0, false];
  const attack = async (attacker: number) => {
    while (!over) {
      const script = attacker % 5 === 0 ? leaving(target) : scripts.script(seed, sent++);
      const answer = await send(service.url, script).then(
        ({ answers }) => answers.join(),
        () => '',
      );
      const complaint = complaintAbout(answer, secrets);
      if (complaint !== undefined) complaints.push(`${complaint}, the answer to ${JSON.stringify(script)}`);
    }
  };
  let attacked = Infinity;
  const attacks: Promise<void>[] = [];
  const begin = () => {
    attacked = Date.now();
    for (let attacker = 0; attacker < hostile; attacker++) attacks.push(attack(attacker));
  };
  const task = {
    url: service.url,
    sessionId: id,
    media: 'INLINE',
    subscribers: healthy,
    localAddress: HEALTHY_ADDRESS,
  } as const;
  const arrivals = await watch(task, begin).finally(() => (over = true));
  await Promise.all(attacks);
  const last = arrivals.reduce((most, { index }) => Math.max(most, index), 0);
  const delays = arrivals.filter(({ published }) => published > attacked).map(({ at, published }) => at - published);
  return {
    ...{ healthy, hostile, scripts: sent, chunks: last + 1, received: arrivals.length, complaints },
    measured: delays.length,
    milliseconds: spreadOf(delays, NaN),
    footprint: footprintOf(service.pid),
  };
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      healthy: { type: 'string' },
      hostile: { type: 'string' },
      seed: { type: 'string' },
      out: { type: 'string' },
    },
  });
  const seconds = Number(positionals[0] ?? 30);
  const healthy = Number(values.healthy ?? 200);
  const target = await startTarget({ MAX_SECONDS: seconds, IDLE_SECONDS: 60, MAX_SUBSCRIBERS: 2 * healthy });
  const results: object[] = [];
  try {
    for (const hostile of [0, Number(values.hostile ?? 50)]) {
      const result = await round(target, seconds, healthy, hostile, Number(values.seed ?? 1));
      if (result.complaints.length > 0 || result.received < result.chunks * healthy) process.exitCode = 1;
      results.push(result);
      process.stdout.write(`${JSON.stringify(result)}\n`);
    }
  } finally {
    await target.close();
  }
  if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(results, null, 2)}\n`);
}

await main();
