/** The operations that the viewer needs. */
import { request, subscribe } from './graphql';

export type SessionState = 'QUEUED' | 'STARTING' | 'LIVE' | 'PAUSED' | 'COMPLETED' | 'STOPPED' | 'FAILED';
export type RecacheMode = 'RECACHE' | 'KEEP_CACHE' | 'CLEAR_CACHE';
export type SwitchWhen = 'NEXT_BLOCK' | 'IMMEDIATE';

/** A prompt that comes over so many chunks. */
export interface Transition {
  chunks: number;
}

export interface Failure {
  code: string;
  message: string;
}

export interface Artifact {
  kind: 'MP4' | 'HLS' | 'POSTER' | 'TIMELINE';
  url: string;
  bytes: number;
}

export interface Session {
  id: string;
  state: SessionState;
  reason: string | null;
  failure: Failure | null;
  prompt: string;
  modelName: string;
  loras: { name: string; weight: number }[];
  seed: string;
  width: number;
  height: number;
  seconds: number;
  viewers: number;
  createdAt: string;
  finishedAt: string | null;
  /** The newest prompts that took effect, in order; empty in a list of sessions. */
  timeline: {
    receiptId: string;
    prompt: string;
    seconds: number;
    wholeSeconds: number;
    recacheMilliseconds: number;
  }[];
  playlistUrl: string;
  artifacts: Artifact[];
  /** Where it branched off, when it did. */
  parent: { sessionId: string; chunk: number } | null;
}

interface At {
  cursor: string;
  at: string;
}
export type FrameChunk = At & {
  __typename: 'FrameChunk';
  index: number;
  startSeconds: number;
  durationSeconds: number;
  byteLength: number;
  generateMilliseconds: number;
  url: string;
  init: { mimeType: string; url: string } | null;
};
export type PromptRequested = At & {
  __typename: 'PromptRequested';
  receiptId: string;
  prompt: string;
  /** Null where the model does not say what it was taught. */
  unknownWords: string[] | null;
  expectedBlock: number;
};
export type PromptApplied = At & {
  __typename: 'PromptApplied';
  receiptId: string;
  prompt: string;
  block: number;
  seconds: number;
  /** Where a transition to it ends. */
  wholeSeconds: number;
  recacheMilliseconds: number;
  waitedMilliseconds: number | null;
};
export type PromptSuperseded = At & { __typename: 'PromptSuperseded'; receiptId: string; supersededBy: string };
export type StateChanged = At & {
  __typename: 'StateChanged' | 'Heartbeat';
  state: SessionState;
  reason: string | null;
  failure: Failure | null;
};
export type SessionEnded = At & {
  __typename: 'SessionEnded';
  state: SessionState;
  reason: string | null;
  failure: Failure | null;
  seconds: number;
  artifacts: Artifact[];
};
export type SessionEvent =
  FrameChunk | PromptRequested | PromptApplied | PromptSuperseded | StateChanged | SessionEnded;

/** An expected failure that the service told in its own words. */
export class ServiceError extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

const FACTS = `fragment F on Session {
  id state reason failure { code message } prompt modelName loras { name weight } seed width height seconds viewers createdAt finishedAt playlistUrl
  artifacts { kind url bytes } parent { sessionId chunk }
}`;
const SESSION = `${FACTS} fragment S on Session {
  ...F timelineEntries(first: 100) { nodes { receiptId prompt seconds wholeSeconds recacheMilliseconds } }
}`;

/** A session as the service tells it. */
type Told = Omit<Session, 'timeline'> & { timelineEntries?: { nodes: Session['timeline'] } | null };

const inOrder = ({ timelineEntries, ...facts }: Told): Session => ({
  ...facts,
  timeline: (timelineEntries?.nodes ?? []).toReversed(),
});

const ERROR = '... on Error { __typename code message }';

type Result<Value> = Value & { code?: string; message?: string };

function unwrap<Value extends object>(result: Result<Value>): Value {
  if (result.code !== undefined && result.message !== undefined) throw new ServiceError(result.code, result.message);
  return result;
}

export interface Lora {
  name: string;
  bytes: number;
}

/** What a model can draw, in the words of its package. */
export interface ModelGuide {
  about: string;
  examples: string[];
}

export interface Model {
  name: string;
  title: string;
  description: string;
  license: string;
  device: string;
  precision: string;
  bytes: number;
  guide: ModelGuide | null;
  loras: Lora[];
}

export interface Service {
  version: string;
  accepting: boolean;
  detail: string | null;
  heartbeatSeconds: number;
}

/** The service, and its models with the default one first. */
export async function fetchService(): Promise<Service & { models: Model[] }> {
  const { service, models } = await request<{ service: Service; models: Model[] }>(`{
    service { version accepting detail heartbeatSeconds }
    models { name title description license device precision bytes guide { about examples } loras { name bytes } }
  }`);
  return { ...service, models };
}

export async function fetchRecent(): Promise<Session[]> {
  const { sessions } = await request<{ sessions: Result<{ nodes: Told[] }> }>(
    `${FACTS} { sessions(first: 8) { ... on SessionConnection { nodes { ...F } } ${ERROR} } }`,
  );
  return unwrap(sessions).nodes.map(inOrder);
}

