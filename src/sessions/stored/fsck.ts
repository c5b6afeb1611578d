/**
 * Proves that what is stored of a session agrees: its log with itself, with the chunks, the checkpoints, the artifacts, the
 * record and the lists. What does not is named, and repaired where what is right is known. A session may be generated
 * meanwhile: whatever is written has to be unchanged since it was read.
 */

import {
  BY_DATE,
  byDateKey,
  checkpointBlocksOf,
  idOfByDateKey,
  keysOf,
  type SessionKeys,
  SESSIONS,
  UNFINISHED,
} from './keys.js';
import type { FrameChunk, StoredEvent } from '../events.js';
import { DEFAULT_POLICY, SILENT } from '../policy.js';
import type { MediaFactory, ObjectStore } from '../ports.js';
import type { Artifact, ArtifactKind, Session } from '../session.js';
import { systemClock } from '../clock.js';
import { artifactBody, type DerivedKind, oldTimeline, PLACES, type Shelf, storeArtifact } from './artifacts.js';
import {
  DamagedError,
  differenceOf,
  NEWER_ADVICE,
  NewerFormatError,
  sumOf,
  unsealBytes,
  UnreadableError,
} from './checksum.js';
import { isWholeTensorFile } from './checkpoints.js';
import { readChunk, readInit } from './chunks.js';
import { ADDED, type Finding, type Findings, REMADE, REMOVED } from './findings.js';
import { foldEvents } from './fold.js';
import type { MarkedForks } from './forks.js';
import { checkExports } from './fsck-exports.js';
import { checkLineage, checkMarks, checkRemains } from './fsck-forks.js';
import { checkPoster } from './fsck-poster.js';
import { Inheritance } from './inheritance.js';
import { checkLabel } from './label.js';
import { readDamagedLog, rewriteLog, withoutChunksFrom } from './log-repair.js';
import { encodeRecord, readRecordOrTombstone, type SessionRecord } from './record.js';
import { missingKinds, remakeArtifacts } from './remaking.js';
import { DeploymentSecret } from './secret.js';
import { OwnershipLost, Vault } from './vault.js';

export interface SessionReport {
  sessionId: string;
  state?: Session['state'];
  /** There is no such session any more: only what its forks play is left. */
  deleted?: true;
  /** A later release wrote it, which alone can check it. */
  newer?: true;
  chunks: number;
  checkpoints: number;
  findings: Finding[];
}

type CheckedShelf = Shelf & MarkedForks;

/** Chunks that are read at once. */
const AT_ONCE = 8;

export class Checker {
  private readonly shelf: CheckedShelf;

  constructor(
    { store, media }: { store: ObjectStore; media: MediaFactory },
    private readonly options: { repair: boolean; deployment?: string | undefined },
  ) {
    const vault = new Vault(store, systemClock, DEFAULT_POLICY.storeRetrySeconds);
    const inheritance = new Inheritance(vault, systemClock);
    this.shelf = { vault, media, logger: SILENT, clock: systemClock, inheritance };
  }

  /** Rejects with OtherStore when the store is not of the deployment that was named. */
  confirm(): Promise<void> {
    return new DeploymentSecret(this.shelf.vault, this.options.deployment).confirm();
  }

  /** Every session of which there is anything, and the lists. */
  async *all(): AsyncGenerator<SessionReport> {
    const ids = new Set<string>();
    for await (const { key } of this.shelf.vault.list(SESSIONS)) ids.add(key.split('/')[1] as string);
    for (const id of [...ids].sort()) yield await this.session(id);
    const listed = new Map<string, string>();
    for await (const { key } of this.shelf.vault.list(BY_DATE)) listed.set(key, idOfByDateKey(key));
    for await (const { key } of this.shelf.vault.list(UNFINISHED)) listed.set(key, key.slice(UNFINISHED.length));
    for (const [key, sessionId] of listed) {
      if (ids.has(sessionId)) continue;
      const check = new SessionCheck(this.shelf, this.options, sessionId);
      await check.found({ key, problem: 'belongs to a session that does not exist' }, REMOVED, () =>
        this.shelf.vault.delete(key),
      );
      yield check.report;
    }
  }

  /** One session; a finding when it does not exist. */
  async session(sessionId: string): Promise<SessionReport> {
    const check = new SessionCheck(this.shelf, this.options, sessionId);
    await check.run();
    return check.report;
  }
}

class SessionCheck implements Findings {
  readonly report: SessionReport;
  private readonly keys: SessionKeys;
  private readonly files = new Map<string, number>();

