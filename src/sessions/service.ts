import { Tenancy } from './access/tenancy.js';
import { systemClock } from './clock.js';
import type { SessionEvent } from './events.js';
import { Abandonment } from './live/abandonment.js';
import { Admission } from './live/admission.js';
import { Capacity } from './live/capacity.js';
import type { Context } from './live/context.js';
import { Creation } from './live/creation.js';
import { Delivery } from './live/delivery.js';
import { Directory } from './live/directory.js';
import { Exports } from './live/exporting.js';
import { InProcessJobs } from './live/in-process-jobs.js';
import { Line } from './live/line.js';
import { Lookup } from './live/lookup.js';
import { Making } from './live/making.js';
import { Identity } from './live/identity.js';
import { NoEngine } from './live/no-engine.js';
import { encodeNotice } from './live/notice.js';
import { Ownership } from './live/ownership.js';
import { Placement } from './live/placement.js';
import { Planning } from './live/planning.js';
import { type Loss, Presence } from './live/presence.js';
import { type Rehearsal, rehearseHere } from './live/rehearsal.js';
import { Removal } from './live/removal.js';
import { Remaking } from './live/remaking.js';
import { hasAllFor } from './live/required-model.js';
import { Standing } from './live/standing.js';
import { Watching } from './live/watching.js';
import { AnswerDeadline } from './answer-deadline.js';
import { DEFAULT_POLICY, type SessionServiceOptions, SILENT } from './policy.js';
import type { Jobs, ModelInfo } from './ports.js';
import { ArtifactCheck } from './read/artifact-check.js';
import { ChunkLists } from './read/chunk-lists.js';
import { MediaCheck } from './read/media-check.js';
import { Playlists } from './read/playlists.js';
import { watch } from './read/stream.js';
import {
  type CreateSessionInput,
  type ExportInput,
  type ForkSessionInput,
  isEnded,
  type MovePromptInput,
  type PlanPromptInput,
  type ResumeSessionInput,
  type Session,
  type SessionExport,
  type SessionLabel,
  type SwitchPromptInput,
  type SwitchReceipt,
  type TimelineEntry,
  type ViewerPosition,
} from './session.js';
import type {
  DeletedSession,
  Page,
  PromptPage,
  PromptPageOptions,
  ServiceStatus,
  SessionPageOptions,
  Sessions,
  SubscribeOptions,
} from './sessions.js';
import { LogReader } from './stored/log.js';
import { receiptsBefore, timelineBefore } from './stored/prompts.js';
import { keysOf } from './stored/keys.js';
import { changeLabel, readLabel } from './stored/label.js';
import { closable } from './signal.js';
import { DeploymentSecret } from './stored/secret.js';
import { Vault } from './stored/vault.js';
import { checkLabelChanges } from './label-validation.js';
import { checkMaxWait } from './validation.js';

/** Every session of this server, and what can be said and asked of those of others. */
export class SessionService implements Sessions {
  private readonly context: Context;
  private readonly directory = new Directory();
  private readonly presence: Presence;
  private readonly ownership: Ownership;
  private readonly delivery: Delivery;
  private readonly placement: Placement;
  private readonly making: Making;
  private readonly creation: Creation;
  private readonly planning: Planning;
  private readonly admission: Admission;
  private readonly playlists: Playlists;
  private readonly mediaCheck: MediaCheck;
  private readonly artifactCheck: ArtifactCheck;
  private readonly secret: DeploymentSecret;
  private readonly identity: Identity;
  private readonly removal: Removal;
  private readonly tenancy: Tenancy;
  private readonly lookup: Lookup;
  private readonly jobs: Jobs;
  private readonly exports: Exports;
  private readonly remaking: Remaking;
  private readonly deadline: AnswerDeadline;
  private readonly abandonment: Abandonment;
  private joined = false;
  private readonly standing: Standing;
  private readonly leaving = new AbortController();

