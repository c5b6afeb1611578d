import type { Sink } from '../wire/wire.js';
import { MockPrompts, type PromptVariables } from './mock-prompts.js';

/** What a viewer said of where it is. */
export interface Position {
  readonly seconds: number;
  readonly playing?: boolean;
  readonly aheadSeconds?: number;
}

type State = 'QUEUED' | 'LIVE' | 'PAUSED' | 'COMPLETED' | 'STOPPED';

/** A session of the mock: its log is a list, and a cursor the place in it. */
export class MockSession {
  ended = false;
  prompt: string;
  /** Of each viewer, what it said last. */
  readonly positions = new Map<string, Position>();
  readonly label: { title: string | null; favourite: boolean } = { title: null, favourite: false };
  private state: State = 'LIVE';
  private readonly log: { readonly cursor: string }[] = [];
  private readonly sinks = new Set<Sink<never>>();
  private readonly asked: MockPrompts;
  private chunks = 0;

  constructor(
    readonly id: string,
    private readonly input: Readonly<Record<string, unknown>>,
    private readonly chunkSeconds: number,
    /** In the line; 0 outside. */
    private place = 0,
  ) {
    this.prompt = (input['prompt'] as string | undefined) ?? '';
    this.asked = new MockPrompts(id, chunkSeconds, (event) => this.add(event));
    if (place > 0) this.state = 'QUEUED';
    const previous = place > 0 ? null : 'STARTING';
    this.add({ __typename: 'StateChanged', state: this.state, previous, reason: null, failure: null });
  }

  get queued(): boolean {
    return this.state === 'QUEUED';
  }

  /** Its place in the line has become this; 0 when it has room. */
  moveUp(place: number): void {
    if (place === this.place) return;
    this.place = place;
    if (place === 0) return void this.become('LIVE');
    for (const sink of [...this.sinks]) sink.next({ sessionStream: this.heartbeat() } as never);
  }

  step(): void {
    if (this.ended || this.queued) return;
    const due = this.asked.takeDue(this.chunks);
    if (due) this.apply(due);
    const index = this.chunks++;
    const init = {
      codec: 'avc1.42E01E',
      mimeType: 'video/mp4; codecs="avc1.42E01E"',
      url: `sessions/${this.id}/init.mp4`,
      data: null,
    };
    this.add({
      ...{
        __typename: 'FrameChunk',
        index,
        startSeconds: index * this.chunkSeconds,
        durationSeconds: this.chunkSeconds,
      },
      ...{
        byteLength: 1000,
        keyframe: true,
        generateMilliseconds: 500,
        url: `sessions/${this.id}/chunks/${index}.m4s`,
        data: null,
        init,
      },
    });
  }

  switch(variables: PromptVariables): object {
    return this.over ?? this.asked.switch(variables, this.chunks);
  }

  plan(variables: PromptVariables): object {
    return this.over ?? this.asked.plan(variables, this.chunks);
  }

  move(variables: PromptVariables): object {
    return this.over ?? this.asked.move(variables, this.chunks);
  }

  cancel({ receiptId }: PromptVariables): object {
    return this.over ?? this.asked.cancel(receiptId as string);
  }

  planned(): object {
    return { __typename: 'Session', planned: this.asked.planned() };
  }

  become(state: 'LIVE' | 'PAUSED'): object {
    if (this.over) return this.over;
    if (state !== this.state) {
      const previous = this.state;
      this.state = state;
      this.add({ __typename: 'StateChanged', state, previous, reason: 'REQUESTED', failure: null });
    }
    return this.facts();
  }

  end(state: 'COMPLETED' | 'STOPPED'): object {
    if (!this.ended) {
      this.ended = true;
      this.asked.discard();
      this.state = state;
      const reason = state === 'STOPPED' ? 'REQUESTED' : 'DURATION_REACHED';
      this.add({
        __typename: 'SessionEnded',
        state,
        reason,
        failure: null,
        chunks: this.chunks,
        seconds: this.seconds,
        artifacts: this.artifacts(),
      });
    }
    return this.facts();
  }

