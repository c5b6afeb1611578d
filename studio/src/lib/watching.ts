/** Watching one session: its stream feeds the player, and everything the page shows is derived from its events. */
import {
  type Artifact,
  type Failure,
  follow,
  type FrameChunk,
  type Session,
  type SessionEvent,
  type SessionState,
} from './api';
import { LivePlayer } from './player';
import { Store } from './store';

/** A prompt on the timeline: requested, then in effect from `seconds` on. */
export interface Scene {
  receiptId: string;
  prompt: string;
  /** Words of it that the model was never taught. */
  unknownWords: readonly string[];
  requestedAt: number;
  seconds: number | undefined;
  /** From here on it is shown alone. */
  wholeSeconds: number | undefined;
  recacheMilliseconds: number | undefined;
  waitedMilliseconds: number | undefined;
  /** From sending the prompt in this page to its first picture on screen. */
  seenMilliseconds: number | undefined;
}

export interface Figures {
  /** From asking for the session to its first picture. */
  firstPictureMilliseconds: number | undefined;
  /** Seconds of video per second of device time, smoothed. */
  speed: number | undefined;
  chunkKilobytes: number | undefined;
}

export interface WatchState {
  session: Session;
  state: SessionState;
  failure: Failure | null;
  connected: boolean;
  over: boolean;
  seconds: number;
  /** Of a chunk; undefined before the first one. */
  chunkSeconds: number | undefined;
  scenes: Scene[];
  figures: Figures;
  artifacts: Artifact[];
  problem: string | undefined;
}

export interface WatchOptions {
  heartbeatSeconds: number;
  /** When the person asked for it: for the time to the first picture. */
  askedAt: number | undefined;
}

/** Sessions that run for longer are joined at the live edge. */
const JOIN_LIVE_AFTER_SECONDS = 10;

const UNSEEN = {
  unknownWords: [] as readonly string[],
  requestedAt: 0,
  wholeSeconds: undefined,
  recacheMilliseconds: undefined,
  waitedMilliseconds: undefined,
  seenMilliseconds: undefined,
};

export class Watching {
  readonly store: Store<WatchState>;
  readonly player: LivePlayer;
  private readonly controller = new AbortController();
  /** When this page sent the prompt of a receipt. */
  private readonly sent = new Map<string, number>();

  constructor(
    session: Session,
    private readonly video: HTMLVideoElement,
    private readonly options: WatchOptions,
  ) {
    this.player = new LivePlayer(video);
    const over = session.finishedAt !== null;
    this.store = new Store<WatchState>({
      session,
      state: session.state,
      failure: session.failure,
      connected: true,
      over,
      seconds: session.seconds,
      chunkSeconds: undefined,
      scenes: session.timeline.map((entry) => ({ ...UNSEEN, ...entry })),
      figures: { firstPictureMilliseconds: undefined, speed: undefined, chunkKilobytes: undefined },
      artifacts: session.artifacts,
      problem: undefined,
    });
    if (over) this.playFile();
    else this.playLive();
  }

  private playLive(): void {
    this.watchFirstPicture();
    void this.run().catch((error: unknown) =>
      this.store.update({ problem: (error as Error).message, connected: false }),
    );
  }

  close(): void {
    this.controller.abort();
    this.player.close();
  }

  /** This page has just sent a prompt: remember when, to tell how long it took to be seen. */
  sentPrompt(receiptId: string, at: number): void {
    this.sent.set(receiptId, at);
  }

  private playFile(): void {
    const file = this.store.state.artifacts.find(({ kind }) => kind === 'MP4');
    if (file) this.video.src = file.url;
    else this.store.update({ problem: 'This session has no video.' });
    this.player.play();
  }

  private async run(): Promise<void> {
    const { session } = this.store.state;
    const events = follow(session.id, {
      from: session.seconds > JOIN_LIVE_AFTER_SECONDS ? 'LIVE' : 'START',
      heartbeatSeconds: this.options.heartbeatSeconds,
      signal: this.controller.signal,
      onConnection: (connected) => connected !== this.store.state.connected && this.store.update({ connected }),
    });
    for await (const event of events) await this.take(event);
  }

