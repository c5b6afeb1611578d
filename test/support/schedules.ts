/**
 * Random schedules over two servers on one store: what clients ask, what breaks, and what must hold whatever happens.
 * A schedule is data, so that one that fails can be made smaller and run again.
 */

import fc from 'fast-check';
import {
  type DomainErrorCode,
  DomainError,
  type Session,
  StoreError,
  type SwitchWhen,
} from '../../src/sessions/index.js';
import { checkOutcome } from './schedule-outcome.js';
import { FAKE_MODEL } from './fake-engine.js';
import { makeWorld, randomOf, type World } from './fake-service.js';
import { MemoryStore } from './memory-store.js';
import { quiescence, VirtualClock } from './virtual-clock.js';

export const POLICY = {
  maxSessions: 3,
  maxQueued: 3,
  idleSeconds: 40,
  storeRetrySeconds: 8,
  leaseSeconds: 6,
  checkpointBlocks: 2,
  pausedInMemory: 1,
  heartbeatSeconds: 20,
} as const;

/** Blocks of six seconds and steps of half a second: a schedule lasts minutes and is over in some milliseconds. */
const MODEL = { ...FAKE_MODEL, fps: 2 };
const TIMES = { step: 300, recache: 100 };

type Server = 0 | 1;
type FaultKind = 'unreachable' | 'denied' | 'conflict' | 'lost answers';

export type Step =
  | {
      do: 'create';
      server: Server;
      key: number | null;
      story: number;
      fastest: boolean;
      maxSeconds: number | null;
      wait: number | null;
    }
  | { do: 'switch'; server: Server; session: number; when: SwitchWhen; key: number | null; chunks: number | null }
  | { do: 'stop' | 'pause'; server: Server; session: number }
  | { do: 'resume' | 'fork'; server: Server; session: number; wait: number | null }
  | { do: 'move'; server: Server; session: number; prompt: number; block: number | null }
  | { do: 'watch'; server: Server; session: number }
  | { do: 'leave' }
  | { do: 'crash' | 'restart'; server: Server }
  | { do: 'cut'; server: Server; cut: boolean }
  | { do: 'slow'; server: Server; milliseconds: number }
  | { do: 'fail'; kind: FaultKind; share: number; seed: number }
  | { do: 'heal' }
  | { do: 'wait'; milliseconds: number };

const server = fc.constantFrom<Server>(0, 1);
const session = fc.nat({ max: 3 });
const mostly = <T>(value: T, other: fc.Arbitrary<T>) => fc.oneof({ weight: 2, arbitrary: fc.constant(value) }, other);

/** How long something may wait for room, in seconds. */
const wait = mostly<number | null>(null, fc.constantFrom(5, 500));

export const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('create' as const),
      server,
      key: mostly<number | null>(null, fc.nat({ max: 1 })),
      story: fc.nat({ max: 1 }),
      fastest: fc.boolean(),
      maxSeconds: mostly<number | null>(null, fc.constantFrom(10, 40)),
      wait,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('switch' as const),
      server,
      session,
      when: fc.oneof(
        fc.constantFrom<SwitchWhen>('NEXT_BLOCK', 'IMMEDIATE'),
        fc.nat({ max: 8 }).map((block) => ({ block })),
      ),
      key: mostly<number | null>(null, fc.nat({ max: 1 })),
      chunks: mostly<number | null>(null, fc.constantFrom(2, 5)),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('stop' as const, 'pause' as const, 'watch' as const),
      server,
      session,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('resume' as const, 'resume' as const, 'fork' as const),
      server,
      session,
      wait,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('move' as const),
      server,
      session,
      prompt: fc.nat({ max: 2 }),
      /** Null takes it back. */
      block: fc.option(fc.nat({ max: 8 })),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'leave' as const }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('crash' as const, 'restart' as const), server }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('cut' as const), server, cut: fc.boolean() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('slow' as const),
      server,
      milliseconds: fc.constantFrom(0, 300, 3_000, 12_000),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('fail' as const),
      kind: fc.constantFrom<FaultKind>('unreachable', 'denied', 'conflict', 'lost answers'),
      share: fc.constantFrom(0.1, 0.4, 1),
      seed: fc.nat(),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ do: 'heal' as const }) },
  {
    weight: 7,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      milliseconds: fc.constantFrom(0, 10, 500, 3_000, 9_000, 45_000),
    }),
  },
);

