// Made from schema/schema.graphql by `npm run schema`; do not edit.
/** Internal type. DO NOT USE DIRECTLY. */
type Exact<T extends { [key: string]: unknown }> = { [K in keyof T]: T[K] };
/** Internal type. DO NOT USE DIRECTLY. */
export type Incremental<T> = T | { [P in keyof T]?: P extends ' $fragmentName' | '__typename' ? T[P] : never };
/** What a file of a session is. */
export type ArtifactKind =
  /** The playlist over the chunks. */
  | 'HLS'
  /** The whole video in one fast-start file. */
  | 'MP4'
  /** A still. */
  | 'POSTER'
  /** The prompts that took effect, one JSON object per line. */
  | 'TIMELINE';

/** How what lies between two prompts is found. */
export type BlendKind =
  /** On the straight line from one to the other. */
  | 'LINEAR'
  /** On the arc from one to the other, word by word: nothing fades on the way. */
  | 'SLERP';

/** Give either `prompt` or `timeline`. */
export type CreateSessionInput = {
  /** Default: the model's native size. */
  readonly height?: number | null | undefined;
  /** The same key gives the same session. */
  readonly idempotencyKey?: string | null | undefined;
  /** Merged into the model in this order; at most 4. */
  readonly loras?: ReadonlyArray<LoraInput> | null | undefined;
  /** Length at which the session ends. Default: endless. */
  readonly maxSeconds?: number | null | undefined;
  /** Longest wait in line when there is no free capacity. Default: no wait; the answer is AtCapacityError. */
  readonly maxWaitSeconds?: number | null | undefined;
  /** The `name` of a model. Default: the service's default model. */
  readonly model?: string | null | undefined;
  /** How fast blocks are generated. */
  readonly pace?: Pace | null | undefined;
  /** The prompt from the start. */
  readonly prompt?: string | null | undefined;
  /** Default: random. */
  readonly seed?: string | null | undefined;
  /** All prompts in advance. */
  readonly timeline?: ReadonlyArray<TimelineEntryInput> | null | undefined;
  /** Default: the model's native size. */
  readonly width?: number | null | undefined;
};

/** Stable: codes are added, never given another meaning. */
export type ErrorCode =
  /** No free device, memory held by models in use, or subscriber limit reached. */
  | 'AT_CAPACITY'
  /** The request conflicts with existing state, e.g. an idempotency key reused with different input. */
  | 'CONFLICT'
  /** The session uses a video encoder that this server lacks; the message names it. */
  | 'ENCODER_UNAVAILABLE'
  /** The session has ended and cannot change any more. */
  | 'ENDED'
  /** The device or the native core failed. */
  | 'ENGINE'
  /** The credential does not have the scope that this needs; the message names it. */
  | 'FORBIDDEN'
  /** An argument is empty, too long, out of range, or contradicts another one. */
  | 'INVALID_INPUT'
  /** The video encoder failed. */
  | 'MEDIA'
  /** The model package is not installed, or is damaged. */
  | 'MODEL_UNAVAILABLE'
  /** There is no such session, receipt or artifact. */
  | 'NOT_FOUND'
  /** Another server, named in the message, generates the session and cannot be reached from this one. */
  | 'OWNED_ELSEWHERE'
  /** Whether the prompt is allowed cannot be found out now. */
  | 'POLICY'
  /** The caller, its tenant or its address has used what it may for now. */
  | 'RATE_LIMIT'
  /** This server is shutting down; try again to reach another. */
  | 'SHUTTING_DOWN'
  /** The object store refused or could not be reached. */
  | 'STORAGE';

/** What a file of an export is. */
export type ExportFileKind =
  /** The video, fast-start, with a chapter where each prompt begins. */
  | 'MP4'
  /** Its prompts, one JSON object per line; times count from its beginning. */
  | 'TIMELINE';

/** How far an export is. */
export type ExportState =
  /** Request it again to make it. */
  | 'CANCELLED'
  /** Its files can be downloaded. */
  | 'DONE'
  /** See `failure`; request it again to retry. */
  | 'FAILED'
  /** Waiting for other exports. */
  | 'QUEUED'
  /** It is being made; see `progress`. */
  | 'RUNNING';

/** An adapter to merge into the model. */
export type LoraInput = {
  /** The `name` of one of `Model.loras`. */
  readonly name: string;
  /** From -4 to 4, with at most two decimals. */
  readonly weight?: number | null | undefined;
};

/** How a stream hands over the bytes of its chunks. */
export type MediaDelivery =
  /** In the event, as Base64: one round trip less, a third more bytes. */
  | 'INLINE'
  /** Not at all: for clients that only follow events. */
  | 'NONE'
  /** As a signed URL, fit for caches and ranges. */
  | 'URL';

