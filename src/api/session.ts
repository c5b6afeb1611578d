import {
  askedAt,
  encoderOf,
  invalid,
  isEnded,
  LIMITS,
  keysOf,
  pageCursorOf,
  type PromptPage,
  type QueuePlace as Place,
  type Session as DomainSession,
  type SwitchReceipt as Receipt,
  type SessionLora as DomainLora,
  type SessionParent,
} from '../sessions/index.js';
import { Artifact, ARTIFACTS, ArtifactStatus, fatesOf } from './artifact.js';
import { builder } from './builder.js';
import type { ApiContext } from './context.js';
import { absent, answering, ForbiddenError, InvalidInputError, NotFoundError, UnavailableError } from './errors.js';
import { connectionOf, type Connected } from './connection.js';
import { PAGE, pageArguments, pageItems, pageSize, READ, searching, weigh } from './paging.js';
import { Failure } from './failure.js';
import { formatCursor, GLOBAL_ID, localId, parseCursor, SESSION_ID } from './ids.js';
import { linkFor } from './links.js';
import { withoutNulls } from './nulls.js';
import { Model } from './model.js';
import { SwitchReceipt, TimelineEntry } from './timeline.js';

export const SessionState = builder.enumType('SessionState', {
  description:
    'What a session does: `QUEUED -> STARTING -> LIVE <-> PAUSED -> COMPLETED | STOPPED | FAILED`. One that is resumed where there ' +
    'is no room may be QUEUED again.',
  values: {
    QUEUED: { description: 'Waiting for a free device; see `queue`.' },
    STARTING: { description: 'Loading the model.' },
    LIVE: { description: 'Blocks are being generated.' },
    PAUSED: { description: 'Nothing is generated; `resumeSession` continues. See `reason`.' },
    COMPLETED: { description: 'Ended at `maxSeconds`, or where the model ends. See `reason`.' },
    STOPPED: { description: 'Ended by `stopSession`.' },
    FAILED: { description: 'Ended by a failure; what was generated is kept. See `failure`.' },
  } as const,
});

export const Pace = builder.enumType('Pace', {
  description: 'How fast a session generates.',
  values: {
    REALTIME: { description: 'Just ahead of playback, so that a new prompt is seen soon.' },
    FASTEST: { description: 'As fast as the device allows.' },
  } as const,
});

export const StateReason = builder.enumType('StateReason', {
  description: 'Why a session is in its state, where the state alone does not say.',
  values: {
    REQUESTED: { description: 'A client requested it.' },
    IDLE: { description: 'No viewers.' },
    STORAGE: { description: 'The object store failed; resume once it works again. Nothing generated is lost.' },
    WORKER_LOST: {
      description: 'The server that generated it was lost; resuming continues from the last checkpoint.',
    },
    MODEL: { description: 'The model cannot be loaded, see `failure`; resume once it can.' },
    DURATION_REACHED: { description: '`maxSeconds` is reached.' },
    MODEL_END: {
      description:
        "The model's positions are used up (see `Model.longestSeconds`); with relative positions there is no end.",
    },
    CAPACITY: { description: 'No device had room for it within `maxWaitSeconds`.' },
    ENGINE: { description: 'The device or the native core failed; see `failure`.' },
    MEDIA: { description: 'The video encoder failed; see `failure`.' },
  } as const,
});

export const QueuePlace = builder.objectRef<Place>('QueuePlace').implement({
  description: 'Where a session stands that waits for room.',
  fields: (t) => ({
    place: t.exposeInt('place', { description: '1 for the one that is next. The line is one for all servers.' }),
    waitSeconds: t.exposeFloat('waitSeconds', {
      nullable: true,
      description:
        'Estimated time until its turn, from sessions whose end is known and from how long others ran. Null while there is no estimate.',
    }),
  }),
});