/** Steps that ask a server for something and get an answer. */
type Asking = Extract<Step, { do: 'create' | 'switch' | 'move' | Command | 'fork' }>;
type Command = 'stop' | 'pause' | 'resume';

/** What the clients of a schedule were told. */
export interface Told {
  /** Ids by idempotency key and story. */
  readonly keyed: Map<string, string>;
  readonly ids: Set<string>;
  readonly stopped: Set<string>;
  /** Receipts by session. */
  readonly receipts: Map<string, Set<string>>;
  /** Where prompts were moved to last, or null where they were taken back, as far as that was answered; by receipt. */
  readonly moved: Map<string, number | null>;
}

interface Asked {
  step: Asking | Step;
  by: World;
  settled: boolean;
}

/** What a client may be told when something else was asked for or something is broken. */
const EXPECTED: ReadonlySet<DomainErrorCode> = new Set<DomainErrorCode>([
  'AT_CAPACITY',
  'CONFLICT',
  'ENDED',
  'INVALID_INPUT',
  'NOT_FOUND',
  'OWNED_ELSEWHERE',
  'SHUTTING_DOWN',
  'STORAGE',
]);

export class Schedule {
  readonly clock = new VirtualClock();
  readonly store = new MemoryStore();
  readonly told: Told = { keyed: new Map(), ids: new Set(), stopped: new Set(), receipts: new Map(), moved: new Map() };
  private readonly servers: [World, World];
  private readonly asked: Asked[] = [];
  private readonly crashed = new Set<World>();
  private readonly problems: string[] = [];
  /** How often each was to be moved: what several ask for at once is known by the log alone. */
  private readonly moves = new Map<string, number>();
  private watchers: AbortController[] = [];

  constructor() {
    this.servers = [this.open(), this.open()];
  }

  async run(steps: readonly Step[]): Promise<void> {
    for (const next of steps) {
      await this.take(next);
      this.checkPlaces();
      this.complain();
    }
    await this.end();
  }

  private open(): World {
    const world = makeWorld({ models: [MODEL], times: TIMES, policy: POLICY, after: this });
    world.service.start().catch((error: unknown) => {
      if (!(error instanceof DomainError)) this.problems.push(`start: ${String(error)}`);
    });
    return world;
  }

  // ---- steps --------------------------------------------------------------------------------------------------------

  private async take(next: Step): Promise<void> {
    switch (next.do) {
      case 'wait':
        return this.clock.advance(next.milliseconds);
      case 'heal':
        return void (this.store.fault = () => undefined);
      case 'fail':
        return this.fail(next);
      case 'slow':
        return this.servers[next.server].slow(next.milliseconds);
      case 'cut':
        return this.servers[next.server].away(next.cut);
      case 'leave':
        for (const watcher of this.watchers.splice(0)) watcher.abort();
        return;
      case 'crash':
      case 'restart':
        return this.replace(next.server, next.do === 'crash');
      case 'watch':
        return this.watch(next.server, next.session);
      default:
        this.ask(next);
        await quiescence();
    }
  }

  private replace(at: Server, crash: boolean): void {
    const world = this.servers[at];
    if (crash) {
      world.crash();
      this.crashed.add(world);
    } else {
      this.track({ do: 'restart', server: at }, world, world.service.shutdown());
    }
    this.servers[at] = this.open();
  }

  private fail({ kind, share, seed }: { kind: FaultKind; share: number; seed: number }): void {
    const random = randomOf(seed);
    const errors = {
      unreachable: new StoreError('UNREACHABLE', 'no route to host'),
      'lost answers': new StoreError('UNREACHABLE', 'the answer got lost'),
      denied: new StoreError('DENIED', 'wrong key'),
      conflict: new StoreError('CONFLICT', 'ConditionalRequestConflict'),
    };
    this.store.fault = (operation) => {
      if (random() >= share) return undefined;
      if (kind === 'conflict' && operation !== 'put') return undefined;
      return { when: kind === 'lost answers' ? 'after' : 'before', error: errors[kind] };
    };
  }

  private watch(at: Server, index: number): void {
    const id = this.idAt(index);
    if (id === undefined) return;
    const closed = new AbortController();
    this.watchers.push(closed);
    const { service } = this.servers[at];
    const follow = async () => {
      let expected: number | undefined;
      for await (const event of service.subscribe(id, { signal: closed.signal })) {
        if (event.type === 'Heartbeat') continue;
        if (event.sequence !== (expected ?? event.sequence)) this.problems.push(`a stream of ${id} has a hole`);
        expected = event.sequence + 1;
      }
    };
    // A stream may break while the store fails; what it gave until then is in order.
    follow().catch((error: unknown) => this.expect('watch', error));
  }

