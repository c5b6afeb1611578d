/** What the session domain needs from the world, as small interfaces that it owns; the server wires together what implements them. */

export type { Meter, Rule } from './access/meter.js';

// ---- engine ---------------------------------------------------------------------------------------------------------

export type RecacheMode = 'RECACHE' | 'KEEP_CACHE' | 'CLEAR_CACHE';

/** How texts between two prompts are found: on the straight line from one to the other, or on the arc. */
export type BlendKind = 'LINEAR' | 'SLERP';

/** A prompt that the one before has partly become. */
export interface Blend {
  prompt: string;
  kind: BlendKind;
  /** How far it has, above 0 and below 1. */
  share: number;
}

/** What a model is to draw: a prompt; in a transition, others blended over it, in this order. */
export interface Conditioning {
  prompt: string;
  blends?: readonly Blend[];
}

export interface Frames {
  block: number;
  firstFrame: number;
  count: number;
  width: number;
  height: number;
  /** Planar I420, BT.709 limited range. */
  i420: Uint8Array;
}

/** One pass over the current block, in the order denoise x steps, frames, context. */
export type Step =
  | { kind: 'denoise'; block: number; step: number; milliseconds: number }
  | { kind: 'frames'; block: number; milliseconds: number; frames: Frames }
  | { kind: 'context'; block: number; milliseconds: number };

/** Known and loadable; on its way to the device; on the device. */
export type ModelState = 'AVAILABLE' | 'LOADING' | 'LOADED';

/** A LoRA adapter that fits a model. */
export interface LoraInfo {
  name: string;
  /** Of everything that decides what it does. */
  digest: string;
  bytes: number;
  /** Matrices of the model that it changes. */
  matrices: number;
}

/** What a model can draw, for whoever writes a prompt. */
export interface ModelGuide {
  about: string;
  /** Prompts that work. */
  examples: readonly string[];
}

export interface ModelInfo {
  name: string;
  version: string;
  title: string;
  description: string;
  license: string;
  width: number;
  height: number;
  fps: number;
  framesPerBlock: number;
  denoisingSteps: number;
  device: string;
  /** What it is calculated with. */
  precision: string;
  /** What most of its weights are stored as; `null` when that is not known. */
  storedPrecision: string | null;
  /** SHA-256 of the manifest: what a checkpoint and a determinism claim refer to. */
  digest: string;
  /** Of the package's files. */
  bytes: number;
  state: ModelState;
  loras: readonly LoraInfo[];
  /** Of video from a beginning, or a CLEAR_CACHE, where positions end; null where they do not. */
  longestSeconds: number | null;
  /** Absent where the package has none, and from servers of earlier releases. */
  guide?: ModelGuide;
}

/** An adapter and how strongly it is applied; 1 is as trained. */
export interface LoraChoice {
  name: string;
  weight: number;
}

export interface GenerationOptions {
  seed: bigint;
  width: number;
  height: number;
  /** Merged into the model in this order. */
  loras?: readonly LoraChoice[];
}

/** A session's state on a device. Calls never overlap, but for `prepare`; the scheduler sees to that. */
export interface Generation extends Disposable {
  readonly block: number;
  /** No other block can be made, unless a prompt that clears the cache comes before it. */
  readonly ended?: boolean;
  /** Encodes what `setPrompt` will need ahead of it, which would do it too, in a turn of the device. Other calls go on meanwhile. */
  encodePrompt(conditioning: Conditioning): Promise<void>;
  setPrompt(conditioning: Conditioning, mode: RecacheMode): Promise<{ milliseconds: number }>;
  step(): Promise<Step>;
  abandonBlock(): Promise<void>;
  checkpoint(): Promise<Uint8Array>;
  dispose(): void;
}

export interface Engine {
  /** Why the device cannot be used any more, until the service is started anew; undefined while it is well. */
  readonly fault?: string | undefined;
  /** Pieces of work so far that the device refused to record, which makes it slower; absent where nothing is recorded. */
  readonly refusedRecordings?: number;
  /** Those found last, the default first. */
  models(): ModelInfo[];
  /**
   * Looks for models that have come or gone, where that is quick; when the one that is named is not known, everywhere.
   * Rescans are rate-limited; calling this often is cheap. Never rejects.
   */
  refresh(model?: string): Promise<void>;
  /**
   * Throws a DomainError: INVALID_INPUT when size or adapters are not possible with the model, AT_CAPACITY when the models
   * in use leave it no memory, MODEL_UNAVAILABLE after a fault of the device.
   */
  check(model: string, options: GenerationOptions): void;
  /**
   * Words of the prompt that the model was never taught, at most 32; undefined where its package does not say what it was, and with
   * adapters, which may have taught it more.
   */
  unknownWords?(model: string, options: Pick<GenerationOptions, 'loras'>, prompt: string): string[] | undefined;
  /**
   * Brings the model onto the device ahead of `open` and `restore`, which would load it too, in a turn of the device, and
   * encodes the prompt that `restore` will probably need. That this fails is for `restore` to say.
   */
  preload(model: string, options: GenerationOptions, prompt?: string): Promise<void>;
  open(model: string, options: GenerationOptions): Promise<Generation>;
  restore(
    model: string,
    options: GenerationOptions,
    checkpoint: Uint8Array,
    conditioning: Conditioning,
  ): Promise<Generation>;
}