  private async take(event: SessionEvent): Promise<void> {
    switch (event.__typename) {
      case 'FrameChunk':
        return this.play(event);
      case 'PromptRequested':
        this.addScene(event.receiptId, event.prompt, Date.parse(event.at));
        return this.changeScene(event.receiptId, { unknownWords: event.unknownWords ?? [] });
      case 'PromptApplied':
        this.addScene(event.receiptId, event.prompt, Date.parse(event.at));
        this.changeScene(event.receiptId, {
          seconds: event.seconds,
          wholeSeconds: event.wholeSeconds,
          recacheMilliseconds: event.recacheMilliseconds,
          waitedMilliseconds: event.waitedMilliseconds ?? undefined,
        });
        return this.watchScene(event.receiptId, event.seconds);
      case 'PromptSuperseded':
        return this.store.update({
          scenes: this.store.state.scenes.filter(({ receiptId }) => receiptId !== event.receiptId),
        });
      case 'StateChanged':
      case 'Heartbeat':
        return this.store.update({ state: event.state, failure: event.failure });
      case 'SessionEnded':
        this.player.end();
        return this.store.update({
          state: event.state,
          failure: event.failure,
          over: true,
          seconds: event.seconds,
          artifacts: event.artifacts,
        });
    }
  }

  private async play(chunk: FrameChunk): Promise<void> {
    const bytes = download(chunk.url);
    if (chunk.init && !this.player.opened) await this.player.open(chunk.init.mimeType, await download(chunk.init.url));
    await this.player.append(await bytes, chunk.startSeconds);
    const speed = (chunk.durationSeconds * 1000) / Math.max(1, chunk.generateMilliseconds);
    const before = this.store.state.figures;
    this.store.update({
      seconds: Math.max(this.store.state.seconds, chunk.startSeconds + chunk.durationSeconds),
      chunkSeconds: chunk.durationSeconds,
      figures: {
        ...before,
        speed: before.speed === undefined ? speed : before.speed * 0.8 + speed * 0.2,
        chunkKilobytes: chunk.byteLength / 1024,
      },
    });
  }

  private addScene(receiptId: string, prompt: string, requestedAt: number): void {
    const { scenes } = this.store.state;
    if (scenes.some((scene) => scene.receiptId === receiptId)) return;
    this.store.update({ scenes: [...scenes, { ...UNSEEN, receiptId, prompt, requestedAt, seconds: undefined }] });
  }

  private changeScene(receiptId: string, change: Partial<Scene>): void {
    const scenes = this.store.state.scenes.map((scene) =>
      scene.receiptId === receiptId ? { ...scene, ...change } : scene,
    );
    this.store.update({ scenes });
  }

  private watchFirstPicture(): void {
    const { askedAt } = this.options;
    if (askedAt === undefined) return;
    this.video.requestVideoFrameCallback(() => {
      const firstPictureMilliseconds = performance.now() - askedAt;
      this.store.update({ figures: { ...this.store.state.figures, firstPictureMilliseconds } });
    });
  }

  /** Notes when the first picture of a scene is on screen, for prompts that were sent from this page. */
  private watchScene(receiptId: string, seconds: number): void {
    const sentAt = this.sent.get(receiptId);
    if (sentAt === undefined) return;
    const look: VideoFrameRequestCallback = (now, { mediaTime }) => {
      if (mediaTime + 0.001 >= seconds) this.changeScene(receiptId, { seenMilliseconds: now - sentAt });
      else if (!this.controller.signal.aborted) this.video.requestVideoFrameCallback(look);
    };
    this.video.requestVideoFrameCallback(look);
  }
}

const ATTEMPTS = 5;

/** The bytes of a file; a short failure of network or store is waited out. */
async function download(url: string): Promise<Uint8Array<ArrayBuffer>> {
  for (let attempt = 1; ; attempt++) {
    const response = await fetch(url).catch(() => undefined);
    if (response?.ok) return new Uint8Array(await response.arrayBuffer());
    if (attempt === ATTEMPTS) throw new Error('A part of the video could not be loaded; reload the page to try again.');
    await new Promise((resolve) => setTimeout(resolve, 300 * 2 ** attempt));
  }
}