  update({ title, favourite }: { title?: string | null; favourite?: boolean }): object {
    if (title !== undefined) this.label.title = title;
    if (favourite !== undefined) this.label.favourite = favourite;
    return this.facts();
  }

  facts(): object {
    return {
      ...{
        __typename: 'Session',
        id: this.id,
        ...this.label,
        cursor: this.cursor,
        state: this.state,
        reason: null,
        failure: null,
        queue: this.queue,
        queuedUntil: null,
        ended: this.ended,
      },
      ...{
        prompt: this.prompt,
        seed: (this.input['seed'] as string | undefined) ?? '1',
        width: 64,
        height: 64,
        fps: 16,
        pace: this.input['pace'] ?? 'REALTIME',
      },
      ...{
        seconds: this.seconds,
        chunks: this.chunks,
        maxSeconds: this.input['maxSeconds'] ?? null,
        modelName: 'mock',
        loras: [],
        viewers: this.sinks.size,
      },
      ...{
        createdAt: new Date(0).toISOString(),
        finishedAt: this.ended ? new Date(0).toISOString() : null,
        playlistUrl: `sessions/${this.id}/index.m3u8`,
        initUrl: this.chunks > 0 ? `sessions/${this.id}/init.mp4` : null,
      },
      ...{ artifacts: this.artifacts(), parent: null },
    };
  }

  /** As `GetPrompts` tells them; the mock does not keep what took effect. */
  prompts(): object {
    return { __typename: 'Session', promptReceipts: { nodes: this.asked.all() }, timelineEntries: { nodes: [] } };
  }

  /** Everything behind the cursor, now and as it comes. */
  follow(after: string | null, sink: Sink<never>): void {
    this.sinks.add(sink);
    for (const event of this.log.slice(after === null ? 0 : Number(after) + 1))
      sink.next({ sessionStream: event } as never);
    if (this.ended) sink.complete();
    else if (this.queued) sink.next({ sessionStream: this.heartbeat() } as never);
  }

  leave(sink: Sink<never>): void {
    this.sinks.delete(sink);
  }

  private get over(): object | undefined {
    return this.ended
      ? { __typename: 'SessionEndedError', code: 'ENDED', message: 'The session has ended.' }
      : undefined;
  }

  private get queue(): object | null {
    return this.queued ? { place: this.place, waitSeconds: null } : null;
  }

  private heartbeat(): object {
    const { state, queue, cursor } = this;
    return { __typename: 'Heartbeat', cursor, at: new Date().toISOString(), state, reason: null, failure: null, queue };
  }

  private get seconds(): number {
    return this.chunks * this.chunkSeconds;
  }

  private get cursor(): string {
    return String(this.log.length - 1);
  }

  private artifacts(): object[] {
    if (!this.ended) return [];
    const file = { kind: 'MP4', url: `sessions/${this.id}/video.mp4`, bytes: 1000, contentType: 'video/mp4' };
    return [{ ...file, expiresAt: new Date(0).toISOString() }];
  }

  private apply({ id, prompt, mode }: { id: string; prompt: string; mode: string }): void {
    this.prompt = prompt;
    this.add({
      ...{ __typename: 'PromptApplied', receiptId: id, prompt, mode, block: this.chunks, frame: this.chunks * 12 },
      ...{ seconds: this.seconds, wholeSeconds: this.seconds, recacheMilliseconds: 10, waitedMilliseconds: 100 },
    });
  }

  private add(event: object): void {
    const told = { ...event, cursor: String(this.log.length), at: new Date().toISOString() };
    this.log.push(told);
    for (const sink of [...this.sinks]) sink.next({ sessionStream: told } as never);
    if (this.ended) for (const sink of [...this.sinks]) sink.complete();
  }
}
