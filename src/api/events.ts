import type {
  FrameChunk as Chunk,
  Heartbeat as Beat,
  PromptApplied as Applied,
  PromptCancelled as Cancelled,
  PromptMoved as Moved,
  PromptRequested as Requested,
  PromptSuperseded as Superseded,
  SessionEnded as Ended,
  SessionEvent,
  StateChanged as Changed,
} from '../sessions/index.js';
import { Artifact, ARTIFACTS, ArtifactStatus, fatesOf } from './artifact.js';
import { linkFor } from './links.js';
import { weigh } from './paging.js';
import { builder } from './builder.js';
import {
  ApiError,
  AtCapacityError,
  RateLimitError,
  ForbiddenError,
  InvalidInputError,
  NotFoundError,
  UnavailableError,
} from './errors.js';
import { Failure } from './failure.js';
import { QueuePlace, SessionState, StateReason } from './session.js';
import { sessionStream, type Streamed } from './stream.js';
import { RecacheMode, SwitchWhen, UNKNOWN_WORDS, whenBlock, whenName } from './timeline.js';
import { TRANSITION, WHOLE_SECONDS } from './transition.js';

const MediaDelivery = builder.enumType('MediaDelivery', {
  description: 'How a stream hands over the bytes of its chunks.',
  values: {
    INLINE: { description: 'In the event, as Base64: one round trip less, a third more bytes.' },
    URL: { description: 'As a signed URL, fit for caches and ranges.' },
    NONE: { description: 'Not at all: for clients that only follow events.' },
  } as const,
});

const StreamStart = builder.enumType('StreamStart', {
  description: 'Where a stream without a cursor begins.',
  values: {
    START: { description: "The session's first event." },
    LIVE: { description: 'The newest chunk that decoding can begin with.' },
  } as const,
});

const Event = builder.interfaceRef<Streamed>('SessionEvent').implement({
  description: 'Something that happened in a session.',
  fields: (t) => ({
    cursor: t.expose('cursor', {
      type: 'Cursor',
      description: 'Pass it as `after` to continue from here.',
    }),
    at: t.field({ description: 'When it happened.', type: 'DateTime', resolve: ({ event }) => new Date(event.at) }),
  }),
});

const InitSegment = builder.objectRef<Streamed<Chunk>>('InitSegment').implement({
  description: 'What a decoder needs before the first chunk; the same throughout a session.',
  fields: (t) => ({
    codec: t.string({ description: 'RFC 6381.', resolve: ({ event }) => event.codec }),
    mimeType: t.string({
      description: 'What `MediaSource.addSourceBuffer` takes.',
      resolve: ({ event }) => `video/mp4; codecs="${event.codec}"`,
    }),
    url: t.string({
      description: 'Signed URL of the segment; with `media: URL`.',
      nullable: true,
      resolve: ({ event, sessionId, delivery }, _args, { links }) =>
        delivery === 'URL' ? linkFor(links, sessionId, event.initKey).url : null,
    }),
    data: t.field({
      description: 'Its bytes; with `media: INLINE`.',
      type: 'Base64',
      nullable: true,
      resolve: ({ event, delivery }, _args, { media }) => (delivery === 'INLINE' ? media.read(event.initKey) : null),
    }),
  }),
});

const FrameChunk = builder.objectRef<Streamed<Chunk>>('FrameChunk').implement({
  description: 'The playable media of one block. In order, without holes, durable before it is announced.',
  interfaces: [Event],
  fields: (t) => ({
    index: t.int({ description: '0, 1, 2, … Equals the block.', resolve: ({ event }) => event.chunk }),
    firstFrame: t.int({ description: 'Number of its first frame, from 0.', resolve: ({ event }) => event.firstFrame }),
    frameCount: t.int({ description: 'How many frames it has.', resolve: ({ event }) => event.frameCount }),
    startSeconds: t.float({
      description: 'Where it plays, from the start of the session.',
      resolve: ({ event }) => event.startSeconds,
    }),
    durationSeconds: t.float({ description: 'How long it plays.', resolve: ({ event }) => event.durationSeconds }),
    byteLength: t.int({ description: 'Its size in bytes.', resolve: ({ event }) => event.bytes }),
    keyframe: t.boolean({ description: 'Whether decoding can begin here.', resolve: ({ event }) => event.keyframe }),
    generateMilliseconds: t.float({
      description: 'Device time spent on its block.',
      resolve: ({ event }) => event.generateMilliseconds,
    }),
    encodeMilliseconds: t.float({
      description: 'Time spent on encoding its frames.',
      resolve: ({ event }) => event.encodeMilliseconds,
    }),
    url: t.string({
      nullable: true,
      description: 'The CMAF fragment; with `media: URL`.',
      resolve: ({ event, sessionId, delivery }, _args, { links }) =>
        delivery === 'URL' ? linkFor(links, sessionId, event.key).url : null,
    }),
    data: t.field({
      type: 'Base64',
      nullable: true,
      description: 'The CMAF fragment; with `media: INLINE`.',
      resolve: ({ event, delivery }, _args, { media }) =>
        delivery === 'INLINE' ? (event.data ?? media.read(event.key)) : null,
    }),
    init: t.field({
      type: InitSegment,
      nullable: true,
      description: 'On the first chunk of a stream.',
      resolve: (chunk) => (chunk.first ? chunk : null),
    }),
  }),
});

