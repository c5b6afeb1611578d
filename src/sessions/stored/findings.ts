/** What a check of stored sessions finds, and where its parts tell it. */

/** Something that is not as it should be. */
export interface Finding {
  /** Of the store. */
  key: string;
  problem: string;
  /** What is done about it; absent where nothing can be. */
  remedy?: string;
  /** Why it cannot be repaired, or not now, where there is more to say than that. */
  obstacle?: string;
  repaired: boolean;
}

/** Where a part of the check tells what it finds. */
export interface Findings {
  /** Notes it, and repairs it if that is possible and asked for. */
  found(
    what: Pick<Finding, 'key' | 'problem' | 'obstacle'>,
    remedy?: string,
    repair?: () => Promise<unknown>,
  ): Promise<void>;
  /** UnreadableError becomes a finding. */
  attempt<T>(work: () => Promise<T>): Promise<T | 'unreadable'>;
}

/** Remedies. */
export const ADDED = 'added';
export const REMOVED = 'removed';
export const REMADE = 'made again';
