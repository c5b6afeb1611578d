/**
 * Attacks a service over its sockets for a while, with a healthy client beside it: HTTP, upgrades, WebSocket frames, GraphQL
 * and media. The process must live, serve the healthy client in time, tell strangers nothing of its inside, and give back
 * descriptors and memory. Whatever broke a rule is printed as a line that `--replay` sends again.
 *
 *     npm run fuzz:edge -- [seconds] [--seed 1] [--concurrency 12] [--healthy-ms 2000] [--replay file] [--out result.json]
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Bystander, footprintOf, HEALTHY_MS, settled } from './bystander.js';
import { Hostile } from './hostile.js';
import { MAX_ANSWER_BYTES, MAX_CONNECTIONS, SHORT_TIMES, TRUSTED_PROXY } from './rules.js';
import { startTarget, type Target } from './target.js';
import { complaintAbout, type Script, send, statusOf, unmet } from './wire.js';

const WARM_MS = 5000;
/** Of the scripts sent last, printed when the process dies. */
const REMEMBERED = 40;
const MOST_COMPLAINTS = 20;
/** Scripts that take seconds run beside the others. */
const SLOW_AT_ONCE = 4;
/** What is expected must come of one of so many tries: a neighbour's storm may take a connection's place, or its time. */
const TRIES = 3;

class Attack {
  sent = 0;
  /** Of scripts, because what was expected did not come. */
  triedAgain = 0;
  readonly complaints: string[] = [];
  readonly statuses: Record<string, number> = {};
  private readonly recent: Script[] = [];

  constructor(
    private readonly target: Target,
    private readonly hostile: Hostile,
    private readonly seed: number,
    private readonly slack: number,
  ) {}

  /** Until the time is over, the process dies, or too much is wrong. */
  async run(concurrency: number, milliseconds: number): Promise<void> {
    let alive = true;
    const { service } = this.target;
    void service.exited.then((code) => {
      if (!alive) return;
      alive = false;
      this.complaints.push(`the process ended with ${code}; sent last:\n${this.recent.map(printed).join('\n')}`);
    });
    const end = performance.now() + milliseconds;
    const goesOn = () => alive && performance.now() < end && this.complaints.length < MOST_COMPLAINTS;
    const lanes = (count: number, next: () => Script) =>
      Array.from({ length: count }, async () => {
        while (goesOn()) await this.one(next());
      });
    let slow = 0;
    await Promise.all([
      ...lanes(concurrency, () => this.hostile.script(this.seed, this.sent++)),
      ...lanes(SLOW_AT_ONCE, () => this.hostile.slow(this.seed, slow++)),
    ]);
    alive = false;
  }

  async one(script: Script): Promise<void> {
    this.recent.push(script);
    if (this.recent.length > REMEMBERED) this.recent.shift();
    for (let left = TRIES - 1; ; left--) {
      const { forbidden, missing } = await this.attempt(script);
      if (forbidden === undefined && missing === undefined) return;
      if (forbidden !== undefined || left === 0)
        return void this.complaints.push(`${forbidden ?? missing}, the answer to\n${printed(script)}`);
      this.triedAgain++;
    }
  }

  /** What an answer must never have in it, and what did not come of it that must. */
  private async attempt(script: Script): Promise<{ forbidden?: string | undefined; missing?: string | undefined }> {
    try {
      const outcome = await send(this.target.service.url, script, this.slack);
      const { answers } = outcome;
      for (const status of answers.map(statusOf)) this.statuses[status] = (this.statuses[status] ?? 0) + 1;
      const among = (complaint: string | undefined) =>
        complaint && `${complaint} in ${JSON.stringify((answers[0] ?? '').slice(0, 1500))}`;
      return {
        forbidden: among(answers.map((answer) => complaintAbout(answer, this.target.secrets)).find(Boolean)),
        missing: among(unmet(script, outcome)),
      };
    } catch (error) {
      return { forbidden: String(error) };
    }
  }
}

/** A line for `--replay`. */
function printed(script: Script): string {
  return JSON.stringify(script);
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seed: { type: 'string' },
      concurrency: { type: 'string' },
      'healthy-ms': { type: 'string' },
      replay: { type: 'string' },
      out: { type: 'string' },
    },
  });
  const seconds = Number(positionals[0] ?? 60);
  const seed = Number(values.seed ?? process.env['LONGLIVE_FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  process.stdout.write(`seed ${seed}, ${seconds} s (again with LONGLIVE_FUZZ_SEED=${seed})\n`);
  const target = await startTarget({
    ...SHORT_TIMES,
    MAX_CONNECTIONS,
    MAX_ANSWER_BYTES,
    TRUSTED_PROXIES: TRUSTED_PROXY,
  });
  try {
    const { service, prey, watchedId } = target;
    const hostile = new Hostile(prey);
    const healthyMs = Number(values['healthy-ms'] ?? HEALTHY_MS);
    // Where the healthy client may wait longer, the machine is busy, and everything takes longer.
    const slack = Math.max(1, healthyMs / HEALTHY_MS);
    const first = new Attack(target, hostile, seed + 1, slack);
    for (const script of hostile.ofEachRule(seed)) await first.one(script);
    await first.run(4, WARM_MS);
    const { after: before } = await settled(service.pid, footprintOf(service.pid));
    const bystander = new Bystander(service, watchedId, healthyMs);
    const attack = new Attack(target, hostile, seed, slack);
    if (values.replay === undefined) await attack.run(Number(values.concurrency ?? 12), seconds * 1000);
    else
      for (const line of readFileSync(values.replay, 'utf8').split('\n'))
        if (line) await attack.one(JSON.parse(line) as Script);
    await bystander.leave();
    const died = attack.complaints.some((complaint) => complaint.startsWith('the process ended'));
    const { after, complaint } = died ? {} : await settled(service.pid, before);
    const complaints = [...attack.complaints, ...bystander.complaints, ...(complaint ? [complaint] : [])];
    for (const each of complaints.slice(0, MOST_COMPLAINTS)) process.stderr.write(`WRONG: ${each}\n`);
    for (const entry of service.log.filter(({ level }) => level >= 50).slice(0, MOST_COMPLAINTS))
      process.stderr.write(`LOGGED: ${JSON.stringify(entry)}\n`);
    const result = {
      ...{ seed, seconds, scripts: attack.sent, triedAgain: attack.triedAgain, statuses: attack.statuses },
      ...{ healthyMilliseconds: bystander.summary, before, after, complaints: complaints.length },
    };
    process.stdout.write(`${JSON.stringify(result)}\n`);
    if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify(result, null, 2)}\n`);
    if (complaints.length > 0) process.exitCode = 1;
  } finally {
    await target.close();
  }
}

await main();
