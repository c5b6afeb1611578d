/**
 * What is stored, and what travels between servers, keeps the names that earlier releases gave to two things, so that each
 * release reads what another wrote.
 */

const STORED: Readonly<Record<string, string>> = { receiptId: 'requestId', failure: 'error' };
const OURS = Object.fromEntries(Object.entries(STORED).map(([ours, stored]) => [stored, ours]));

/** A value as it is stored; the order of its fields stays. */
export function asStored(value: object): object {
  return renamed(value, STORED);
}

/** The value that was stored like this. */
export function fromStored<T extends object>(stored: object): T {
  return renamed(stored, OURS) as T;
}

function renamed(value: object, names: Readonly<Record<string, string>>): object {
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [names[name] ?? name, field]));
}
