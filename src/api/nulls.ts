/** GraphQL says null where the domain says nothing. */

export type Nullable<T> = { [K in keyof T]: T[K] | null | undefined };

export function withoutNulls<T extends object>(input: T): { [K in keyof T]: Exclude<T[K], null> } {
  return Object.fromEntries(Object.entries(input).filter(([, value]) => value !== null)) as {
    [K in keyof T]: Exclude<T[K], null>;
  };
}
