/**
 * Exports are made in the background, from what is stored alone: a file beside the session's says how far one is, and
 * `exporting/` which are to be made, so that the next process goes on with them. Made twice, an export is the same bytes.
 */

import { startSecondsOf } from '../blocks.js';
import { DomainError } from '../errors.js';
import { systemClock } from '../clock.js';
import { DEFAULT_POLICY } from '../policy.js';
import { type Job, type JobRun, type Jobs, type MediaFactory, type ObjectStore, StoreError } from '../ports.js';
import { Vault } from '../stored/vault.js';
import { loadSession } from '../read/stored-sessions.js';
import type { Artifact, ExportInput, ExportState, Session, SessionExport } from '../session.js';
import {
  checkRange,
  decodeExport,
  encodeExport,
  exportTimeline,
  exportVideo,
  readSource,
  storeExport,
} from '../stored/exports.js';
import { DamagedError } from '../stored/checksum.js';
import { EXPORTING, keysOf } from '../stored/keys.js';
import { DeletedError, readRecord } from '../stored/record.js';
import type { Context } from './context.js';
import { describe } from './failure.js';
import { untilDone } from './persistence.js';

/** Between attempts while the store cannot be reached, in milliseconds. */
const RETRY = 30_000;

const RANGE = /^\d{6,12}-\d{6,12}$/;
/** Of the files of an export. */
const ENDINGS = ['.mp4', '.jsonl', '.json'];
const JSON_OBJECT = { contentType: 'application/json' };

export class Exports {
  constructor(
    private readonly context: Pick<Context, 'vault' | 'media' | 'clock' | 'logger' | 'policy'>,
    private readonly jobs: Jobs,
  ) {
    jobs.handle('export', context.policy.exportsAtOnce, (run) => this.make(run));
  }

  /** The export of this part, begun if there is none that is good. INVALID_INPUT. */
  async begin(session: Session, input: ExportInput): Promise<SessionExport> {
    const { vault, clock } = this.context;
    const range = checkRange(input, session);
    const name = `${pad(range.fromChunk)}-${pad(range.toChunk)}`;
    const existing = await this.read(session.id, name).catch(asNone);
    if (existing && existing.state !== 'FAILED' && existing.state !== 'CANCELLED') {
      if (existing.state !== 'DONE') this.start(existing);
      return this.seen(existing);
    }
    const made: SessionExport = {
      ...{ range: name, sessionId: session.id, state: 'QUEUED', progress: 0, createdAt: new Date(clock.now()) },
      ...{
        ...range,
        fromSeconds: startSecondsOf(session, range.fromChunk),
        toSeconds: startSecondsOf(session, range.toChunk),
      },
      artifacts: [],
    };
    await vault.put(EXPORTING + keyOf(made), new Uint8Array());
    await this.write(made);
    this.start(made);
    return made;
  }

  /** NOT_FOUND */
  async find(sessionId: string, range: string): Promise<SessionExport> {
    const found = RANGE.test(range) ? await this.read(sessionId, range) : undefined;
    if (!found) throw new DomainError('NOT_FOUND', 'No such export.', { field: 'id' });
    return this.seen(found);
  }

  /** Of a file of an export; `undefined` when no export has it. */
  async artifact(sessionId: string, key: string): Promise<Artifact | undefined> {
    const range = key.slice(keysOf(sessionId).exports.length).replace(/\.\w+$/, '');
    const found = RANGE.test(range) ? await this.read(sessionId, range) : undefined;
    return found?.artifacts.find((artifact) => artifact.key === key);
  }

  /** Repeating it, or cancelling one that is done, changes nothing. NOT_FOUND */
  async cancel(sessionId: string, range: string): Promise<SessionExport> {
    const found = await this.find(sessionId, range);
    await this.jobs.cancel(jobOf(found));
    const now = await this.find(sessionId, range);
    if (now.state !== 'QUEUED' && now.state !== 'RUNNING') return now;
    return this.settle(now, 'CANCELLED');
  }

  /** `resume`, until it succeeds: the store may be away just then. */
  keepUp(signal: AbortSignal): void {
    const what = 'could not search for exports that were cut short';
    void untilDone(() => this.resume(), { ...this.context, what, signal }).catch((error: unknown) => {
      this.context.logger.error({ error }, what);
    });
  }

  /** Goes on with what was to be made when the process before ended. */
  async resume(): Promise<void> {
    for await (const { key } of this.context.vault.list(EXPORTING)) {
      const found = await this.read(...partsOf(key.slice(EXPORTING.length))).catch(asNone);
      if (found?.state === 'QUEUED' || found?.state === 'RUNNING') this.start(found);
      else await this.context.vault.delete(key);
    }
  }

  private start(made: SessionExport): void {
    this.jobs.start(jobOf(made));
  }

  /** Never rejects; ends without a word when it is cancelled, which is for the canceller or the next process to settle. */
  private async make(run: JobRun): Promise<void> {
    const { vault, logger } = this.context;
    const { signal } = run;
    const [sessionId, range] = partsOf(run.key);
    for (let over = false; !over && !signal.aborted;) {
      try {
        await this.makeOnce(sessionId, range, run);
        over = true;
      } catch (error) {
        over = !isUnreachable(error);
        logger.warn({ sessionId, range, error }, over ? 'export failed' : 'an export waits for the store');
        if (!over) await vault.rest(RETRY, signal);
        else if (await this.isDeleted(sessionId)) await this.forget({ sessionId, range });
        else if (!signal.aborted) await this.fail(sessionId, range, error, signal);
      }
    }
  }

