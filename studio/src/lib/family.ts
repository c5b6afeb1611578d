/** Which sessions branched off from which: the family of one. */
import type { Session } from '@longlive/client';
import { live } from './live';

export interface Branch {
  readonly session: Session;
  readonly children: readonly Branch[];
}

/** Among so many of the newest sessions branches are looked for; those before are found as parents alone. */
const PAGES = 2;
const PAGE = 50;
const MOST_GENERATIONS = 50;

/** The tree that the session belongs to, from the one that branched off from nobody; undefined when it stands alone. */
export async function familyOf(session: Session, signal: AbortSignal): Promise<Branch | undefined> {
  const known = new Map((await newest(signal)).map((each) => [each.id, each]));
  known.set(session.id, known.get(session.id) ?? session);
  let first = known.get(session.id) as Session;
  for (let count = 0; first.facts.parent && count < MOST_GENERATIONS; count++) {
    const { sessionId } = first.facts.parent;
    const parent = known.get(sessionId) ?? (await live.session(sessionId, { signal }).catch(() => undefined));
    if (!parent) break; // It was deleted.
    known.set(sessionId, parent);
    first = parent;
  }
  const tree = growFrom(first, [...known.values()]);
  return tree.children.length > 0 ? tree : undefined;
}

async function newest(signal: AbortSignal): Promise<Session[]> {
  const found: Session[] = [];
  let after: string | undefined;
  for (let page = 0; page < PAGES; page++) {
    const { sessions, next } = await live.sessions({ first: PAGE, signal, ...(after !== undefined && { after }) });
    found.push(...sessions);
    if (next === undefined) break;
    after = next;
  }
  return found;
}

function growFrom(session: Session, all: readonly Session[]): Branch {
  const children = all
    .filter(({ facts }) => facts.parent?.sessionId === session.id)
    .sort((one, other) => one.facts.createdAt.localeCompare(other.facts.createdAt));
  return { session, children: children.map((child) => growFrom(child, all)) };
}