const PromptRequested = builder.objectRef<Streamed<Requested>>('PromptRequested').implement({
  description: 'A client requested a prompt switch.',
  interfaces: [Event],
  fields: (t) => ({
    receiptId: t.id({
      description: 'The id of the receipt that the request was answered with.',
      resolve: ({ event }) => event.receiptId,
    }),
    prompt: t.string({ description: 'The prompt that was asked for.', resolve: ({ event }) => event.prompt }),
    mode: t.field({
      description: 'What the switch does to the KV cache.',
      type: RecacheMode,
      resolve: ({ event }) => event.mode,
    }),
    transition: t.field({ ...TRANSITION, resolve: ({ event }) => event.transition }),
    when: t.field({
      description: 'When it was asked to take effect.',
      type: SwitchWhen,
      resolve: ({ event }) => whenName(event.when),
    }),
    atBlock: t.int({
      description: 'The block that was asked for, with `when: AT_BLOCK`.',
      nullable: true,
      resolve: ({ event }) => whenBlock(event.when),
    }),
    unknownWords: t.field({
      ...UNKNOWN_WORDS,
      resolve: ({ event: { unknownWords } }) => unknownWords && [...unknownWords],
    }),
    expectedBlock: t.int({
      description: 'The block before which it is expected to take effect.',
      resolve: ({ event }) => event.expectedBlock,
    }),
  }),
});

const PromptApplied = builder.objectRef<Streamed<Applied>>('PromptApplied').implement({
  description: 'A prompt took effect. Comes before the chunk of its block.',
  interfaces: [Event],
  fields: (t) => ({
    receiptId: t.id({ description: 'The id of the receipt of the request.', resolve: ({ event }) => event.receiptId }),
    prompt: t.string({ description: 'The prompt that is in effect now.', resolve: ({ event }) => event.prompt }),
    mode: t.field({
      description: 'What the switch did to the KV cache.',
      type: RecacheMode,
      resolve: ({ event }) => event.mode,
    }),
    transition: t.field({ ...TRANSITION, resolve: ({ event }) => event.transition }),
    block: t.int({ description: 'The first block under the new prompt.', resolve: ({ event }) => event.block }),
    frame: t.int({ description: 'The first frame under the new prompt.', resolve: ({ event }) => event.frame }),
    seconds: t.float({ description: 'From the start of the session.', resolve: ({ event }) => event.seconds }),
    wholeSeconds: t.float({
      description: WHOLE_SECONDS,
      resolve: ({ event: { wholeSeconds, seconds } }) => wholeSeconds ?? seconds,
    }),
    recacheMilliseconds: t.float({
      description: 'Time spent on rebuilding the KV cache.',
      resolve: ({ event }) => event.recacheMilliseconds,
    }),
    waitedMilliseconds: t.float({
      nullable: true,
      description:
        'Time from the request to this event; null for switches at a block, and when another server took the request.',
      resolve: ({ event }) => event.waitedMilliseconds,
    }),
  }),
});

const PromptSuperseded = builder.objectRef<Streamed<Superseded>>('PromptSuperseded').implement({
  description: "A later switch took this one's place before its block began.",
  interfaces: [Event],
  fields: (t) => ({
    receiptId: t.id({ description: 'The receipt that lost.', resolve: ({ event }) => event.receiptId }),
    supersededBy: t.id({ description: 'The receipt that won.', resolve: ({ event }) => event.supersededBy }),
  }),
});

const PromptMoved = builder.objectRef<Streamed<Moved>>('PromptMoved').implement({
  description: 'A prompt that waits was given another block, text or way to come. It says all of what it is now.',
  interfaces: [Event],
  fields: (t) => ({
    receiptId: t.id({ description: 'The id of its receipt.', resolve: ({ event }) => event.receiptId }),
    prompt: t.string({ description: 'The prompt as it is now.', resolve: ({ event }) => event.prompt }),
    mode: t.field({
      description: 'What the switch does to the KV cache.',
      type: RecacheMode,
      resolve: ({ event }) => event.mode,
    }),
    transition: t.field({ ...TRANSITION, resolve: ({ event }) => event.transition }),
    when: t.field({
      description: 'When it is to take effect.',
      type: SwitchWhen,
      resolve: ({ event }) => whenName(event.when),
    }),
    atBlock: t.int({
      description: 'The block, with `when: AT_BLOCK`.',
      nullable: true,
      resolve: ({ event }) => whenBlock(event.when),
    }),
    unknownWords: t.field({
      ...UNKNOWN_WORDS,
      resolve: ({ event: { unknownWords } }) => unknownWords && [...unknownWords],
    }),
    expectedBlock: t.int({
      description: 'The block before which it is expected to take effect.',
      resolve: ({ event }) => event.expectedBlock,
    }),
  }),
});

