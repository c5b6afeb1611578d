import { randomBytes } from 'node:crypto';
import { systemClock } from './clock.js';
import { DomainError } from './errors.js';
import type { SessionEvent } from './events.js';
import { Abandonment } from './live/abandonment.js';
import { Capacity } from './live/capacity.js';
import type { Context } from './live/context.js';
import { Delivery } from './live/delivery.js';
import { Directory } from './live/directory.js';
import { Exports } from './live/exporting.js';
import { InProcessJobs } from './live/jobs.js';
import type { OwnedSession } from './live/owned.js';
import { Ownership } from './live/ownership.js';
import { Presence } from './live/presence.js';
import { type Rehearsal, rehearse } from './live/rehearsal.js';
import { encoderOf, requireModel } from './live/required-model.js';
import { Watching } from './live/watching.js';
import { Patience } from './patience.js';
import { DEFAULT_POLICY, type SessionServiceOptions, SILENT } from './policy.js';
import type { EncoderName, Jobs, ModelInfo } from './ports.js';
import { ChunkLists } from './read/chunk-lists.js';
import { MediaCheck } from './read/media-check.js';
import { Playlists } from './read/playlists.js';
import { findSession, loadSession, pageOfSessions, type StoredSession } from './read/stored-sessions.js';
import { follow } from './read/stream.js';
import {
  type CreateSessionInput,
  type ExportInput,
  type ForkSessionInput,
  isEnded,
  type Session,
  type SessionExport,
  type SwitchPromptInput,
  type SwitchReceipt,
  type TimelineEntry,
} from './session.js';
import type {
  DeletedSession,
  Page,
  PromptPage,
  PromptPageOptions,
  ServiceStatus,
  Sessions,
  SubscribeOptions,
} from './sessions.js';
import { Deletions, finishFirst } from './stored/deletion.js';
import { LogReader } from './stored/log.js';
import { receiptsBefore, timelineBefore } from './stored/prompts.js';
import { keysOf } from './stored/keys.js';
import { DeletedError, digestInput, FORMAT_VERSION } from './stored/record.js';
import { OVER } from './signal.js';
import { Retention } from './stored/retention.js';
import { initialSnapshot } from './stored/snapshot.js';
import { DeploymentSecret } from './stored/secret.js';
import { Vault } from './stored/vault.js';
import { checkCreate, checkFork, type SessionRequest } from './validation.js';

/** Every session of this server, and what can be said and asked of those of others. */
export class SessionService implements Sessions {
  private readonly context: Context;
  private readonly directory = new Directory();
  private readonly presence: Presence;
  private readonly ownership: Ownership;
  private readonly delivery: Delivery;
  private readonly playlists: Playlists;
  private readonly mediaCheck: MediaCheck;
  private readonly secret: DeploymentSecret;
  private readonly deletions: Deletions;
  private readonly jobs: Jobs;
  private readonly exports: Exports;
  private readonly patience: Patience;
  private readonly abandonment: Abandonment;
  private closing = false;
  private readonly leaving = new AbortController();

  constructor(options: SessionServiceOptions) {
    const { engine, media, store, cluster, clock = systemClock, logger = SILENT } = options;
    const policy = { ...DEFAULT_POLICY, ...options.policy };
    const vault = new Vault(store, clock, policy.storeRetrySeconds);
    const impatient = new Vault(store, clock, policy.leaseSeconds / 3);
    const watching = new Watching(clock, () => this.presence.hurry());
    const capacity = new Capacity(() => engine.models(), policy);
    this.context = { engine, media, vault, cluster, clock, logger, policy, capacity, watching };
    this.presence = new Presence({
      ...{ clock, cluster, logger, policy, watching },
      vault: impatient,
      onLoss: (loss) => this.inBackground(this.ownership.sweep(loss)),
      onTakenForDead: () => this.inBackground(this.ownership.confirmAll()),
    });
    const handler = (id: string) => (message: string) => this.delivery.receive(id, message);
    this.ownership = new Ownership(this.context, this.directory, this.presence, impatient, handler);
    this.delivery = new Delivery(this.context, this.directory, {
      takeOver: async (id) => {
        this.mustBeOpen();
        return this.ownership.adopt(id);
      },
      session: (id) => this.session(id),
    });
    this.playlists = new Playlists(this.context, new ChunkLists(this.context));
    this.mediaCheck = new MediaCheck(this.playlists.lists, (id) => this.directory.at(id)?.ring);
    this.secret = new DeploymentSecret(vault);
    this.deletions = new Deletions(this.context);
    this.jobs = options.jobs ?? new InProcessJobs(policy.exportsAtOnce);
    this.exports = new Exports(this.context, this.jobs);
    this.patience = new Patience(vault, clock, policy.answerSeconds);
    this.abandonment = new Abandonment(this.context, this.directory, this.ownership);
  }