/** Where a model is. */
export type ModelState =
  /** Not on the device yet; fetched if necessary and loaded when first requested. */
  | 'AVAILABLE'
  /** On the device: a session starts at once. */
  | 'LOADED'
  /** On its way to the device. */
  | 'LOADING';

/** How fast a session generates. */
export type Pace =
  /** As fast as the device allows. */
  | 'FASTEST'
  /** Just ahead of playback, so that a new prompt is seen soon. */
  | 'REALTIME';

/** What a prompt switch does to the KV cache, which remembers the old prompt. */
export type RecacheMode =
  /** Drop it: the new story at once, with a cut. */
  | 'CLEAR_CACHE'
  /** Keep it: the smoothest and slowest change. */
  | 'KEEP_CACHE'
  /** Rebuild it from the recent frames under the new prompt: the new story, without a cut. */
  | 'RECACHE';

/** What a session does: `QUEUED -> STARTING -> LIVE <-> PAUSED -> COMPLETED | STOPPED | FAILED`. One that is resumed where there is no room may be QUEUED again. */
export type SessionState =
  /** Ended at `maxSeconds`, or where the model ends. See `reason`. */
  | 'COMPLETED'
  /** Ended by a failure; what was generated is kept. See `failure`. */
  | 'FAILED'
  /** Blocks are being generated. */
  | 'LIVE'
  /** Nothing is generated; `resumeSession` continues. See `reason`. */
  | 'PAUSED'
  /** Waiting for a free device; see `queue`. */
  | 'QUEUED'
  /** Loading the model. */
  | 'STARTING'
  /** Ended by `stopSession`. */
  | 'STOPPED';

/** Why a session is in its state, where the state alone does not say. */
export type StateReason =
  /** No device had room for it within `maxWaitSeconds`. */
  | 'CAPACITY'
  /** `maxSeconds` is reached. */
  | 'DURATION_REACHED'
  /** The device or the native core failed; see `failure`. */
  | 'ENGINE'
  /** No viewers. */
  | 'IDLE'
  /** The video encoder failed; see `failure`. */
  | 'MEDIA'
  /** The model cannot be loaded, see `failure`; resume once it can. */
  | 'MODEL'
  /** The model's positions are used up (see `Model.longestSeconds`); with relative positions there is no end. */
  | 'MODEL_END'
  /** A client requested it. */
  | 'REQUESTED'
  /** The object store failed; resume once it works again. Nothing generated is lost. */
  | 'STORAGE'
  /** The server that generated it was lost; resuming continues from the last checkpoint. */
  | 'WORKER_LOST';

/** Where a stream without a cursor begins. */
export type StreamStart =
  /** The newest chunk that decoding can begin with. */
  | 'LIVE'
  /** The session's first event. */
  | 'START';

/** What became of a prompt switch. */
export type SwitchStatus =
  /** It took effect; see `appliedBlock`. */
  | 'APPLIED'
  /** A client took it back. */
  | 'CANCELLED'
  /** The session ended first. */
  | 'DISCARDED'
  /** It waits for its block. */
  | 'PENDING'
  /** A later switch took its place before its block began. */
  | 'SUPERSEDED';

/** When a prompt switch takes effect. */
export type SwitchWhen =
  /** At the block given as `atBlock`. */
  | 'AT_BLOCK'
  /** Now: the block that is being made is abandoned and made again under the new prompt. */
  | 'IMMEDIATE'
  /** Before the next block. */
  | 'NEXT_BLOCK';

/** A prompt and where it takes effect: at `atSeconds` or at `block`. The first entry starts at 0. */
export type TimelineEntryInput = {
  /** The first block that starts at or after this time. */
  readonly atSeconds?: number | null | undefined;
  /** The block before which it takes effect, counted from 0. Instead of `atSeconds`. */
  readonly block?: number | null | undefined;
  /** What happens to the KV cache at the switch. */
  readonly mode?: RecacheMode | null | undefined;
  /** What the picture shows from there on. */
  readonly prompt: string;
  /** Not with the first entry. Default: at once. */
  readonly transition?: TransitionInput | null | undefined;
};

/** How far each chunk of a transition is. */
export type TransitionCurve =
  /** Equal steps: chunk 1 of 4 is a quarter of the way, chunk 4 is the new prompt. */
  | 'EVEN'
  /** As in daydream scope: the first chunk is still the old prompt. Needs at least 2 chunks. */
  | 'SCOPE';

