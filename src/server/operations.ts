/** An operation's place on its WebSocket. */
export interface Operation {
  /** Aborted when the client has completed the operation or left. */
  readonly left: AbortSignal;
  /** Frees the place, once; called when the work has ended, which may be later. */
  readonly end: () => void;
}

/**
 * The operations of one WebSocket, at most so many. Each keeps its place until its work has ended, so that completing
 * operations early does not let a client have more work done at once.
 */
export class Operations {
  private readonly working = new Set<Operation>();
  /** Those that the client still waits for, by id. */
  private readonly awaited = new Map<string, AbortController>();

  constructor(private readonly limit: number) {}

  get idle(): boolean {
    return this.working.size === 0;
  }

  /** `undefined` where there is no place left. */
  begin(id: string): Operation | undefined {
    if (this.working.size >= this.limit) return undefined;
    const leaving = new AbortController();
    const operation = { left: leaving.signal, end: () => void this.working.delete(operation) };
    this.working.add(operation);
    this.awaited.set(id, leaving);
    return operation;
  }

  /** Leaves what is not in `open`; returns the ids of that. */
  keepOnly(open: Readonly<Record<string, unknown>>): string[] {
    const left = [...this.awaited.keys()].filter((id) => !(id in open));
    for (const id of left) {
      this.awaited.get(id)?.abort();
      this.awaited.delete(id);
    }
    return left;
  }
}