// ---- media ----------------------------------------------------------------------------------------------------------

export interface EncodedChunk {
  /** The CMAF fragment (`styp moof mdat`). */
  bytes: Uint8Array;
  frameCount: number;
  /** Sizes and key flags of its samples, kept so that video.mp4 can be assembled without re-encoding. */
  samples: { size: number; key: boolean }[];
}

/** What encodes H.264. A session goes on with the one it began with: others write other parameter sets. */
export type EncoderName = 'minih264' | 'openh264';

export interface PictureJob {
  width: number;
  height: number;
  fps: number;
  /** Planar I420 pictures, one after the other; the caller's, who leaves them as they are until they are encoded. */
  frames: Uint8Array;
  /** H.264 quantization parameter, 10 (best) to 51. */
  quantizer: number;
}

export interface EncodedPictures {
  /** NAL units without start code or length. */
  parameterSets: { sps: Uint8Array; pps: Uint8Array };
  /** In decoding order, which is that of the frames, each NAL unit behind its length in four bytes. */
  samples: { bytes: Uint8Array; key: boolean }[];
}

/** Encodes a chunk's frames, beginning with an IDR picture, as Baseline without slice groups. Off the JavaScript thread. */
export interface PictureEncoder extends AsyncDisposable {
  readonly name: EncoderName;
  encode(job: PictureJob): Promise<EncodedPictures>;
  /** Makes it ready ahead of the first frames, which would wait for it. */
  warmUp(): void;
  close(): Promise<void>;
}

export interface ChunkEncoder extends AsyncDisposable {
  /** RFC 6381 string, e.g. `avc1.42c01e`; known after open. */
  readonly codec: string;
  /** The init segment (`ftyp moov`); constant for the session. */
  readonly init: Uint8Array;
  /** Decode times follow from `frames.firstFrame`: an encoder opened in the middle of a session continues it. */
  encode(frames: Frames): Promise<EncodedChunk>;
  close(): Promise<void>;
}

/** Where a part of a video begins, for players that offer to jump there. */
export interface Chapter {
  seconds: number;
  title: string;
}

export interface MediaFactory {
  /** Those that are here; the first is what new sessions are encoded with. */
  readonly encoders: readonly EncoderName[];
  open(options: { width: number; height: number; fps: number; encoder?: EncoderName }): Promise<ChunkEncoder>;
  /** A still of one I420 frame. */
  poster(frames: Frames, index: number): Promise<{ bytes: Uint8Array; contentType: string }>;
  /** The HLS playlist over chunk files; `ended` adds the end tag, `delta` leaves out what a player has, while it grows. */
  playlist(
    chunks: readonly { readonly uri: string; durationSeconds: number }[],
    initUri: string,
    options: { ended: boolean; delta?: boolean },
  ): string;
  /** Progressive, fast-start MP4 assembled from init and chunks, not re-encoded. */
  /** `chunks` may be iterated more than once; decode times begin at 0, whichever is the first. */
  progressive(
    init: Uint8Array,
    chunks: AsyncIterable<Uint8Array>,
    chapters?: readonly Chapter[],
  ): Promise<{ bytes: number; stream: AsyncIterable<Uint8Array> }>;
}

// ---- storage --------------------------------------------------------------------------------------------------------

export interface StoredObject {
  size: number;
  etag: string;
  contentType: string;
  body: AsyncIterable<Uint8Array>;
}

export interface PutOptions {
  contentType?: string;
  cacheControl?: string;
  /** `*`: only if the key does not exist yet. */
  ifNoneMatch?: '*';
  /** Only if the stored object still has this etag. */
  ifMatch?: string;
}

export interface ListOptions {
  /** Only keys behind this one, which need not exist. */
  after?: string | undefined;
}

/** Keys are `/`-separated relative paths. Errors are StoreError with a code. */
export interface ObjectStore {
  put(key: string, body: Uint8Array, options?: PutOptions): Promise<{ etag: string }>;
  /** For bodies too large for memory: multipart on S3. */
  putStream(key: string, body: AsyncIterable<Uint8Array>, options?: PutOptions): Promise<{ etag: string }>;
  /** Inclusive byte range. Rejects with StoreError NOT_FOUND. */
  get(key: string, range?: { start: number; end: number }): Promise<StoredObject>;
  head(key: string): Promise<{ size: number; etag: string; contentType: string } | undefined>;
  /** In the order of the keys' bytes. */
  list(prefix: string, options?: ListOptions): AsyncIterable<{ key: string; size: number }>;
  delete(key: string): Promise<void>;
  /** A URL that anybody can GET (with Range) until it expires; `undefined` when the store cannot sign (file://). */
  presign(key: string, options: { expiresInSeconds: number; downloadName?: string }): Promise<string | undefined>;
  /** Cheap round trip for readiness checks. */
  check(): Promise<void>;
}

