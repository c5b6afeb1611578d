import { Control, type Outcome } from './control.js';
import { type DownloadOptions, saveAs, videoUrl } from './download.js';
import { ClosedError } from './errors.js';
import type { ChunkEvent, SessionEvent } from './events.js';
import {
  AcknowledgePlayback,
  type AcknowledgePlaybackMutationVariables,
  DeleteSession,
  ForkSession,
  type ForkSessionMutationVariables,
  GetPrompts,
  GetSession,
  PauseSession,
  ResumeSession,
  type SessionFieldsFragment,
  StopSession,
  UpdateSession,
  CancelPrompt,
  GetPlanned,
  MovePrompt,
  type MovePromptMutationVariables,
  PlanPrompt,
  type PlanPromptMutationVariables,
  SwitchPrompt,
  type SwitchPromptMutation,
  type SwitchPromptMutationVariables,
} from './generated/operations.js';
import { randomKey } from './keys.js';
import { latest } from './latest.js';
import { type Events, type LogOptions, type LogSource, readLog } from './log.js';
import type { Chunk } from './player/chunk-index.js';
import { parsePlaylist } from './player/playlist.js';
import { type PromptFacts, promptsOf } from './prompts.js';
import { unwrap } from './results.js';
import type { State } from './state.js';
import { asyncDispose } from './time.js';
import type { Operation, Wire } from './wire/wire.js';

/** What the service says of a session, at the time of its answer. */
export type SessionFacts = Omit<SessionFieldsFragment, '__typename'>;

type Told<Result extends { __typename: string }, Name extends string> = Omit<
  Extract<Result, { __typename: Name }>,
  '__typename'
>;
type Given<Variables, Left extends string> = {
  -readonly [Key in keyof Omit<Variables, Left>]?: NonNullable<Variables[Key & keyof Variables]>;
};

export type { PromptFacts };
/** A chunk with a fresh URL. */
export type StoredChunk = Chunk;

export type ReceiptFacts = Told<SwitchPromptMutation['switchPrompt'], 'SwitchReceipt'>;

export interface Receipt extends ReceiptFacts {
  /** What became of the prompt: a value in every case. Fails only when the session cannot be watched any more. */
  readonly applied: Promise<Outcome>;
}

interface Cancellable {
  signal?: AbortSignal;
}

export type SwitchOptions = Given<SwitchPromptMutationVariables, 'sessionId' | 'prompt'> & Cancellable;
export type PlanOptions = Given<PlanPromptMutationVariables, 'sessionId' | 'prompt'> & Cancellable;
/** What is to change; what is left out stays. A transition of null takes it away. */
export type MoveOptions = Given<MovePromptMutationVariables, 'sessionId' | 'receiptId' | 'transition'> &
  Pick<MovePromptMutationVariables, 'transition'> &
  Cancellable;
export type LabelChanges = { title?: string | null; favourite?: boolean } & Cancellable;
export type ForkOptions = Given<ForkSessionMutationVariables, 'sessionId'> & Cancellable;

export type Position = Given<AcknowledgePlaybackMutationVariables, 'sessionId' | 'viewer' | 'seconds'> &
  Pick<AcknowledgePlaybackMutationVariables, 'viewer' | 'seconds'> &
  Cancellable;

export interface SessionParts {
  readonly wire: Wire;
  readonly base: string;
  readonly closed: AbortSignal;
  silenceMilliseconds(): number;
}

const idOf = (receipt: string | { readonly id: string }): string =>
  typeof receipt === 'string' ? receipt : receipt.id;

/** How far apart prompts are sent that are typed while the video plays. */
const TYPING_MS = 300;

/** One continuous generation. */
export class Session {
  readonly id: string;
  /** What the service said last; `refresh` asks anew. */
  facts: SessionFacts;
  private readonly control: Control;
  private readonly source: LogSource;
  private readonly closing = new AbortController();
  private readonly closed: AbortSignal;
  private readonly typed: (prompt: string) => Promise<Receipt | undefined>;

  constructor(
    private readonly parts: SessionParts,
    facts: SessionFacts,
  ) {
    this.id = facts.id;
    this.facts = this.take(facts);
    this.closed = AbortSignal.any([parts.closed, this.closing.signal]);
    this.source = {
      wire: parts.wire,
      base: parts.base,
      id: facts.id,
      silenceMilliseconds: () => parts.silenceMilliseconds(),
    };
    this.control = new Control(this.source, facts, this.closed);
    this.typed = latest((prompt: string) => this.switch(prompt), TYPING_MS);
  }

