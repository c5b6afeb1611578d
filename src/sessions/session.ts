import type { Caller } from './access/principal.js';
import type { BlendKind, EncoderName, LoraChoice, RecacheMode } from './ports.js';

export type SessionState = 'QUEUED' | 'STARTING' | 'LIVE' | 'PAUSED' | 'COMPLETED' | 'STOPPED' | 'FAILED';

/** REALTIME stays just ahead of playback; FASTEST generates as fast as the device allows. */
export type Pace = 'REALTIME' | 'FASTEST';

/** Why a session is in its state, where the state alone does not say. */
export type StateReason =
  /** A client requested it. */
  | 'REQUESTED'
  /** Nobody watched for `idleSeconds`. */
  | 'IDLE'
  /** The object store failed for longer than we retry; resume when it works again. Nothing generated is lost. */
  | 'STORAGE'
  /** The server that generated it went away (restart or crash); resume continues from the last checkpoint. */
  | 'WORKER_LOST'
  /** The model cannot be loaded now, see `failure`; resume when it can. */
  | 'MODEL'
  /** `maxSeconds` is reached. */
  | 'DURATION_REACHED'
  /** The model can make no further block: its positions are used up. */
  | 'MODEL_END'
  /** No device had room for it within `maxWaitSeconds`. */
  | 'CAPACITY'
  /** The device, the core or the encoder failed; see `failure`. */
  | 'ENGINE'
  | 'MEDIA';

export const ENDED_STATES: ReadonlySet<SessionState> = new Set(['COMPLETED', 'STOPPED', 'FAILED']);

/** Whether it stands in the line: it belongs to no server, and whichever has room begins it. */
export function isWaiting({ state, wait }: Pick<Session, 'state' | 'wait'>): boolean {
  return state === 'QUEUED' && wait !== undefined;
}

export function isEnded(state: SessionState): boolean {
  return ENDED_STATES.has(state);
}

/** When a prompt switch takes effect: before the next block, at once (abandoning the block in flight), or at a block. */
export type SwitchWhen = 'NEXT_BLOCK' | 'IMMEDIATE' | { block: number };

/** EVEN: each chunk is as far from the one before; SCOPE: the schedule of daydream scope, whose first chunk is still the old prompt. */
export type TransitionCurve = 'EVEN' | 'SCOPE';

/** A prompt that comes over several chunks, in each of which the model draws what lies further on the way to it. */
export interface Transition {
  kind: BlendKind;
  /** The last of them is the new prompt. */
  chunks: number;
  curve: TransitionCurve;
}

export interface TransitionInput {
  /** Default LINEAR. */
  kind?: BlendKind;
  chunks: number;
  /** Default EVEN. */
  curve?: TransitionCurve;
}

export interface TimelineInput {
  prompt: string;
  /** Where it takes effect: the first block that starts at or after this time. Exclusive with `block`. */
  atSeconds?: number;
  block?: number;
  mode?: RecacheMode;
  /** At once when absent; not with the first entry, nor with CLEAR_CACHE. */
  transition?: TransitionInput;
}

export interface CreateSessionInput {
  /** One prompt from the start; exclusive with `timeline`. */
  prompt?: string;
  /** The whole story in advance; its first entry starts at 0. */
  timeline?: readonly TimelineInput[];
  /** Default: random. 0 .. 2^64-1 */
  seed?: bigint;
  /** Default: the model's native size. */
  width?: number;
  height?: number;
  /** Name of a model package; the default package when absent. */
  model?: string;
  /** Adapters merged into the model, in this order; weight 1 when absent. */
  loras?: readonly { name: string; weight?: number }[];
  /** Default REALTIME. */
  pace?: Pace;
  /** Ends the session after this much video, rounded up to a whole chunk; endless when absent. */
  maxSeconds?: number;
  /** Where there is no room it waits in the line, for so long at most; refused at once when absent or 0. */
  maxWaitSeconds?: number;
  /** The same key of the same caller gives the same session, also on another server. */
  idempotencyKey?: string;
  /** Whose it is to be; the operator's when absent. */
  caller?: Caller;
}

/** A fork has its parent's model, adapters, seed and size; its story is the parent's up to `atChunk`. */
export interface ForkSessionInput {
  /** Its first own chunk, those before it being the parent's: 1 to as many as the parent has, which is the default. */
  atChunk?: number;
  /** The same by time: the first chunk that starts then or later, of those. Exclusive with `atChunk`. */
  atSeconds?: number;
  /** Takes effect at `atChunk`; the parent's prompt goes on when absent. */
  prompt?: string;
  /** How `prompt` takes effect; default RECACHE. */
  mode?: RecacheMode;
  /** From what the parent shows at `atChunk` to `prompt`; at once when absent. */
  transition?: TransitionInput;
  /** Default REALTIME. */
  pace?: Pace;
  /** Of the whole video, the parent's part included; endless when absent. */
  maxSeconds?: number;
  /** As of createSession. */
  maxWaitSeconds?: number;
  /** As of createSession. */
  idempotencyKey?: string;
  /** Who asks; the fork is its parent's tenant's. */
  caller?: Caller;
}

