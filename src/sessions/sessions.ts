import type { SessionEvent } from './events.js';
import type { ModelInfo } from './ports.js';
import type {
  CreateSessionInput,
  ForkSessionInput,
  ExportInput,
  MovePromptInput,
  PlanPromptInput,
  ResumeSessionInput,
  SessionExport,
  SessionLabel,
  Session,
  SwitchPromptInput,
  SwitchReceipt,
  TimelineEntry,
  ViewerPosition,
} from './session.js';
import type { PromptPage } from './stored/prompts.js';

export type { PromptPage } from './stored/prompts.js';

export interface SubscribeOptions {
  /** Sequence of the last event already seen; 0 or absent starts at the beginning, `live` at the newest key chunk. */
  after?: number | 'live';
  /** Fill `FrameChunk.data`, from memory where possible, else from the store. Default false. */
  inline?: boolean;
  /** False when its viewer says how far it is, or plays nothing. Otherwise the video is thought to be played by the clock. */
  byClock?: boolean;
  /** Ends the subscription, also while it waits. */
  signal?: AbortSignal;
}

export interface Page<T> {
  items: T[];
  /** Pass as `after` to get the next page; absent on the last one. */
  next?: string;
}

export interface SessionFilter {
  /** Words, all of which are in the title or in the newest prompts, in any order; case does not matter. */
  search?: string;
  favourite?: boolean;
}

export interface SessionPageOptions extends SessionFilter {
  first?: number;
  after?: string;
  tenant?: string;
  signal?: AbortSignal;
}

export interface PromptPageOptions {
  first: number;
  /** `sequence` of the last item of the page before. */
  before?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface DeletedSession {
  sessionId: string;
  deletedAt: Date;
}

export interface DeviceStatus {
  device: string;
  /** REALTIME sessions that fit, by the block time observed; unknown until something has run. */
  capacity?: number;
  realtimeSessions: number;
  fastestSessions: number;
  /** Share of the device that running REALTIME sessions need to keep up, 0..1 and above when overloaded. */
  load: number;
  /** Observed device time per block, smoothed. */
  blockMilliseconds?: number;
}

/** What there is to do for servers that generate, and how many of them that takes. */
export interface Demand {
  /** Sessions that were asked for, and for which there was no room. */
  waiting: number;
  /** Sessions that are generated now. */
  live: number;
  /** Servers that generate. */
  workers: number;
  /** Servers that should; falls a quarter of an hour after there was need of them. */
  wanted: number;
}

export interface ServiceStatus {
  accepting: boolean;
  /** Why not, when not accepting. */
  detail?: string;
  /** What is wrong beyond this server, which does what it can all the same. */
  warning?: string;
  devices: DeviceStatus[];
  /** Pieces of work so far that the device refused to record, which makes it slower. */
  refusedRecordings: number;
  sessions: Partial<Record<Session['state'], number>>;
  /** Sessions that wait for room, of all servers together. */
  queued: number;
  /** Of all servers together; absent at one that generates itself. */
  demand?: Demand;
}

/**
 * What the API layer talks to; implemented by `SessionService` (constructed from SessionServiceOptions). Every rejection
 * is a DomainError unless it is a bug.
 */
export interface Sessions {
  /** Those found last, the default first. */
  models(): ModelInfo[];
  /** The same after looking whether some came or went. */
  findModels(): Promise<ModelInfo[]>;
  /** The package that the session was made with, whatever it is called by now; undefined where it is not installed. */
  modelOf(session: Session): Promise<ModelInfo | undefined>;
  status(): ServiceStatus;

  /** INVALID_INPUT, MODEL_UNAVAILABLE, AT_CAPACITY, CONFLICT (idempotency key reused with other input), STORAGE. */
  createSession(input: CreateSessionInput): Promise<Session>;
  /**
   * A new session that goes on from a chunk of another, whatever state that is in; it stays as it is. INVALID_INPUT,
   * NOT_FOUND, MODEL_UNAVAILABLE, AT_CAPACITY, CONFLICT, STORAGE.
   */
  forkSession(sessionId: string, input?: ForkSessionInput): Promise<Session>;
  /** NOT_FOUND. Like all that only reads, it reads no more once the signal is aborted, and rejects with its reason. */
  session(id: string, signal?: AbortSignal): Promise<Session>;
  /** Newest first; of this tenant only, if one is given. A page of some may have fewer items than asked for although more follow. */
  sessions(options?: SessionPageOptions): Promise<Page<Session>>;
  /**
   * NOT_FOUND unless there is, or was, such a session of this tenant. That of another takes the same time and words as none.
   */
  mustBeOf(tenant: string, sessionId: string, signal?: AbortSignal): Promise<void>;
  /** What people say of it. */
  label(session: Session, signal?: AbortSignal): Promise<SessionLabel>;
  /** What is undefined stays as it is. INVALID_INPUT, NOT_FOUND, CONFLICT, STORAGE. */
  updateSession(sessionId: string, changes: Partial<SessionLabel>): Promise<Session>;
  /** Every request for a prompt, those of createSession included; newest first. */
  receipts(session: Session, options: PromptPageOptions): Promise<PromptPage<SwitchReceipt>>;
  /** Every prompt that took effect; newest first. */
  timeline(session: Session, options: PromptPageOptions): Promise<PromptPage<TimelineEntry>>;

