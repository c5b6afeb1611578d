import { DomainError, type Artifact as Stored, type SessionExport } from '../sessions/index.js';
import { ARTIFACTS } from './artifact.js';
import { builder } from './builder.js';
import type { ApiContext } from './context.js';
import {
  absent,
  answering,
  ConflictError,
  ForbiddenError,
  InvalidInputError,
  NotFoundError,
  UnavailableError,
} from './errors.js';
import { downloadFields } from './download.js';
import { Failure } from './failure.js';
import { GLOBAL_ID, localId } from './ids.js';
import { weigh } from './paging.js';

const ExportState = builder.enumType('ExportState', {
  description: 'How far an export is.',
  values: {
    QUEUED: { description: 'Waiting for other exports.' },
    RUNNING: { description: 'It is being made; see `progress`.' },
    DONE: { description: 'Its files can be downloaded.' },
    FAILED: { description: 'See `failure`; request it again to retry.' },
    CANCELLED: { description: 'Request it again to make it.' },
  } as const,
});

const ExportFileKind = builder.enumType('ExportFileKind', {
  description: 'What a file of an export is.',
  values: {
    MP4: { description: 'The video, fast-start, with a chapter where each prompt begins.' },
    TIMELINE: { description: 'Its prompts, one JSON object per line; times count from its beginning.' },
  } as const,
});

const ExportFile = builder.objectRef<Stored>('ExportFile').implement({
  description: 'A file of an export.',
  fields: (t) => ({
    kind: t.field({
      description: 'What the file is.',
      type: ExportFileKind,
      resolve: ({ kind }) => (kind === 'TIMELINE' ? kind : 'MP4'),
    }),
    contentType: t.exposeString('contentType', { description: 'Its media type, such as `video/mp4`.' }),
    bytes: t.float({ description: 'Size of the file.', resolve: ({ bytes }) => bytes }),
    ...downloadFields(t),
  }),
});

const Export = builder.objectRef<SessionExport>('Export');

builder.node(Export, {
  description: 'A part of a session as a video of its own.',
  id: { description: GLOBAL_ID, resolve: ({ sessionId, range }) => `${sessionId}/${range}` },
  isTypeOf: (value) => typeof value === 'object' && value !== null && 'range' in value && 'progress' in value,
  loadOne: (id, context) => find(id, context).catch(absent),
  fields: (t) => ({
    sessionId: t.id({
      description: 'The session that it is a part of.',
      resolve: ({ sessionId }) => `Session:${sessionId}`,
    }),
    state: t.expose('state', { description: 'How far it is.', type: ExportState }),
    progress: t.exposeFloat('progress', { description: 'From 0 to 1. Ask again to see it grow.' }),
    failure: t.expose('failure', { description: 'What went wrong, if it is FAILED.', type: Failure, nullable: true }),
    createdAt: t.expose('createdAt', { description: 'When it was asked for.', type: 'DateTime' }),
    fromChunk: t.exposeInt('fromChunk', { description: 'Index of its first chunk.' }),
    toChunk: t.exposeInt('toChunk', { description: 'Index of the first chunk that is left out.' }),
    fromSeconds: t.exposeFloat('fromSeconds', { description: 'Start of the part, from the start of the session.' }),
    toSeconds: t.exposeFloat('toSeconds', { description: 'End of the part, from the start of the session.' }),
    files: t.field({
      type: [ExportFile],
      description: 'When it is DONE.',
      ...weigh(ARTIFACTS),
      resolve: ({ artifacts }) => [...artifacts],
    }),
  }),
});

interface ExportArgs {
  sessionId: string;
  fromSeconds?: number | null;
  toSeconds?: number | null;
  fromChunk?: number | null;
  toChunk?: number | null;
}

builder.mutationField('exportSession', (t) =>
  t.field({
    type: Export,
    description:
      'Exports a part of a session as a video in the background: whole chunks, not re-encoded. Answers at once. ' +
      'The session may be in any state. The same part is the same export: repeating it has no effect.',
    errors: { types: [InvalidInputError, ForbiddenError, NotFoundError, UnavailableError] },
    args: {
      sessionId: t.arg.id({ required: true, description: 'The session to export a part of.' }),
      fromSeconds: t.arg.float({
        description:
          'Start, rounded down to a chunk; must lie within the video generated so far. Default: the beginning.',
      }),
      toSeconds: t.arg.float({
        description:
          'End, rounded up to a chunk; after the start, within the video generated so far. Default: the end.',
      }),
      fromChunk: t.arg.int({ description: 'Instead of `fromSeconds`: index of the first chunk; one that there is.' }),
      toChunk: t.arg.int({ description: 'Instead of `toSeconds`: index of the first chunk that is left out.' }),
    },
    resolve: answering((_root: unknown, { sessionId, ...range }: ExportArgs, { sessions }: ApiContext) => {
      const given = Object.entries(range).filter(([, value]) => value != null);
      return sessions.exportSession(localId('Session', sessionId, 'sessionId'), Object.fromEntries(given));
    }),
  }),
);

builder.mutationField('cancelExport', (t) =>
  t.field({
    type: Export,
    description: 'Cancels an export that is not done. Repeating it has no effect.',
    errors: { types: [InvalidInputError, ForbiddenError, NotFoundError, ConflictError, UnavailableError] },
    args: { id: t.arg.id({ required: true, description: 'As `Export.id` gives it.' }) },
    resolve: answering((_root: unknown, { id }: { id: string }, { sessions }: ApiContext) =>
      sessions.cancelExport(...partsOf(localId('Export', id, 'id'))),
    ),
  }),
);

builder.queryField('export', (t) =>
  t.field({
    type: Export,
    description: 'One export, by its id; ask again to follow its progress.',
    errors: { types: [InvalidInputError, ForbiddenError, NotFoundError, UnavailableError] },
    args: { id: t.arg.id({ required: true, description: 'As `Export.id` gives it.' }) },
    resolve: answering((_root: unknown, { id }: { id: string }, context: ApiContext) =>
      find(localId('Export', id, 'id'), context),
    ),
  }),
);

async function find(id: string, { sessions }: ApiContext): Promise<SessionExport> {
  return sessions.export(...partsOf(id));
}

function partsOf(id: string): [sessionId: string, range: string] {
  const [sessionId, range, ...more] = id.split('/');
  if (sessionId !== undefined && range !== undefined && more.length === 0) return [sessionId, range];
  throw new DomainError('NOT_FOUND', 'No such export.', { field: 'id' });
}
