import { invalid, isScope, type Scope } from '../sessions/index.js';
import { builder } from './builder.js';
import type { ApiContext } from './context.js';
import { answering, ForbiddenError, InvalidInputError, NotFoundError, UnavailableError } from './errors.js';
import { localId } from './ids.js';

const LONGEST_SECONDS = 600;

const ClientToken = builder.objectRef<{ token: string; expiresAt: Date }>('ClientToken').implement({
  description: 'What a browser logs in with, instead of a key: for one session, some scopes, some minutes.',
  fields: (t) => ({
    token: t.exposeString('token', { description: 'Sent as `Authorization: Bearer <token>`.' }),
    expiresAt: t.expose('expiresAt', {
      type: 'DateTime',
      description: 'When streams and sockets of it are closed, unless `refreshClientToken` comes first.',
    }),
  }),
});

interface CreateArgs {
  sessionId: string;
  scopes: string[];
  ttlSeconds?: number | null;
}

builder.mutationField('createClientToken', (t) =>
  t.field({
    type: ClientToken,
    description:
      'A token for a browser, requested by your own server. It expires after its lifetime, or when the key that created it is revoked. ' +
      'A client token cannot create tokens.',
    errors: { types: [InvalidInputError, ForbiddenError, NotFoundError, UnavailableError] },
    args: {
      sessionId: t.arg.id({ required: true, description: 'The one session that it reaches.' }),
      scopes: t.arg.stringList({
        required: true,
        description:
          'What it may do: `session:watch`, `session:prompt`, `session:control`, `session:fork`, `models:read`; nothing that the caller may not.',
      }),
      ttlSeconds: t.arg.int({ defaultValue: 300, description: 'How long it is taken: 1 to 600 seconds.' }),
    },
    resolve: answering(async (_root: unknown, { sessionId, scopes, ttlSeconds }: CreateArgs, context: ApiContext) => {
      const seconds = ttlSeconds ?? 300;
      if (seconds < 1 || seconds > LONGEST_SECONDS)
        throw invalid('ttlSeconds', `ttlSeconds must be between 1 and ${LONGEST_SECONDS}; got ${seconds}.`);
      const { sessions, clientTokens } = context;
      const delegate = await sessions.delegate(localId('Session', sessionId, 'sessionId'), scopes.map(known));
      return clientTokens.issue(delegate, seconds);
    }),
  }),
);

function known(scope: string): Scope {
  if (isScope(scope)) return scope;
  throw invalid('scopes', `"${scope.slice(0, 40)}" is not a scope.`);
}

const Refreshed = builder.objectRef<{ expiresAt: Date }>('ClientTokenRefreshed').implement({
  description: 'The WebSocket goes on.',
  fields: (t) => ({
    expiresAt: t.expose('expiresAt', { type: 'DateTime', description: 'When it is closed, unless refreshed again.' }),
  }),
});

builder.mutationField('refreshClientToken', (t) =>
  t.field({
    type: Refreshed,
    description:
      'Prolongs the WebSocket that sends it, by another client token of the same session: what runs on it is not interrupted. ' +
      'Over HTTP, send the new token in the header instead.',
    errors: { types: [InvalidInputError, UnavailableError] },
    args: { token: t.arg.string({ required: true, description: 'As `createClientToken` gave it.' }) },
    resolve: answering(async (_root: unknown, { token }: { token: string }, { clientTokens }: ApiContext) => ({
      expiresAt: await clientTokens.prolong(token),
    })),
  }),
);