  get state(): State {
    return this.control.state;
  }

  /** Calls the listener at every event but chunks' bytes, and at every change of `state`, whatever `events` waits for. Ends by the function it gives. */
  watch(listener: (event?: SessionEvent) => void): () => void {
    return this.control.watch(listener);
  }

  /**
   * The log of the session, in order: every event once, across broken connections, until its end. It is read at the speed of
   * its reader. Keep `event.cursor` to go on there later, by `after`.
   */
  events(options: LogOptions = {}): Events {
    return readLog(this.source, options, this.closed);
  }

  /** The bytes of a chunk, or of its `init`. */
  async load(
    { data, url }: Pick<ChunkEvent, 'data' | 'url'>,
    { signal }: Cancellable = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    if (data !== null) return Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    if (url === null) throw new TypeError('No media: ask for events with another `media` than NONE.');
    return this.parts.wire.file(url, this.with(signal));
  }

  /** Asks for another prompt; answers as soon as the service has taken it. */
  async switch(prompt: string, { signal, ...options }: SwitchOptions = {}): Promise<Receipt> {
    const variables = { idempotencyKey: randomKey(), ...options, sessionId: this.id, prompt };
    const { switchPrompt } = await this.parts.wire.request(SwitchPrompt, variables, this.with(signal));
    return this.receipt(unwrap(switchPrompt));
  }

  /** A prompt for a time to come: `atSeconds` of the video, or `atBlock`. Every client sees it, and may move or cancel it. */
  async plan(prompt: string, { signal, ...options }: PlanOptions): Promise<Receipt> {
    const variables = { idempotencyKey: randomKey(), ...options, sessionId: this.id, prompt };
    const { planPrompt } = await this.parts.wire.request(PlanPrompt, variables, this.with(signal));
    return this.receipt(unwrap(planPrompt));
  }

  /** Changes a prompt that waits: its time, its text, or how it comes. `ConflictError` once it is being drawn. */
  async move(receipt: string | { readonly id: string }, { signal, ...options }: MoveOptions): Promise<Receipt> {
    const variables = { ...options, sessionId: this.id, receiptId: idOf(receipt) };
    const { movePrompt } = await this.parts.wire.request(MovePrompt, variables, this.with(signal));
    return this.receipt(unwrap(movePrompt));
  }

  /** Takes back a prompt that waits. `ConflictError` once it is being drawn. */
  async cancel(receipt: string | { readonly id: string }, { signal }: Cancellable = {}): Promise<void> {
    const variables = { sessionId: this.id, receiptId: idOf(receipt) };
    unwrap((await this.parts.wire.request(CancelPrompt, variables, this.with(signal))).cancelPrompt);
  }

  /** The prompts that wait for blocks to come, in their order; the events `requested`, `moved` and `cancelled` say when to ask again. */
  async planned({ signal }: Cancellable = {}): Promise<Receipt[]> {
    const { session } = await this.parts.wire.request(GetPlanned, { id: this.id }, this.with(signal));
    return unwrap(session).planned.map((facts) => this.receipt(facts));
  }

  /** Like `switch`, for a prompt that is being typed: only the newest is sent, a few a second. Undefined when a newer one took its place. */
  type(prompt: string): Promise<Receipt | undefined> {
    return this.typed(prompt);
  }

  /**
   * For players: how far a viewer has seen, about once a second while the picture moves and whenever it stops or goes elsewhere.
   * Generation in real time does not run ahead of that. False when nobody generates the session now.
   */
  async acknowledge({ signal, ...position }: Position): Promise<boolean> {
    const variables = { ...position, sessionId: this.id };
    const answer = await this.parts.wire.request(AcknowledgePlayback, variables, this.with(signal));
    return unwrap(answer.acknowledgePlayback).heard;
  }

  /** A new session with the video of this one up to a moment. This one stays as it is. */
  async fork({ signal, ...options }: ForkOptions = {}): Promise<Session> {
    const variables = { idempotencyKey: randomKey(), ...options, sessionId: this.id };
    const { forkSession } = await this.parts.wire.request(ForkSession, variables, this.with(signal));
    return new Session(this.parts, unwrap(forkSession));
  }

  pause({ signal }: Cancellable = {}): Promise<void> {
    return this.command(PauseSession, ({ pauseSession }) => unwrap(pauseSession), signal);
  }