  // ---- queries ------------------------------------------------------------------------------------------------------

  models(): ModelInfo[] {
    return this.context.engine.models();
  }

  /** Tries how fast the default model runs here; sessions go first, and once one has run nothing is tried any more. */
  async rehearse(limitSeconds: number): Promise<Rehearsal | undefined> {
    const { engine, clock, capacity } = this.context;
    const [model] = this.models();
    if (!model || limitSeconds <= 0) return undefined;
    const modelDigest = model.digest;
    const executor = capacity.executor({ ...model, modelDigest });
    const isNeedless = () => this.closing || capacity.hasMeasured(model.device);
    const turn = <T>(work: () => Promise<T>) => executor.turn(Number.MAX_VALUE, work);
    const rehearsal = await rehearse(model, { engine, clock, limitSeconds, turn, isNeedless });
    if (rehearsal && !isNeedless()) capacity.observe({ ...model, modelDigest }, rehearsal.blockMilliseconds);
    return rehearsal;
  }

  async findModels(): Promise<ModelInfo[]> {
    await this.context.engine.refresh();
    return this.models();
  }

  status(): ServiceStatus {
    const sessions: ServiceStatus['sessions'] = {};
    for (const owned of this.directory.owned()) {
      const { state } = owned.view();
      sessions[state] = (sessions[state] ?? 0) + 1;
    }
    const detail = this.whyNotAccepting();
    return {
      accepting: detail === undefined,
      ...(detail && { detail }),
      devices: this.context.capacity.status(),
      refusedRecordings: this.context.engine.refusedRecordings ?? 0,
      sessions,
    };
  }

  async session(id: string, signal?: AbortSignal): Promise<Session> {
    const owned = this.directory.at(id)?.view();
    return owned ?? this.patience.answer(this.load(id, signal));
  }

  private async load(id: string, signal?: AbortSignal): Promise<Session> {
    return this.seenFromHere(await loadSession(this.context.vault.until(signal), id));
  }

  sessions(options: { first?: number; after?: string; signal?: AbortSignal } = {}): Promise<Page<Session>> {
    const vault = this.context.vault.until(options.signal);
    const find = async (id: string): Promise<Session | undefined> => {
      const owned = this.directory.at(id)?.view();
      const stored = owned ? undefined : await findSession(vault, id).catch(goneMeanwhile);
      return owned ?? (stored && this.seenFromHere(stored));
    };
    return this.patience.answer(pageOfSessions(vault, find, options));
  }

  receipts(session: Session, { first, before, signal }: PromptPageOptions): Promise<PromptPage<SwitchReceipt>> {
    return receiptsBefore(this.logOf(session.id, signal), session, first, before);
  }

  timeline(session: Session, { first, before, signal }: PromptPageOptions): Promise<PromptPage<TimelineEntry>> {
    return timelineBefore(this.logOf(session.id, signal), session, first, before);
  }

  private logOf(id: string, signal?: AbortSignal): LogReader {
    return new LogReader(this.context.vault.until(signal), keysOf(id));
  }

  async playlist(sessionId: string, uri?: (key: string) => string, options: { delta?: boolean } = {}): Promise<string> {
    const { state } = await this.session(sessionId);
    this.touch(sessionId);
    return this.playlists.of(sessionId, { ended: isEnded(state), ...options }, uri);
  }

  checkMedia(key: string, bytes: Uint8Array): Promise<void> {
    return this.patience.answer(this.mediaCheck.check(key, bytes));
  }

  // ---- mutations ----------------------------------------------------------------------------------------------------

  createSession(input: CreateSessionInput): Promise<Session> {
    return this.answerOfMaking(this.create(input), input.idempotencyKey);
  }