/** Lets a prompt come over several chunks instead of at once. The KV cache is treated as `mode` says at each of them; CLEAR_CACHE is not possible. A prompt that comes meanwhile goes on from what is shown by then. */
export type TransitionInput = {
  /** How many, from 1 (at once) to 100; the last one is the new prompt. A chunk has `4 * Model.framesPerBlock` frames. */
  readonly chunks: number;
  /** How far each chunk is. */
  readonly curve?: TransitionCurve | null | undefined;
  /** What lies between the prompts. */
  readonly kind?: BlendKind | null | undefined;
};

type Problem_AtCapacityError_Fragment = {
  readonly __typename: 'AtCapacityError';
  readonly retryAfterSeconds: number;
  readonly code: ErrorCode;
  readonly message: string;
};

type Problem_ConflictError_Fragment = {
  readonly __typename: 'ConflictError';
  readonly code: ErrorCode;
  readonly message: string;
};

type Problem_ForbiddenError_Fragment = {
  readonly __typename: 'ForbiddenError';
  readonly code: ErrorCode;
  readonly message: string;
};

type Problem_InvalidInputError_Fragment = {
  readonly __typename: 'InvalidInputError';
  readonly field: string | null;
  readonly code: ErrorCode;
  readonly message: string;
};

type Problem_NotFoundError_Fragment = {
  readonly __typename: 'NotFoundError';
  readonly code: ErrorCode;
  readonly message: string;
};

type Problem_RateLimitError_Fragment = {
  readonly __typename: 'RateLimitError';
  readonly retryAfterSeconds: number;
  readonly code: ErrorCode;
  readonly message: string;
};

type Problem_SessionEndedError_Fragment = {
  readonly __typename: 'SessionEndedError';
  readonly code: ErrorCode;
  readonly message: string;
};

type Problem_UnavailableError_Fragment = {
  readonly __typename: 'UnavailableError';
  readonly code: ErrorCode;
  readonly message: string;
};

export type ProblemFragment =
  | Problem_AtCapacityError_Fragment
  | Problem_ConflictError_Fragment
  | Problem_ForbiddenError_Fragment
  | Problem_InvalidInputError_Fragment
  | Problem_NotFoundError_Fragment
  | Problem_RateLimitError_Fragment
  | Problem_SessionEndedError_Fragment
  | Problem_UnavailableError_Fragment;

export type ArtifactFieldsFragment = {
  readonly kind: ArtifactKind;
  readonly url: string;
  readonly bytes: number;
  readonly contentType: string;
  readonly expiresAt: string;
};

export type SessionFieldsFragment = {
  readonly __typename: 'Session';
  readonly id: string;
  readonly title: string | null;
  readonly favourite: boolean;
  readonly cursor: string;
  readonly state: SessionState;
  readonly reason: StateReason | null;
  readonly queuedUntil: string | null;
  readonly ended: boolean;
  readonly prompt: string;
  readonly seed: string;
  readonly width: number;
  readonly height: number;
  readonly fps: number;
  readonly pace: Pace;
  readonly seconds: number;
  readonly chunks: number;
  readonly maxSeconds: number | null;
  readonly modelName: string;
  readonly viewers: number;
  readonly createdAt: string;
  readonly finishedAt: string | null;
  readonly playlistUrl: string;
  readonly initUrl: string | null;
  readonly failure: { readonly code: string; readonly message: string } | null;
  readonly queue: { readonly place: number; readonly waitSeconds: number | null } | null;
  readonly loras: ReadonlyArray<{ readonly name: string; readonly weight: number }>;
  readonly artifacts: ReadonlyArray<ArtifactFieldsFragment>;
  readonly parent: { readonly sessionId: string; readonly chunk: number } | null;
};

export type ModelFieldsFragment = {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly license: string;
  readonly device: string;
  readonly precision: string;
  readonly bytes: number;
  readonly width: number;
  readonly height: number;
  readonly fps: number;
  readonly state: ModelState;
  readonly longestSeconds: number | null;
  readonly guide: { readonly about: string; readonly examples: ReadonlyArray<string> } | null;
  readonly loras: ReadonlyArray<{ readonly name: string; readonly bytes: number }>;
};

export type GetModelsQueryVariables = Exact<{ [key: string]: never }>;

export type GetModelsQuery = { readonly models: ReadonlyArray<ModelFieldsFragment> };

export type ListSessionsQueryVariables = Exact<{
  first?: number | null | undefined;
  after?: string | null | undefined;
  search?: string | null | undefined;
  favourite?: boolean | null | undefined;
}>;

export type ListSessionsQuery = {
  readonly sessions:
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | {
        readonly __typename: 'SessionConnection';
        readonly nodes: ReadonlyArray<SessionFieldsFragment>;
        readonly pageInfo: { readonly hasNextPage: boolean; readonly endCursor: string | null };
      }
    | Problem_UnavailableError_Fragment;
};