  constructor(options: SessionServiceOptions) {
    const { media, store, cluster, clock = systemClock, logger = SILENT } = options;
    const engine = options.engine ?? new NoEngine(() => this.placement.models());
    const policy = { ...DEFAULT_POLICY, ...options.policy };
    const vault = new Vault(store, clock, policy.storeRetrySeconds);
    const impatient = vault.impatient(policy.leaseSeconds / 3);
    const watching = new Watching(clock, () => this.presence.hurry());
    const stir = () => this.admission.stir();
    const elsewhere = (tenant: string) => this.placement.elsewhere(tenant);
    const capacity = new Capacity(() => engine.models(), policy, clock, stir, elsewhere);
    const fits = (session: Session) => hasAllFor({ engine, media }, session);
    const line = new Line({ vault, cluster, clock, policy, fits });
    this.context = { engine, media, vault, cluster, clock, logger, policy, capacity, watching, line };
    this.standing = new Standing(this.context, this.directory, options.engine !== undefined);
    this.placement = new Placement(cluster, this.standing, line);
    this.presence = new Presence({
      ...{ clock, cluster, logger, policy, watching },
      vault: impatient,
      onLoss: (loss) => this.takeOverFrom(loss),
      onBeat: () => this.identity.look(),
      onTakenForDead: () => this.inBackground(this.ownership.confirmAll()),
    });
    const handler = (id: string) => (message: string) => this.delivery.receive(id, message);
    const { context, directory, placement, presence } = this;
    this.ownership = new Ownership(context, directory, presence, impatient, handler, placement);
    this.admission = new Admission(context, directory, this.ownership, placement);
    this.delivery = new Delivery(context, directory, placement, presence, {
      takeOver: async (id) => {
        this.standing.mustBeOpen(true);
        return this.ownership.adopt(id);
      },
      session: (id) => this.session(id),
      serve: async (command) => {
        this.standing.mustBeOpen(true);
        return this.making.serve(command);
      },
    });
    this.playlists = new Playlists(this.context, new ChunkLists(this.context));
    this.mediaCheck = new MediaCheck(vault, this.playlists.lists, (id) => this.directory.at(id)?.ring);
    this.secret = new DeploymentSecret(vault, options.deployment);
    const { ownership, secret } = this;
    this.identity = new Identity(secret, this.standing, logger);
    this.tenancy = new Tenancy(vault, directory, this.identity);
    const session = (id: string) => this.session(id);
    this.making = new Making({ context, directory, ownership, presence, secret, session });
    this.planning = new Planning(this.delivery, session);
    this.creation = new Creation({ placement, making: this.making, session });
    this.jobs = options.jobs ?? new InProcessJobs(clock);
    this.removal = new Removal(context, directory, this, this.jobs);
    this.exports = new Exports(this.context, this.jobs);
    this.remaking = new Remaking(this.context, this.jobs, policy.exportsAtOnce);
    const { identity, remaking, tenancy } = this;
    this.lookup = new Lookup({ context, directory, identity, placement, remaking, tenancy });
    this.jobs.onLost(() => this.exports.keepUp(this.leaving.signal));
    this.artifactCheck = new ArtifactCheck({ vault, session, exports: this.exports });
    this.deadline = new AnswerDeadline(vault, clock, policy.answerSeconds);
    this.abandonment = new Abandonment(this.context, this.directory, this.ownership);
  }

  // ---- queries ------------------------------------------------------------------------------------------------------

  models(): ModelInfo[] {
    return this.placement.models();
  }

  /** Tries how fast the default model runs here; sessions go first, and once one has run nothing is tried any more. */
  rehearse(limitSeconds: number): Promise<Rehearsal | undefined> {
    return rehearseHere(this.context, this.standing, limitSeconds);
  }

  async findModels(): Promise<ModelInfo[]> {
    await this.context.engine.refresh();
    return this.models();
  }

  async modelOf(session: Session): Promise<ModelInfo | undefined> {
    const found = this.placement.modelOf(session);
    if (!found) await this.context.engine.refresh();
    return found ?? this.placement.modelOf(session);
  }

  status(): ServiceStatus {
    const { hosts, closing } = this.standing;
    return hosts || closing ? this.standing.status() : this.placement.status();
  }

  session(id: string, signal?: AbortSignal): Promise<Session> {
    return this.deadline.answer(this.lookup.session(id, signal));
  }

