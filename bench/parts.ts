/** The parts of a measurement, one after the other: each says that it runs, ends in time, and spoils none of the others. */

export interface Left {
  part: string;
  why: string;
}

export class Parts {
  /** What has no result. */
  readonly left: Left[] = [];

  constructor(
    private readonly limitSeconds: number,
    private readonly tell: (text: string) => void = (text) => void process.stderr.write(text),
  ) {
    if (!(limitSeconds > 0)) throw new Error('--limit must be a number of seconds above 0.');
  }

  /** The result, or nothing. */
  async run<T>(part: string, work: (signal: AbortSignal) => Promise<T>): Promise<T[]> {
    const signal = AbortSignal.timeout(this.limitSeconds * 1000);
    const began = performance.now();
    this.tell(`${part} … `);
    try {
      const result = await work(signal);
      this.tell(`${((performance.now() - began) / 1000).toFixed(0)} s\n`);
      return [result];
    } catch (error) {
      const why = signal.aborted ? `stopped after ${this.limitSeconds} s (--limit)` : reasonOf(error);
      this.tell(`left out: ${why}\n`);
      this.left.push({ part, why });
      return [];
    }
  }
}

/** Of a program that failed, the last thing it said. */
function reasonOf(error: unknown): string {
  const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim().split('\n').at(-1) : '';
  return said || (error instanceof Error ? error.message : String(error));
}