export type GetPromptsQueryVariables = Exact<{
  id: string;
}>;

export type GetPromptsQuery = {
  readonly session:
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | {
        readonly __typename: 'Session';
        readonly promptReceipts: {
          readonly nodes: ReadonlyArray<{
            readonly id: string;
            readonly prompt: string;
            readonly unknownWords: ReadonlyArray<string> | null;
            readonly requestedAt: string;
            readonly status: SwitchStatus;
            readonly supersededBy: string | null;
          }>;
        } | null;
        readonly timelineEntries: {
          readonly nodes: ReadonlyArray<{
            readonly receiptId: string;
            readonly prompt: string;
            readonly mode: RecacheMode;
            readonly block: number;
            readonly seconds: number;
            readonly wholeSeconds: number;
            readonly recacheMilliseconds: number;
            readonly transition: {
              readonly chunks: number;
              readonly kind: BlendKind;
              readonly curve: TransitionCurve;
            } | null;
          }>;
        } | null;
      }
    | Problem_UnavailableError_Fragment;
};

export type GetServiceQueryVariables = Exact<{ [key: string]: never }>;

export type GetServiceQuery = {
  readonly service: {
    readonly version: string;
    readonly accepting: boolean;
    readonly detail: string | null;
    readonly heartbeatSeconds: number;
  };
};

export type GetSessionQueryVariables = Exact<{
  id: string;
}>;

export type GetSessionQuery = {
  readonly session:
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | SessionFieldsFragment
    | Problem_UnavailableError_Fragment;
};

export type CreateSessionMutationVariables = Exact<{
  input: CreateSessionInput;
}>;

export type CreateSessionMutation = {
  readonly createSession:
    | Problem_AtCapacityError_Fragment
    | Problem_ConflictError_Fragment
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_RateLimitError_Fragment
    | SessionFieldsFragment
    | Problem_UnavailableError_Fragment;
};

export type ForkSessionMutationVariables = Exact<{
  sessionId: string;
  atChunk?: number | null | undefined;
  atSeconds?: number | null | undefined;
  prompt?: string | null | undefined;
  mode?: RecacheMode | null | undefined;
  transition?: TransitionInput | null | undefined;
  pace?: Pace | null | undefined;
  maxSeconds?: number | null | undefined;
  maxWaitSeconds?: number | null | undefined;
  idempotencyKey?: string | null | undefined;
}>;

export type ForkSessionMutation = {
  readonly forkSession:
    | Problem_AtCapacityError_Fragment
    | Problem_ConflictError_Fragment
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | Problem_RateLimitError_Fragment
    | SessionFieldsFragment
    | Problem_UnavailableError_Fragment;
};

export type ReceiptFieldsFragment = {
  readonly __typename: 'SwitchReceipt';
  readonly id: string;
  readonly prompt: string;
  readonly unknownWords: ReadonlyArray<string> | null;
  readonly mode: RecacheMode;
  readonly when: SwitchWhen;
  readonly atBlock: number | null;
  readonly status: SwitchStatus;
  readonly expectedBlock: number;
  readonly expectedSeconds: number;
  readonly requestedAt: string;
  readonly transition: { readonly chunks: number; readonly kind: BlendKind; readonly curve: TransitionCurve } | null;
};

export type SwitchPromptMutationVariables = Exact<{
  sessionId: string;
  prompt: string;
  mode?: RecacheMode | null | undefined;
  transition?: TransitionInput | null | undefined;
  when?: SwitchWhen | null | undefined;
  atBlock?: number | null | undefined;
  idempotencyKey?: string | null | undefined;
}>;

export type SwitchPromptMutation = {
  readonly switchPrompt:
    | Problem_AtCapacityError_Fragment
    | Problem_ConflictError_Fragment
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | Problem_RateLimitError_Fragment
    | Problem_SessionEndedError_Fragment
    | ReceiptFieldsFragment
    | Problem_UnavailableError_Fragment;
};

export type PlanPromptMutationVariables = Exact<{
  sessionId: string;
  prompt: string;
  atSeconds?: number | null | undefined;
  atBlock?: number | null | undefined;
  mode?: RecacheMode | null | undefined;
  transition?: TransitionInput | null | undefined;
  idempotencyKey?: string | null | undefined;
}>;

export type PlanPromptMutation = {
  readonly planPrompt:
    | Problem_AtCapacityError_Fragment
    | Problem_ConflictError_Fragment
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | Problem_RateLimitError_Fragment
    | Problem_SessionEndedError_Fragment
    | ReceiptFieldsFragment
    | Problem_UnavailableError_Fragment;
};

