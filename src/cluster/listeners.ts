/** Who wants to hear that the log of a session has grown. */
export class Listeners {
  private readonly bySession = new Map<string, Set<(sequence: number) => void>>();

  /** Called when the first of a session comes, and when the last one has gone. */
  constructor(
    private readonly first: (sessionId: string) => void = () => undefined,
    private readonly none: (sessionId: string) => void = () => undefined,
  ) {}

  sessions(): string[] {
    return [...this.bySession.keys()];
  }

  /** What it returns takes the listener away again. */
  add(sessionId: string, listener: (sequence: number) => void): () => void {
    const known = this.bySession.get(sessionId);
    const listeners = known ?? new Set();
    this.bySession.set(sessionId, listeners.add(listener));
    if (!known) this.first(sessionId);
    return () => {
      if (!listeners.delete(listener) || listeners.size > 0) return;
      this.bySession.delete(sessionId);
      this.none(sessionId);
    };
  }

  tell(sessionId: string, sequence: number): void {
    for (const listener of this.bySession.get(sessionId) ?? []) listener(sequence);
  }
}