export async function fetchSession(id: string): Promise<Session> {
  const { session } = await request<{ session: Result<Told> }>(
    `${SESSION} query ($id: ID!) { session(id: $id) { ...S ${ERROR} } }`,
    { id },
  );
  return inOrder(unwrap(session));
}

export interface CreateInput {
  prompt: string;
  model?: string;
  loras?: { name: string; weight: number }[];
  seed?: string;
  maxSeconds?: number;
}

export async function createSession(input: CreateInput): Promise<Session> {
  const { createSession: session } = await request<{ createSession: Result<Told> }>(
    `${SESSION} mutation ($input: CreateSessionInput!) { createSession(input: $input) { ...S ${ERROR} } }`,
    { input },
  );
  return inOrder(unwrap(session));
}

export interface ForkInput {
  id: string;
  /** Where the new session begins to go its own way. */
  atSeconds: number;
  /** The prompt before goes on when absent. */
  prompt?: string;
  mode: RecacheMode;
  transition?: Transition;
}

async function forkSession(input: ForkInput): Promise<Session> {
  const { forkSession: session } = await request<{ forkSession: Result<Told> }>(
    `${SESSION} mutation ($id: ID!, $atSeconds: Float, $prompt: String, $mode: RecacheMode, $transition: TransitionInput) {
      forkSession(sessionId: $id, atSeconds: $atSeconds, prompt: $prompt, mode: $mode, transition: $transition) { ...S ${ERROR} } }`,
    { ...input },
  );
  return inOrder(unwrap(session));
}

/** Forks, and where there is no room for both pauses the session that is left, unless somebody else watches it. */
export async function branchOff(input: ForkInput): Promise<Session> {
  try {
    return await forkSession(input);
  } catch (error) {
    if (!(error instanceof ServiceError && error.code === 'AT_CAPACITY')) throw error;
    const { viewers, state } = await fetchSession(input.id);
    if (viewers > 1 || !GENERATING.has(state)) throw error;
    await control('pauseSession', input.id);
    return forkSession(input);
  }
}

const GENERATING: ReadonlySet<SessionState> = new Set(['QUEUED', 'STARTING', 'LIVE']);

export interface SwitchInput {
  id: string;
  prompt: string;
  mode: RecacheMode;
  when: SwitchWhen;
  transition?: Transition;
}

export async function switchPrompt(input: SwitchInput) {
  const { switchPrompt: receipt } = await request<{ switchPrompt: Result<{ id: string; expectedSeconds: number }> }>(
    `mutation ($id: ID!, $prompt: String!, $mode: RecacheMode, $when: SwitchWhen, $transition: TransitionInput) {
      switchPrompt(sessionId: $id, prompt: $prompt, mode: $mode, when: $when, transition: $transition) {
        ... on SwitchReceipt { id expectedSeconds } ${ERROR} } }`,
    { ...input },
  );
  return unwrap(receipt);
}

export async function control(action: 'pauseSession' | 'resumeSession' | 'stopSession', id: string): Promise<void> {
  const data = await request<Record<string, Result<object>>>(
    `mutation ($id: ID!) { ${action}(sessionId: $id) { __typename ${ERROR} } }`,
    { id },
  );
  unwrap(data[action] ?? {});
}

const STREAM = `subscription ($id: ID!, $after: Cursor, $from: StreamStart) {
  sessionStream(sessionId: $id, after: $after, from: $from, media: URL) {
    __typename
    ... on SessionEvent { cursor at }
    ... on FrameChunk { index startSeconds durationSeconds byteLength generateMilliseconds url init { mimeType url } }
    ... on PromptRequested { receiptId prompt unknownWords expectedBlock }
    ... on PromptApplied { receiptId prompt block seconds wholeSeconds recacheMilliseconds waitedMilliseconds }
    ... on PromptSuperseded { receiptId supersededBy }
    ... on StateChanged { state reason failure { code message } }
    ... on Heartbeat { state reason failure { code message } }
    ... on SessionEnded { state reason failure { code message } seconds artifacts { kind url bytes } }
    ... on Error { code message }
  }
}`;

export interface FollowOptions {
  from: 'START' | 'LIVE';
  heartbeatSeconds: number;
  signal: AbortSignal;
  /** Whether the stream is connected now. */
  onConnection: (connected: boolean) => void;
}

const FINAL = new Set(['NOT_FOUND', 'INVALID_INPUT']);

/** Every event of a session, once and in order, across any number of broken connections, until it ends. */
export async function* follow(id: string, options: FollowOptions): AsyncGenerator<SessionEvent, void, undefined> {
  let after: string | undefined;
  for (let attempt = 0; !options.signal.aborted; attempt++) {
    try {
      const connection = { signal: options.signal, silenceSeconds: 3 * options.heartbeatSeconds };
      const variables = { id, after, from: options.from };
      for await (const data of subscribe<{ sessionStream: Result<SessionEvent> }>(STREAM, variables, connection)) {
        const event = unwrap<SessionEvent>(data.sessionStream);
        options.onConnection(true);
        attempt = 0;
        yield event;
        after = event.cursor; // Only now: what was not processed is asked for again.
        if (event.__typename === 'SessionEnded') return;
      }
    } catch (error) {
      if (error instanceof ServiceError && FINAL.has(error.code)) throw error;
    }
    if (options.signal.aborted) return;
    options.onConnection(false);
    await new Promise((resolve) => setTimeout(resolve, Math.min(8000, 250 * 2 ** attempt)));
  }
}
