/** TCP connections as a script that can be printed, kept and sent again, and what is wrong with what came of it. */

import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** Bytes are Latin-1 texts; `times` sends them that often; `until` waits for a text in the answer. */
export type Step = { write: string; times?: number } | { wait: number } | { until: string };

export interface Script {
  kind: string;
  steps: Step[];
  /** Afterwards: close our half and read on, cut the connection off, at once or when an answer begins, or hold it open. */
  end: 'half-close' | 'reset' | 'reset when answered' | 'hold';
  /** How long an answer is waited for after the last step, in milliseconds. */
  patience: number;
  /** Nothing of the answer is taken while the script runs. */
  unread?: boolean;
  /** Connections of this kind, all opened at once and held until each is answered; one where absent. */
  crowd?: number;
  /** What stands for `@@` in what is written, one after the other for each connection of a crowd. */
  forms?: readonly string[];
  /** The address that it comes from, if another one than the system's choice. */
  from?: string;
  /** What must come of it. */
  expect?: Expectation;
}

/** What is right, whatever else the service has to do. Nothing is expected of an answer that did not come. */
export interface Expectation {
  /** Of the first answer on each connection. */
  status?: string;
  /** Something that the answer has in it. */
  says?: string;
  /** Something that no answer has in it. */
  neverSays?: string;
  /** So many answers of 1xx and 2xx at most, on all connections together. */
  mostServed?: number;
  /** The service closes the connection while the script waits. */
  closed?: boolean;
  /** A request, made behind the crowd on a connection of its own, that is answered all the same. */
  overtakenBy?: string;
  /** And that before this part of the time is over in which the crowd is answered. */
  overtakenWithin?: number;
}

export interface Outcome {
  /** On each connection what the service answered, as Latin-1. */
  answers: string[];
  /** The service closed every connection. */
  closed: boolean;
  /** After how much of the crowd's time the request behind it was answered; `Infinity` when it was not. */
  overtakenAfter?: number;
}

/** More of an answer is counted, not kept. */
const KEPT_BYTES = 2 ** 20;
const CONNECT_MS = 10_000;
const BURST_BYTES = 2 ** 20;
const BETWEEN_BURSTS_MS = 5;
/** For what is said only for a while, on a machine that is not busy. */
const HEARING_MS = 10_000;
const GRACE_MS = 1000;

class Connection {
  /** The service has closed it, or the network has. */
  closed = false;
  readonly opened: Promise<void>;
  readonly answered: Promise<void>;
  readonly over: Promise<void>;
  private readonly socket: Socket;
  private readonly parts: Buffer[] = [];

  constructor(url: string, { unread = false, from }: Pick<Script, 'unread' | 'from'> = {}) {
    const { hostname, port } = new URL(url);
    const socket = connect({
      ...{ host: hostname, port: Number(port), allowHalfOpen: true, noDelay: true },
      ...(from !== undefined && { localAddress: from }),
    });
    this.socket = socket;
    if (!unread) this.read();
    this.opened = new Promise<void>((resolve, reject) => {
      socket.once('connect', () => resolve());
      socket.once('error', reject);
      socket.setTimeout(CONNECT_MS, () => reject(new Error('no connection within 10 s')));
    });
    this.answered = new Promise<void>((resolve) => {
      if (!unread) socket.once('data', () => resolve());
    });
    this.over = new Promise<void>((resolve) => {
      const end = () => {
        this.closed = true;
        resolve();
      };
      socket.once('end', end);
      socket.once('close', end);
    });
  }

  get answer(): string {
    return Buffer.concat(this.parts).toString('latin1');
  }

  read(): void {
    let kept = 0;
    this.socket.on('data', (bytes: Buffer) => {
      if (kept < KEPT_BYTES) this.parts.push(bytes);
      kept += bytes.length;
    });
  }

