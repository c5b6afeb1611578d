import { useEffect, useState } from 'preact/hooks';

/** A value that components watch. */
export class Store<State extends object> {
  private readonly listeners = new Set<() => void>();

  constructor(private current: State) {}

  get state(): State {
    return this.current;
  }

  update(change: Partial<State>): void {
    this.current = { ...this.current, ...change };
    for (const listener of this.listeners) listener();
  }

  watch(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

export function useStore<State extends object>(store: Store<State>): State {
  const [, refresh] = useState(0);
  useEffect(() => store.watch(() => refresh((count) => count + 1)), [store]);
  return store.state;
}
