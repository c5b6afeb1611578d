import type { ViewerPosition } from '../sessions/index.js';
import { builder } from './builder.js';
import type { ApiContext } from './context.js';
import { answering, ForbiddenError, InvalidInputError, UnavailableError } from './errors.js';
import { localId } from './ids.js';

const PlaybackAcknowledged = builder.objectRef<{ heard: boolean }>('PlaybackAcknowledged').implement({
  description: 'How far a viewer has seen was told.',
  fields: (t) => ({
    heard: t.exposeBoolean('heard', {
      description: 'Whether the server that generates the session received it; false when none generates it now.',
    }),
  }),
});

interface AcknowledgeArgs extends Omit<ViewerPosition, 'playing' | 'aheadSeconds'> {
  sessionId: string;
  playing?: boolean | null;
  aheadSeconds?: number | null;
}

builder.mutationField('acknowledgePlayback', (t) =>
  t.field({
    type: PlaybackAcknowledged,
    description:
      'How far a viewer has seen, so that REALTIME generation does not run ahead of that: a new prompt is seen soon, and nothing is ' +
      'generated for a picture that stands still. Say it about once a second while the picture moves, and whenever it stops, ' +
      'starts or goes elsewhere. Nothing is stored.',
    errors: { types: [InvalidInputError, ForbiddenError, UnavailableError] },
    args: {
      sessionId: t.arg.id({ required: true, description: 'The session that is watched.' }),
      viewer: t.arg.id({ required: true, description: 'As its `sessionStream` was told; 1 to 100 characters.' }),
      seconds: t.arg.float({ required: true, description: 'Which moment of the video is on the screen.' }),
      playing: t.arg.boolean({ defaultValue: true, description: 'Whether the picture moves.' }),
      aheadSeconds: t.arg.float({
        description: 'How much video it wants to have ahead of it, at most 10, if that is more than REALTIME keeps.',
      }),
    },
    resolve: answering(
      async (
        _root: unknown,
        { sessionId, playing, aheadSeconds, ...at }: AcknowledgeArgs,
        { sessions }: ApiContext,
      ) => ({
        heard: await sessions.acknowledge(localId('Session', sessionId, 'sessionId'), {
          ...{ viewer: at.viewer, seconds: at.seconds, playing: playing ?? true },
          ...(aheadSeconds != null && { aheadSeconds }),
        }),
      }),
    ),
  }),
);