  forkSession(sessionId: string, input: ForkSessionInput = {}): Promise<Session> {
    return this.answerOfMaking(this.fork(sessionId, input), input.idempotencyKey);
  }

  /** A session of which nobody knows, because its making took too long, is stopped; with a key it is found again. */
  private answerOfMaking(making: Promise<Session>, idempotencyKey: string | undefined): Promise<Session> {
    return this.patience.answer(making, ({ id }) => {
      if (idempotencyKey === undefined) this.inBackground(this.stopSession(id).then(() => undefined));
    });
  }

  private async create(input: CreateSessionInput): Promise<Session> {
    this.mustBeOpen();
    const { policy, engine, media } = this.context;
    const { model: wanted } = input;
    if (wanted !== undefined && !this.models().some(({ name }) => name === wanted)) await engine.refresh(wanted);
    const request = checkCreate(input, engine.models(), { seed: randomSeed, maxSeconds: policy.maxSeconds });
    const { idempotencyKey, ...rest } = input;
    return this.beginOnce(idempotencyKey, digestInput(rest), request, media.encoders[0], () => {
      engine.check(request.model, request);
      return engine.models().find(({ name }) => name === request.model) as ModelInfo;
    });
  }

  private async fork(sessionId: string, input: ForkSessionInput): Promise<Session> {
    this.mustBeOpen();
    const { policy } = this.context;
    const parent = await this.session(sessionId);
    const request = checkFork(input, parent, policy);
    const { idempotencyKey, ...rest } = input;
    const inputDigest = digestInput({ ...rest, sessionId });
    return this.beginOnce(idempotencyKey, inputDigest, request, encoderOf(parent), () =>
      requireModel(this.context, parent),
    );
  }

  switchPrompt(sessionId: string, input: SwitchPromptInput): Promise<SwitchReceipt> {
    return this.patience.answer(this.delivery.command(sessionId, 'switchPrompt', input));
  }

  pauseSession(sessionId: string): Promise<Session> {
    return this.patience.answer(this.delivery.command(sessionId, 'pause', null));
  }

  resumeSession(sessionId: string): Promise<Session> {
    return this.patience.answer(this.delivery.command(sessionId, 'resume', null));
  }

  stopSession(sessionId: string): Promise<Session> {
    return this.patience.answer(this.delivery.command(sessionId, 'stop', null));
  }

  async deleteSession(sessionId: string): Promise<DeletedSession> {
    this.mustBeOpen();
    await finishFirst(this, sessionId, this.context.clock);
    const { deletedAt } = await this.deletions.delete(sessionId);
    return { sessionId, deletedAt };
  }

  async exportSession(sessionId: string, input: ExportInput = {}): Promise<SessionExport> {
    this.mustBeOpen();
    return this.exports.begin(await this.session(sessionId), input);
  }

  async export(sessionId: string, range: string): Promise<SessionExport> {
    await this.session(sessionId);
    return this.exports.find(sessionId, range);
  }

  async cancelExport(sessionId: string, range: string): Promise<SessionExport> {
    await this.session(sessionId);
    return this.exports.cancel(sessionId, range);
  }

  // ---- watching -----------------------------------------------------------------------------------------------------

