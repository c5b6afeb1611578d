import { expect } from 'vitest';
import { LocalCluster, LocalWire } from '../../src/cluster/index.js';
import {
  DEFAULT_POLICY,
  type EncoderName,
  type FrameChunk,
  type Jobs,
  type ModelInfo,
  type SessionEvent,
  type SessionPolicy,
  SessionService,
  type SessionState,
  type StateReason,
  type StoredEvent,
  type SubscribeOptions,
} from '../../src/sessions/index.js';
import { FakeEngine, type FakeTimes } from './fake-engine.js';
import { FakeMedia } from './fake-media.js';
import { Mortal } from './mortal.js';
import { MemoryStore } from './memory-store.js';
import { VirtualClock } from './virtual-clock.js';

export interface World {
  clock: VirtualClock;
  store: MemoryStore;
  engine: FakeEngine;
  media: FakeMedia;
  service: SessionService;
  /** Ends the process as `kill -9` does. */
  crash(): void;
  /** Keeps the process from reaching the store, as a network that is cut does, or lets it again. */
  away(cut: boolean): void;
  /** Makes the store take so long before it does what the process asks, and as long to answer. */
  slow(milliseconds: number): void;
}

export interface WorldOptions {
  times?: FakeTimes;
  policy?: Partial<SessionPolicy>;
  models?: ModelInfo[];
  encoders?: EncoderName[] | undefined;
  /** That servers reach each other through; a server is alone when absent. */
  wire?: LocalWire;
  /** False for a server that generates nothing. */
  hosts?: boolean;
  /** In this process when absent. */
  jobs?: Jobs | undefined;
  /** Continue where another world's process died. */
  after?: { clock: VirtualClock; store: MemoryStore };
}

/** A whole service with fakes around the real domain. */
export function makeWorld({
  times,
  policy,
  models,
  encoders,
  after,
  wire = new LocalWire(),
  hosts = true,
  jobs,
}: WorldOptions = {}): World {
  const clock = after?.clock ?? new VirtualClock();
  const store = after?.store ?? new MemoryStore();
  const process = new Mortal(clock);
  const engine = new FakeEngine(process.clock(clock), times, models);
  const media = new FakeMedia();
  if (encoders) media.encoders = encoders;
  const service = new SessionService({
    ...(hosts && { engine }),
    media,
    store: process.store(store),
    // Its process is the test's, which outlives it, and need not be looked up at every beat.
    cluster: new LocalCluster(wire, ''),
    clock: process.clock(clock),
    jobs,
    policy,
  });
  return {
    clock,
    store,
    engine,
    media,
    service,
    crash: () => process.kill(),
    away: (cut) => process.cut(cut),
    slow: (ms) => process.slow(ms),
  };
}

/** Another process over the same store, after this one has crashed and its lease is over. */
export async function successorOf(world: World, options: WorldOptions = {}): Promise<World> {
  world.crash();
  const next = makeWorld({ ...options, after: world });
  await next.clock.until(next.service.start());
  await next.clock.advance((options.policy?.leaseSeconds ?? DEFAULT_POLICY.leaseSeconds) * 1_500);
  return next;
}

/** Writes the record as whoever may write to the store can, without a checksum: `parent` is the session's parent now. */
export function makeParent({ store }: Pick<World, 'store'>, id: string, parent: string): Promise<unknown> {
  const key = `sessions/${id}/session.json`;
  const record = JSON.parse(store.text(key)) as { snapshot: object };
  const snapshot = { ...record.snapshot, parent: { sessionId: parent, chunk: 5 } };
  const unsealed = { ...record, formatVersion: 1, snapshot, check: undefined };
  return store.put(key, new TextEncoder().encode(JSON.stringify(unsealed)));
}

/** Everything a subscription gives until it ends or `enough` says so. */
export async function read(
  { service }: World,
  sessionId: string,
  options: SubscribeOptions = {},
  enough: (event: SessionEvent, all: SessionEvent[]) => boolean = () => false,
): Promise<SessionEvent[]> {
  const all: SessionEvent[] = [];
  for await (const event of service.subscribe(sessionId, options)) {
    all.push(event);
    if (enough(event, all)) break;
  }
  return all;
}

export function stored(events: SessionEvent[]): StoredEvent[] {
  return events.filter((event) => event.type !== 'Heartbeat');
}

export function chunksOf(events: SessionEvent[]): FrameChunk[] {
  return events.filter((event): event is FrameChunk => event.type === 'FrameChunk');
}

export function statesOf(events: SessionEvent[]): [SessionState, StateReason | undefined][] {
  return events
    .flatMap((event) => (event.type === 'StateChanged' ? [[event.state, event.reason] as const] : []))
    .map(([state, reason]) => [state, reason]);
}

/** What is stored of a session from its beginning to its end, with media. */
export async function readToEnd(world: World, id: string): Promise<StoredEvent[]> {
  return stored(await world.clock.until(read(world, id, { inline: true })));
}

/** Neither the log nor the video has a hole. */
export function expectWhole(events: StoredEvent[], count: number): void {
  expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, i) => i + 1));
  expect(chunksOf(events).map(({ chunk }) => chunk)).toEqual(Array.from({ length: count }, (_, i) => i));
}

/** Small deterministic random numbers (mulberry32). */
export function randomOf(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