const Parent = builder.objectRef<SessionParent>('SessionParent').implement({
  description: 'Where a fork branched off.',
  fields: (t) => ({
    sessionId: t.id({
      description: 'The session that it branched off from. It may be deleted by now.',
      resolve: ({ sessionId }) => `Session:${sessionId}`,
    }),
    chunk: t.exposeInt('chunk', {
      description: 'Index of its first own chunk; the chunks before belong to the parent.',
    }),
  }),
});

const SessionLora = builder.objectRef<DomainLora>('SessionLora').implement({
  description: 'An adapter that a session is generated with.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'As `Model.loras` called it.' }),
    weight: t.exposeFloat('weight', { description: 'How strongly it is applied; 1 is as trained.' }),
    digest: t.exposeString('digest', { description: 'SHA-256 of what it adds.' }),
  }),
});

const SwitchReceiptConnection = connectionOf('SwitchReceipt', SwitchReceipt, 'Newest first. Pages forward only.');
const TimelineEntryConnection = connectionOf('TimelineEntry', TimelineEntry, 'Newest first. Pages forward only.');

interface PageArgs {
  first?: number | null | undefined;
  after?: string | null | undefined;
}

/** A page of what the log of a session has, whose cursors are places in it. */
async function promptPage<Item extends { sequence?: number }>(
  { id, lastSequence }: DomainSession,
  { first, after }: PageArgs,
  read: (page: { first: number; before: number | undefined }) => Promise<PromptPage<Item>>,
): Promise<Connected<Item>> {
  const before = after == null ? undefined : parseCursor(id, after);
  if (before !== undefined && before > lastSequence)
    throw invalid('after', `after is a cursor beyond the session's newest event, ${lastSequence}.`);
  const { items, more } = await read({ first: pageSize(first), before });
  const edges = items.map((node) => ({ node, cursor: formatCursor(id, node.sequence ?? 0) }));
  return { edges, next: more ? edges.at(-1)?.cursor : undefined };
}

/** Those of one block in the order in which they were asked for. */
function plannedOf({ receipts }: DomainSession): Receipt[] {
  const waiting = receipts.filter(({ status, when }) => status === 'PENDING' && typeof when === 'object');
  return waiting.sort((a, b) => a.expectedBlock - b.expectedBlock || askedAt(a) - askedAt(b));
}

export const Session = builder.objectRef<DomainSession>('Session');