  async write(steps: readonly Step[], slack: number): Promise<void> {
    await this.opened;
    this.socket.setTimeout(0);
    this.socket.on('error', () => undefined);
    for (const step of steps) {
      if ('wait' in step) await sleep(step.wait);
      else if ('until' in step) await this.when(() => this.answer.includes(step.until), HEARING_MS * slack);
      else await this.writeAll(step.write, step.times ?? 1);
    }
  }

  /** Whether the system took all that was written, so that the service has read most of it. */
  async drained(milliseconds: number): Promise<boolean> {
    return this.when(() => this.socket.writableLength === 0, milliseconds);
  }

  leave(end: Script['end']): void {
    if (end.startsWith('reset')) this.socket.resetAndDestroy();
    else this.socket.destroy();
  }

  halfClose(): void {
    this.socket.end();
  }

  private async when(holds: () => boolean, milliseconds: number): Promise<boolean> {
    const end = performance.now() + milliseconds;
    while (!this.closed && !holds() && performance.now() < end) await sleep(10);
    return holds();
  }

  private async writeAll(text: string, times: number): Promise<void> {
    const atOnce = Math.max(1, Math.floor(BURST_BYTES / text.length));
    for (let left = times; left > 0 && this.socket.writable; left -= atOnce) {
      this.socket.write(text.repeat(Math.min(left, atOnce)), 'latin1');
      if (times > 1) await sleep(BETWEEN_BURSTS_MS);
    }
  }
}

/** What came of it. Rejects only when the service takes no connection. Whatever is expected may take `slack` times as long. */
export async function send(url: string, script: Script, slack = 1): Promise<Outcome> {
  const { crowd: size = 1, expect: { overtakenBy } = {} } = script;
  const crowd = Array.from({ length: size }, () => new Connection(url, script));
  const began = performance.now();
  const behind = overtakenBy === undefined ? undefined : new Connection(url);
  try {
    const overtaken = behind && answerTime(behind, overtakenBy as string, slack).catch(() => Infinity);
    await Promise.all(crowd.map((connection, number) => run(connection, numbered(script, number), slack)));
    const took = performance.now() - began;
    return {
      answers: crowd.map(({ answer }) => answer),
      closed: crowd.every(({ closed }) => closed),
      ...(overtaken && { overtakenAfter: (await overtaken) / took }),
    };
  } finally {
    for (const connection of crowd) connection.leave(script.end);
    behind?.leave('hold');
  }
}

/** As it is for that connection of a crowd. */
function numbered(script: Script, number: number): Script {
  const { forms, steps } = script;
  if (!forms) return script;
  const form = forms[number % forms.length] as string;
  const filled = (step: Step) => ('write' in step ? { ...step, write: step.write.replaceAll('@@', form) } : step);
  return { ...script, steps: steps.map(filled) };
}

async function run(connection: Connection, script: Script, slack: number): Promise<void> {
  const { steps, end, patience, unread, crowd = 1, expect } = script;
  await connection.write(steps, slack);
  if (end === 'half-close') connection.halfClose();
  const milliseconds = patience * (expect ? slack : 1);
  if (unread) return unreadToTheEnd(connection, milliseconds);
  const enough = end === 'reset when answered' || crowd > 1 ? [connection.answered] : [];
  await atMost(milliseconds, [connection.over, ...enough]);
}

/** What is unread hides a goodbye; it is looked for when the service has read what it must not take. One that has not is slow. */
async function unreadToTheEnd(connection: Connection, milliseconds: number): Promise<void> {
  if (!(await connection.drained(milliseconds))) {
    connection.closed = true;
    return;
  }
  await atMost(GRACE_MS, [connection.over]);
  connection.read();
  await atMost(milliseconds, [connection.over]);
}

/** In milliseconds; `Infinity` where it did not come in time. */
async function answerTime(connection: Connection, request: string, slack: number): Promise<number> {
  const began = performance.now();
  await connection.write([{ write: request }], slack);
  await atMost(HEARING_MS * slack, [connection.answered, connection.over]);
  return connection.answer.startsWith('HTTP/1.1 200') ? performance.now() - began : Infinity;
}