  mustBeOf: Sessions['mustBeOf'] = (...asked) => this.deadline.answer(this.tenancy.mustBeOf(...asked));

  sessions(options: SessionPageOptions = {}): Promise<Page<Session>> {
    return this.deadline.answer(this.lookup.page(options));
  }

  label({ id }: Session, signal?: AbortSignal): Promise<SessionLabel> {
    return this.deadline.answer(readLabel(this.context.vault.until(signal), keysOf(id)));
  }

  receipts(session: Session, { first, before, signal }: PromptPageOptions): Promise<PromptPage<SwitchReceipt>> {
    return this.deadline.answer(receiptsBefore(this.logOf(session.id, signal), session, first, before));
  }

  timeline(session: Session, { first, before, signal }: PromptPageOptions): Promise<PromptPage<TimelineEntry>> {
    return this.deadline.answer(timelineBefore(this.logOf(session.id, signal), session, first, before));
  }

  private logOf(id: string, signal?: AbortSignal): LogReader {
    return new LogReader(this.context.vault.until(signal), keysOf(id));
  }

  playlist(sessionId: string, uri?: (key: string) => string, options: { delta?: boolean } = {}): Promise<string> {
    return this.of(sessionId, ({ state }) => {
      this.context.watching.touchByClock(sessionId);
      return this.playlists.of(sessionId, { ended: isEnded(state), ...options }, uri);
    });
  }

  checkMedia(key: string, bytes: Uint8Array): Promise<void> {
    return this.deadline.answer(this.mediaCheck.check(key, bytes));
  }

  checkArtifact(key: string, etag: string): Promise<void> {
    return this.deadline.answer(this.artifactCheck.check(key, etag));
  }

  // ---- mutations ----------------------------------------------------------------------------------------------------

  createSession(input: CreateSessionInput): Promise<Session> {
    return this.make(() => this.creation.create(input), input.idempotencyKey);
  }

  forkSession(sessionId: string, input: ForkSessionInput = {}): Promise<Session> {
    return this.make(() => this.creation.fork(sessionId, input), input.idempotencyKey);
  }

  /** A session of which nobody knows, because its making took too long, is stopped; with a key it is found again. */
  private make(work: () => Promise<Session>, idempotencyKey: string | undefined): Promise<Session> {
    const making = async () => {
      this.standing.mustBeOpen();
      const session = await work();
      return this.placement.inLine({ ...session, viewers: this.context.watching.viewers(session.id) });
    };
    return this.deadline.answer(making(), ({ id }) => {
      if (idempotencyKey === undefined) this.inBackground(this.stopSession(id).then(() => undefined));
    });
  }

  switchPrompt(sessionId: string, input: SwitchPromptInput): Promise<SwitchReceipt> {
    return this.deadline.answer(this.delivery.command(sessionId, 'switchPrompt', input));
  }

  planPrompt(sessionId: string, input: PlanPromptInput): Promise<SwitchReceipt> {
    return this.deadline.answer(this.planning.plan(sessionId, input));
  }

  movePrompt(sessionId: string, receiptId: string, input: MovePromptInput): Promise<SwitchReceipt> {
    return this.deadline.answer(this.planning.move(sessionId, receiptId, input));
  }

  cancelPrompt(sessionId: string, receiptId: string): Promise<SwitchReceipt> {
    return this.deadline.answer(this.planning.cancel(sessionId, receiptId));
  }

  pauseSession(sessionId: string): Promise<Session> {
    return this.deadline.answer(this.delivery.command(sessionId, 'pause', null));
  }

  resumeSession(sessionId: string, input: ResumeSessionInput = {}): Promise<Session> {
    const wanted = checkMaxWait(input.maxWaitSeconds) > 0 ? input : null;
    const resumed = this.delivery.command(sessionId, 'resume', wanted);
    return this.deadline.answer(resumed.then((session) => this.placement.inLine(session)));
  }

  stopSession(sessionId: string): Promise<Session> {
    return this.deadline.answer(this.delivery.command(sessionId, 'stop', null));
  }