export interface ResumeSessionInput {
  /** As of createSession. */
  maxWaitSeconds?: number;
}

export interface SwitchPromptInput {
  prompt: string;
  /** Default RECACHE. */
  mode?: RecacheMode;
  /** At once when absent; not with CLEAR_CACHE. */
  transition?: TransitionInput;
  /** Default NEXT_BLOCK. */
  when?: SwitchWhen;
  /** The same key within a session gives the same receipt. */
  idempotencyKey?: string;
}

/** Where in the log it was asked for as it is now. */
export function askedAt({ moved, sequence = 0 }: SwitchReceipt): number {
  return moved ?? sequence;
}

/** A prompt for a time to come: at the block, or at the first one that starts at or after the time. */
export interface PlanPromptInput {
  prompt: string;
  atSeconds?: number;
  atBlock?: number;
  /** Default RECACHE. */
  mode?: RecacheMode;
  /** At once when absent; not with CLEAR_CACHE. */
  transition?: TransitionInput;
  /** The same key within a session gives the same receipt. */
  idempotencyKey?: string;
}

/** What is to change of a prompt that waits; what is absent stays. */
export interface MovePromptInput {
  prompt?: string;
  atSeconds?: number;
  atBlock?: number;
  mode?: RecacheMode;
  /** Null takes it away. */
  transition?: TransitionInput | null;
}

/** Where somebody who watches is in the video. */
export interface ViewerPosition {
  /** A name of the viewer's own choice. */
  viewer: string;
  /** Up to where the video was seen. */
  seconds: number;
  /** Whether the picture moves. */
  playing: boolean;
  /** How much video it wants to have ahead of it, if that is more than REALTIME keeps anyway. */
  aheadSeconds?: number;
}

/** A prompt that took effect. */
export interface TimelineEntry {
  prompt: string;
  mode: RecacheMode;
  /** Absent when it came at once. */
  transition?: Transition;
  /** With a transition: where the prompt alone is drawn. */
  wholeSeconds?: number;
  block: number;
  frame: number;
  seconds: number;
  /** The receipt that asked for it; the entries of `createSession` have one as well. */
  receiptId: string;
  recacheMilliseconds: number;
  /** Of its event in the log; absent in what earlier releases stored. */
  sequence?: number;
}

export type ReceiptStatus =
  | 'PENDING'
  | 'APPLIED'
  /** A later request took its place before its block began. */
  | 'SUPERSEDED'
  /** A client took it back. */
  | 'CANCELLED'
  /** The session ended first. */
  | 'DISCARDED';

/** The answer to switchPrompt; the stream later carries PromptApplied (or PromptSuperseded) with its id. */
export interface SwitchReceipt {
  id: string;
  sessionId: string;
  accepted: true;
  prompt: string;
  mode: RecacheMode;
  transition?: Transition;
  when: SwitchWhen;
  requestedAt: Date;
  idempotencyKey?: string;
  /** See `Engine.unknownWords`. */
  unknownWords?: readonly string[];
  status: ReceiptStatus;
  expectedBlock: number;
  expectedFrame: number;
  expectedSeconds: number;
  /** Set when APPLIED. */
  appliedBlock?: number;
  /** Set when SUPERSEDED: the id of the receipt that won. */
  supersededBy?: string;
  /** Of the event that made it what it is, where it was moved: of those due at one block, the one asked for last wins. */
  moved?: number;
  /** Of its event in the log; absent in what earlier releases stored. */
  sequence?: number;
}

export const ARTIFACT_KINDS = ['MP4', 'HLS', 'POSTER', 'TIMELINE'] as const;
export type ArtifactKind = (typeof ARTIFACT_KINDS)[number];

/** An adapter that a session is generated with. */
export interface SessionLora extends LoraChoice {
  digest: string;
}

/** A finished file in the store. */
export interface Artifact {
  kind: ArtifactKind;
  key: string;
  contentType: string;
  bytes: number;
  /** Checksum; absent in sessions that are older than checksums. */
  check?: string;
}

/** A file that could not be made although the session has ended. */
export interface UnmadeArtifact {
  kind: ArtifactKind;
  failure: { code: string; message: string };
}

export interface SessionMedia {
  /** RFC 6381, e.g. `avc1.42c01e`. */
  codec: string;
  /** Store key of the init segment. */
  initKey: string;
}

