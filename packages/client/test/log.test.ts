import fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ConnectionError, UnauthorizedError } from '../src/errors.js';
import { readLog } from '../src/log.js';
import type { Operation, Sink, Stop, Wire } from '../src/wire/wire.js';

interface Told {
  readonly __typename: string;
  readonly cursor: string;
  readonly index?: number;
}

const CHUNKS = 12;
/** Chunks with a prompt before every third one, then the end. */
const LOG: readonly Told[] = [
  ...Array.from({ length: CHUNKS }, (_, index) => [
    ...(index % 3 === 1 ? [{ __typename: 'PromptApplied', receiptId: `r${index}` }] : []),
    { __typename: 'FrameChunk', index, url: `c/${index}`, init: { url: 'init' } },
  ]).flat(),
  { __typename: 'SessionEnded', state: 'COMPLETED', chunks: CHUNKS, artifacts: [] },
].map((event, place) => ({ ...event, cursor: `c${place}` }));

/** What a connection does to the events that it carries. */
interface Fate {
  /** So many are carried, then it ends like this. */
  readonly length: number;
  readonly end: 'error' | 'complete' | 'silence';
  /** Places at which the event before comes again, or one is lost. */
  readonly twice: readonly number[];
  readonly lost: readonly number[];
  /** After it is over, it brings events of its own all the same. */
  readonly late: boolean;
}

class FatefulWire implements Wire {
  readonly after: (string | null)[] = [];
  private readonly sinks: Sink<never>[] = [];

  constructor(
    private readonly fates: readonly Fate[],
    private readonly log = LOG,
  ) {}

  subscribe<Data, Given>(_operation: Operation<Data, Given>, given: Given, sink: Sink<Data>): Stop {
    const { after } = given as { after: string | null };
    const fate = this.fates[this.after.length];
    this.after.push(after);
    for (const former of this.sinks) former.next({ sessionStream: this.log[0] } as never);
    queueMicrotask(() =>
      this.carry(this.log.slice(1 + this.log.findIndex(({ cursor }) => cursor === after)), fate, sink),
    );
    return () => undefined;
  }

  private carry<Data>(events: readonly Told[], fate: Fate | undefined, sink: Sink<Data>): void {
    const send = (event: Told): void => sink.next({ sessionStream: event } as Data);
    sink.open();
    for (const [place, event] of events.slice(0, fate?.length).entries()) {
      if (!fate?.lost.includes(place) || event.__typename !== 'FrameChunk') send(event);
      if (fate?.twice.includes(place)) for (const again of [Math.max(0, place - 1), place]) send(events[again] as Told);
    }
    if (!fate || fate.end === 'complete') sink.complete();
    if (fate?.end === 'error') sink.error(new ConnectionError('Cut.'));
    if (fate?.late) this.sinks.push(sink);
  }

  request = (): Promise<never> => Promise.reject(new Error('not asked'));
  file = (): Promise<never> => Promise.reject(new Error('not asked'));
  close(): void {}
}

const sourceOf = (wire: Wire) => ({ wire, base: 'http://service.invalid/', id: 's', silenceMilliseconds: () => 1000 });
const open = new AbortController().signal;

async function all(wire: Wire): Promise<Told[]> {
  const taken: Told[] = [];
  for await (const event of readLog(sourceOf(wire), {}, open)) taken.push(event as never);
  return taken;
}

