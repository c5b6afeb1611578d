import { type GraphQLSchema, isObjectType } from 'graphql';
import { invalid } from '../sessions/index.js';

/** What the contract says of each of them. */
export const GLOBAL_ID = 'Opaque and global: `node` reads it again.';

/** Of arguments. */
export const SESSION_ID = 'As `Session.id` gives it.';

/** Relay global ids are `Type:id`: opaque to clients, readable in logs. */
export function formatGlobalId(typename: string, id: string): string {
  return `${typename}:${id}`;
}

/** The type is empty where it names none: `requireNodeIds` refuses that, and knows the argument. */
export function splitGlobalId(globalId: string): { typename: string; id: string } {
  const colon = globalId.indexOf(':');
  return { typename: globalId.slice(0, Math.max(colon, 0)), id: globalId.slice(colon + 1) };
}

/** INVALID_INPUT naming the argument when one of them is not the id of something that `node` finds. */
export function requireNodeIds(
  schema: GraphQLSchema,
  field: string,
  ids: readonly { typename: string; id: unknown }[],
): void {
  for (const { typename, id } of ids) {
    const type = schema.getType(typename);
    if (isObjectType(type) && type.getInterfaces().some(({ name }) => name === 'Node')) continue;
    const given = typename === '' ? String(id) : formatGlobalId(typename, String(id));
    throw invalid(field, `"${shorten(given)}" is not an id of this API; pass an id as the API returned it.`);
  }
}

/** The id inside a global id of the expected type, or INVALID_INPUT naming the argument. */
export function localId(typename: string, globalId: string, field: string): string {
  const prefix = `${typename}:`;
  if (globalId.startsWith(prefix) && globalId.length > prefix.length) return globalId.slice(prefix.length);
  throw invalid(
    field,
    `"${shorten(globalId)}" is not the id of a ${typename}; pass the id as the API returned it (it starts with "${prefix}").`,
  );
}

/** A cursor names its session, so that one taken from another session is noticed instead of skipping events. */
export function formatCursor(sessionId: string, sequence: number): string {
  return Buffer.from(`${sequence}:${sessionId}`).toString('base64url');
}

export function parseCursor(sessionId: string, cursor: string): number {
  const [, digits, owner = ''] = /^(\d{1,15}):(.*)$/s.exec(Buffer.from(cursor, 'base64url').toString()) ?? [];
  const sequence = Number(digits);
  // Base64 has many texts for the same bytes; only one of them was given out.
  if (digits === undefined || formatCursor(owner, sequence) !== cursor) {
    throw invalid(
      'after',
      'after is not a cursor of this API; pass a cursor as the API returned it, or leave it out to begin at the start.',
    );
  }
  if (owner !== sessionId) {
    throw invalid(
      'after',
      'after is a cursor of another session; cursors are only valid for the session they came from.',
    );
  }
  return sequence;
}

function shorten(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
