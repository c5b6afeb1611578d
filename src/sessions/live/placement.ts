/** Where sessions are made and go on: at a server that has the model, loaded if possible, and room. */

import { createHash, randomUUID } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { DomainError, type DomainErrorCode } from '../errors.js';
import type { Clock, Cluster, ModelInfo } from '../ports.js';
import { isWaiting, type Session } from '../session.js';
import type { ServiceStatus } from '../sessions.js';
import { type Command, type CommandName, decodeReply, encodeCommand, type Input, type Output } from './commands.js';
import { encoderOf, findModel } from './required-model.js';
import { decodeNotice, hasRoom, joinDevices, loadOf, type Notice, runningThere } from './notice.js';
import type { Line } from './line.js';
import type { Standing } from './standing.js';
import { add, NONE_RUNNING, type Running } from './tenant-bounds.js';
import { waitSecondsAt } from './waiting-time.js';

/** What another server may answer better. */
const TRY_ANOTHER: ReadonlySet<DomainErrorCode> = new Set([
  'AT_CAPACITY',
  'MODEL_UNAVAILABLE',
  'ENCODER_UNAVAILABLE',
  'ENGINE',
  'SHUTTING_DOWN',
]);

/** How long the farewell of a server waits for another one to take up a session, in milliseconds. */
const HAND_OVER = 3_000;

/** When to ask again while no worker is there, or none answers, in seconds. */
const RETRY_SECONDS = 5;

interface Server {
  serverId: string;
  notice: Notice;
}

export type Wanted = Pick<Session, 'modelDigest' | 'encoder'> | { model: string | undefined };

/** Notices that are known by their text: every server repeats its own until something changes. */
const NOTICES = 256;

export class Placement {
  private readonly notices = new LRUCache<string, { notice: Notice | undefined }>({
    max: NOTICES,
    memoMethod: (text) => ({ notice: decodeNotice(text) }),
  });

  constructor(
    private readonly cluster: Cluster,
    private readonly standing: Pick<Standing, 'hosts' | 'deployment' | 'notice' | 'demand'>,
    private readonly line: Pick<Line, 'length' | 'placeOf' | 'hear'>,
  ) {}

  /** Whether this server generates. */
  get hosts(): boolean {
    return this.standing.hosts;
  }

  /** Whether another server could have a session as well, or instead. */
  get hasOthers(): boolean {
    return !this.standing.hosts || this.others().length > 0;
  }

  /** Those of this server first. */
  models(): ModelInfo[] {
    const all = this.workers().flatMap(({ notice }) => notice.models);
    return all.filter(({ name }, index) => all.findIndex((other) => other.name === name) === index);
  }

  /** The package that the session was made with, under the name that it has here now; undefined where nobody has it. */
  modelOf(session: Pick<Session, 'modelDigest'>): ModelInfo | undefined {
    return findModel(
      this.workers().flatMap(({ notice }) => notice.models),
      session,
    );
  }

  /** With where it stands, while it waits for room. */
  inLine(session: Session): Session {
    if (!session.wait || !isWaiting(session)) return session;
    this.line.hear(session.id, session.wait.since);
    const place = this.line.placeOf(session.id) as number;
    const turnover = this.workers().flatMap(({ notice }) => notice.turnover ?? []);
    const waitSeconds = waitSecondsAt(place, turnover);
    return { ...session, queue: { place, ...(waitSeconds !== undefined && { waitSeconds }) } };
  }

  /** What other servers run for a tenant, as far as was heard. */
  elsewhere(tenant: string): Running {
    return this.others().reduce((sum, { notice }) => add(sum, runningThere(notice, tenant)), NONE_RUNNING);
  }

  /** Of all servers together. */
  status(): ServiceStatus {
    const workers = this.workers();
    const sessions: ServiceStatus['sessions'] = {};
    for (const { notice } of workers) {
      for (const [state, count] of Object.entries(notice.sessions) as [Session['state'], number][]) {
        sessions[state] = (sessions[state] ?? 0) + count;
      }
    }
    const accepting = workers.some(({ notice }) => notice.accepting);
    return {
      accepting,
      ...(!accepting && { detail: this.nobody(), warning: this.nobody() }),
      devices: joinDevices(workers.flatMap(({ notice }) => notice.devices)),
      // Theirs to report.
      refusedRecordings: 0,
      sessions,
      queued: this.line.length,
      demand: this.standing.demand.now(
        workers.map(({ notice }) => notice),
        this.peers().reduce((sum, { notice }) => sum + (notice.waiting ?? 0), this.line.length),
      ),
    };
  }

  /** The servers that could have such a session, the best first; those without its model only where nobody has it. */
  ranked(wanted: Wanted, sessionId = ''): string[] {
    const { serverId: here } = this.cluster;
    const workers = this.workers();
    const fitting = workers.filter(({ notice }) => modelFor(notice, wanted));
    const rank = ({ serverId, notice }: Server) => [
      notice.accepting ? 0 : 1,
      hasRoom(notice) ? 0 : 1,
      modelFor(notice, wanted)?.state === 'LOADED' ? 0 : 1,
      sessionId === '' && serverId === here ? 0 : 1,
      loadOf(notice),
      lot(serverId, sessionId),
    ];
    const ranks = new Map(workers.map((worker) => [worker, rank(worker)]));
    return (fitting.length > 0 ? fitting : workers)
      .sort((a, b) => compare(ranks.get(a) as number[], ranks.get(b) as number[]))
      .map(({ serverId }) => serverId);
  }