  subscribe(sessionId: string, options: SubscribeOptions = {}): AsyncGenerator<SessionEvent, void, undefined> {
    const closed = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, closed.signal]) : closed.signal;
    const events = this.watch(sessionId, { ...options, signal });
    // A generator answers return() only when its pending next() is over: end that wait first.
    const end = events.return.bind(events);
    events.return = (value) => {
      closed.abort(OVER);
      return end(value);
    };
    return events;
  }

  touch(sessionId: string): void {
    this.context.watching.touch(sessionId);
  }

  private async *watch(id: string, options: SubscribeOptions): AsyncGenerator<SessionEvent, void, undefined> {
    const source = {
      context: this.context,
      keys: keysOf(id),
      ring: () => this.directory.at(id)?.ring,
      load: () => this.session(id),
    };
    const end = this.context.watching.begin(id);
    try {
      yield* follow(source, id, options);
    } finally {
      end();
    }
  }

  // ---- beginning and end of the server ------------------------------------------------------------------------------

  async start(): Promise<void> {
    await this.presence.begin();
    await this.presence.look();
    this.inBackground(this.deletions.sweep());
    this.inBackground(this.exports.resume());
    const { vault, clock, logger, policy } = this.context;
    this.inBackground(new Retention({ vault, clock, logger, policy, sessions: this }).run(this.leaving.signal));
    await this.ownership.sweep(undefined);
    this.inBackground(this.abandonment.keepOn());
  }

  async shutdown(): Promise<void> {
    this.closing = true;
    this.leaving.abort();
    this.ownership.close();
    this.abandonment.close();
    this.context.vault.leave(this.context.policy.storeFarewellSeconds * 1_000);
    await this.leaveAll();
    // What was being opened is owned by now.
    await this.directory.settled();
    await this.leaveAll();
    await this.deletions.settled();
    await this.jobs.close();
    await this.presence.close();
    await this.context.cluster.close();
  }

  private async leaveAll(): Promise<void> {
    await Promise.all(this.directory.owned().map((session) => session.shutdown()));
  }

  private whyNotAccepting(): string | undefined {
    if (this.closing) return 'The server is shutting down.';
    if (this.models().length === 0) return 'No model package is loaded.';
    return this.context.engine.fault;
  }

  private mustBeOpen(): void {
    if (this.closing) throw new DomainError('SHUTTING_DOWN', 'This server is shutting down; try again in a moment.');
  }

  // ---- creating -----------------------------------------------------------------------------------------------------

  /** The session that this key has made already, or a new one. */
  private async beginOnce(
    idempotencyKey: string | undefined,
    inputDigest: string,
    request: SessionRequest,
    encoder: EncoderName | undefined,
    findModel: () => Promise<ModelInfo> | ModelInfo,
  ): Promise<Session> {
    const { clock, cluster, vault } = this.context;
    const [id, ...old] = await this.secret.sessionIds(idempotencyKey);
    for (const known of idempotencyKey === undefined ? [] : [id, ...old]) {
      const owned = await this.directory.find(known);
      if (owned) return this.repeated(owned, inputDigest);
      const stored = await findSession(vault, known).catch(keyOfDeleted);
      if (stored) return this.repeatedElsewhere(stored, inputDigest);
    }
    const now = clock.now();
    const snapshot = initialSnapshot(id, request, await findModel(), now, encoder);
    const ownedSince = new Date(now).toISOString();
    const made = { since: FORMAT_VERSION, owner: cluster.serverId, ownedSince };
    const record = { ...made, id, inputDigest, request, snapshot };
    const session = await this.ownership.create(record);
    if (session) return this.repeated(session, inputDigest);
    return this.repeatedElsewhere(await loadSession(vault, id), inputDigest);
  }

  private repeated(owned: OwnedSession, inputDigest: string): Session {
    mustBeTheSame(owned.inputDigest, inputDigest);
    return owned.view();
  }

  /** One that was made, but not to its end, is begun now. */
  private async repeatedElsewhere(stored: StoredSession, inputDigest: string): Promise<Session> {
    const { record, session } = stored;
    mustBeTheSame(record.inputDigest, inputDigest);
    const orphan = record.owner === null || !(await this.presence.lives(record.owner));
    const owned = session.state === 'QUEUED' && orphan ? await this.ownership.adopt(session.id, true) : undefined;
    return owned?.view() ?? this.seenFromHere(stored);
  }

  private seenFromHere({ session }: StoredSession): Session {
    return { ...session, viewers: this.context.watching.viewers(session.id) };
  }

  private inBackground(work: Promise<void>): void {
    work.catch((error: unknown) => this.context.logger.error({ error }, 'background task failed'));
  }
}

function keyOfDeleted(error: unknown): never {
  if (!(error instanceof DeletedError)) throw error;
  throw new DomainError('CONFLICT', 'This idempotency key was used for a session that has been deleted.');
}

function goneMeanwhile(error: unknown): undefined {
  if (!(error instanceof DeletedError)) throw error;
}

function mustBeTheSame(inputDigest: string, other: string): void {
  if (inputDigest === other) return;
  throw new DomainError('CONFLICT', 'This idempotency key was used for a session with other input.');
}

/** Small enough to be typed and to survive JSON. */
function randomSeed(): bigint {
  return BigInt(randomBytes(4).readUInt32LE());
}
