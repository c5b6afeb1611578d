import { DomainError } from '../errors.js';
import type { Engine, Generation, ModelInfo } from '../ports.js';

/** In the place of the engine, at a server that generates nothing: it knows the models of those that do. */
export class NoEngine implements Engine {
  constructor(private readonly known: () => ModelInfo[]) {}

  models(): ModelInfo[] {
    return this.known();
  }

  async refresh(): Promise<void> {
    // The servers that have the models look for them.
  }

  check(): void {
    throw generatesNothing();
  }

  async preload(): Promise<void> {
    throw generatesNothing();
  }

  async open(): Promise<Generation> {
    throw generatesNothing();
  }

  async restore(): Promise<Generation> {
    throw generatesNothing();
  }
}

export function generatesNothing(): DomainError {
  return new DomainError(
    'MODEL_UNAVAILABLE',
    'This server does not generate video. Send the request to a server that does.',
  );
}