export type MovePromptMutationVariables = Exact<{
  sessionId: string;
  receiptId: string;
  prompt?: string | null | undefined;
  atSeconds?: number | null | undefined;
  atBlock?: number | null | undefined;
  mode?: RecacheMode | null | undefined;
  transition?: TransitionInput | null | undefined;
}>;

export type MovePromptMutation = {
  readonly movePrompt:
    | Problem_AtCapacityError_Fragment
    | Problem_ConflictError_Fragment
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | Problem_RateLimitError_Fragment
    | Problem_SessionEndedError_Fragment
    | ReceiptFieldsFragment
    | Problem_UnavailableError_Fragment;
};

export type CancelPromptMutationVariables = Exact<{
  sessionId: string;
  receiptId: string;
}>;

export type CancelPromptMutation = {
  readonly cancelPrompt:
    | Problem_ConflictError_Fragment
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | Problem_SessionEndedError_Fragment
    | ReceiptFieldsFragment
    | Problem_UnavailableError_Fragment;
};

export type GetPlannedQueryVariables = Exact<{
  id: string;
}>;

export type GetPlannedQuery = {
  readonly session:
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | { readonly __typename: 'Session'; readonly planned: ReadonlyArray<ReceiptFieldsFragment> }
    | Problem_UnavailableError_Fragment;
};

export type PauseSessionMutationVariables = Exact<{
  id: string;
}>;

export type PauseSessionMutation = {
  readonly pauseSession:
    | Problem_AtCapacityError_Fragment
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | Problem_RateLimitError_Fragment
    | SessionFieldsFragment
    | Problem_SessionEndedError_Fragment
    | Problem_UnavailableError_Fragment;
};

export type ResumeSessionMutationVariables = Exact<{
  id: string;
  maxWaitSeconds?: number | null | undefined;
}>;

export type ResumeSessionMutation = {
  readonly resumeSession:
    | Problem_AtCapacityError_Fragment
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | Problem_RateLimitError_Fragment
    | SessionFieldsFragment
    | Problem_SessionEndedError_Fragment
    | Problem_UnavailableError_Fragment;
};

export type StopSessionMutationVariables = Exact<{
  id: string;
}>;

export type StopSessionMutation = {
  readonly stopSession:
    | Problem_AtCapacityError_Fragment
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | Problem_RateLimitError_Fragment
    | SessionFieldsFragment
    | Problem_SessionEndedError_Fragment
    | Problem_UnavailableError_Fragment;
};

export type UpdateSessionMutationVariables = Exact<{
  id: string;
  title?: string | null | undefined;
  favourite?: boolean | null | undefined;
}>;

export type UpdateSessionMutation = {
  readonly updateSession:
    | Problem_ConflictError_Fragment
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | SessionFieldsFragment
    | Problem_UnavailableError_Fragment;
};

export type DeleteSessionMutationVariables = Exact<{
  id: string;
}>;

export type DeleteSessionMutation = {
  readonly deleteSession:
    | Problem_ConflictError_Fragment
    | { readonly __typename: 'DeletedSession'; readonly deletedAt: string }
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | Problem_UnavailableError_Fragment;
};

export type AcknowledgePlaybackMutationVariables = Exact<{
  sessionId: string;
  viewer: string;
  seconds: number;
  playing?: boolean | null | undefined;
  aheadSeconds?: number | null | undefined;
}>;

export type AcknowledgePlaybackMutation = {
  readonly acknowledgePlayback:
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | { readonly __typename: 'PlaybackAcknowledged'; readonly heard: boolean }
    | Problem_UnavailableError_Fragment;
};

export type ExportFieldsFragment = {
  readonly __typename: 'Export';
  readonly id: string;
  readonly state: ExportState;
  readonly progress: number;
  readonly failure: { readonly code: string; readonly message: string } | null;
  readonly files: ReadonlyArray<{ readonly kind: ExportFileKind; readonly url: string; readonly bytes: number }>;
};

export type ExportSessionMutationVariables = Exact<{
  sessionId: string;
  fromSeconds?: number | null | undefined;
  toSeconds?: number | null | undefined;
}>;

export type ExportSessionMutation = {
  readonly exportSession:
    | ExportFieldsFragment
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | Problem_UnavailableError_Fragment;
};

export type GetExportQueryVariables = Exact<{
  id: string;
}>;

export type GetExportQuery = {
  readonly export:
    | ExportFieldsFragment
    | Problem_ForbiddenError_Fragment
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | Problem_UnavailableError_Fragment;
};

