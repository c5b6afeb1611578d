/** One session on the screen: its player, and everything that the page says of it. */
import {
  attach,
  type ChunkEvent,
  type Player,
  type PlayerState,
  type Receipt,
  type Session,
  type SessionEvent,
  type SessionFacts,
  type State,
} from '@longlive/client';
import { type Made, type Planned, Plans } from './plans';
import { after, fromFacts, joined, type Prompt } from './prompts';
import { Store } from './store';

export interface Figures {
  /** From asking for the session to its first picture. */
  readonly firstPictureMilliseconds?: number;
  /** Seconds of video per second of device time, smoothed. */
  readonly speed?: number;
  readonly chunkKilobytes?: number;
}

export interface WatchState {
  readonly facts: SessionFacts;
  readonly state: State;
  readonly player: PlayerState;
  /** How much video there is. */
  readonly seconds: number;
  /** Of a chunk; undefined before the first one. */
  readonly chunkSeconds: number | undefined;
  readonly prompts: readonly Prompt[];
  /** Those of them that are planned for a time to come, in the order in which they will take effect. */
  readonly planned: readonly Planned[];
  readonly figures: Figures;
  /** A picture of this session itself, and not of what it branched off from, was on the screen. */
  readonly shown: boolean;
}

export interface WatchOptions {
  /** When the person asked for it: for the time to the first picture. */
  readonly askedAt?: number | undefined;
  /** Where to begin; by itself at the live edge, or at the start of what has ended. */
  readonly from?: number | undefined;
}

/** How often history is asked for that the network did not bring. */
const AGAIN_MS = 2000;

export class Watch {
  readonly store: Store<WatchState>;
  readonly player: Player;
  readonly plans: Plans;
  private readonly closing = new AbortController();
  /** When this page sent the prompt of a receipt. */
  private readonly sent = new Map<string, number>();

  constructor(
    readonly session: Session,
    readonly video: HTMLVideoElement,
    { askedAt, from }: WatchOptions = {},
  ) {
    const { facts } = session;
    this.store = new Store<WatchState>({
      ...{ facts, state: session.state, player: { status: 'waiting' }, seconds: facts.seconds },
      ...{
        chunkSeconds: undefined,
        prompts: [],
        planned: [],
        figures: {},
        shown: facts.seconds > 0 && from === undefined,
      },
    });
    this.player = attach(session, video, from === undefined ? {} : { from });
    const planned = (planned: readonly Planned[]) => this.store.update({ planned });
    this.plans = new Plans(session, () => this.made(), planned, this.closing.signal);
    this.player.watch((player) => this.store.update({ player }));
    const unwatch = session.watch((event) => this.take(event));
    this.closing.signal.addEventListener('abort', unwatch);
    this.take();
    void this.readHistory();
    if (!facts.ended) void this.plans.read();
    this.watchFirstPicture(askedAt, from);
  }

  /** Lets go of the session; it goes on at the service. */
  close(): void {
    this.closing.abort();
    this.player.close();
    this.session.close();
  }

  /** A prompt of this page: when it was sent, for how long it took until it was seen. */
  sentPrompt({ id }: Pick<Receipt, 'id'>, at: number): void {
    this.sent.set(id, at);
  }

  /** What the service said anew, such as after pausing. */
  learn(): void {
    this.store.update({ facts: this.session.facts, state: this.session.state });
  }

  private take(event?: SessionEvent): void {
    const { session, store } = this;
    store.update({ state: session.state });
    if (!event) return;
    if (event.type === 'chunk') this.takeChunk(event);
    this.plans.take(event);
    const prompts = after(store.state.prompts, event, store.state.seconds);
    if (prompts !== store.state.prompts) store.update({ prompts });
    if (event.type === 'applied') void this.watchPrompt(event.receiptId, event.seconds);
    if (event.type === 'ended') void session.refresh().then(() => this.learn(), ignored);
  }

  /** Before a chunk was seen here, blocks are taken to be equally long. */
  private made(): Made {
    const { seconds, chunkSeconds, facts } = this.store.state;
    return { seconds, chunkSeconds: chunkSeconds ?? (facts.chunks > 0 ? facts.seconds / facts.chunks : 1) };
  }

  private takeChunk({ startSeconds, durationSeconds, generateMilliseconds, byteLength }: ChunkEvent): void {
    const { seconds, figures } = this.store.state;
    const speed = (durationSeconds * 1000) / Math.max(1, generateMilliseconds);
    this.store.update({
      seconds: Math.max(seconds, startSeconds + durationSeconds),
      chunkSeconds: durationSeconds,
      figures: {
        ...figures,
        speed: figures.speed === undefined ? speed : figures.speed * 0.8 + speed * 0.2,
        chunkKilobytes: byteLength / 1024,
      },
    });
  }

  /** Until it is there. Events that come meanwhile are known already. */
  private async readHistory(): Promise<void> {
    const { signal } = this.closing;
    while (!signal.aborted) {
      try {
        const stored = fromFacts(await this.session.prompts({ signal }));
        if (!signal.aborted) this.store.update({ prompts: joined(stored, this.store.state.prompts) });
        return;
      } catch (error) {
        if ((error as { code?: string }).code === 'NOT_FOUND') return;
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    }
  }

  /** The first picture of its own: where it branched off, one that lies behind that. */
  private watchFirstPicture(askedAt: number | undefined, from: number | undefined): void {
    const { signal } = this.closing;
    const look: VideoFrameRequestCallback = (now, { mediaTime }) => {
      if (signal.aborted) return;
      if (from !== undefined && mediaTime < from - 0.01) return void this.video.requestVideoFrameCallback(look);
      const { figures } = this.store.state;
      const firstPictureMilliseconds = askedAt === undefined ? undefined : now - askedAt;
      this.store.update({
        shown: true,
        figures: firstPictureMilliseconds === undefined ? figures : { ...figures, firstPictureMilliseconds },
      });
    };
    this.video.requestVideoFrameCallback(look);
  }

  private async watchPrompt(receiptId: string, seconds: number): Promise<void> {
    const applied = Promise.resolve({ status: 'applied', seconds } as Awaited<Receipt['applied']>);
    const seen = await this.player.seen({ applied }, { signal: this.closing.signal }).catch(ignored);
    if (seen?.status !== 'seen') return;
    const sentAt = this.sent.get(receiptId);
    const change = { seen: true, ...(sentAt !== undefined && { seenMilliseconds: seen.at - sentAt }) };
    this.store.update({
      prompts: this.store.state.prompts.map((each) => (each.receiptId === receiptId ? { ...each, ...change } : each)),
    });
  }
}

const ignored = (): undefined => undefined;
