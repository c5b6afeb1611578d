/** A well-behaved client beside the hostile ones, from an address of its own, and what the process takes meanwhile. */

import { readdirSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const ADDRESS = '127.0.0.2';
const HEALTH_MS = 100;
const QUERY_MS = 250;
const RECONNECT_MS = 200;
const NO_ANSWER_MS = 10_000;
/** How long it waits for anything at most. */
export const HEALTHY_MS = 2000;

export interface Service {
  url: string;
  pid: number;
}

export interface Footprint {
  descriptors: number;
  megabytes: number;
}

/** Descriptors and resident memory of the process; it must live. */
export function footprintOf(pid: number): Footprint {
  const [, kibibytes] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return { descriptors: readdirSync(`/proc/${pid}/fd`).length, megabytes: Math.round(Number(kibibytes ?? 0) / 1024) };
}

/** The footprint when the target, its garbage collected, is back where it was, or at the end of the time given. */
export async function settled(
  pid: number,
  before: Footprint,
  seconds = 20,
): Promise<{ after: Footprint; complaint?: string }> {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    process.kill(pid, 'SIGUSR2');
    await sleep(500);
    const after = footprintOf(pid);
    const descriptors = after.descriptors - before.descriptors;
    const megabytes = after.megabytes - before.megabytes;
    if (descriptors <= SPARE_DESCRIPTORS && megabytes <= SPARE_MEGABYTES) return { after };
    if (performance.now() > end)
      return {
        after,
        complaint: `${descriptors} descriptors and ${megabytes} MB more than before, ${seconds} s later`,
      };
  }
}

/** What a service may have opened lazily that it keeps. */
const SPARE_DESCRIPTORS = 8;
const SPARE_MEGABYTES = 150;

/** Of milliseconds; `none` where there are none. */
export function spreadOf(times: readonly number[], none: number): { p50: number; p99: number; worst: number } {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share: number) =>
    Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? none);
  return { p50: at(0.5), p99: at(0.99), worst: at(1) };
}

/** Asks for its health and by GraphQL all the time, and watches a session that says only that it lives. */
export class Bystander {
  /** Milliseconds of each answer. */
  readonly times: number[] = [];
  readonly complaints: string[] = [];
  private readonly stop = new AbortController();
  private readonly loops: Promise<void>[];

  constructor(
    private readonly service: Service,
    /** A session with a stream; a heartbeat comes each second. */
    private readonly sessionId: string,
    /** Later answers are complained about. */
    private readonly limitMs = HEALTHY_MS,
  ) {
    this.loops = [
      this.loop(HEALTH_MS, () => this.ask('/healthz')),
      this.loop(QUERY_MS, () =>
        this.ask('/graphql', { query: '{ service { version accepting } sessions(first: 2) { __typename } }' }),
      ),
      this.loop(RECONNECT_MS, () => this.watch()),
    ];
  }

  async leave(): Promise<void> {
    this.stop.abort();
    await Promise.all(this.loops);
  }

  get summary(): { answers: number; p50: number; p99: number; worst: number } {
    return { answers: this.times.length, ...spreadOf(this.times, 0) };
  }

  private async loop(pause: number, work: () => Promise<void>): Promise<void> {
    while (!this.stop.signal.aborted) {
      await work().catch((error: unknown) => {
        if (!this.stop.signal.aborted) this.complaints.push(`a healthy client: ${String(error)}`);
      });
      await sleep(pause);
    }
  }

  private async ask(path: string, body?: object): Promise<void> {
    const began = performance.now();
    const { status, text } = await this.exchange(path, body);
    this.took(path, performance.now() - began);
    if (status !== 200 || (body && !text.startsWith('{"data":{')))
      throw new Error(`${path}: ${status} ${text.slice(0, 500)}`);
  }

  /** Until the stream ends or this leaves; each silence is measured beyond the second between heartbeats. */
  private async watch(): Promise<void> {
    let last = performance.now();
    const query = `subscription ($id: ID!) { sessionStream(sessionId: $id, from: LIVE) { __typename } }`;
    await this.exchange('/graphql', { query, variables: { id: this.sessionId } }, () => {
      const now = performance.now();
      this.took('a heartbeat', Math.max(0, now - last - 1000));
      last = now;
    });
    if (!this.stop.signal.aborted) throw new Error('the stream has ended');
  }

  private took(what: string, milliseconds: number): void {
    this.times.push(milliseconds);
    if (milliseconds > this.limitMs)
      this.complaints.push(`${what} took a healthy client ${Math.round(milliseconds)} ms`);
  }

  private exchange(path: string, body?: object, onPart?: () => void): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const headers = {
        connection: 'close',
        ...(body && { 'content-type': 'application/json', accept: onPart ? 'text/event-stream' : 'application/json' }),
      };
      const options = {
        agent: false,
        localAddress: ADDRESS,
        timeout: NO_ANSWER_MS,
        headers,
        method: body ? 'POST' : 'GET',
      };
      const sent = request(new URL(path, this.service.url), {
        ...options,
        ...(onPart && { signal: this.stop.signal }),
      });
      sent.once('error', reject);
      sent.once('timeout', () => sent.destroy(new Error(`${path}: nothing for ${NO_ANSWER_MS} ms`)));
      sent.once('response', (response) => {
        let text = '';
        response.on('data', (part: Buffer) => (onPart ? onPart() : (text += part.toString())));
        response.once('error', reject);
        response.once('end', () => resolve({ status: response.statusCode ?? 0, text }));
      });
      sent.end(body && JSON.stringify(body));
    });
  }
}