  async deleteSession(sessionId: string): Promise<DeletedSession> {
    this.standing.mustBeOpen();
    return this.deadline.answer(this.removal.delete(sessionId));
  }

  remakeArtifacts(sessionId: string): Promise<Session> {
    this.standing.mustBeOpen();
    return this.of(sessionId, async (session) => this.remaking.begin(session));
  }

  updateSession(sessionId: string, changes: Partial<SessionLabel>): Promise<Session> {
    this.standing.mustBeOpen();
    const checked = checkLabelChanges(changes);
    return this.of(sessionId, async (session) => {
      await changeLabel(this.context.vault, keysOf(sessionId), checked);
      return session;
    });
  }

  exportSession(sessionId: string, input: ExportInput = {}): Promise<SessionExport> {
    this.standing.mustBeOpen();
    return this.of(sessionId, (session) => this.exports.begin(session, input));
  }

  export(sessionId: string, range: string): Promise<SessionExport> {
    return this.of(sessionId, () => this.exports.find(sessionId, range));
  }

  cancelExport(sessionId: string, range: string): Promise<SessionExport> {
    return this.of(sessionId, () => this.exports.cancel(sessionId, range));
  }

  /** What is asked of a session that is there. */
  private of<T>(sessionId: string, work: (session: Session) => Promise<T>): Promise<T> {
    return this.deadline.answer(this.session(sessionId).then(work));
  }

  // ---- watching -----------------------------------------------------------------------------------------------------

  subscribe(sessionId: string, options: SubscribeOptions = {}): AsyncGenerator<SessionEvent, void, undefined> {
    const { context, directory } = this;
    const source = {
      ...{ context, keys: keysOf(sessionId), load: () => this.session(sessionId) },
      ring: () => directory.at(sessionId)?.ring,
    };
    return closable(options.signal, (signal) => watch(source, { ...options, signal }));
  }

  acknowledge(sessionId: string, position: ViewerPosition): Promise<boolean> {
    return this.delivery.acknowledge(sessionId, position);
  }

  touch(sessionId: string): void {
    this.context.watching.touch(sessionId);
  }

  // ---- beginning and end of the server ------------------------------------------------------------------------------

  async start(): Promise<void> {
    this.removal.begin(this.leaving.signal);
    await this.identity.begin();
    await this.presence.begin();
    this.join();
    await this.presence.look();
    this.exports.keepUp(this.leaving.signal);
    if (!this.standing.hosts) return this.admission.begin(0);
    await this.ownership.sweep(undefined);
    this.admission.begin(this.ownership.suspicious ? 1_500 * this.context.policy.leaseSeconds : 0);
    this.inBackground(this.abandonment.keepOn());
  }

  private join(): void {
    if (this.joined) return;
    this.joined = true;
    this.context.cluster.join({
      notice: () => encodeNotice(this.standing.notice()),
      receive: (id, message) => this.delivery.receive(id, message),
      peerEnded: () => this.presence.hurry(),
    });
  }

  async shutdown(): Promise<void> {
    this.standing.closing = true;
    this.leaving.abort();
    this.ownership.close();
    this.abandonment.close();
    await this.admission.close();
    this.context.vault.leave(this.context.policy.storeFarewellSeconds * 1_000);
    await this.leaveAll();
    // What was being opened is owned by now.
    await this.directory.settled();
    await this.leaveAll();
    await this.removal.settled();
    await this.jobs.close();
    await this.presence.close();
    await this.context.cluster.close();
  }

  private async leaveAll(): Promise<void> {
    const { clock } = this.context;
    await Promise.all(
      this.directory
        .owned()
        .map((session) => session.shutdown().then(() => this.placement.handOver(session.session, clock))),
    );
  }

  /** What a server that is no more has left undone. */
  private takeOverFrom(loss: Loss): void {
    if (this.standing.hosts) this.inBackground(this.ownership.sweep(loss));
    this.exports.keepUp(this.leaving.signal);
  }

  private inBackground(work: Promise<void>): void {
    work.catch((error: unknown) => this.context.logger.error({ error }, 'background task failed'));
  }
}
