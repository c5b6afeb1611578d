import type { Claim } from '../ports.js';
import type { RecordFile } from '../stored/record-file.js';
import type { Place } from './capacity.js';

/** What an owned session is given. */
export interface OwnedParts {
  file: RecordFile;
  holding: Holding;
  /** Ends the ownership: `farewell` is the last that the session does. */
  leave(farewell: () => Promise<void>): Promise<void>;
  /** Called when the session turned out to be written by somebody else. */
  onLost(): void;
}

/** What a server holds for one session: its commands are routed here, and there is room for it on a device. */
export class Holding {
  private claim: Claim | undefined;
  private place: Place | undefined;
  private freed = false;

  constructor(private readonly enter: () => Place) {}

  /** Of the session, on its device; see Place. */
  get speed(): number | undefined {
    return this.place?.speed;
  }

  /** Whether it has room on a device, though it may not use it. */
  get holdsPlace(): boolean {
    return this.place !== undefined;
  }

  /** Takes the claim into keeping; it is released with the rest. */
  async keep(claim: Claim): Promise<Claim> {
    if (this.freed) {
      await claim.release();
      throw new Error('What has been freed cannot hold a claim.');
    }
    this.claim = claim;
    return claim;
  }

  /** A place that counts for the device's load, a new one if there is none; AT_CAPACITY when there is no room. */
  takePlace(): void {
    if (this.freed) throw new Error('What has been freed cannot take a place.');
    if (this.place) this.place.run();
    else this.place = this.enter();
  }

  /** Keeps the place only as long as nobody else needs it; `reclaim` lets go of the memory when that ends. */
  restPlace(reclaim: () => void): void {
    const { place } = this;
    place?.rest(() => {
      if (this.place === place) this.place = undefined;
      reclaim();
    });
  }

  freePlace(): void {
    const { place } = this;
    this.place = undefined;
    place?.free();
  }

  /** Gives everything back; repeating it has no effect. */
  async free(): Promise<void> {
    if (this.freed) return;
    this.freed = true;
    this.freePlace();
    await this.claim?.release();
  }
}
