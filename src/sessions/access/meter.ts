/** Counting what callers use, in windows of time: at one server, or at all of them together. */

/** So much in so many seconds; whole numbers, 1 or more. */
export interface Rule {
  /** What is counted: counts of different names have nothing to do with each other. */
  name: string;
  most: number;
  seconds: number;
}

export interface Meter {
  /**
   * Takes so much of what `whose` may have in a window; when it has had all of that, the seconds until it may have more.
   * Never rejects, and answers within a moment: where what several servers share fails, each counts for itself.
   */
  take(rule: Rule, whose: string, amount: number): Promise<number | undefined>;
  close(): void;
}