  private ask(next: Asking): void {
    const world = this.servers[next.server];
    if (next.do === 'create') return this.create(world, next);
    const id = this.idAt(next.session);
    if (id === undefined) return;
    if (next.do === 'fork') {
      return this.track(
        next,
        world,
        world.service.forkSession(id, mayWait(next.wait)).then((made) => void this.told.ids.add(made.id)),
      );
    }
    if (next.do === 'switch') {
      const { when, key, chunks } = next;
      const input = {
        prompt: `p${key ?? this.asked.length}`,
        when,
        ...(key !== null && { idempotencyKey: `s${key}` }),
        ...(chunks !== null && { transition: { chunks } }),
      };
      const noted = world.service.switchPrompt(id, input).then((receipt) => {
        this.told.receipts.set(id, (this.told.receipts.get(id) ?? new Set()).add(receipt.id));
      });
      return this.track(next, world, noted);
    }
    if (next.do === 'move') return this.move(world, id, next);
    const stops = next.do === 'stop';
    const answer =
      next.do === 'resume'
        ? world.service.resumeSession(id, mayWait(next.wait))
        : world.service[stops ? 'stopSession' : 'pauseSession'](id);
    const noted = answer.then(({ state }) => {
      if (stops && state !== 'STOPPED' && state !== 'COMPLETED' && state !== 'FAILED') {
        this.problems.push(`stop was answered with ${state}`);
      }
      if (stops) this.told.stopped.add(id);
      if (!stops && this.told.stopped.has(id) && state === 'LIVE') this.problems.push('a stopped session went on');
    });
    this.track(next, world, noted);
  }

  private move(world: World, id: string, next: Extract<Step, { do: 'move' }>): void {
    const receipts = [...(this.told.receipts.get(id) ?? [])];
    const receiptId = receipts[next.prompt % Math.max(1, receipts.length)];
    if (receiptId === undefined) return;
    const { block } = next;
    const { service } = world;
    const moving =
      block === null
        ? service.cancelPrompt(id, receiptId)
        : service.movePrompt(id, receiptId, { atBlock: block, prompt: `m${this.asked.length}` });
    // What is not answered may have been done all the same; so nothing is known of it.
    this.told.moved.delete(receiptId);
    const unknown = this.moves.get(receiptId) ?? 0;
    this.moves.set(receiptId, unknown + 1);
    const noted = moving.then(({ status }) => {
      if (this.moves.get(receiptId) !== 1 && status !== 'CANCELLED') return;
      this.told.moved.set(receiptId, status === 'CANCELLED' ? null : block);
    });
    this.track(next, world, noted);
  }

  private create(world: World, next: Extract<Step, { do: 'create' }>): void {
    const { key, story, fastest, maxSeconds, wait } = next;
    const creating = world.service.createSession({
      prompt: `story ${story}`,
      pace: fastest ? 'FASTEST' : 'REALTIME',
      seed: 1n,
      ...mayWait(wait),
      ...(maxSeconds !== null && { maxSeconds }),
      ...(key !== null && { idempotencyKey: `k${key}` }),
    });
    const noted = creating.then(({ id }) => {
      this.told.ids.add(id);
      if (key === null) return;
      const known = this.told.keyed.get(`k${key}`);
      if (known !== undefined && known !== id) this.problems.push(`key ${key} made two sessions`);
      this.told.keyed.set(`k${key}`, id);
    });
    this.track(next, world, noted);
  }

  private idAt(index: number): string | undefined {
    const ids = [...this.told.ids];
    return ids[index % Math.max(1, ids.length)];
  }

  private track(asked: Asked['step'], by: World, work: Promise<void>): void {
    const entry: Asked = { step: asked, by, settled: false };
    this.asked.push(entry);
    work.catch((error: unknown) => this.expect(asked.do, error)).finally(() => (entry.settled = true));
  }

