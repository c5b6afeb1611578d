import { invalid } from '../sessions/index.js';

/** Of every list that is asked for in pages, and of the ids that may be asked for at once. */
export const PAGE = { usual: 20, most: 100 };

/** How many items a list field gives, at most: what stands under it counts so often in the cost of an operation. */
export type ListSize = number | ((args: Record<string, unknown>) => number);

/**
 * For the cost of an operation: `items` of a list, and `each` for what has to be read to find one of them, beyond the
 * field itself; `once` for what finding them takes, however many they are.
 */
export function weigh(items: ListSize, each = 0, once: ListSize = 0): { extensions: FieldWeight } {
  return { extensions: { items, each, once } };
}

// Not an interface, which lacks the index signature that fields' extensions have.
export type FieldWeight = { items: ListSize; each: number; once: ListSize };

/** `each` of a stored session: it takes reading a few objects of the store. */
export const READ = 10;

/** Of a field that is a connection: as many as are asked for. */
export const pageItems: ListSize = ({ first }) =>
  typeof first === 'number' ? Math.min(Math.max(first, 1), PAGE.most) : PAGE.usual;

/** `once` of a list that may have to look through many to find some. */
export const searching: ListSize = ({ search, favourite }) => (search == null && favourite == null ? 0 : 500);

/** Of a field whose argument lists ids. */
export const idItems: ListSize = ({ ids }) => Math.min(Array.isArray(ids) ? ids.length : 1, PAGE.most);

export const pageArguments = {
  first: `${PAGE.usual} unless given, at most ${PAGE.most}.`,
  after: 'The `endCursor` of the page before.',
};

export function pageSize(first: number | null | undefined): number {
  const size = first ?? PAGE.usual;
  if (size >= 1 && size <= PAGE.most) return size;
  throw invalid('first', `first must be between 1 and ${PAGE.most}; got ${size}.`);
}

/** The ids, unless there are more than a page may have. */
export function checkIds<Id>(ids: readonly Id[]): readonly Id[] {
  if (ids.length <= PAGE.most) return ids;
  throw invalid(
    'ids',
    `ids must have at most ${PAGE.most} items; got ${ids.length}. Ask for the others in another request.`,
  );
}