  constructor(
    private readonly shelf: CheckedShelf,
    private readonly options: { repair: boolean },
    sessionId: string,
  ) {
    this.keys = keysOf(sessionId);
    this.report = { sessionId, chunks: 0, checkpoints: 0, findings: [] };
  }

  async run(): Promise<void> {
    for await (const { key, size } of this.shelf.vault.list(this.keys.prefix)) this.files.set(key, size);
    const stored = await this.attempt(() => readRecordOrTombstone(this.shelf.vault, this.keys));
    if (stored === 'unreadable') return;
    if (stored && 'tombstone' in stored) {
      this.report.deleted = true;
      return checkRemains(this.shelf, this.keys, this.files, this);
    }
    if (!stored) return this.found({ key: this.keys.record, problem: 'is missing from the store' });
    const { events: logged, lost } = await this.checkLog();
    const events = lost ? logged : await this.checkTail(foldEvents(stored.record, logged), logged);
    const session = foldEvents(stored.record, events);
    this.report.state = session.state;
    this.report.chunks = session.chunks;
    const chunks = events.filter((event) => event.type === 'FrameChunk');
    await this.checkChunks(chunks);
    // What a lost part of the log told of is still there: nothing must be judged by the rest alone.
    if (lost || (await this.hasLostItsLog(stored.record, session, chunks))) return;
    await this.checkRecord(stored, session);
    await checkLineage(this.shelf, session, this);
    await checkMarks(this.shelf, this.keys, this.files, this);
    await this.removeOrphans(session, chunks);
    await this.checkCheckpoints(stored.record, session);
    // Of what was made only later, the record alone tells.
    const { snapshot } = stored.record;
    const finished = snapshot.finishedAt ? { ...session, artifacts: snapshot.artifacts } : session;
    for (const artifact of finished.artifacts) await this.checkArtifact(chunks, artifact);
    await checkPoster(this.shelf, finished, this);
    await checkLabel(this.shelf.vault, this.keys, this.files, this);
    for (const kind of missingKinds(finished)) await this.checkUnmade(chunks, kind);
    const obstacleOf = (from: number, to: number) => this.obstacleOf(chunks.slice(from, to));
    await checkExports(this.shelf, session, new Set(this.files.keys()), { findings: this, obstacleOf });
    await this.checkLists(session);
  }

  async found(
    { key, problem, obstacle }: Pick<Finding, 'key' | 'problem' | 'obstacle'>,
    remedy?: string,
    repair?: () => Promise<unknown>,
  ): Promise<void> {
    const finding: Finding = { key, problem, repaired: false };
    this.report.findings.push(finding);
    if (obstacle !== undefined) finding.obstacle = obstacle;
    if (!repair || remedy === undefined || obstacle !== undefined) return;
    finding.remedy = remedy;
    if (!this.options.repair) return;
    try {
      await repair();
      finding.repaired = true;
    } catch (error) {
      if (error instanceof OwnershipLost) finding.obstacle = IN_USE;
      else if (error instanceof UnreadableError) finding.obstacle = `${error.key} ${error.problem}`;
      else throw error;
    }
  }

