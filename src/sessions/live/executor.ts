/** One device does one thing at a time: whoever must be ready first goes first. */

interface Turn {
  deadline: number;
  start(): void;
}

export class DeviceExecutor {
  private readonly waiting: Turn[] = [];
  private busy = false;

  /** Runs the work when it is this deadline's turn (earliest first, equal ones in order of arrival). */
  async turn<T>(deadline: number, work: () => Promise<T>): Promise<T> {
    await this.acquire(deadline);
    try {
      return await work();
    } finally {
      this.release();
    }
  }

  private acquire(deadline: number): Promise<void> {
    if (!this.busy) {
      this.busy = true;
      return Promise.resolve();
    }
    return new Promise((start) => this.waiting.push({ deadline, start }));
  }

  private release(): void {
    const next = this.takeEarliest();
    if (next) next.start();
    else this.busy = false;
  }

  private takeEarliest(): Turn | undefined {
    let best = 0;
    this.waiting.forEach((turn, i) => {
      if (turn.deadline < (this.waiting[best] as Turn).deadline) best = i;
    });
    return this.waiting.splice(best, 1)[0];
  }
}