  private expect(what: string, error: unknown): void {
    if (error instanceof DomainError && EXPECTED.has(error.code)) return;
    this.problems.push(
      `${what} was answered with ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    );
  }

  // ---- what must hold -----------------------------------------------------------------------------------------------

  private alive(): World[] {
    return this.servers.filter((world) => !this.crashed.has(world));
  }

  /** A server holds no more in memory than it has places for, and has a place for whatever it generates. */
  private checkPlaces(): void {
    for (const world of this.alive()) {
      const running = runningAt(world);
      if (running > POLICY.maxSessions) this.problems.push(`${running} sessions run in ${POLICY.maxSessions} places`);
      const most = Math.min(POLICY.maxSessions, running + POLICY.pausedInMemory);
      if (world.engine.active > most) {
        this.problems.push(`${world.engine.active} generations are in memory, ${running} sessions run`);
      }
    }
  }

  private complain(): void {
    if (this.problems.length > 0) throw new Error(this.problems.join('\n'));
  }

  /** Everything works again: what was asked is answered, every session is stopped, and the store tells the truth of it all. */
  private async end(): Promise<void> {
    this.store.fault = () => undefined;
    for (const world of this.servers) {
      world.away(false);
      world.slow(0);
    }
    await this.clock.advance(60_000);
    for (const watcher of this.watchers) watcher.abort();
    const open = this.asked.filter(({ settled, by }) => !settled && !this.crashed.has(by));
    for (const { step: asked } of open) this.problems.push(`never answered: ${JSON.stringify(asked)}`);
    this.checkOwners();
    const all = await this.allSessions();
    this.checkLine(all);
    this.complain();
    for (const { id } of all) await this.stop(id);
    await this.clock.advance(60_000);
    for (const world of this.servers) {
      if (runningAt(world) > 0) this.problems.push('a place is taken though nothing is left');
      if (world.engine.active > 0) this.problems.push('a generation is in memory though nothing is left');
      if (world.media.openEncoders > 0) this.problems.push('an encoder is open though nothing is left');
    }
    for (const { id } of all) this.problems.push(...(await checkOutcome(this, id, this.told)));
    for (const id of this.told.ids) if (!all.some((other) => other.id === id)) this.problems.push(`${id} is lost`);
    this.complain();
  }

  private checkOwners(): void {
    const owners = this.alive().map(({ service }) => service.status().sessions);
    for (const states of owners) {
      for (const state of ['QUEUED', 'STARTING'] as const) {
        if ((states[state] ?? 0) > 0) this.problems.push(`a session is ${state} a minute after everything works`);
      }
    }
    for (const world of this.alive()) {
      const { LIVE = 0 } = world.service.status().sessions;
      if (LIVE !== runningAt(world))
        this.problems.push(`${LIVE} sessions are LIVE, ${runningAt(world)} places are taken`);
    }
  }

  /** Nobody waits for what is there; the line is of those that wait, and no other. */
  private checkLine(all: readonly Session[]): void {
    const waiting = all.filter(({ state, wait }) => state === 'QUEUED' && wait !== undefined);
    const inLine = [...this.store.objects.keys()].filter((key) => key.startsWith('waiting/'));
    const expected = waiting.map(({ id, wait }) => `waiting/${wait?.since}-${id}`).sort();
    if (expected.join() !== inLine.sort().join()) {
      this.problems.push(`the line is ${inLine.join()}, those that wait are ${expected.join()}`);
    }
    const idle = this.alive().filter((world) => runningAt(world) === 0);
    if (waiting.length > 0 && idle.length > 0) this.problems.push('a session waits though a server has nothing to do');
    const places = waiting.map(({ queue }) => queue?.place).sort();
    if (places.join() !== waiting.map((_, index) => index + 1).join()) {
      this.problems.push(`those that wait are at the places ${places.join()}`);
    }
  }

  private async allSessions(): Promise<Session[]> {
    const { items } = await this.clock.until(this.servers[0].service.sessions({ first: 100 }));
    return items;
  }

  /** At whichever server has it. */
  private async stop(id: string): Promise<void> {
    for (let attempt = 0; attempt < 20; attempt++) {
      for (const { service } of this.alive()) {
        try {
          await this.clock.until(service.stopSession(id));
          this.told.stopped.add(id);
          return;
        } catch (error) {
          this.expect('stop', error);
          this.complain();
        }
      }
      await this.clock.advance(2_000);
    }
    this.problems.push(`${id} could not be stopped though everything works`);
  }
}

const mayWait = (wait: number | null) => (wait === null ? {} : { maxWaitSeconds: wait });

function runningAt(world: World): number {
  return world.service
    .status()
    .devices.reduce((sum, { realtimeSessions, fastestSessions }) => sum + realtimeSessions + fastestSessions, 0);
}