  /**
   * Answers at once; INVALID_INPUT, NOT_FOUND, ENDED, AT_CAPACITY (too many wait). On a PAUSED session it takes effect
   * after resume.
   */
  switchPrompt(sessionId: string, input: SwitchPromptInput): Promise<SwitchReceipt>;

  /** A prompt for a time to come, which waits like any other; it may be moved and cancelled until its block is made. As switchPrompt. */
  planPrompt(sessionId: string, input: PlanPromptInput): Promise<SwitchReceipt>;
  /** The same again changes nothing. INVALID_INPUT, NOT_FOUND, CONFLICT when it takes effect or has done so, ENDED. */
  movePrompt(sessionId: string, receiptId: string, input: MovePromptInput): Promise<SwitchReceipt>;
  cancelPrompt(sessionId: string, receiptId: string): Promise<SwitchReceipt>;

  /** Pausing a paused, resuming a live and stopping an ended session change nothing and answer with the session. */
  pauseSession(sessionId: string): Promise<Session>;
  /** Also continues a session whose server is gone, from its last checkpoint. ENDED, AT_CAPACITY. */
  resumeSession(sessionId: string, input?: ResumeSessionInput): Promise<Session>;
  stopSession(sessionId: string): Promise<Session>;
  /**
   * Stops it if need be; then there is no such session any more, and its files are removed, but for the media that its forks
   * play. Repeating it has no effect. NOT_FOUND, CONFLICT while it is being completed, STORAGE.
   */
  deleteSession(sessionId: string): Promise<DeletedSession>;

  /** Makes in the background what could not be made when it ended; nothing when nothing is missing. NOT_FOUND, CONFLICT, STORAGE. */
  remakeArtifacts(sessionId: string): Promise<Session>;

  /** Makes a video of a part of it in the background; the same part is the same export. INVALID_INPUT, NOT_FOUND, STORAGE. */
  exportSession(sessionId: string, input?: ExportInput): Promise<SessionExport>;
  /** How far it is. NOT_FOUND */
  export(sessionId: string, range: string): Promise<SessionExport>;
  cancelExport(sessionId: string, range: string): Promise<SessionExport>;

  /**
   * Every event after the cursor, in order, without gap or duplicate, until SessionEnded; Heartbeats in between.
   * Pulled: a slow reader holds one event and is served from the store. Rejects with NOT_FOUND and, for a cursor that
   * is not of this session, INVALID_INPUT on the first `next()`.
   */
  subscribe(sessionId: string, options?: SubscribeOptions): AsyncGenerator<SessionEvent, void, undefined>;

  /**
   * How far a viewer has seen: REALTIME generation does not run ahead of that. Nothing is stored; false when nobody generates the
   * session now. INVALID_INPUT.
   */
  acknowledge(sessionId: string, position: ViewerPosition): Promise<boolean>;

  /** Counts as watching, for viewers that fetch chunks or the playlist over plain HTTP. */
  touch(sessionId: string): void;
  /**
   * The HLS playlist so far, chunk URIs relative to the session's prefix unless `uri` maps the store keys; with `delta` of a long
   * one only what a player that reloads it lacks.
   */
  playlist(sessionId: string, uri?: (key: string) => string, options?: { delta?: boolean }): Promise<string>;

  /**
   * Holds a chunk or an init segment that was read from the store against what the log says of it; what it does not say passes.
   * Rejects with DamagedError.
   */
  checkMedia(key: string, bytes: Uint8Array): Promise<void>;

  /**
   * Holds an artifact that is in the store with this etag against its checksum; what has none passes. Rejects with DamagedError.
   */
  checkArtifact(key: string, etag: string): Promise<void>;

  /** Takes over what a previous process left unfinished: such sessions become PAUSED with WORKER_LOST. */
  start(): Promise<void>;
  /** Pauses what is live (with a checkpoint), gives up ownership; rejects new work from now on. */
  shutdown(): Promise<void>;
}
