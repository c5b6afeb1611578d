/** What background jobs must do, wherever they are kept. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Job, JobRun, Jobs } from '../../src/sessions/ports.js';
import { until } from './test-server.js';

export const SOON = 20_000;
export const film = (key: string): Job => ({ kind: 'export', key });

/** One server's jobs, and what it did; a job lasts until it is told to end, or is cancelled. */
export class Hands {
  readonly begun: string[] = [];
  readonly ended: string[] = [];
  readonly cancelled: string[] = [];
  private readonly ends = new Map<string, () => void>();
  /** What of these is running. */
  readonly now = new Set<string>();

  constructor(
    readonly jobs: Jobs,
    atOnce = 1,
  ) {
    for (const kind of ['export', 'artifacts'] as const) jobs.handle(kind, atOnce, (run) => this.work(run));
  }

  end(key: string): void {
    this.ends.get(key)?.();
  }

  endAll(): void {
    for (const end of this.ends.values()) end();
  }

  private async work({ key, signal, progress }: JobRun): Promise<void> {
    this.begun.push(key);
    this.now.add(key);
    progress(0.5);
    await new Promise<void>((resolve) => {
      this.ends.set(key, resolve);
      signal.addEventListener('abort', () => resolve());
      if (signal.aborted) resolve();
    });
    this.now.delete(key);
    (signal.aborted ? this.cancelled : this.ended).push(key);
    if (key === 'fails') throw new Error('as it does');
  }
}

/** `open` gives the jobs of a server; all that are open share them where they can. */
export function describeJobs(open: () => Jobs, begin?: () => Promise<void>): void {
  describe('jobs', () => {
    let hands: Hands;
    beforeEach(async () => {
      await begin?.();
      hands = new Hands(open());
    });
    afterEach(async () => {
      hands.endAll();
      await hands.jobs.close();
    });

    it('are done, each once however often it is started, and may be done again', async () => {
      for (let i = 0; i < 3; i++) hands.jobs.start(film('a'));
      await until(() => hands.now.has('a'), 'it begins', SOON);
      hands.jobs.start(film('a'));
      hands.end('a');
      await until(() => hands.jobs.find(film('a')) === undefined, 'it is over', SOON);
      expect(hands.begun).toEqual(['a']);
      hands.jobs.start(film('a'));
      await until(() => hands.begun.length === 2, 'it is done again', SOON);
    });

    it('wait for each other in order, and not for another kind', async () => {
      for (const key of ['a', 'b', 'c']) hands.jobs.start(film(key));
      hands.jobs.start({ kind: 'artifacts', key: 'x' });
      await until(() => hands.now.has('a') && hands.now.has('x'), 'one of each kind begins', SOON);
      expect(hands.jobs.find(film('c'))).toEqual({});
      expect(hands.now.size).toBe(2);
      hands.end('a');
      await until(() => hands.now.has('b'), 'the next begins', SOON);
      expect(hands.now.has('c')).toBe(false);
    });

    it('tell how far they are', async () => {
      hands.jobs.start(film('a'));
      expect(hands.jobs.find(film('a'))).toBeDefined();
      await until(() => hands.jobs.find(film('a'))?.progress === 0.5, 'it says how far it is', SOON);
      expect(hands.jobs.find(film('b'))).toBeUndefined();
    });

    it('are cancelled, waiting or running, and another time', async () => {
      for (const key of ['a', 'b']) hands.jobs.start(film(key));
      await until(() => hands.now.has('a'), 'one begins', SOON);
      await hands.jobs.cancel(film('b'));
      await hands.jobs.cancel(film('a'));
      expect(hands.cancelled).toEqual(['a']);
      expect([hands.jobs.find(film('a')), hands.jobs.find(film('b'))]).toEqual([undefined, undefined]);
      await hands.jobs.cancel(film('a'));
      expect(hands.begun).toEqual(['a']);
      for (let times = 2; times < 8; times++) {
        hands.jobs.start(film('a'));
        await until(() => hands.begun.length === times, 'it is begun again', SOON);
        await sleep(7 * times); // Wherever a look at the other side may be.
        await hands.jobs.cancel(film('a'));
      }
    });

    it('asked for at any moment are not forgotten', async () => {
      const keys = Array.from({ length: 24 }, (_, n) => `k${n}`);
      for (const [n, key] of keys.entries()) {
        hands.jobs.start(film(key));
        await sleep(n % 5);
      }
      await sleep(1_000);
      expect(keys.filter((key) => hands.jobs.find(film(key)) === undefined)).toEqual([]);
    });

    it('that fail keep no other from being done', async () => {
      for (const key of ['fails', 'b']) hands.jobs.start(film(key));
      await until(() => hands.now.has('fails'), 'it begins', SOON);
      hands.end('fails');
      await until(() => hands.now.has('b'), 'the next begins', SOON);
    });

    it('are begun only once within a time, if so asked', async () => {
      hands.jobs.start(film('a'), { notWithin: 600_000 });
      await until(() => hands.now.has('a'), 'it begins', SOON);
      hands.end('a');
      await until(() => hands.jobs.find(film('a')) === undefined, 'it is over', SOON);
      hands.jobs.start(film('a'), { notWithin: 600_000 });
      hands.jobs.start(film('b'));
      await until(() => hands.now.has('b'), 'another begins', SOON);
      expect(hands.begun).toEqual(['a', 'b']);
    });

    it('end with their server, and are taken no more', async () => {
      hands.jobs.start(film('a'));
      await until(() => hands.now.has('a'), 'it begins', SOON);
      await hands.jobs.close();
      expect(hands.cancelled).toEqual(['a']);
      hands.jobs.start(film('b'));
      await sleep(50);
      expect(hands.begun).toEqual(['a']);
    });
  });
}
