import { type LiveClient, createClient } from '../client.js';
import { RequestError } from '../errors.js';
import type { Operation, Sink, Stop, Wire } from '../wire/wire.js';
import { MockSession, type Position } from './mock-session.js';

export interface MockOptions {
  /** Sessions that may run at once; beyond them a session waits, or `create` meets `AtCapacityError`. */
  capacity?: number;
  /** Sessions that may wait for room, all where it is not given. */
  maxQueued?: number;
  /** What one chunk lasts. */
  chunkSeconds?: number;
}

type Variables = Record<string, unknown>;

/** A service in memory. Nothing happens in it by itself: `step` makes the next chunk of a session. */
export class MockService implements Wire {
  readonly sessions = new Map<string, MockSession>();
  /** The operations that were asked for, in order. */
  readonly asked: { readonly name: string; readonly variables: Variables }[] = [];
  private readonly open = new Set<{ session: MockSession; sink: Sink<never> }>();
  private refusal: Error | undefined;

  constructor(private readonly options: MockOptions = {}) {}

  client(): LiveClient {
    return createClient({ url: 'http://mock.invalid/', wire: this });
  }

  /** Makes the next chunk; a prompt that waits takes effect before it. */
  step(id: string): void {
    this.find(id)?.step();
  }

  end(id: string): void {
    this.find(id)?.end('COMPLETED');
    this.moveUp();
  }

  /** Breaks every connection that is open; what reads resumes by itself. */
  cut(error: Error = new Error('cut')): void {
    for (const { sink } of [...this.open]) sink.error(error);
    this.open.clear();
  }

  /** The next request fails with it. */
  refuseOnce(error: Error): void {
    this.refusal = error;
  }

  async request<Data, Given>(operation: Operation<Data, Given>, given: Given, signal?: AbortSignal): Promise<Data> {
    signal?.throwIfAborted();
    const variables = given as Variables;
    const name = nameOf(operation.text);
    this.asked.push({ name, variables });
    const refusal = this.refusal;
    this.refusal = undefined;
    if (refusal) throw refusal;
    const answer = this.answer(name, variables) as Data;
    this.moveUp();
    return answer;
  }

  async file(url: string): Promise<Uint8Array<ArrayBuffer>> {
    return new TextEncoder().encode(url);
  }

  subscribe<Data, Given>(_operation: Operation<Data, Given>, given: Given, sink: Sink<Data>): Stop {
    const { id, after } = given as { id: string; after: string | null };
    const session = this.find(id);
    const entry = { session: session as MockSession, sink: sink as Sink<never> };
    queueMicrotask(() => {
      if (!session) {
        sink.next({ sessionStream: notFound() } as Data);
        return sink.complete();
      }
      this.open.add(entry);
      sink.open();
      session.follow(after, sink);
    });
    return () => {
      this.open.delete(entry);
      session?.leave(sink);
    };
  }

  close(): void {
    this.open.clear();
  }

  private find(id: string): MockSession | undefined {
    return this.sessions.get(id);
  }

  private answer(name: string, variables: Variables): unknown {
    const session = this.find((variables['id'] ?? variables['sessionId']) as string);
    switch (name) {
      case 'GetService':
        return { service: { version: 'mock', accepting: true, detail: null, heartbeatSeconds: 10 } };
      case 'CreateSession':
        return { createSession: this.create(variables['input'] as Variables) };
      case 'ForkSession':
        return {
          forkSession: session
            ? this.create({ ...variables, prompt: variables['prompt'] ?? session.prompt })
            : notFound(),
        };
      case 'GetModels':
        return { models: [] };
      case 'ListSessions':
        return { sessions: this.list(variables) };
      case 'GetPrompts':
        return { session: session?.prompts() ?? notFound() };
      case 'GetSession':
        return { session: session?.facts() ?? notFound() };
      case 'SwitchPrompt':
        return { switchPrompt: session?.switch(variables) ?? notFound() };
      case 'PlanPrompt':
        return { planPrompt: session?.plan(variables) ?? notFound() };
      case 'MovePrompt':
        return { movePrompt: session?.move(variables) ?? notFound() };
      case 'CancelPrompt':
        return { cancelPrompt: session?.cancel(variables) ?? notFound() };
      case 'GetPlanned':
        return { session: session?.planned() ?? notFound() };
      case 'AcknowledgePlayback':
        session?.positions.set(variables['viewer'] as string, variables as unknown as Position);
        return { acknowledgePlayback: { __typename: 'PlaybackAcknowledged', heard: session !== undefined } };
      case 'PauseSession':
        return { pauseSession: session?.become('PAUSED') ?? notFound() };
      case 'ResumeSession':
        return { resumeSession: session?.become('LIVE') ?? notFound() };
      case 'StopSession':
        return { stopSession: session?.end('STOPPED') ?? notFound() };
      case 'UpdateSession':
        return { updateSession: session?.update(variables) ?? notFound() };
      case 'DeleteSession':
        this.sessions.delete(variables['id'] as string);
        return { deleteSession: { __typename: 'DeletedSession', deletedAt: new Date().toISOString() } };
      default:
        throw new RequestError(`The mock does not answer ${name}.`);
    }
  }

  private get running(): number {
    return [...this.sessions.values()].filter(({ ended, queued }) => !ended && !queued).length;
  }

  private get line(): MockSession[] {
    return [...this.sessions.values()].filter(({ queued }) => queued);
  }

  /** Who waits gets what room there is. */
  private moveUp(): void {
    while (this.running < (this.options.capacity ?? Infinity) && this.line[0]) this.line[0].moveUp(0);
    this.line.forEach((session, index) => session.moveUp(index + 1));
  }

  /** All of them on one page. */
  /** Words are looked for as they are. */
  private list({ search, favourite }: Variables): object {
    const words = ((search as string | undefined) ?? '').split(/\s+/);
    const found = [...this.sessions.values()].filter(
      ({ label, prompt }) =>
        (favourite == null || label.favourite === favourite) &&
        words.every((word) => `${label.title ?? ''} ${prompt}`.includes(word)),
    );
    const nodes = found.reverse().map((session) => session.facts());
    return { __typename: 'SessionConnection', nodes, pageInfo: { hasNextPage: false, endCursor: null } };
  }

  private create(input: Variables): object {
    const { capacity = Infinity, maxQueued = Infinity, chunkSeconds = 0.75 } = this.options;
    const full = this.running >= capacity;
    const place = full ? this.line.length + 1 : 0;
    if (full && (!input['maxWaitSeconds'] || place > maxQueued)) {
      return {
        __typename: 'AtCapacityError',
        code: 'AT_CAPACITY',
        message: 'No device is free.',
        retryAfterSeconds: 2,
      };
    }
    const session = new MockSession(`mock-${this.sessions.size + 1}`, input, chunkSeconds, place);
    this.sessions.set(session.id, session);
    return session.facts();
  }
}

const notFound = () => ({ __typename: 'NotFoundError', code: 'NOT_FOUND', message: 'There is no such session.' });

export const createMock = (options?: MockOptions): MockService => new MockService(options);

const nameOf = (text: string): string => /^\w+ (\w+)/.exec(text)?.[1] as string;