  private async makeOnce(sessionId: string, range: string, run: JobRun): Promise<void> {
    // Another server may have made it, or have been told to leave it.
    const made = await this.read(sessionId, range);
    if (!made || isSettled(made)) return;
    await this.write({ ...made, state: 'RUNNING' });
    const artifacts = await this.store(made, run);
    // Of a canceller elsewhere that was not heard here.
    if ((await this.read(sessionId, range))?.state === 'CANCELLED') return;
    await this.settle({ ...made, artifacts, progress: 1 }, 'DONE');
    if (await this.isDeleted(sessionId)) await this.forget(made);
  }

  private async isDeleted(sessionId: string): Promise<boolean> {
    const deleted = (error: unknown) => error instanceof DeletedError;
    return (await readRecord(this.context.vault, keysOf(sessionId)).catch(deleted)) === true;
  }

  /** Of a session that was deleted meanwhile nothing is left, whatever was written behind the deletion's back. */
  private async forget(made: Pick<SessionExport, 'sessionId' | 'range'>): Promise<void> {
    const { vault, logger } = this.context;
    try {
      const { exports } = keysOf(made.sessionId);
      for (const ending of ENDINGS) await vault.delete(exports + made.range + ending);
      await vault.delete(EXPORTING + keyOf(made));
    } catch (error) {
      logger.warn({ sessionId: made.sessionId, range: made.range, error }, 'could not remove an export');
    }
  }

  private async store(made: SessionExport, { signal, progress }: JobRun): Promise<Artifact[]> {
    return storeExport(this.context, keysOf(made.sessionId), made, (read, of) => {
      signal.throwIfAborted();
      progress(Math.min(0.99, read / of));
    });
  }

  /** However long the store does not take that it failed. */
  private fail(sessionId: string, range: string, error: unknown, signal: AbortSignal): Promise<void> {
    const record = async () => {
      const made = await this.read(sessionId, range).catch(asNone);
      if (made && !isSettled(made)) await this.settle({ ...made, failure: describe(error) }, 'FAILED');
    };
    return untilDone(record, { ...this.context, what: 'could not record the failure of an export', signal });
  }

  private async settle(made: SessionExport, state: ExportState): Promise<SessionExport> {
    const settled = { ...made, state };
    await this.write(settled);
    await this.context.vault.delete(EXPORTING + keyOf(made));
    return settled;
  }

  private async read(sessionId: string, range: string): Promise<SessionExport | undefined> {
    const key = fileOf(sessionId, range);
    const stored = await this.context.vault.read(key);
    return stored && decodeExport(stored.bytes, key);
  }

  private async write(made: SessionExport): Promise<void> {
    await this.context.vault.put(fileOf(made.sessionId, made.range), encodeExport(made), JSON_OBJECT);
  }

  private seen(made: SessionExport): SessionExport {
    const progress = isSettled(made) ? undefined : this.jobs.find(jobOf(made))?.progress;
    return progress === undefined ? made : { ...made, state: 'RUNNING', progress };
  }
}

/** What cannot be read any more is made again when it is asked for. */
function asNone(error: unknown): undefined {
  if (!(error instanceof DamagedError)) throw error;
}

/** Anything else that the store answers, another attempt would not change soon; others would wait behind it. */
function isUnreachable(error: unknown): boolean {
  return error instanceof DomainError && error.cause instanceof StoreError && error.cause.code === 'UNREACHABLE';
}

const pad = (chunk: number): string => String(chunk).padStart(6, '0');
const keyOf = ({ sessionId, range }: Pick<SessionExport, 'sessionId' | 'range'>): string => `${sessionId}-${range}`;
const jobOf = (made: SessionExport): Job => ({ kind: 'export', key: keyOf(made) });
const isSettled = ({ state }: SessionExport): boolean => state === 'DONE' || state === 'CANCELLED';

function partsOf(key: string): [sessionId: string, range: string] {
  const dash = key.indexOf('-');
  return [key.slice(0, dash), key.slice(dash + 1)];
}
const fileOf = (sessionId: string, range: string): string => `${keysOf(sessionId).exports}${range}.json`;

export interface ExportParts {
  fromSeconds: number;
  toSeconds: number;
  chapters: number;
  video: AsyncIterable<Uint8Array>;
  timeline: Uint8Array;
}

/** The same for whoever has the store at hand, and keeps it elsewhere. INVALID_INPUT, NOT_FOUND, STORAGE. */
export async function exportParts(
  { store, media }: { store: ObjectStore; media: MediaFactory },
  sessionId: string,
  input: ExportInput,
): Promise<ExportParts> {
  const vault = new Vault(store, systemClock, DEFAULT_POLICY.storeRetrySeconds);
  const { session } = await loadSession(vault, sessionId);
  const range = checkRange(input, session);
  const source = await readSource({ vault }, keysOf(sessionId), range);
  return {
    fromSeconds: startSecondsOf(session, range.fromChunk),
    toSeconds: startSecondsOf(session, range.toChunk),
    chapters: source.timeline.length,
    video: exportVideo({ vault, media }, source),
    timeline: exportTimeline(source),
  };
}