export interface PromptCounts {
  requested: number;
  /** Of those requested: by the parent of a fork. */
  inherited: number;
  applied: number;
}

/** Where a fork branched off: its chunks before `chunk` are of that session. */
export interface SessionParent {
  sessionId: string;
  chunk: number;
}

/** That a session waits for room: since when, which is its place in the line, and until when at most; milliseconds since the epoch. */
export interface Wait {
  since: number;
  until: number;
}

/** Where a session stands that waits for room. */
export interface QueuePlace {
  /** 1 for the one that is next. */
  place: number;
  /** How long it will be, by what frees places; absent while nothing can be said. */
  waitSeconds?: number;
}

/** A snapshot of a session; never changes after it was handed out. */
export interface Session {
  id: string;
  /** Whose it is; absent for the default tenant, and so in sessions of releases without tenants. */
  tenant?: string;
  state: SessionState;
  reason?: StateReason;
  /** What went wrong, for PAUSED by STORAGE or MODEL and for FAILED. */
  failure?: { code: string; message: string };
  /** While it is QUEUED because there was no room. */
  wait?: Wait;
  /** Where it stands then, as this server knows. */
  queue?: QueuePlace;
  createdAt: Date;
  updatedAt: Date;
  model: string;
  /** SHA-256 of the model package's manifest. */
  modelDigest: string;
  /** What its chunks are encoded with; absent in sessions of releases that had but one, minih264. */
  encoder?: EncoderName;
  /** What the package calls its version; absent in sessions of releases that did not keep it. */
  modelVersion?: string;
  /** Absent in sessions without any. */
  loras?: readonly SessionLora[];
  seed: bigint;
  width: number;
  height: number;
  fps: number;
  /** Latent frames per block; with `fps` it says when a block plays. */
  framesPerBlock: number;
  pace: Pace;
  maxSeconds?: number;
  /** The prompt in effect, or before the first block the first prompt. */
  prompt: string;
  /** The newest prompts that took effect, in order; those before are in the log. */
  timeline: readonly TimelineEntry[];
  /** Requests for prompts that are pending and the newest settled ones, in order of request; the others are in the log. */
  receipts: readonly SwitchReceipt[];
  /** How many there are in all. */
  prompts: PromptCounts;
  /** Durable chunks, frames and seconds so far. */
  chunks: number;
  frames: number;
  seconds: number;
  /** Sequence of the newest event; subscribing after it gives what comes next. */
  lastSequence: number;
  /** Known from the first chunk on. */
  media?: SessionMedia;
  /** Live subscriptions at this server. */
  viewers: number;
  /**
   * Seconds of video made in a second, while a REALTIME session runs at this server and its device has made a block: below
   * 1 playback will stall, and whoever plays should buffer first.
   */
  speed?: number;
  artifacts: readonly Artifact[];
  /** Why others are not among them, once it is finished; absent where there are none, and in sessions of earlier releases. */
  unmade?: readonly UnmadeArtifact[];
  /** What is missing is being made again, at this server. */
  remaking?: true;
  /** Why the last attempt to make them failed, at the server that goes on trying. */
  delay?: { code: string; message: string };
  /** When the last artifact was stored and SessionEnded logged: nothing changes from then on. */
  finishedAt?: Date;
  /** Set on a fork. */
  parent?: SessionParent;
}

/** Which part of a session: whole chunks, so that nothing is encoded again. */
/** What people say of a session. */
export interface SessionLabel {
  /** What they call it; null until somebody named it. */
  title: string | null;
  favourite: boolean;
}

export const NO_LABEL: SessionLabel = { title: null, favourite: false };

export interface ExportInput {
  /** Start, rounded down to a chunk. Default: the beginning. Exclusive with `fromChunk`. */
  fromSeconds?: number;
  /** Up to the end of the chunk that plays just before; all that there is when absent. Exclusive with `toChunk`. */
  toSeconds?: number;
  fromChunk?: number;
  /** Index of the first chunk that is left out. */
  toChunk?: number;
}

export type ExportState = 'QUEUED' | 'RUNNING' | 'DONE' | 'FAILED' | 'CANCELLED';

/** A video of its own made of a part of a session; the same part is the same export. */
export interface SessionExport {
  /** Within its session. */
  range: string;
  sessionId: string;
  state: ExportState;
  /** 0 to 1. */
  progress: number;
  failure?: { code: string; message: string };
  createdAt: Date;
  fromChunk: number;
  toChunk: number;
  fromSeconds: number;
  toSeconds: number;
  /** MP4 and TIMELINE when it is DONE. */
  artifacts: readonly Artifact[];
}
