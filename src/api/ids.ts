import { GraphQLError } from 'graphql';
import { invalid } from '../sessions/index.js';

/** What the contract says of each of them. */
export const GLOBAL_ID = 'Opaque and global: `node` reads it again.';

/** Relay global ids are `Type:id`: opaque to clients, readable in logs. */
export function formatGlobalId(typename: string, id: string): string {
  return `${typename}:${id}`;
}

export function splitGlobalId(globalId: string): { typename: string; id: string } {
  const colon = globalId.indexOf(':');
  if (colon < 1)
    throw new GraphQLError(`"${shorten(globalId)}" is not an id of this API; pass an id as the API returned it.`);
  return { typename: globalId.slice(0, colon), id: globalId.slice(colon + 1) };
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
  const [, sequence, owner] = /^(\d{1,15}):(.*)$/s.exec(Buffer.from(cursor, 'base64url').toString()) ?? [];
  if (sequence === undefined) {
    throw invalid(
      'after',
      'after is not a cursor of this API; pass the cursor of an event, or leave it out to begin at the start.',
    );
  }
  if (owner !== sessionId) {
    throw invalid(
      'after',
      'after is a cursor of another session; cursors are only valid for the session they came from.',
    );
  }
  return Number(sequence);
}

function shorten(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