  /**
   * Whether this server is to go on with a session that has lost its owner. Politely, it is for one server, and all come to
   * the same answer.
   */
  mayTakeUp(session: Session, politely: boolean): boolean {
    const ranked = this.ranked(session, session.id);
    return politely ? ranked[0] === this.cluster.serverId : ranked.includes(this.cluster.serverId);
  }

  /** Of a session that another server generates, as far as it was heard of. */
  speedOf(sessionId: string): number | undefined {
    return this.others().find(({ notice }) => sessionId in notice.speeds)?.notice.speeds[sessionId];
  }

  /**
   * Asks one server after another until one does it. What it is asked must be the same when it is done twice, because an
   * answer may get lost.
   */
  async place<Name extends CommandName>(
    wanted: Wanted,
    name: Name,
    input: Input<Name>,
    here: () => Promise<Output<Name>>,
    /** False where something else is tried when no server does it. */
    last = true,
  ): Promise<Output<Name>> {
    const encoded = (id: string) => encodeCommand({ id, name, input } as Command);
    const message = encoded(randomUUID());
    const asked = () => createHash('sha256').update(encoded('')).digest('base64');
    let refusal: DomainError | undefined;
    for (const serverId of this.ranked(wanted)) {
      try {
        const reply = serverId === this.cluster.serverId ? here() : await this.ask(name, message, serverId);
        if (reply !== undefined) {
          const output = await reply;
          if (this.standing.demand.waiting() > 0) this.standing.demand.serve(asked());
          return output;
        }
        refusal ??= this.noAnswer();
      } catch (error) {
        if (!(error instanceof DomainError) || !TRY_ANOTHER.has(error.code)) throw error;
        if (refusal?.code !== 'AT_CAPACITY') refusal = error;
      }
    }
    refusal ??= this.nobodyThere();
    if (last && refusal.code === 'AT_CAPACITY') this.standing.demand.refuse(asked());
    throw refusal;
  }

  private async ask<Name extends CommandName>(
    name: Name,
    message: string,
    serverId: string,
  ): Promise<Output<Name> | undefined> {
    const reply = await this.cluster.send('', message, serverId);
    return reply === undefined ? undefined : decodeReply(name, reply);
  }

  /** What is asked for at one server after another, because an answer got lost, has a key, so that it is made once. */
  onceAnywhere<Input extends { idempotencyKey?: string }>(input: Input): Input {
    if (input.idempotencyKey !== undefined || !this.hasOthers) return input;
    return { ...input, idempotencyKey: `made ${randomUUID()}` };
  }

  /** Asks another server to go on at once with what this one generated until now; if none does, they find it by looking. */
  async handOver(session: Session, clock: Clock): Promise<void> {
    if (session.state !== 'PAUSED' || session.reason !== 'WORKER_LOST') return;
    const next = this.ranked(session, session.id).find((serverId) => serverId !== this.cluster.serverId);
    if (next === undefined) return;
    const message = encodeCommand({ id: randomUUID(), name: 'takeUp', input: { sessionId: session.id } });
    await Promise.race([this.cluster.send('', message, next), clock.sleep(HAND_OVER)]);
  }

  /** Of what only a server that generates can do with a session. */
  refusal(sessionId: string): DomainError {
    this.standing.demand.refuse(sessionId);
    return this.nobodyThere();
  }

  private nobodyThere(): DomainError {
    return new DomainError('AT_CAPACITY', this.nobody(), { retryAfterSeconds: RETRY_SECONDS });
  }

  private workers(): Server[] {
    const others = this.others();
    if (!this.standing.hosts) return others;
    return [{ serverId: this.cluster.serverId, notice: this.standing.notice() }, ...others];
  }

  private others(): Server[] {
    return this.peers().filter(({ notice }) => notice.hosts);
  }

  /** The other servers of this store. */
  private peers(): Server[] {
    const { deployment } = this.standing;
    return this.cluster.peers().flatMap(({ serverId, notice: text }) => {
      if (serverId === this.cluster.serverId) return [];
      const { notice } = this.notices.memo(text);
      return notice?.deployment === deployment ? [{ serverId, notice }] : [];
    });
  }

  private nobody(): string {
    const { trouble } = this.cluster;
    if (trouble !== undefined) return `The servers that generate cannot be reached: ${trouble} Try again.`;
    return `No server that generates is there; try again in ${RETRY_SECONDS} seconds.`;
  }

  private noAnswer(): DomainError {
    const why = this.cluster.trouble ?? 'No answer came in time.';
    return new DomainError('AT_CAPACITY', `The servers that generate do not answer. ${why} Try again.`, {
      retryAfterSeconds: RETRY_SECONDS,
    });
  }
}

function modelFor({ models, encoders }: Notice, wanted: Wanted): ModelInfo | undefined {
  if ('modelDigest' in wanted) {
    return encoders.includes(encoderOf(wanted)) ? findModel(models, wanted) : undefined;
  }
  return wanted.model === undefined ? models[0] : models.find(({ name }) => name === wanted.model);
}

/** Spreads sessions over servers that are alike: the same for everybody who asks. */
function lot(serverId: string, sessionId: string): number {
  return createHash('sha256').update(`${serverId} ${sessionId}`).digest().readUInt32LE();
}

function compare(a: readonly number[], b: readonly number[]): number {
  const index = a.findIndex((value, at) => value !== b[at]);
  return index < 0 ? 0 : (a[index] as number) - (b[index] as number);
}