const PromptCancelled = builder.objectRef<Streamed<Cancelled>>('PromptCancelled').implement({
  description: 'A prompt that waited will not come.',
  interfaces: [Event],
  fields: (t) => ({
    receiptId: t.id({ description: 'The id of its receipt.', resolve: ({ event }) => event.receiptId }),
  }),
});

const FAILURE = {
  description: 'What went wrong, if that is why.',
  type: Failure,
  nullable: true,
  resolve: ({ event }: Streamed<Changed | Beat | Ended>) => event.failure,
} as const;

const StateChanged = builder.objectRef<Streamed<Changed>>('StateChanged').implement({
  description: 'The session passed from one state to another.',
  interfaces: [Event],
  fields: (t) => ({
    state: t.field({ description: 'The state it is in now.', type: SessionState, resolve: ({ event }) => event.state }),
    previous: t.field({
      description: 'The state it was in; null for the first one.',
      type: SessionState,
      nullable: true,
      resolve: ({ event }) => event.previous,
    }),
    reason: t.field({
      description: 'Why, where the state alone does not say.',
      type: StateReason,
      nullable: true,
      resolve: ({ event }) => event.reason,
    }),
    failure: t.field(FAILURE),
  }),
});

const Heartbeat = builder.objectRef<Streamed<Beat>>('Heartbeat').implement({
  description: 'Sent on an idle stream to show that it is alive. Not part of the log.',
  interfaces: [Event],
  fields: (t) => ({
    state: t.field({
      description: 'The state of the session.',
      type: SessionState,
      resolve: ({ event }) => event.state,
    }),
    reason: t.field({
      description: 'Why it is in that state, where the state alone does not say.',
      type: StateReason,
      nullable: true,
      resolve: ({ event }) => event.reason,
    }),
    failure: t.field(FAILURE),
    queue: t.field({
      description: 'Its place in the line, while it waits for room. A heartbeat also comes whenever that changes.',
      type: QueuePlace,
      nullable: true,
      resolve: ({ event }) => event.queue,
    }),
  }),
});

const SessionEnded = builder.objectRef<Streamed<Ended>>('SessionEnded').implement({
  description: 'The last event of a session: its artifacts are complete, but for those that could not be made.',
  interfaces: [Event],
  fields: (t) => ({
    state: t.field({
      description: 'The state in which it ended.',
      type: SessionState,
      resolve: ({ event }) => event.state,
    }),
    reason: t.field({
      description: 'Why it ended, where the state alone does not say.',
      type: StateReason,
      nullable: true,
      resolve: ({ event }) => event.reason,
    }),
    failure: t.field(FAILURE),
    chunks: t.int({ description: 'How many chunks the session has.', resolve: ({ event }) => event.chunks }),
    frames: t.int({ description: 'How many frames the session has.', resolve: ({ event }) => event.frames }),
    seconds: t.float({ description: 'How long the video is.', resolve: ({ event }) => event.seconds }),
    artifacts: t.field({
      description: 'The finished files.',
      type: [Artifact],
      ...weigh(ARTIFACTS),
      resolve: ({ event, sessionId }) => event.artifacts.map((artifact) => ({ ...artifact, sessionId })),
    }),
    artifactStatus: t.field({
      description: 'What became of the artifact of each kind; none without video.',
      type: [ArtifactStatus],
      ...weigh(ARTIFACTS),
      resolve: ({ event, sessionId }) => fatesOf({ ...event, id: sessionId, finishedAt: new Date(event.at) }),
    }),
  }),
});

const EVENTS = {
  FrameChunk,
  PromptRequested,
  PromptApplied,
  PromptSuperseded,
  PromptMoved,
  PromptCancelled,
  StateChanged,
  Heartbeat,
  SessionEnded,
} satisfies Record<SessionEvent['type'], object>;

const FAILURES = [InvalidInputError, ForbiddenError, NotFoundError, AtCapacityError, RateLimitError, UnavailableError];

const StreamItem = builder.unionType('SessionStreamResult', {
  description: 'An event; or, once and last, why there is no stream.',
  types: [...Object.values(EVENTS), ...FAILURES],
  resolveType: (item) => (item instanceof ApiError ? item.constructor.name : item.event.type),
});

builder.subscriptionField('sessionStream', (t) =>
  t.field({
    type: StreamItem,
    description: "The session's log from a cursor on: in order, without gap or duplicate, until `SessionEnded`.",
    args: {
      sessionId: t.arg.id({ required: true, description: 'The session to follow.' }),
      after: t.arg({
        type: 'Cursor',
        description: 'Cursor of the last event processed. Takes precedence over `from`.',
      }),
      from: t.arg({ type: StreamStart, defaultValue: 'START', description: 'Where to begin without `after`.' }),
      media: t.arg({ type: MediaDelivery, defaultValue: 'URL', description: 'How chunks are handed over.' }),
      viewer: t.arg.id({
        description:
          'A name of your own for whoever watches, who will say by `acknowledgePlayback` how far. Without it the video is thought to ' +
          'be played as it comes.',
      }),
    },
    subscribe: (_root, args, context) => sessionStream(args, context),
    resolve: (item) => item as never,
  }),
);
