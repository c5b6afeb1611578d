/** Tells the service where playback is: at once when it stops, starts or goes elsewhere, else now and then. */

export interface Place {
  readonly seconds: number;
  /** Whether the picture moves. */
  readonly playing: boolean;
  /** How much video is wanted ahead of it. */
  readonly aheadSeconds: number;
}

const OFTEN_SECONDS = 0.5;
const WHILE_PLAYING_SECONDS = 1;
const WHILE_STANDING_SECONDS = 30;
/** A place this far from where it would be by now is another one. */
const ELSEWHERE_SECONDS = 0.5;

export class Reports {
  private last: (Place & { readonly at: number }) | undefined;
  private busy = false;

  /** What is lost is not sent again: the next one says more. */
  constructor(private readonly send: (place: Place) => Promise<unknown>) {}

  /** Called as often as one likes; `now` in seconds. */
  be(place: Place, now: number): void {
    if (this.busy || !this.isNews(place, now)) return;
    this.last = { ...place, at: now };
    this.busy = true;
    const done = (): void => void (this.busy = false);
    this.send(place).then(done, done);
  }

  private isNews({ seconds, playing, aheadSeconds }: Place, now: number): boolean {
    const { last } = this;
    if (!last) return true;
    const passed = now - last.at;
    if (passed < OFTEN_SECONDS) return false;
    const expected = last.seconds + (last.playing ? passed : 0);
    const goesOn =
      playing === last.playing &&
      Math.abs(seconds - expected) < ELSEWHERE_SECONDS &&
      Math.abs(aheadSeconds - last.aheadSeconds) < ELSEWHERE_SECONDS;
    return !goesOn || passed >= (playing ? WHILE_PLAYING_SECONDS : WHILE_STANDING_SECONDS);
  }
}
