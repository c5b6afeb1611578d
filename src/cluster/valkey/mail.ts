/**
 * Questions and answers between servers: a stream for each, in the order in which they were sent. Who gets no answer asks
 * again under the same id, and who has answered an id before answers the same again, so what is asked is done once as long
 * as both live; beyond that the ids of commands see to it, which are in the session's log.
 */

import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { BLOCK_MS, type Timing } from './connection.js';

/** Of a server that reads no more; what is beyond is dropped, the oldest first. */
const LONGEST_STREAM = 10_000;
/** How long the stream of a server that is no more stays. */
const KEPT_MS = 60_000;
/** Answers that are remembered in case they are asked for again. */
const REMEMBERED = 4_096;
const READ_AT_ONCE = 100;
const AFTER_FAILURE_MS = 200;

type Receive = (sessionId: string, message: string) => Promise<string>;

interface Letter {
  kind: 'ask' | 'answer';
  id: string;
  from: string;
  sessionId: string;
  text: string;
}

export class Mail {
  private readonly waiting = new Map<string, (answer: string) => void>();
  private readonly answers = new Map<string, Promise<string>>();
  private readonly over = new AbortController();

  constructor(
    private readonly redis: Redis,
    /** Of its own, because it waits. */
    private readonly reader: Redis,
    private readonly prefix: string,
    private readonly serverId: string,
    private readonly timing: Timing,
    private readonly receive: Receive,
  ) {}

  /**
   * `undefined` when no answer came in time. `lives` says whether the other server does, `undefined` when it is not known: then
   * it is asked only once.
   */
  async ask(
    serverId: string,
    sessionId: string,
    text: string,
    lives: (serverId: string) => boolean | undefined,
  ): Promise<string | undefined> {
    const letter: Letter = { kind: 'ask', id: randomUUID(), from: this.serverId, sessionId, text };
    const answered = new Promise<string>((resolve) => this.waiting.set(letter.id, resolve));
    const deadline = performance.now() + this.timing.answerMs;
    const goesOn = () => performance.now() < deadline && !this.over.signal.aborted;
    try {
      let failures = 0;
      for (let alive = lives(serverId) !== false; alive && goesOn(); alive = lives(serverId) === true) {
        const sent = await this.post(serverId, letter);
        if (!sent && ++failures > MOST_FAILURES) return undefined;
        const answer = await this.within(answered, sent ? this.timing.resendMs : AFTER_FAILURE_MS);
        if (answer !== undefined) return answer;
      }
      return undefined;
    } finally {
      this.waiting.delete(letter.id);
    }
  }

  /** Reads what comes until `close`. */
  async keepOn(): Promise<void> {
    while (!this.over.signal.aborted) {
      try {
        await this.read();
      } catch {
        await delay(AFTER_FAILURE_MS, undefined, { signal: this.over.signal }).catch(() => undefined);
      }
    }
  }

  close(): void {
    this.over.abort();
  }

  /** Always from the beginning, so there is no position that the other side could lose; what was read is deleted. */
  private async read(): Promise<void> {
    const inbox = this.inbox(this.serverId);
    const found = await this.reader.xread('COUNT', READ_AT_ONCE, 'BLOCK', BLOCK_MS, 'STREAMS', inbox, '0');
    const entries = found?.[0]?.[1] ?? [];
    if (entries.length === 0) return;
    for (const [, fields] of entries) this.open(fields);
    await this.reader.xdel(inbox, ...entries.map(([id]) => id));
  }

  private open(fields: string[]): void {
    const [kind, id, from, sessionId, text] = FIELDS.map((name) => fields[fields.indexOf(name) + 1] ?? '');
    if (kind === 'answer') return this.waiting.get(id as string)?.(text as string);
    void this.answer({ kind: 'ask', id, from, sessionId, text } as Letter);
  }

  private async answer({ id, from, sessionId, text }: Letter): Promise<void> {
    const known = this.answers.get(id);
    const answer = known ?? this.receive(sessionId, text);
    if (!known) this.remember(id, answer);
    const letter = await answer.then(
      (reply): Letter => ({ kind: 'answer', id, from: this.serverId, sessionId, text: reply }),
      () => undefined,
    );
    // One that gets lost is asked for again.
    if (letter) await this.post(from, letter);
  }

  private remember(id: string, answer: Promise<string>): void {
    this.answers.set(id, answer);
    for (const oldest of this.answers.keys()) {
      if (this.answers.size <= REMEMBERED) return;
      this.answers.delete(oldest);
    }
  }

  /** Whether it was sent; if not, it may have arrived all the same. */
  private async post(serverId: string, letter: Letter): Promise<boolean> {
    const inbox = this.inbox(serverId);
    const fields = FIELDS.flatMap((name) => [name, letter[name]]);
    try {
      const results = await this.redis
        .multi()
        .xadd(inbox, 'MAXLEN', '~', LONGEST_STREAM, '*', ...fields)
        .pexpire(inbox, KEPT_MS)
        .exec();
      return results?.every(([error]) => error === null) ?? false;
    } catch {
      return false;
    }
  }

  private async within(answer: Promise<string>, milliseconds: number): Promise<string | undefined> {
    const answered = new AbortController();
    const signal = AbortSignal.any([answered.signal, this.over.signal]);
    const late = delay(milliseconds, undefined, { signal }).catch(() => undefined);
    return Promise.race([answer, late]).finally(() => answered.abort());
  }

  private inbox(serverId: string): string {
    return `${this.prefix}mail:${serverId}`;
  }
}

const FIELDS = ['kind', 'id', 'from', 'sessionId', 'text'] as const;

/** Attempts to send that fail, at most: about as long as a short interruption of the connection. */
const MOST_FAILURES = 10;