builder.node(Session, {
  description: 'One continuous generation: model, seed, size, timeline, state.',
  id: { description: GLOBAL_ID, resolve: ({ id }) => id },
  isTypeOf: (value) => typeof value === 'object' && value !== null && 'lastSequence' in value && 'receipts' in value,
  loadOne: (id, { sessions, signal }) => sessions.session(id, signal).catch(absent),
  fields: (t) => ({
    state: t.expose('state', { description: 'What it is doing.', type: SessionState }),
    reason: t.expose('reason', {
      description: 'Why, where the state alone does not say.',
      type: StateReason,
      nullable: true,
    }),
    failure: t.expose('failure', { description: 'What went wrong, if that is why.', type: Failure, nullable: true }),
    queue: t.expose('queue', {
      description: 'Its place in the line, while it is QUEUED because no device has room.',
      type: QueuePlace,
      nullable: true,
    }),
    queuedUntil: t.field({
      description: 'When it leaves the line if there has been no room until then.',
      type: 'DateTime',
      nullable: true,
      resolve: ({ wait }) => wait && new Date(wait.until),
    }),
    ended: t.boolean({
      description:
        'Whether the session has ended and its artifacts are complete, but for those that could not be made.',
      resolve: ({ state, finishedAt }) => isEnded(state) && finishedAt !== undefined,
    }),
    title: t.string({
      nullable: true,
      description: 'What people call it, as `updateSession` said; null until they do.',
      resolve: async (session, _args, { sessions, signal }) => (await sessions.label(session, signal)).title,
    }),
    favourite: t.boolean({
      description: 'Whether people want to find it again, as `updateSession` said.',
      resolve: async (session, _args, { sessions, signal }) => (await sessions.label(session, signal)).favourite,
    }),
    createdAt: t.expose('createdAt', { description: 'When it was created.', type: 'DateTime' }),
    updatedAt: t.expose('updatedAt', { description: 'When it last changed.', type: 'DateTime' }),
    finishedAt: t.expose('finishedAt', {
      description: 'When it ended and its artifacts were complete.',
      type: 'DateTime',
      nullable: true,
    }),
    modelName: t.exposeString('model', {
      description: 'Name of its model package when the session was created; another package may have that name now.',
    }),
    modelDigest: t.exposeString('modelDigest', {
      description: 'SHA-256 of the manifest of its model package: the one that it was made with and goes on with.',
    }),
    encoder: t.string({
      description: 'The video encoder of its chunks; only a server that has it can resume the session.',
      resolve: encoderOf,
    }),
    modelVersion: t.exposeString('modelVersion', {
      nullable: true,
      description: 'What the model package calls its version; null in sessions of releases that did not keep it.',
    }),
    model: t.field({
      type: Model,
      nullable: true,
      description:
        'The package with `modelDigest`, under the name that it has now, such as NAME@VERSION when it was replaced. ' +
        'Null when it is not installed.',
      resolve: (session, _args, { sessions }) => sessions.modelOf(session),
    }),
    loras: t.field({
      type: [SessionLora],
      description: 'Merged into the model, in this order.',
      ...weigh(LIMITS.loras),
      resolve: ({ loras = [] }) => [...loras],
    }),
    seed: t.expose('seed', {
      type: 'Seed',
      description: 'The same model, seed, size and timeline give the same video.',
    }),
    width: t.exposeInt('width', { description: 'Of the picture, in pixels.' }),
    height: t.exposeInt('height', { description: 'Of the picture, in pixels.' }),
    fps: t.exposeFloat('fps', { description: 'Frames per second of the video.' }),
    pace: t.expose('pace', { description: 'How fast it generates.', type: Pace }),
    maxSeconds: t.exposeFloat('maxSeconds', { nullable: true, description: 'Null for endless.' }),
    prompt: t.exposeString('prompt', {
      description: 'The prompt in effect, or before the first block the first prompt.',
    }),
    timeline: t.field({
      type: [TimelineEntry],
      description: `The newest ${PAGE.most} prompts that took effect, in order.`,
      deprecationReason: 'Use timelineEntries, which gives all of them in pages.',
      ...weigh(PAGE.most),
      resolve: ({ timeline }) => timeline.slice(-PAGE.most),
    }),
    receipts: t.field({
      type: [SwitchReceipt],
      description: `The newest ${PAGE.most} requests for a prompt, in order of request.`,
      deprecationReason: 'Use promptReceipts, which gives all of them in pages.',
      ...weigh(PAGE.most),
      resolve: ({ receipts }) => receipts.slice(-PAGE.most),
    }),
    timelineEntries: t.field({
      type: TimelineEntryConnection,
      nullable: true,
      description: 'Every prompt that took effect, newest first.',
      args: {
        first: t.arg.int({ description: pageArguments.first }),
        after: t.arg.string({ description: pageArguments.after }),
      },
      ...weigh(pageItems),
      resolve: (session, args, { sessions, signal }) =>
        promptPage(session, args, (page) => sessions.timeline(session, { ...page, signal })),
    }),
    promptReceipts: t.field({
      type: SwitchReceiptConnection,
      nullable: true,
      description: 'Every request for a prompt, newest first; those of createSession included.',
      args: {
        first: t.arg.int({ description: pageArguments.first }),
        after: t.arg.string({ description: pageArguments.after }),
      },
      ...weigh(pageItems),
      resolve: (session, args, { sessions, signal }) =>
        promptPage(session, args, (page) => sessions.receipts(session, { ...page, signal })),
    }),
    planned: t.field({
      type: [SwitchReceipt],
      description: 'Prompts that wait for blocks to come, in the order in which they will take effect.',
      ...weigh(LIMITS.timelineEntries),
      resolve: plannedOf,
    }),
    chunks: t.exposeInt('chunks', { description: 'Durable chunks so far.' }),
    frames: t.exposeInt('frames', { description: 'Durable frames so far.' }),
    seconds: t.exposeFloat('seconds', { description: 'Length of the video so far.' }),
    cursor: t.field({
      type: 'Cursor',
      description: 'Cursor of the newest event: a stream `after` it brings only later events.',
      resolve: ({ id, lastSequence }) => formatCursor(id, lastSequence),
    }),
    viewers: t.exposeInt('viewers', { description: 'Number of subscriptions at this server.' }),
    speed: t.exposeFloat('speed', {
      nullable: true,
      description:
        'How many seconds of video the device makes for this session in a second, beside the others that it has to keep up with. ' +
        'Below 1 playback will stall: buffer before playing. Null unless the session is REALTIME and live at this server, and until ' +
        'the device has made a block of this model at this size.',
    }),
    codec: t.string({
      nullable: true,
      description: 'RFC 6381 codec string; null before the first chunk.',
      resolve: ({ media }) => media?.codec,
    }),
    initUrl: t.string({
      nullable: true,
      description: 'URL of the init segment; null before the first chunk.',
      resolve: ({ id, media }, _args, { links }) => media && linkFor(links, id, media.initKey).url,
    }),
    playlistUrl: t.string({
      description: 'HLS playlist of the same chunks; grows while the session runs.',
      resolve: ({ id }, _args, { links }) => links.to(keysOf(id).playlist).url,
    }),
    artifacts: t.field({
      type: [Artifact],
      description: 'Downloadable files, once the session has ended. `artifactStatus` says what became of the others.',
      ...weigh(ARTIFACTS),
      resolve: ({ id, artifacts }) => artifacts.map((artifact) => ({ ...artifact, sessionId: id })),
    }),
    artifactStatus: t.field({
      type: [ArtifactStatus],
      description: 'State of each kind of artifact; empty for a session that ended without video.',
      ...weigh(ARTIFACTS),
      resolve: fatesOf,
    }),
    parent: t.expose('parent', { type: Parent, nullable: true, description: 'Set on a fork.' }),
  }),
});