export type SessionStreamSubscriptionVariables = Exact<{
  id: string;
  after?: string | null | undefined;
  from?: StreamStart | null | undefined;
  media?: MediaDelivery | null | undefined;
  viewer?: string | null | undefined;
}>;

export type SessionStreamSubscription = {
  readonly sessionStream:
    | Problem_AtCapacityError_Fragment
    | Problem_ForbiddenError_Fragment
    | {
        readonly __typename: 'FrameChunk';
        readonly cursor: string;
        readonly at: string;
        readonly index: number;
        readonly startSeconds: number;
        readonly durationSeconds: number;
        readonly byteLength: number;
        readonly keyframe: boolean;
        readonly generateMilliseconds: number;
        readonly url: string | null;
        readonly data: string | null;
        readonly init: {
          readonly codec: string;
          readonly mimeType: string;
          readonly url: string | null;
          readonly data: string | null;
        } | null;
      }
    | {
        readonly __typename: 'Heartbeat';
        readonly cursor: string;
        readonly at: string;
        readonly state: SessionState;
        readonly reason: StateReason | null;
        readonly failure: { readonly code: string; readonly message: string } | null;
        readonly queue: { readonly place: number; readonly waitSeconds: number | null } | null;
      }
    | Problem_InvalidInputError_Fragment
    | Problem_NotFoundError_Fragment
    | {
        readonly __typename: 'PromptApplied';
        readonly cursor: string;
        readonly at: string;
        readonly receiptId: string;
        readonly prompt: string;
        readonly mode: RecacheMode;
        readonly block: number;
        readonly frame: number;
        readonly seconds: number;
        readonly wholeSeconds: number;
        readonly recacheMilliseconds: number;
        readonly waitedMilliseconds: number | null;
      }
    | {
        readonly __typename: 'PromptCancelled';
        readonly cursor: string;
        readonly at: string;
        readonly receiptId: string;
      }
    | {
        readonly __typename: 'PromptMoved';
        readonly cursor: string;
        readonly at: string;
        readonly receiptId: string;
        readonly prompt: string;
        readonly mode: RecacheMode;
        readonly when: SwitchWhen;
        readonly atBlock: number | null;
        readonly expectedBlock: number;
      }
    | {
        readonly __typename: 'PromptRequested';
        readonly cursor: string;
        readonly at: string;
        readonly receiptId: string;
        readonly prompt: string;
        readonly mode: RecacheMode;
        readonly when: SwitchWhen;
        readonly atBlock: number | null;
        readonly unknownWords: ReadonlyArray<string> | null;
        readonly expectedBlock: number;
      }
    | {
        readonly __typename: 'PromptSuperseded';
        readonly cursor: string;
        readonly at: string;
        readonly receiptId: string;
        readonly supersededBy: string;
      }
    | Problem_RateLimitError_Fragment
    | {
        readonly __typename: 'SessionEnded';
        readonly cursor: string;
        readonly at: string;
        readonly state: SessionState;
        readonly reason: StateReason | null;
        readonly chunks: number;
        readonly seconds: number;
        readonly failure: { readonly code: string; readonly message: string } | null;
        readonly artifacts: ReadonlyArray<ArtifactFieldsFragment>;
      }
    | {
        readonly __typename: 'StateChanged';
        readonly cursor: string;
        readonly at: string;
        readonly state: SessionState;
        readonly previous: SessionState | null;
        readonly reason: StateReason | null;
        readonly failure: { readonly code: string; readonly message: string } | null;
      }
    | Problem_UnavailableError_Fragment;
};

import type { Operation } from '../wire/wire.js';
const ArtifactFieldsText = 'fragment ArtifactFields on Artifact{kind url bytes contentType expiresAt}';
const ExportFieldsText =
  'fragment ExportFields on Export{__typename id state progress failure{code message}files{kind url bytes}}';
const ModelFieldsText =
  'fragment ModelFields on Model{name title description license device precision bytes width height fps state longestSeconds guide{about examples}loras{name bytes}}';
const ProblemText =
  'fragment Problem on Error{__typename code message ...on InvalidInputError{field}...on AtCapacityError{retryAfterSeconds}...on RateLimitError{retryAfterSeconds}}';
const ReceiptFieldsText =
  'fragment ReceiptFields on SwitchReceipt{__typename id prompt unknownWords mode transition{chunks kind curve}when atBlock status expectedBlock expectedSeconds requestedAt}';
const SessionFieldsText =
  'fragment SessionFields on Session{__typename id title favourite cursor state reason failure{code message}queue{place waitSeconds}queuedUntil ended prompt seed width height fps pace seconds chunks maxSeconds modelName loras{name weight}viewers createdAt finishedAt playlistUrl initUrl artifacts{...ArtifactFields}parent{sessionId chunk}}';
