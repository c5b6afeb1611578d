import {
  ARTIFACT_KINDS,
  DomainError,
  isEnded,
  type Artifact as Stored,
  type Session as DomainSession,
  type UnmadeArtifact,
} from '../sessions/index.js';
import { absent, answering, ForbiddenError, InvalidInputError, NotFoundError, UnavailableError } from './errors.js';
import { builder } from './builder.js';
import type { ApiContext } from './context.js';
import { downloadFields } from './download.js';
import { Failure } from './failure.js';
import { GLOBAL_ID, localId } from './ids.js';

/** An artifact together with the session it belongs to. */
export interface SessionArtifact extends Stored {
  sessionId: string;
}

/** A session has at most so many: one of each kind. */
export const ARTIFACTS = 4;

const ArtifactKind = builder.enumType('ArtifactKind', {
  description: 'What a file of a session is.',
  values: {
    MP4: { description: 'The whole video in one fast-start file.' },
    HLS: { description: 'The playlist over the chunks.' },
    POSTER: { description: 'A still.' },
    TIMELINE: { description: 'The prompts that took effect, one JSON object per line.' },
  } as const,
});

export const Artifact = builder.objectRef<SessionArtifact>('Artifact');

builder.node(Artifact, {
  description: 'A finished, downloadable file.',
  id: { description: GLOBAL_ID, resolve: ({ sessionId, kind }) => `${sessionId}/${kind}` },
  isTypeOf: (value) => typeof value === 'object' && value !== null && 'kind' in value && 'sessionId' in value,
  loadOne: (id, context) => find(id, context).catch(absent),
  fields: (t) => ({
    kind: t.expose('kind', { description: 'What the file is.', type: ArtifactKind }),
    contentType: t.exposeString('contentType', { description: 'Its media type, such as `video/mp4`.' }),
    bytes: t.float({ description: 'Size of the file.', resolve: ({ bytes }) => bytes }),
    ...downloadFields(t),
  }),
});

const ArtifactState = builder.enumType('ArtifactState', {
  description: 'What has become of an artifact.',
  values: {
    LATER: { description: 'It is made when the session has ended.' },
    MAKING: { description: 'It is being made. With a `failure`, an attempt failed, and another follows by itself.' },
    DONE: { description: 'It can be downloaded.' },
    FAILED: {
      description: 'It could not be made, see `failure`. When the cause is mended, `remakeArtifacts` tries again.',
    },
  } as const,
});

/** Of one kind, whether it is there or not. */
export interface ArtifactFate extends Pick<UnmadeArtifact, 'kind'> {
  state: 'LATER' | 'MAKING' | 'DONE' | 'FAILED';
  failure?: UnmadeArtifact['failure'];
  artifact?: SessionArtifact;
}

type Completing = Pick<DomainSession, 'id' | 'state' | 'finishedAt' | 'chunks' | 'artifacts' | 'unmade'> &
  Pick<DomainSession, 'delay' | 'remaking'>;

/** Of each kind that the session has or will have. */
export function fatesOf(session: Completing): ArtifactFate[] {
  const { id, state, finishedAt, chunks, artifacts, unmade = [], delay, remaking } = session;
  if (isEnded(state) && chunks === 0) return [];
  return ARTIFACT_KINDS.map((kind) => {
    const artifact = artifacts.find((made) => made.kind === kind);
    if (artifact) return { kind, state: 'DONE', artifact: { ...artifact, sessionId: id } };
    if (!isEnded(state)) return { kind, state: 'LATER' };
    if (!finishedAt || remaking) return { kind, state: 'MAKING', ...(delay && { failure: delay }) };
    return { kind, state: 'FAILED', failure: unmade.find((missing) => missing.kind === kind)?.failure ?? UNKNOWN };
  });
}

/** Earlier releases did not keep why. */
const UNKNOWN = {
  code: 'STORAGE',
  message: 'It was not created when the session ended. The log of the service says why.',
};

export const ArtifactStatus = builder.objectRef<ArtifactFate>('ArtifactStatus').implement({
  description: "What has become of a session's artifact of one kind.",
  fields: (t) => ({
    kind: t.expose('kind', { description: 'What the file is.', type: ArtifactKind }),
    state: t.expose('state', { description: 'Whether it is there.', type: ArtifactState }),
    failure: t.expose('failure', { description: 'Why it is not there.', type: Failure, nullable: true }),
    artifact: t.expose('artifact', { description: 'The file, when it is DONE.', type: Artifact, nullable: true }),
  }),
});

builder.queryField('artifact', (t) =>
  t.field({
    type: Artifact,
    description: 'One file of a session, by its id.',
    errors: { types: [InvalidInputError, ForbiddenError, NotFoundError, UnavailableError] },
    args: { id: t.arg.id({ required: true, description: 'As `Artifact.id` gives it.' }) },
    resolve: answering((_root: unknown, { id }: { id: string }, context: ApiContext) =>
      find(localId('Artifact', id, 'id'), context),
    ),
  }),
);

async function find(id: string, { sessions, signal }: ApiContext): Promise<SessionArtifact> {
  const slash = id.lastIndexOf('/');
  const session = await sessions.session(id.slice(0, slash), signal);
  const artifact = session.artifacts.find(({ kind }) => kind === id.slice(slash + 1));
  if (!artifact) {
    throw new DomainError(
      'NOT_FOUND',
      'This session has no such artifact (yet): `Session.artifactStatus` says what became of it.',
    );
  }
  return { ...artifact, sessionId: session.id };
}
