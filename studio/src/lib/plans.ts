/** The prompts that are planned for a time to come, as the service keeps them for every client, and what this page asks for of them. */
import type { ReceiptFacts, Session, SessionEvent } from '@longlive/client';

export interface Planned {
  readonly receiptId: string;
  readonly prompt: string;
  readonly block: number;
  readonly seconds: number;
  /** Over so many chunks it comes; 1 for at once. */
  readonly chunks: number;
}

/** Where the video has come to, and how long a block lasts. */
export interface Made {
  readonly seconds: number;
  readonly chunkSeconds: number;
}

type PlanSession = Pick<Session, 'planned' | 'move' | 'cancel'>;

const AGAIN_MS = 2000;

export class Plans {
  private told: readonly Planned[] = [];
  /** Blocks that were asked for here and are not answered yet. */
  private readonly wanted = new Map<string, number>();
  private readonly carrying = new Map<string, Promise<void>>();
  private reading: Promise<void> | undefined;
  private stale = false;

  constructor(
    private readonly session: PlanSession,
    private readonly made: () => Made,
    private readonly changed: (planned: readonly Planned[]) => void,
    private readonly closed: AbortSignal,
  ) {}

  /** In the order in which they will take effect, where they are wanted. */
  get list(): readonly Planned[] {
    return this.told
      .map((each) => at(each, this.wanted.get(each.receiptId) ?? each.block, this.made().chunkSeconds))
      .sort((one, other) => one.block - other.block);
  }

  take(event: SessionEvent): void {
    if (event.type === 'moved' || (event.type === 'requested' && event.when === 'AT_BLOCK')) void this.read();
    if (event.type === 'ended') this.keep(() => false);
    if (event.type === 'applied' || event.type === 'superseded' || event.type === 'cancelled')
      this.keep(({ receiptId }) => receiptId !== event.receiptId);
  }

  /** What the service has, until it has said so; what happens meanwhile is asked for again. */
  read(): Promise<void> {
    this.stale = true;
    this.reading ??= this.readAll();
    return this.reading;
  }

  /** The block to which it may be taken that is nearest to the time. */
  blockAt({ receiptId, block, seconds }: Planned, wanted: number): number {
    const { chunkSeconds } = this.made();
    const first = block - Math.round((seconds - this.made().seconds) / chunkSeconds) + 1;
    const target = Math.max(first, block + Math.round((wanted - seconds) / chunkSeconds));
    const taken = new Set(this.list.filter((each) => each.receiptId !== receiptId).map((each) => each.block));
    const step = target < block ? -1 : 1;
    let free = target;
    while (taken.has(free) && free >= first) free += step;
    while (free < first || taken.has(free)) free++;
    return free;
  }

  /** Shown there at once; asked for as soon as what was asked for before is answered. */
  moveTo(receiptId: string, block: number): Promise<void> {
    this.wanted.set(receiptId, block);
    this.changed(this.list);
    const under = this.carrying.get(receiptId);
    if (under) return under;
    const work = this.carry(receiptId).finally(() => {
      this.carrying.delete(receiptId);
      this.wanted.delete(receiptId);
      this.changed(this.list);
    });
    this.carrying.set(receiptId, work);
    return work;
  }

  /** Changes places with the one before (-1) or behind (1). */
  async swap(receiptId: string, by: -1 | 1): Promise<void> {
    const list = this.list;
    const place = list.findIndex((each) => each.receiptId === receiptId);
    const [one, other] = [list[place], list[place + by]];
    if (!one || !other) return;
    await Promise.all([this.moveTo(one.receiptId, other.block), this.moveTo(other.receiptId, one.block)]);
  }

  async edit(receiptId: string, change: { prompt?: string; atSeconds?: number }): Promise<void> {
    await this.session.move(receiptId, change);
    await this.read();
  }

  async remove(receiptId: string): Promise<void> {
    await this.session.cancel(receiptId);
    this.keep((each) => each.receiptId !== receiptId);
  }

  private async carry(receiptId: string): Promise<void> {
    for (;;) {
      const atBlock = this.wanted.get(receiptId);
      if (atBlock === undefined) return;
      await this.session.move(receiptId, { atBlock });
      if (this.wanted.get(receiptId) === atBlock) return this.read();
    }
  }

  private async readAll(): Promise<void> {
    while (this.stale && !this.closed.aborted) {
      this.stale = false;
      try {
        const receipts = await this.session.planned({ signal: this.closed });
        if (this.stale) continue;
        this.told = receipts.flatMap(plannedOf);
        this.changed(this.list);
      } catch (error) {
        const { code } = error as { code?: string };
        if (code === 'NOT_FOUND' || this.closed.aborted) break;
        this.stale = true;
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    }
    // At once, and not when whoever waits is told: what is asked for in between is read anew.
    this.reading = undefined;
  }

  private keep(wanted: (each: Planned) => boolean): void {
    if (this.reading) this.stale = true;
    if (this.told.every(wanted)) return;
    this.told = this.told.filter(wanted);
    this.changed(this.list);
  }
}

function plannedOf({ id, prompt, atBlock, expectedSeconds, transition }: ReceiptFacts): Planned[] {
  if (atBlock === null) return [];
  const chunks = transition?.chunks ?? 1;
  return [{ receiptId: id, prompt, block: atBlock, seconds: expectedSeconds, chunks }];
}

const at = (planned: Planned, block: number, chunkSeconds: number): Planned =>
  block === planned.block
    ? planned
    : { ...planned, block, seconds: planned.seconds + (block - planned.block) * chunkSeconds };