export const GetModels: Operation<GetModelsQuery, GetModelsQueryVariables> = {
  text: 'query GetModels{models{...ModelFields}}' + ModelFieldsText,
};
export const ListSessions: Operation<ListSessionsQuery, ListSessionsQueryVariables> = {
  text:
    'query ListSessions($first:Int$after:String$search:String$favourite:Boolean){sessions(first:$first after:$after search:$search favourite:$favourite){...on SessionConnection{__typename nodes{...SessionFields}pageInfo{hasNextPage endCursor}}...Problem}}' +
    SessionFieldsText +
    ArtifactFieldsText +
    ProblemText,
};
export const GetPrompts: Operation<GetPromptsQuery, GetPromptsQueryVariables> = {
  text:
    'query GetPrompts($id:ID!){session(id:$id){...on Session{__typename promptReceipts(first:100){nodes{id prompt unknownWords requestedAt status supersededBy}}timelineEntries(first:100){nodes{receiptId prompt mode transition{chunks kind curve}block seconds wholeSeconds recacheMilliseconds}}}...Problem}}' +
    ProblemText,
};
export const GetService: Operation<GetServiceQuery, GetServiceQueryVariables> = {
  text: 'query GetService{service{version accepting detail heartbeatSeconds}}',
};
export const GetSession: Operation<GetSessionQuery, GetSessionQueryVariables> = {
  text:
    'query GetSession($id:ID!){session(id:$id){...SessionFields ...Problem}}' +
    SessionFieldsText +
    ArtifactFieldsText +
    ProblemText,
};
export const CreateSession: Operation<CreateSessionMutation, CreateSessionMutationVariables> = {
  text:
    'mutation CreateSession($input:CreateSessionInput!){createSession(input:$input){...SessionFields ...Problem}}' +
    SessionFieldsText +
    ArtifactFieldsText +
    ProblemText,
};
export const ForkSession: Operation<ForkSessionMutation, ForkSessionMutationVariables> = {
  text:
    'mutation ForkSession($sessionId:ID!$atChunk:Int$atSeconds:Float$prompt:String$mode:RecacheMode$transition:TransitionInput$pace:Pace$maxSeconds:Float$maxWaitSeconds:Float$idempotencyKey:String){forkSession(sessionId:$sessionId atChunk:$atChunk atSeconds:$atSeconds prompt:$prompt mode:$mode transition:$transition pace:$pace maxSeconds:$maxSeconds maxWaitSeconds:$maxWaitSeconds idempotencyKey:$idempotencyKey){...SessionFields ...Problem}}' +
    SessionFieldsText +
    ArtifactFieldsText +
    ProblemText,
};
export const SwitchPrompt: Operation<SwitchPromptMutation, SwitchPromptMutationVariables> = {
  text:
    'mutation SwitchPrompt($sessionId:ID!$prompt:String!$mode:RecacheMode$transition:TransitionInput$when:SwitchWhen$atBlock:Int$idempotencyKey:String){switchPrompt(sessionId:$sessionId prompt:$prompt mode:$mode transition:$transition when:$when atBlock:$atBlock idempotencyKey:$idempotencyKey){...on SwitchReceipt{...ReceiptFields}...Problem}}' +
    ReceiptFieldsText +
    ProblemText,
};
export const PlanPrompt: Operation<PlanPromptMutation, PlanPromptMutationVariables> = {
  text:
    'mutation PlanPrompt($sessionId:ID!$prompt:String!$atSeconds:Float$atBlock:Int$mode:RecacheMode$transition:TransitionInput$idempotencyKey:String){planPrompt(sessionId:$sessionId prompt:$prompt atSeconds:$atSeconds atBlock:$atBlock mode:$mode transition:$transition idempotencyKey:$idempotencyKey){...on SwitchReceipt{...ReceiptFields}...Problem}}' +
    ReceiptFieldsText +
    ProblemText,
};
export const MovePrompt: Operation<MovePromptMutation, MovePromptMutationVariables> = {
  text:
    'mutation MovePrompt($sessionId:ID!$receiptId:ID!$prompt:String$atSeconds:Float$atBlock:Int$mode:RecacheMode$transition:TransitionInput){movePrompt(sessionId:$sessionId receiptId:$receiptId prompt:$prompt atSeconds:$atSeconds atBlock:$atBlock mode:$mode transition:$transition){...on SwitchReceipt{...ReceiptFields}...Problem}}' +
    ReceiptFieldsText +
    ProblemText,
};
export const CancelPrompt: Operation<CancelPromptMutation, CancelPromptMutationVariables> = {
  text:
    'mutation CancelPrompt($sessionId:ID!$receiptId:ID!){cancelPrompt(sessionId:$sessionId receiptId:$receiptId){...on SwitchReceipt{...ReceiptFields}...Problem}}' +
    ReceiptFieldsText +
    ProblemText,
};
export const GetPlanned: Operation<GetPlannedQuery, GetPlannedQueryVariables> = {
  text:
    'query GetPlanned($id:ID!){session(id:$id){...on Session{__typename planned{...ReceiptFields}}...Problem}}' +
    ReceiptFieldsText +
    ProblemText,
};
export const PauseSession: Operation<PauseSessionMutation, PauseSessionMutationVariables> = {
  text:
    'mutation PauseSession($id:ID!){pauseSession(sessionId:$id){...SessionFields ...Problem}}' +
    SessionFieldsText +
    ArtifactFieldsText +
    ProblemText,
};
export const ResumeSession: Operation<ResumeSessionMutation, ResumeSessionMutationVariables> = {
  text:
    'mutation ResumeSession($id:ID!$maxWaitSeconds:Float){resumeSession(sessionId:$id maxWaitSeconds:$maxWaitSeconds){...SessionFields ...Problem}}' +
    SessionFieldsText +
    ArtifactFieldsText +
    ProblemText,
};
export const StopSession: Operation<StopSessionMutation, StopSessionMutationVariables> = {
  text:
    'mutation StopSession($id:ID!){stopSession(sessionId:$id){...SessionFields ...Problem}}' +
    SessionFieldsText +
    ArtifactFieldsText +
    ProblemText,
};
export const UpdateSession: Operation<UpdateSessionMutation, UpdateSessionMutationVariables> = {
  text:
    'mutation UpdateSession($id:ID!$title:String$favourite:Boolean){updateSession(sessionId:$id title:$title favourite:$favourite){...SessionFields ...Problem}}' +
    SessionFieldsText +
    ArtifactFieldsText +
    ProblemText,
};
export const DeleteSession: Operation<DeleteSessionMutation, DeleteSessionMutationVariables> = {
  text:
    'mutation DeleteSession($id:ID!){deleteSession(sessionId:$id){...on DeletedSession{__typename deletedAt}...Problem}}' +
    ProblemText,
};
export const AcknowledgePlayback: Operation<AcknowledgePlaybackMutation, AcknowledgePlaybackMutationVariables> = {
  text:
    'mutation AcknowledgePlayback($sessionId:ID!$viewer:ID!$seconds:Float!$playing:Boolean$aheadSeconds:Float){acknowledgePlayback(sessionId:$sessionId viewer:$viewer seconds:$seconds playing:$playing aheadSeconds:$aheadSeconds){...on PlaybackAcknowledged{__typename heard}...Problem}}' +
    ProblemText,
};
export const ExportSession: Operation<ExportSessionMutation, ExportSessionMutationVariables> = {
  text:
    'mutation ExportSession($sessionId:ID!$fromSeconds:Float$toSeconds:Float){exportSession(sessionId:$sessionId fromSeconds:$fromSeconds toSeconds:$toSeconds){...ExportFields ...Problem}}' +
    ExportFieldsText +
    ProblemText,
};
export const GetExport: Operation<GetExportQuery, GetExportQueryVariables> = {
  text: 'query GetExport($id:ID!){export(id:$id){...ExportFields ...Problem}}' + ExportFieldsText + ProblemText,
};
export const SessionStream: Operation<SessionStreamSubscription, SessionStreamSubscriptionVariables> = {
  text:
    'subscription SessionStream($id:ID!$after:Cursor$from:StreamStart$media:MediaDelivery$viewer:ID){sessionStream(sessionId:$id after:$after from:$from media:$media viewer:$viewer){...on FrameChunk{__typename cursor at index startSeconds durationSeconds byteLength keyframe generateMilliseconds url data init{codec mimeType url data}}...on PromptRequested{__typename cursor at receiptId prompt mode when atBlock unknownWords expectedBlock}...on PromptApplied{__typename cursor at receiptId prompt mode block frame seconds wholeSeconds recacheMilliseconds waitedMilliseconds}...on PromptSuperseded{__typename cursor at receiptId supersededBy}...on PromptMoved{__typename cursor at receiptId prompt mode when atBlock expectedBlock}...on PromptCancelled{__typename cursor at receiptId}...on StateChanged{__typename cursor at state previous reason failure{code message}}...on Heartbeat{__typename cursor at state reason failure{code message}queue{place waitSeconds}}...on SessionEnded{__typename cursor at state reason failure{code message}chunks seconds artifacts{...ArtifactFields}}...Problem}}' +
    ArtifactFieldsText +
    ProblemText,
};