  /** Where there is no room, it may wait for `maxWaitSeconds`; `state` then says at which place. */
  resume({ maxWaitSeconds, signal }: { maxWaitSeconds?: number } & Cancellable = {}): Promise<void> {
    return this.command(ResumeSession, ({ resumeSession }) => unwrap(resumeSession), signal, { maxWaitSeconds });
  }

  stop({ signal }: Cancellable = {}): Promise<void> {
    return this.command(StopSession, ({ stopSession }) => unwrap(stopSession), signal);
  }

  /** Says what people call it (null: nothing any more), or that they want to find it again; what is left out stays. */
  update({ signal, ...changes }: LabelChanges): Promise<void> {
    return this.command(UpdateSession, ({ updateSession }) => unwrap(updateSession), signal, changes);
  }

  /** Removes it for good, with everything that was generated. */
  async delete({ signal }: Cancellable = {}): Promise<void> {
    unwrap((await this.parts.wire.request(DeleteSession, { id: this.id }, this.with(signal))).deleteSession);
  }

  async refresh({ signal }: Cancellable = {}): Promise<SessionFacts> {
    return this.take(unwrap((await this.parts.wire.request(GetSession, { id: this.id }, this.with(signal))).session));
  }

  /** The newest 100 prompts that were asked for, in that order, with what became of each so far. */
  async prompts({ signal }: Cancellable = {}): Promise<readonly PromptFacts[]> {
    const { session } = await this.parts.wire.request(GetPrompts, { id: this.id }, this.with(signal));
    return promptsOf(unwrap(session));
  }

  /** Every chunk that there is. */
  async chunks({ signal }: Cancellable = {}): Promise<readonly StoredChunk[]> {
    const { playlistUrl } = await this.refresh({ signal });
    const bytes = await this.load({ data: null, url: playlistUrl }, { signal });
    return parsePlaylist(new TextDecoder().decode(bytes), playlistUrl);
  }

  /** Resolves with the facts when the session has ended and its files are complete. */
  async finished({ signal }: Cancellable = {}): Promise<SessionFacts> {
    for await (const event of this.events({ after: this.facts.cursor, media: 'NONE', signal })) void event;
    return this.refresh({ signal });
  }

  /** The MP4, of a session that runs as far as it is. */
  async download(options: DownloadOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    return this.parts.wire.file(await this.videoUrl(options), this.with(options.signal));
  }

  /** In a page: lets the browser save the MP4. */
  async save(
    name = `longlive-${this.id.replace(/\W/g, '').slice(-8)}.mp4`,
    options: DownloadOptions = {},
  ): Promise<void> {
    saveAs(await this.videoUrl(options), name);
  }

  /** Where the MP4 can be fetched for a while, without a token. */
  async videoUrl(options: DownloadOptions = {}): Promise<string> {
    const signal = this.with(options.signal);
    const url = await videoUrl(this.parts.wire, await this.refresh({ signal }), { ...options, signal });
    return new URL(url, this.parts.base).href;
  }

  /** Ends what this object reads and waits for. The session itself goes on. */
  close(): void {
    this.closing.abort(new ClosedError());
  }

  async [asyncDispose](): Promise<void> {
    this.close();
  }

  private receipt(facts: ReceiptFacts): Receipt {
    let applied: Promise<Outcome> | undefined;
    const { control, closed } = this;
    return {
      ...facts,
      get applied() {
        if (!applied) {
          applied = control.outcome(facts.id, closed);
          applied.catch(() => undefined); // Who looks at it is told.
        }
        return applied;
      },
    };
  }

  private async command<Data, Given extends object>(
    operation: Operation<Data, { id: string } & Given>,
    read: (data: Data) => SessionFacts,
    signal: AbortSignal | undefined,
    given: Given = {} as Given,
  ): Promise<void> {
    const variables = { ...given, id: this.id };
    this.control.learn(this.take(read(await this.parts.wire.request(operation, variables, this.with(signal)))));
  }

  private take(told: SessionFacts): SessionFacts {
    const { base } = this.parts;
    const { playlistUrl, initUrl } = told;
    const init = initUrl === null ? null : new URL(initUrl, base).href;
    this.facts = { ...told, playlistUrl: new URL(playlistUrl, base).href, initUrl: init };
    return this.facts;
  }

  private with(signal: AbortSignal | undefined): AbortSignal {
    return signal ? AbortSignal.any([this.closed, signal]) : this.closed;
  }
}