export type StoreErrorCode =
  | 'NOT_FOUND'
  /** A condition of the write does not hold: somebody else was there. */
  | 'CONFLICT'
  | 'NO_SPACE'
  /** Does not answer, or not now: trying again may help. */
  | 'UNREACHABLE'
  | 'DENIED'
  | 'INVALID_KEY'
  /** Lacks what the service needs, or is set up wrongly: trying again does not help. */
  | 'UNUSABLE';

export class StoreError extends Error {
  constructor(
    readonly code: StoreErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
    this.name = 'StoreError';
  }
}

// ---- cluster --------------------------------------------------------------------------------------------------------

/** Held by the one server that generates a session. */
export interface Claim {
  /** Aborted when the claim was lost to another server: stop at once. */
  readonly lost: AbortSignal;
  release(): Promise<void>;
}

/** Carries out a command for a session that is owned here; both texts are as `live/commands.ts` writes them. */
export type CommandHandler = (message: string) => Promise<string>;

/** What a server is to the others. */
export interface Member {
  /** What it says of itself, again and again. */
  notice(): string;
  /** Carries out what is sent to this server, whether or not it owns the session; empty when it concerns none. */
  receive(sessionId: string, message: string): Promise<string>;
  /** Another server is no more, or has left. */
  peerEnded(serverId: string): void;
}

/** A server that lives, and what it said of itself last. */
export interface Peer {
  serverId: string;
  notice: string;
}

/**
 * The wire between servers. Commands travel to the owner, wake-ups travel from it; video bytes never pass through here.
 * This is about routing, and about noticing sooner what the store tells too: who owns a session, its record says, who
 * lives, the servers' files do, and that a late owner cannot overwrite its successor's work is guaranteed by conditional
 * writes. So whatever the wire loses or makes up, no session is lost by it.
 */
export interface Cluster {
  readonly serverId: string;
  /** Tells `hasEnded` of other servers on this machine which process this is. */
  readonly process: string;
  /** Why other servers cannot be reached now, for people; undefined while they can. */
  readonly trouble: string | undefined;
  /** Whether a server is known to be no more; false when that is not known here. */
  hasEnded(server: { id: string; process: string }): boolean;
  /** Makes this server known to the others, once. */
  join(member: Member): void;
  /** Who has joined and lives, this server among them. */
  peers(): Peer[];
  /**
   * Routes the session's commands here. `epoch` counts the owners that its record has had: a later one takes the route
   * from an earlier one; `undefined` when the route is that of the same or a later one.
   */
  claim(sessionId: string, epoch: number, onCommand: CommandHandler): Promise<Claim | undefined>;
  /**
   * The answer of the session's owner, or of the server that is named; `undefined` when there was none: the message may have
   * arrived all the same.
   */
  send(sessionId: string, message: string, serverId?: string): Promise<string | undefined>;
  /** Tells every server that the session's log has grown to `sequence`. */
  announce(sessionId: string, sequence: number): void;
  onAnnounce(sessionId: string, listener: (sequence: number) => void): () => void;
  close(): Promise<void>;
}

// ---- jobs -----------------------------------------------------------------------------------------------------------

/** One of a kind under a key is one job, on however many servers it is started. */
export interface Job {
  kind: 'export' | 'artifacts' | 'retention';
  /** Without a colon. */
  key: string;
}

export interface JobRun {
  key: string;
  signal: AbortSignal;
  /** From 0 to 1; what is told too often is not passed on. */
  progress: (share: number) => void;
}

/**
 * Work in the background that the store remembers, on this server or on one of several. What Jobs knows may be lost at any time
 * with what it is kept in, and a job may run twice: so each can be done again, and whoever needs one can start it again.
 */
export interface Jobs {
  /** How jobs of a kind are done here, `atOnce` at a time; said before any is started. `work` tells of its own failures. */
  handle(kind: Job['kind'], atOnce: number, work: (run: JobRun) => Promise<void>): void;
  /** Nothing when it is there already, or when one like it was begun within the milliseconds. */
  start(job: Job, options?: { notWithin?: number }): void;
  /** What this server knows of a job that waits or runs anywhere; `undefined` when there is none. */
  find(job: Job): { progress?: number } | undefined;
  /** Resolves when the job is over, or after a while in which nobody answered for it. */
  cancel(job: Job): Promise<void>;
  /** Whenever jobs may have been lost: what is to be done is then started again. */
  onLost(listener: () => void): void;
  /** Ends what runs here, leaving it to others where there are any, and takes no more. */
  close(): Promise<void>;
}

// ---- time -----------------------------------------------------------------------------------------------------------

export interface Clock {
  /** Milliseconds since the epoch, for what is stored or shown. May jump: somebody sets the clock. */
  now(): number;
  /** Milliseconds since some moment, for durations and deadlines. Never goes back, and jumps with nobody. */
  monotonic(): number;
  /** Resolves after the time, or as soon as the signal aborts. */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
}