async function atMost(milliseconds: number, events: readonly Promise<void>[]): Promise<void> {
  const tired = new AbortController();
  const tiredOf = sleep(milliseconds, undefined, { signal: tired.signal }).catch(() => undefined);
  await Promise.race([...events, tiredOf]).finally(() => tired.abort());
}

export function statusOf(answer: string): string {
  return /^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 'none';
}

const STACK = /(?:\n|\\n)\s+at (?:async )?\S[^\n"]{0,200}?:\d+:\d+\)?/;
const OWN_FAULT = /Something went wrong inside|INTERNAL_SERVER_ERROR|Unexpected error/;
const STATUS_LINE = /(?:^|\r\n|[}\]>])HTTP\/1\.1 (\d\d\d) /g;

/** What a stranger must not be told: statuses of our own faults, stacks and any of the texts (paths of the server). */
export function complaintAbout(answer: string, secrets: readonly string[]): string | undefined {
  for (const [, status = ''] of answer.matchAll(STATUS_LINE))
    if (status.startsWith('5') && status !== '503') return `status ${status}`;
  const closed = closeCodeOf(answer);
  if (closed === 1011 || closed === 4500) return `WebSocket closed with ${closed}`;
  if (!/content-type: text\/(?:html|javascript)/i.test(answer) && STACK.test(answer)) return 'a stack';
  const own = OWN_FAULT.exec(answer);
  if (own) return `"${own[0]}"`;
  const secret = secrets.find((text) => answer.includes(text));
  return secret === undefined ? undefined : `the path ${secret}`;
}

/** What is not as the script expects it. Too many sockets of one address may be refused whatever else they ask for. */
export function unmet({ expect }: Script, { answers, closed, overtakenAfter }: Outcome): string | undefined {
  if (!expect) return undefined;
  const came = answers.filter((answer) => answer !== '' && !answer.includes('TOO_MANY_SOCKETS'));
  const { status, says, neverSays, mostServed } = expect;
  if (neverSays !== undefined && answers.some((answer) => answer.includes(neverSays))) return `"${neverSays}" is in it`;
  const other = status === undefined ? undefined : came.map(statusOf).find((each) => each !== status);
  if (other !== undefined) return `answered ${other} instead of ${status}`;
  if (says !== undefined && came.some((answer) => !answer.includes(says))) return `"${says}" is not in it`;
  const served = came
    .flatMap((answer) => [...answer.matchAll(STATUS_LINE)])
    .filter(([, each]) => /^[12]/.test(each ?? ''));
  if (mostServed !== undefined && served.length > mostServed)
    return `served ${served.length} times instead of ${mostServed}`;
  if (expect.closed && !closed) return 'not closed';
  if (overtakenAfter === Infinity) return 'not overtaken';
  if (overtakenAfter !== undefined && overtakenAfter > (expect.overtakenWithin ?? Infinity))
    return `overtaken only after ${Math.round(overtakenAfter * 100)} % of the crowd's time`;
  return undefined;
}

/** Of the close frame behind an upgrade, if there is one. */
function closeCodeOf(answer: string): number | undefined {
  if (!answer.startsWith('HTTP/1.1 101')) return undefined;
  const bytes = Buffer.from(answer, 'latin1');
  for (let at = answer.indexOf('\r\n\r\n') + 4; at >= 4 && at + 2 <= bytes.length;) {
    const [opcode, short] = [(bytes[at] as number) & 15, (bytes[at + 1] as number) & 127];
    const wide = short === 126 ? 2 : short === 127 ? 8 : 0;
    if (at + 2 + wide > bytes.length) return undefined;
    const length = wide === 0 ? short : wide === 2 ? bytes.readUInt16BE(at + 2) : Number(bytes.readBigUInt64BE(at + 2));
    const body = at + 2 + wide;
    if (opcode === 8) return body + 2 <= bytes.length ? bytes.readUInt16BE(body) : undefined;
    at = body + length;
  }
  return undefined;
}