/** Runs the clock while the work waits for it. */
async function inTime<T>(work: Promise<T>): Promise<T> {
  let over = false;
  const done = work.finally(() => (over = true));
  done.catch(() => undefined);
  while (!over) await vi.advanceTimersToNextTimerAsync();
  return done;
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const places = fc.uniqueArray(fc.nat(14), { maxLength: 3 });
const fates: fc.Arbitrary<Fate> = fc.record({
  length: fc.nat(14),
  end: fc.constantFrom('error', 'complete', 'silence'),
  twice: places,
  lost: places,
  late: fc.boolean(),
});

test('every event comes once, and chunks in order, whatever its connections do', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fates, { maxLength: 8 }), async (script) => {
      const taken = await inTime(all(new FatefulWire(script)));
      expect(taken.map(({ cursor }) => cursor).sort()).toEqual(LOG.map(({ cursor }) => cursor).sort());
      const chunks = taken.filter(({ index }) => index !== undefined).map(({ index }) => index);
      expect(chunks).toEqual(Array.from({ length: CHUNKS }, (_, index) => index));
    }),
    { numRuns: 200 },
  );
}, 60_000);

test('it goes on behind the last event that it gave, and brings the init segment once', async () => {
  const cut: Fate = { length: 4, end: 'error', twice: [], lost: [], late: false };
  const wire = new FatefulWire([cut, cut]);
  const taken = (await inTime(all(wire))) as unknown as { init?: object | null }[];
  expect(wire.after).toEqual([null, 'c3', 'c7']);
  expect(taken.filter(({ init }) => init).length).toBe(1);
});

test('a slow reader holds a bounded number of events, and misses none', async () => {
  const long = Array.from({ length: 2000 }, (_, index) => ({
    __typename: 'FrameChunk',
    cursor: `c${index}`,
    index,
    url: 'u',
    init: null,
  }));
  const log = [...long, { __typename: 'SessionEnded', cursor: 'end', state: 'COMPLETED', artifacts: [] }];
  const wire = new FatefulWire([], log);
  const taken = await inTime(all(wire));
  expect(taken.length).toBe(log.length);
  expect(wire.after).toEqual([null, 'c511', 'c1023', 'c1535']);
});

test('what repeating cannot mend ends it', async () => {
  const gone = { __typename: 'NotFoundError', code: 'NOT_FOUND', message: 'There is no such session.', cursor: '' };
  await expect(inTime(all(new FatefulWire([], [gone])))).rejects.toMatchObject({
    code: 'NOT_FOUND',
    name: 'NotFoundError',
  });
  const refusing = {
    ...new FatefulWire([]),
    subscribe: (_o: unknown, _v: unknown, sink: Sink<never>) => (sink.error(new UnauthorizedError()), () => undefined),
  };
  await expect(inTime(all(refusing as unknown as Wire))).rejects.toThrow(UnauthorizedError);
});

test('at capacity it waits as long as it is told', async () => {
  const full = {
    __typename: 'AtCapacityError',
    code: 'AT_CAPACITY',
    message: 'Full.',
    retryAfterSeconds: 7,
    cursor: '',
  };
  const wire = new FatefulWire([], [full, ...LOG]);
  const began = Date.now();
  const events = readLog(sourceOf(wire), {}, open);
  const first = events.next();
  await vi.advanceTimersByTimeAsync(6900);
  expect(wire.after.length).toBe(1);
  await vi.advanceTimersByTimeAsync(200);
  expect(wire.after.length).toBe(2);
  expect(Date.now() - began).toBeGreaterThan(6900);
  await events.return();
  await expect(first).resolves.toEqual({ done: true, value: undefined });
});

test('leaving ends a wait that is under way; a signal fails it with its reason', async () => {
  const silent: Fate = { length: 0, end: 'silence', twice: [], lost: [], late: false };
  const left = readLog(sourceOf(new FatefulWire([silent])), {}, open);
  const waiting = left.next();
  await vi.advanceTimersByTimeAsync(1);
  await left.return();
  await expect(waiting).resolves.toEqual({ done: true, value: undefined });

  const controller = new AbortController();
  const events = readLog(sourceOf(new FatefulWire([silent])), { signal: controller.signal }, open);
  const next = events.next();
  await vi.advanceTimersByTimeAsync(1);
  controller.abort(new Error('enough'));
  await expect(next).rejects.toThrow('enough');
});
