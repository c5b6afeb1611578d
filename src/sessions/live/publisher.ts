/** Frames become a chunk: encoded, stored, logged, announced, in this order, so that what is visible is durable. */

import { firstFrameOf, startSecondsOf } from '../blocks.js';
import { storeCheckpoint } from '../stored/checkpoints.js';
import { checksumOf } from '../stored/checksum.js';
import type { Context } from './context.js';
import { DomainError } from '../errors.js';
import type { FrameChunk } from '../events.js';
import type { SessionKeys } from '../stored/keys.js';
import type { SessionLog } from '../stored/log.js';
import type { ChunkEncoder, EncodedChunk, Frames } from '../ports.js';
import type { Course } from '../conditioning.js';
import type { Due } from './prompts.js';
import { encoderOf } from './required-model.js';
import type { OrderedQueue } from './queue.js';
import type { Session } from '../session.js';

/** A prompt that is in force for the block in flight. */
export interface Taken extends Due {
  recacheMilliseconds: number;
  /** With it. */
  course: Course;
}

export interface PublisherHost {
  readonly context: Context;
  readonly keys: SessionKeys;
  readonly log: SessionLog;
  readonly queue: OrderedQueue;
  readonly session: Session;
  /** When receipts were asked for here, by the monotonic clock. */
  readonly askedAt: ReadonlyMap<string, number>;
}

const IMMUTABLE = 'public, max-age=31536000, immutable';

export class Publisher {
  /** Settled when all that was published is encoded. */
  private encoding: Promise<void> = Promise.resolve();

  private constructor(
    private readonly host: PublisherHost,
    private readonly encoder: ChunkEncoder,
    private initStored: boolean,
  ) {}

  static async open(host: PublisherHost): Promise<Publisher> {
    const { width, height, fps } = host.session;
    const encoder = encoderOf(host.session);
    const opened = await asMedia(() => host.context.media.open({ width, height, fps, encoder }));
    return new Publisher(host, opened, false);
  }

  /** Queues the block's chunk; every part of the job can be repeated without doing anything twice. */
  publish(frames: Frames, generateMilliseconds: number, taken: Taken | undefined): void {
    const encoded = this.encoding.then(() => this.encode(frames));
    this.encoding = encoded.then(
      () => undefined,
      () => undefined,
    );
    this.host.queue.push(async () => {
      const chunk = await encoded;
      await this.storeInit();
      await this.storeChunk(frames.block, chunk);
      if (frames.block === 0) await this.storePoster(frames);
      if (taken) await this.logPrompts(frames, taken);
      await this.logChunk(frames, chunk, generateMilliseconds, taken?.winner.id);
    });
  }

  checkpoint(blocks: number, bytes: Uint8Array): void {
    const { context, keys, log, queue } = this.host;
    queue.push(() => storeCheckpoint(context, keys, { blocks, bytes }, () => log.confirm()));
  }

  /** When what was published is encoded, though it may not be stored yet. */
  async close(): Promise<void> {
    await this.encoding;
    await this.encoder.close();
  }

  private async encode(frames: Frames): Promise<Encoded> {
    const began = this.host.context.clock.monotonic();
    const chunk = await asMedia(() => this.encoder.encode(frames));
    return { ...chunk, encodeMilliseconds: this.host.context.clock.monotonic() - began };
  }

  private async storeInit(): Promise<void> {
    if (this.initStored) return;
    const { context, keys } = this.host;
    const stored = await context.vault.read(keys.init);
    if (!stored) await this.replace(keys.init, this.encoder.init, 'video/mp4');
    else if (Buffer.compare(stored.bytes, this.encoder.init) !== 0) {
      throw new DomainError(
        'MEDIA',
        "The encoder's init segment differs from the one this session began with; resume it with the release that created it.",
      );
    }
    this.initStored = true;
  }

  private async storeChunk(block: number, chunk: Encoded): Promise<void> {
    await this.replace(this.host.keys.chunk(block), chunk.bytes, 'video/iso.segment');
  }

  private async storePoster(frames: Frames): Promise<void> {
    const poster = await asMedia(() => this.host.context.media.poster(frames, frames.count - 1));
    await this.replace(this.host.keys.poster, poster.bytes, poster.contentType);
  }

  private async replace(key: string, bytes: Uint8Array, contentType: string): Promise<void> {
    const { context, log } = this.host;
    await context.vault.replace(key, bytes, () => log.confirm(), { contentType, cacheControl: IMMUTABLE });
  }

  private async logPrompts(frames: Frames, { winner, superseded, recacheMilliseconds, course }: Taken): Promise<void> {
    const { log, session, context, askedAt } = this.host;
    const logged = superseded.map(({ id }) => {
      const draft = { type: 'PromptSuperseded', receiptId: id, supersededBy: winner.id } as const;
      return log.append(draft, { unless: () => !this.isPending(id) });
    });
    const { id: receiptId, prompt, mode, when } = winner;
    const { transition } = course;
    const asked = askedAt.get(receiptId);
    const draft = {
      type: 'PromptApplied',
      receiptId,
      prompt,
      mode,
      ...(transition && {
        transition,
        wholeSeconds: startSecondsOf(session, frames.block + transition.chunks - 1),
      }),
      block: frames.block,
      frame: frames.firstFrame,
      seconds: frames.firstFrame / session.fps,
      recacheMilliseconds,
      ...(typeof when === 'string' &&
        asked !== undefined && { waitedMilliseconds: Math.round(context.clock.monotonic() - asked) }),
    } as const;
    logged.push(log.append(draft, { unless: () => !this.isPending(receiptId) }));
    // Together they are few writes, however many there are.
    await Promise.all(logged);
  }

  private isPending(receiptId: string): boolean {
    return this.host.session.receipts.some(({ id, status }) => id === receiptId && status === 'PENDING');
  }

  private async logChunk(
    frames: Frames,
    chunk: Encoded,
    generateMilliseconds: number,
    receiptId: string | undefined,
  ): Promise<void> {
    const { log } = this.host;
    const live = { type: 'StateChanged', state: 'LIVE', previous: 'STARTING' } as const;
    await log.append(live, { unless: () => this.host.session.state !== 'STARTING' });
    const described = this.describe(frames, chunk, generateMilliseconds);
    await log.append(receiptId === undefined ? described : { ...described, receiptId }, {
      data: chunk.bytes,
      unless: () => this.host.session.chunks > frames.block,
    });
  }

  private describe(frames: Frames, chunk: Encoded, generateMilliseconds: number): DraftChunk {
    const { keys, session } = this.host;
    return {
      type: 'FrameChunk',
      chunk: frames.block,
      firstFrame: frames.firstFrame,
      frameCount: frames.count,
      startSeconds: firstFrameOf(session, frames.block) / session.fps,
      durationSeconds: frames.count / session.fps,
      key: keys.chunk(frames.block),
      initKey: keys.init,
      codec: this.encoder.codec,
      bytes: chunk.bytes.length,
      check: checksumOf(chunk.bytes),
      initCheck: checksumOf(this.encoder.init),
      keyframe: chunk.samples[0]?.key ?? false,
      generateMilliseconds: Math.round(generateMilliseconds * 10) / 10,
      encodeMilliseconds: chunk.encodeMilliseconds,
    };
  }
}

type DraftChunk = Omit<FrameChunk, 'sequence' | 'at' | 'data'>;

interface Encoded extends EncodedChunk {
  encodeMilliseconds: number;
}

async function asMedia<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof DomainError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new DomainError('MEDIA', `The video encoder failed: ${message}`, { cause: error });
  }
}