  async attempt<T>(work: () => Promise<T>): Promise<T | 'unreadable'> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof UnreadableError)) throw error;
      const newer = error instanceof NewerFormatError;
      if (newer) this.report.newer = true;
      const { key, problem } = error;
      this.report.findings.push({ key, problem, ...(newer && { obstacle: NEWER_ADVICE }), repaired: false });
      return 'unreadable';
    }
  }

  // ---- log and record -----------------------------------------------------------------------------------------------

  private async checkLog(): Promise<{ events: StoredEvent[]; lost: boolean }> {
    const { vault } = this.shelf;
    const segments = [...this.files.keys()].filter((key) => key.startsWith(this.keys.log)).sort();
    const newest = Number(/(\d+)\.jsonl$/.exec(segments.at(-1) ?? '')?.[1] ?? -1);
    const { events, problems } = await readDamagedLog(vault, this.keys, newest);
    for (const { repair, remedy, ...problem } of problems) await this.found(problem, remedy, repair);
    return { events, lost: problems.some(({ repair }) => repair === undefined) };
  }

  /**
   * In a copy that was made while the session ran, the log may tell of chunks that were not copied any more: its last ones. What
   * is known without them. A session of which nothing would be left is not such a copy.
   */
  private async checkTail(session: Session, events: StoredEvent[]): Promise<StoredEvent[]> {
    const { vault } = this.shelf;
    let first = session.chunks;
    while (first > (session.parent?.chunk ?? 0) && !this.files.has(this.keys.chunk(first - 1))) first--;
    const mayBeCut = first > 0 && first < session.chunks && !session.finishedAt;
    // The files were listed before the log was read.
    if (!mayBeCut || (await vault.head(this.keys.chunk(session.chunks - 1)))) return events;
    const left = withoutChunksFrom(events, first);
    const problem = `tells of chunks ${first} to ${session.chunks - 1}, which are not in the store, as in a copy of a session that ran`;
    await this.found({ key: this.keys.log, problem }, `ends with chunk ${first - 1} now`, () =>
      rewriteLog(vault, this.keys, events, left),
    );
    return left;
  }

  /** The record tells of more than the log, and chunks are there: what the log told of cannot be made again, nor be thrown away. */
  private async hasLostItsLog(
    { snapshot }: SessionRecord,
    session: Session,
    chunks: readonly FrameChunk[],
  ): Promise<boolean> {
    const orphans = this.orphans(session, chunks).length;
    if (snapshot.lastSequence <= session.lastSequence || orphans === 0) return false;
    const problem = `records ${snapshot.lastSequence} events, but the log has ${session.lastSequence}, and ${orphans} chunks are not in it`;
    await this.found({ key: this.keys.record, problem });
    return true;
  }

  /** The snapshot saves reading the log: it must not tell of what the log does not. */
  private async checkRecord(
    { record, etag }: { record: SessionRecord; etag: string },
    session: Session,
  ): Promise<void> {
    const { vault } = this.shelf;
    const { lastSequence } = record.snapshot;
    if (lastSequence <= session.lastSequence) return;
    const problem = `records ${lastSequence} events, but the log has ${session.lastSequence}`;
    await this.found({ key: this.keys.record, problem }, 'rewritten from the log', () =>
      vault.putOwned(this.keys.record, encodeRecord({ ...record, snapshot: session }), etag, JSON_OBJECT),
    );
  }

  // ---- media --------------------------------------------------------------------------------------------------------

  private async checkChunks(chunks: readonly FrameChunk[]): Promise<void> {
    const { vault } = this.shelf;
    const bad = chunks.findIndex(({ chunk, firstFrame }, i) => {
      const before = chunks[i - 1];
      return chunk !== i || firstFrame !== (before ? before.firstFrame + before.frameCount : 0);
    });
    if (bad >= 0)
      await this.found({ key: chunks[bad]?.key as string, problem: `is logged as chunk ${bad} where it does not fit` });
    const inits = new Map(chunks.map((chunk) => [chunk.initKey, chunk]));
    for (const chunk of inits.values()) await this.attempt(() => readInit(vault, chunk));
    for (let at = 0; at < chunks.length; at += AT_ONCE) {
      const some = chunks.slice(at, at + AT_ONCE);
      await Promise.all(some.map((chunk) => this.attempt(() => readChunk(vault, chunk))));
    }
  }

  private async removeOrphans(session: Session, chunks: readonly FrameChunk[]): Promise<void> {
    for (const key of this.orphans(session, chunks)) {
      await this.found({ key, problem: 'is not in the log' }, REMOVED, () => this.shelf.vault.delete(key));
    }
  }

  /** The chunk that comes next may be on its way into the log. */
  private orphans(session: Session, chunks: readonly FrameChunk[]): string[] {
    const known = new Set(chunks.map(({ key }) => key));
    if (!session.finishedAt) known.add(this.keys.chunk(session.chunks));
    return [...this.files.keys()].filter((key) => key.startsWith(this.keys.chunks) && !known.has(key));
  }

  private async checkCheckpoints({ since }: SessionRecord, session: Session): Promise<void> {
    const { vault } = this.shelf;
    for (const key of [...this.files.keys()].filter((name) => name.startsWith(this.keys.checkpoints)).sort()) {
      const problem = await this.problemOfCheckpoint(key, since, session.chunks);
      if (problem === undefined) this.report.checkpoints++;
      else await this.found({ key, problem }, REMOVED, () => vault.delete(key));
    }
  }

  private async problemOfCheckpoint(key: string, since: number, chunks: number): Promise<string | undefined> {
    const blocks = checkpointBlocksOf(key);
    if (blocks === undefined) return 'is no checkpoint';
    if (blocks > chunks) return `is at block ${blocks}, but the log has ${chunks} chunks`;
    const stored = await this.shelf.vault.read(key);
    if (!stored) return undefined; // It was pruned meanwhile.
    try {
      const { sealed, bytes } = unsealBytes(stored.bytes, key);
      if (sealed) return undefined;
      return since > 1 || !isWholeTensorFile(bytes) ? 'is truncated or damaged' : undefined;
    } catch (error) {
      if (error instanceof DamagedError) return error.problem;
      throw error;
    }
  }

  /** Why nothing can be made again of these. */
  private obstacleOf(chunks: readonly FrameChunk[]): string | undefined {
    const found = new Set(this.report.findings.map(({ key }) => key));
    const lost = chunks.flatMap(({ initKey, key }) => [initKey, key]).find((key) => found.has(key));
    return lost === undefined ? undefined : `cannot be made again without ${lost}`;
  }

  // ---- artifacts and lists ------------------------------------------------------------------------------------------

  private async checkArtifact(chunks: readonly FrameChunk[], artifact: Artifact): Promise<void> {
    const { kind, key } = artifact;
    if (kind === 'POSTER') return;
    const problem = await this.problemOfArtifact(chunks, artifact, kind);
    if (problem === undefined) return;
    const found = this.derived({ key, problem }, chunks, kind);
    await this.found(found, REMADE, () => storeArtifact(this.shelf, this.keys, chunks, kind));
  }

  private async checkUnmade(chunks: readonly FrameChunk[], kind: ArtifactKind): Promise<void> {
    const key = kind === 'POSTER' ? this.keys.poster : PLACES[kind](this.keys).key;
    if (kind === 'POSTER' && !(await this.shelf.vault.head(key))) return; // It is named already.
    const found = this.derived({ key, problem: 'was not made when the session ended' }, chunks, kind);
    await this.found(found, REMADE, async () => {
      const left = await remakeArtifacts(this.shelf, this.keys.id);
      if (left.includes(kind)) throw new DamagedError(key, 'cannot be rebuilt from what is stored');
    });
  }

  /** Only the video is made of media. */
  private derived(
    found: { key: string; problem: string },
    chunks: readonly FrameChunk[],
    kind: ArtifactKind,
  ): Pick<Finding, 'key' | 'problem' | 'obstacle'> {
    const obstacle = kind === 'MP4' ? this.obstacleOf(chunks) : undefined;
    return { ...found, ...(obstacle !== undefined && { obstacle }) };
  }

  private async problemOfArtifact(
    chunks: readonly FrameChunk[],
    { key, bytes, check }: Artifact,
    kind: DerivedKind,
  ): Promise<string | undefined> {
    if (!this.files.has(key) && !(await this.shelf.vault.head(key))) return 'is missing from the store';
    const stored = await sumOf(this.shelf.vault.stream(key));
    const difference = differenceOf(stored, { bytes, check });
    if (difference !== undefined || check !== undefined) return difference;
    const remade = differenceOf(stored, { check: await this.remadeSum(chunks, kind, bytes) });
    if (remade === undefined || kind !== 'TIMELINE') return remade;
    return differenceOf(stored, await sumOf(oldTimeline(this.shelf, this.keys)));
  }

  /** What it would be if it were made now; `undefined` when another release made it in another form, or chunks are lost. */
  private async remadeSum(
    chunks: readonly FrameChunk[],
    kind: DerivedKind,
    bytes: number,
  ): Promise<string | undefined> {
    try {
      const made = await sumOf(artifactBody(this.shelf, this.keys, chunks, kind));
      return made.bytes === bytes ? made.check : undefined;
    } catch (error) {
      if (error instanceof DamagedError) return undefined; // The chunk is named already.
      throw error;
    }
  }

  private async checkLists({ id, createdAt, finishedAt }: Session): Promise<void> {
    const { vault } = this.shelf;
    const add = (key: string) => () => vault.put(key, new Uint8Array());
    const byDate = byDateKey(id, createdAt);
    if (!(await vault.head(byDate))) {
      await this.found({ key: byDate, problem: 'is missing: the session is in no index' }, ADDED, add(byDate));
    }
    const unfinished = UNFINISHED + id;
    const marked = (await vault.head(unfinished)) !== undefined;
    if (finishedAt && marked) {
      const problem = 'still exists although the session is finished';
      await this.found({ key: unfinished, problem }, REMOVED, () => vault.delete(unfinished));
    } else if (!finishedAt && !marked) {
      const problem = 'is missing: a restart would not find the session';
      await this.found({ key: unfinished, problem }, ADDED, add(unfinished));
    }
  }
}

/** Whoever owns it has written since it was read. */
const IN_USE = 'a server is writing the session; try again when it rests';

const JSON_OBJECT = { contentType: 'application/json' };