builder.queryField('session', (t) =>
  t.field({
    type: Session,
    description: 'One session, by its id.',
    errors: { types: [InvalidInputError, ForbiddenError, NotFoundError, UnavailableError] },
    args: { id: t.arg.id({ required: true, description: SESSION_ID }) },
    ...weigh(1, READ),
    resolve: answering((_root: unknown, { id }: { id: string }, { sessions, signal }: ApiContext) =>
      sessions.session(localId('Session', id, 'id'), signal),
    ),
  }),
);

interface ListArgs extends PageArgs {
  search?: string | null | undefined;
  favourite?: boolean | null | undefined;
}

const SessionConnection = connectionOf('Session', Session, 'Newest first. Pages forward only.');

builder.queryField('sessions', (t) =>
  t.field({
    type: SessionConnection,
    description: 'The sessions that are stored, newest first.',
    errors: { types: [InvalidInputError, ForbiddenError, UnavailableError] },
    args: {
      first: t.arg.int({ description: pageArguments.first }),
      after: t.arg.string({ description: pageArguments.after }),
      search: t.arg.string({
        description:
          'Only those in whose title or newest prompts all these words are, in any order; case does not matter. ' +
          'A page may then have fewer than `first` although more follow.',
      }),
      favourite: t.arg.boolean({ description: 'Only those that are favourites, or are none.' }),
    },
    ...weigh(pageItems, READ, searching),
    resolve: answering(async (_root: unknown, args: ListArgs, { sessions, signal }: ApiContext) => {
      const { first, ...rest } = args;
      const { items, next } = await sessions.sessions({ first: pageSize(first), ...withoutNulls(rest), signal });
      return { edges: items.map((node) => ({ node, cursor: pageCursorOf(node) })), next };
    }),
  }),
);
