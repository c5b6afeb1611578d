import type { RecacheMode } from './ports.js';
import type {
  Artifact,
  QueuePlace,
  SessionState,
  StateReason,
  SwitchWhen,
  Transition,
  UnmadeArtifact,
  Wait,
} from './session.js';

/** Every stored event has its place in the session's log: `sequence` counts 1, 2, 3, ... without holes. */
interface Stored {
  sequence: number;
  /** When it was logged, milliseconds since the epoch. */
  at: number;
}

export interface StateChanged extends Stored {
  type: 'StateChanged';
  state: SessionState;
  previous?: SessionState;
  reason?: StateReason;
  failure?: { code: string; message: string };
  /** The command that asked for it. */
  commandId?: string;
  /** With QUEUED, where it waits for room. */
  wait?: Wait;
}

/** A switch was accepted (its receipt). Seen by every subscriber, so that several people can share one session. */
export interface PromptRequested extends Stored {
  type: 'PromptRequested';
  receiptId: string;
  prompt: string;
  mode: RecacheMode;
  /** Absent when it comes at once. */
  transition?: Transition;
  when: SwitchWhen;
  expectedBlock: number;
  idempotencyKey?: string;
  /** See `Engine.unknownWords`. */
  unknownWords?: readonly string[];
}

/** A prompt really took effect; always comes before the FrameChunk of its block. */
export interface PromptApplied extends Stored {
  type: 'PromptApplied';
  receiptId: string;
  prompt: string;
  mode: RecacheMode;
  /** The block is its first chunk. */
  transition?: Transition;
  /** With a transition: where its last chunk begins, which is the prompt alone. */
  wholeSeconds?: number;
  block: number;
  frame: number;
  seconds: number;
  recacheMilliseconds: number;
  /** Time from the request to this event, for switches requested while live. */
  waitedMilliseconds?: number;
}

/** A later request took this one's place before its block began. */
export interface PromptSuperseded extends Stored {
  type: 'PromptSuperseded';
  receiptId: string;
  supersededBy: string;
}

/** A prompt that waits was given another block, text or way to come; all of what it is now. */
export interface PromptMoved extends Stored {
  type: 'PromptMoved';
  receiptId: string;
  prompt: string;
  mode: RecacheMode;
  transition?: Transition;
  when: SwitchWhen;
  expectedBlock: number;
  unknownWords?: readonly string[];
}

/** A prompt that waited will not come. */
export interface PromptCancelled extends Stored {
  type: 'PromptCancelled';
  receiptId: string;
}

/** One playable chunk, durable in the store under `key` before this is announced. Strictly ordered by `chunk`. */
export interface FrameChunk extends Stored {
  type: 'FrameChunk';
  /** 0, 1, 2, ... without holes; equals the block. */
  chunk: number;
  firstFrame: number;
  frameCount: number;
  /** Where it plays, from the start of the session. */
  startSeconds: number;
  durationSeconds: number;
  key: string;
  initKey: string;
  codec: string;
  bytes: number;
  /** Checksums of the chunk and of the init segment; absent in sessions that are older than checksums. */
  check?: string;
  initCheck?: string;
  /** Whether decoding can begin here. */
  keyframe: boolean;
  /** Of the prompt that took effect here. */
  receiptId?: string;
  /** Device time from the chunk before to this one, recaches aside. */
  generateMilliseconds: number;
  encodeMilliseconds: number;
  /** The CMAF fragment; present on subscriptions that ask for inline media, never stored in the log. */
  data?: Uint8Array;
}

/** The last event of a session: its artifacts are complete, but for those that cannot be made. */
export interface SessionEnded extends Stored {
  type: 'SessionEnded';
  state: SessionState;
  reason?: StateReason;
  failure?: { code: string; message: string };
  chunks: number;
  frames: number;
  seconds: number;
  artifacts: Artifact[];
  /** Absent where all are made. */
  unmade?: UnmadeArtifact[];
}

/** Sent to an idle subscription so that both ends know that the other is alive; not stored, so without a sequence. */
export interface Heartbeat {
  type: 'Heartbeat';
  at: number;
  state: SessionState;
  reason?: StateReason;
  failure?: { code: string; message: string };
  /** Of one that waits for room; a Heartbeat also comes whenever its place changes. */
  queue?: QueuePlace;
  /** The newest event there is; a subscriber that has seen it has seen all. */
  lastSequence: number;
}

/** What becomes of a request for a prompt, once. */
export type PromptSettled = PromptApplied | PromptSuperseded | PromptCancelled;

export function isSettled(event: StoredEvent): event is PromptSettled {
  return event.type === 'PromptApplied' || event.type === 'PromptSuperseded' || event.type === 'PromptCancelled';
}

export type StoredEvent = StateChanged | PromptRequested | PromptMoved | PromptSettled | FrameChunk | SessionEnded;
export type SessionEvent = StoredEvent | Heartbeat;
