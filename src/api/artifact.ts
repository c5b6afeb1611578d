import { DomainError, type Artifact as Stored } from '../sessions/index.js';
import { absent, answering, InvalidInputError, NotFoundError, UnavailableError } from './errors.js';
import { builder } from './builder.js';
import type { ApiContext } from './context.js';
import { downloadFields } from './download.js';
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

builder.queryField('artifact', (t) =>
  t.field({
    type: Artifact,
    description: 'One file of a session, by its id.',
    errors: { types: [InvalidInputError, NotFoundError, UnavailableError] },
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
      'This session has no such artifact (yet): artifacts are complete when the session has ended.',
    );
  }
  return { ...artifact, sessionId: session.id };
}
