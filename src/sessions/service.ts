import { createHash, randomBytes } from 'node:crypto';
import type { Page, PromptPage, PromptPageOptions, ServiceStatus, Sessions, SubscribeOptions } from './api.js';
import { type KnownChunks, playlistOf, readChunks } from './stored/artifacts.js';
import { Capacity } from './live/capacity.js';
import { systemClock } from './clock.js';
import type { Context } from './live/context.js';
import { DomainError, invalid } from './errors.js';
import type { SessionEvent } from './events.js';
import { BY_DATE, byDateKey, idOfByDateKey, keysOf, UNFINISHED } from './stored/keys.js';
import { LogReader } from './stored/log.js';
import { OwnedSession } from './live/owned.js';
import { DEFAULT_POLICY, type SessionServiceOptions } from './policy.js';
import type { Claim, Command, ModelInfo } from './ports.js';
import { digestInput, encodeRecord, FORMAT_VERSION, readRecord, type SessionRecord } from './stored/record.js';
import { requireModel } from './live/required-model.js';
import {
  type CreateSessionInput,
  type ForkSessionInput,
  isEnded,
  type Session,
  type SwitchPromptInput,
  type SwitchReceipt,
  type TimelineEntry,
} from './session.js';
import { receiptsBefore, timelineBefore } from './stored/prompts.js';
import { applyEvent, initialSnapshot } from './stored/snapshot.js';
import { follow } from './read/stream.js';
import { checkCreate, checkFork, type SessionRequest } from './validation.js';
import { OwnershipLost, Vault } from './stored/vault.js';

const PAGE = 20;
const LARGEST_PAGE = 100;

/** Sessions whose chunk lists are remembered. */
const PLAYLISTS = 32;

const ID = /^[a-z0-9]{26}$/;

interface Loaded {
  record: SessionRecord;
  etag: string;
  session: Session;
}

/** Every session of this worker, and the way to those of others. */
export class SessionService implements Sessions {
  private readonly context: Context;
  private readonly owned = new Map<string, OwnedSession>();
  private readonly adopting = new Map<string, Promise<OwnedSession | undefined>>();
  private readonly watchers = new Map<string, number>();
  /** What playlists were made of lately, so that a player's next poll reads only the end of the log. */
  private readonly playlists = new Map<string, KnownChunks>();
  private closing = false;

  constructor(options: SessionServiceOptions) {
    const policy = { ...DEFAULT_POLICY, ...options.policy };
    const clock = options.clock ?? systemClock;
    this.context = {
      engine: options.engine,
      media: options.media,
      vault: new Vault(options.store, clock, policy.storeRetrySeconds),
      cluster: options.cluster,
      clock,
      logger: options.logger ?? SILENT,
      policy,
      capacity: new Capacity(() => options.engine.models(), policy),
      viewers: (id) => this.watchers.get(id) ?? 0,
    };
  }

  // ---- queries ------------------------------------------------------------------------------------------------------

  models(): ModelInfo[] {
    return this.context.engine.models();
  }

  async findModels(): Promise<ModelInfo[]> {
    await this.context.engine.refresh();
    return this.models();
  }

  status(): ServiceStatus {
    const sessions: ServiceStatus['sessions'] = {};
    for (const owned of this.owned.values()) {
      const { state } = owned.view();
      sessions[state] = (sessions[state] ?? 0) + 1;
    }
    const detail = this.whyNotAccepting();
    return {
      accepting: detail === undefined,
      ...(detail && { detail }),
      devices: this.context.capacity.status(),
      sessions,
    };
  }

  async session(id: string, signal?: AbortSignal): Promise<Session> {
    return this.owned.get(id)?.view() ?? (await this.load(id, signal)).session;
  }

  async sessions(options: { first?: number; after?: string; signal?: AbortSignal } = {}): Promise<Page<Session>> {
    const { first = PAGE, after, signal } = options;
    if (!Number.isInteger(first) || first < 1 || first > LARGEST_PAGE) {
      throw invalid('first', `first must be from 1 to ${LARGEST_PAGE}, not ${first}.`);
    }
    const keys: string[] = [];
    for await (const { key } of this.context.vault.until(signal).list(BY_DATE)) {
      if (after === undefined || key > BY_DATE + after) keys.push(key);
      if (keys.length > first) break;
    }
    const page = keys.slice(0, first);
    const found = await Promise.all(page.map((key) => this.listed(idOfByDateKey(key), signal)));
    const last = page.at(-1);
    const more = keys.length > first && last !== undefined;
    return { items: found.filter((item) => item !== undefined), ...(more && { next: last.slice(BY_DATE.length) }) };
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

  async playlist(sessionId: string, uri?: (key: string) => string): Promise<string> {
    const { state } = await this.session(sessionId);
    const keys = keysOf(sessionId);
    this.touch(sessionId);
    const known = await readChunks(this.context, keys, this.playlists.get(sessionId));
    this.playlists.delete(sessionId);
    this.playlists.set(sessionId, known);
    if (this.playlists.size > PLAYLISTS) this.playlists.delete(this.playlists.keys().next().value as string);
    return playlistOf(this.context, keys, known.chunks, isEnded(state), uri);
  }

  // ---- mutations ----------------------------------------------------------------------------------------------------

  async createSession(input: CreateSessionInput): Promise<Session> {
    this.mustBeOpen();
    const { policy, engine } = this.context;
    const { model: wanted } = input;
    if (wanted !== undefined && !this.models().some(({ name }) => name === wanted)) await engine.refresh(wanted);
    const request = checkCreate(input, engine.models(), { seed: randomSeed, maxSeconds: policy.maxSeconds });
    const { idempotencyKey, ...rest } = input;
    return this.beginOnce(idempotencyKey, digestInput(rest), request, () => {
      engine.check(request.model, request);
      return engine.models().find(({ name }) => name === request.model) as ModelInfo;
    });
  }

  async forkSession(sessionId: string, input: ForkSessionInput = {}): Promise<Session> {
    this.mustBeOpen();
    const { policy, engine } = this.context;
    const parent = await this.session(sessionId);
    const request = checkFork(input, parent, policy);
    const { idempotencyKey, ...rest } = input;
    const inputDigest = digestInput({ ...rest, sessionId });
    return this.beginOnce(idempotencyKey, inputDigest, request, () => requireModel(engine, parent));
  }

  async switchPrompt(sessionId: string, input: SwitchPromptInput): Promise<SwitchReceipt> {
    return (await this.command(sessionId, { name: 'switchPrompt', payload: input })) as SwitchReceipt;
  }

  async pauseSession(sessionId: string): Promise<Session> {
    return (await this.command(sessionId, { name: 'pause', payload: null })) as Session;
  }

  async resumeSession(sessionId: string): Promise<Session> {
    return (await this.command(sessionId, { name: 'resume', payload: null })) as Session;
  }

  async stopSession(sessionId: string): Promise<Session> {
    return (await this.command(sessionId, { name: 'stop', payload: null })) as Session;
  }

  // ---- watching -----------------------------------------------------------------------------------------------------

  subscribe(sessionId: string, options: SubscribeOptions = {}): AsyncGenerator<SessionEvent, void, undefined> {
    const closed = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, closed.signal]) : closed.signal;
    const events = this.watch(sessionId, { ...options, signal });
    // A generator answers return() only when its pending next() is over: end that wait first.
    const end = events.return.bind(events);
    events.return = (value) => {
      closed.abort();
      return end(value);
    };
    return events;
  }

  touch(sessionId: string): void {
    const owned = this.owned.get(sessionId);
    if (owned) owned.touch();
    else void this.context.cluster.send(sessionId, { name: 'touch', payload: null }).catch(() => undefined);
  }

  private async *watch(id: string, options: SubscribeOptions): AsyncGenerator<SessionEvent, void, undefined> {
    const source = {
      context: this.context,
      keys: keysOf(id),
      ring: () => this.owned.get(id)?.ring,
      load: async () => {
        this.touch(id);
        return this.session(id);
      },
    };
    this.watchers.set(id, (this.watchers.get(id) ?? 0) + 1);
    try {
      yield* follow(source, id, options);
    } finally {
      const left = (this.watchers.get(id) ?? 1) - 1;
      if (left > 0) this.watchers.set(id, left);
      else this.watchers.delete(id);
      this.touch(id);
    }
  }

  // ---- beginning and end of the worker ------------------------------------------------------------------------------

  async start(): Promise<void> {
    for await (const { key } of this.context.vault.list(UNFINISHED)) {
      const id = key.slice(UNFINISHED.length);
      await this.adopt(id).catch((error: unknown) => {
        this.context.logger.warn({ sessionId: id, error }, 'an unfinished session could not be taken over');
      });
    }
  }

  async shutdown(): Promise<void> {
    this.closing = true;
    await Promise.all([...this.owned.values()].map((owned) => owned.shutdown()));
    await this.context.cluster.close();
  }

  private whyNotAccepting(): string | undefined {
    if (this.closing) return 'The worker is shutting down.';
    if (this.models().length === 0) return 'No model package is loaded.';
    return this.context.engine.fault;
  }

  private mustBeOpen(): void {
    if (this.closing) throw new DomainError('SHUTTING_DOWN', 'This worker is shutting down; try again in a moment.');
  }

  // ---- creating -----------------------------------------------------------------------------------------------------

  /** The session that this key has made already, or a new one. */
  private async beginOnce(
    idempotencyKey: string | undefined,
    inputDigest: string,
    request: SessionRequest,
    findModel: () => Promise<ModelInfo> | ModelInfo,
  ): Promise<Session> {
    const { clock, cluster } = this.context;
    const id = idempotencyKey === undefined ? randomId() : idOfIdempotencyKey(idempotencyKey);
    const existing = idempotencyKey === undefined ? undefined : await this.find(id);
    if (existing) return this.repeated(existing, inputDigest);
    const snapshot = initialSnapshot(id, request, await findModel(), clock.now());
    return this.begin({ since: FORMAT_VERSION, id, owner: cluster.workerId, inputDigest, request, snapshot });
  }

  private async begin(record: SessionRecord): Promise<Session> {
    const { id, snapshot } = record;
    const { capacity } = this.context;
    capacity.enter(id, () => this.owned.get(id)?.session ?? snapshot);
    try {
      const etag = await this.register(record);
      if (etag === undefined) return this.repeated((await this.find(id)) as Loaded, record.inputDigest);
      const owned = await this.own(record, etag, await this.claim(id));
      owned.start();
      return owned.view();
    } catch (error) {
      capacity.leave(id);
      throw error;
    }
  }

  /** Makes the session known; `undefined` when a request with the same idempotency key was faster. */
  private async register(record: SessionRecord): Promise<string | undefined> {
    const { vault } = this.context;
    const { id, snapshot } = record;
    const nothing = new Uint8Array();
    await vault.put(UNFINISHED + id, nothing);
    try {
      const etag = await vault.putOwned(keysOf(id).record, encodeRecord(record), undefined, {
        contentType: 'application/json',
      });
      await vault.put(byDateKey(id, snapshot.createdAt), nothing);
      return etag;
    } catch (error) {
      if (error instanceof OwnershipLost) return undefined;
      throw error;
    }
  }

  private repeated({ record, session }: Loaded, inputDigest: string): Session {
    if (record.inputDigest !== inputDigest) {
      throw new DomainError('CONFLICT', 'This idempotency key was used for a session with other input.');
    }
    return this.owned.get(record.id)?.view() ?? session;
  }

  // ---- owning -------------------------------------------------------------------------------------------------------

  private async claim(id: string): Promise<Claim> {
    const claim = await this.context.cluster.claim(id, (command) => this.carryOut(id, command));
    if (!claim) throw new DomainError('CONFLICT', 'Another worker has just taken over the session; try again.');
    return claim;
  }

  private async own(record: SessionRecord, etag: string, claim: Claim): Promise<OwnedSession> {
    const { id } = record;
    const owned = new OwnedSession(this.context, { record, etag, claim, onReleased: () => this.owned.delete(id) });
    await owned.open().catch(async (error: unknown) => {
      await claim.release();
      throw error;
    });
    this.owned.set(id, owned);
    return owned;
  }

  /** Makes this worker the owner of an unfinished session that nobody alive owns; `undefined` when there is no need. */
  private adopt(id: string): Promise<OwnedSession | undefined> {
    const owned = this.owned.get(id);
    if (owned) return Promise.resolve(owned);
    const adopting = this.adopting.get(id) ?? this.takeOver(id).finally(() => this.adopting.delete(id));
    this.adopting.set(id, adopting);
    return adopting;
  }

  private async takeOver(id: string): Promise<OwnedSession | undefined> {
    const { session } = await this.load(id);
    if (session.finishedAt) {
      await this.context.vault.delete(UNFINISHED + id);
      return undefined;
    }
    const claim = await this.context.cluster.claim(id, (command) => this.carryOut(id, command));
    if (!claim) return undefined;
    try {
      const { record, etag } = await this.load(id);
      const mine = { ...record, owner: this.context.cluster.workerId };
      const owned = await this.own(mine, await this.sign(mine, etag), claim);
      await owned.takeOver();
      return owned;
    } catch (error) {
      await claim.release();
      throw error;
    }
  }

  private sign(record: SessionRecord, etag: string): Promise<string> {
    const body = encodeRecord(record);
    return this.context.vault.putOwned(keysOf(record.id).record, body, etag, { contentType: 'application/json' });
  }

  // ---- commands -----------------------------------------------------------------------------------------------------

  /** Carries the command out here, at the owner, or here after taking over what has no owner. */
  private async command(id: string, command: Command): Promise<unknown> {
    if (this.owned.has(id)) return this.carryOut(id, command);
    const sent = await this.context.cluster.send(id, command);
    if (sent.delivered) return sent.reply;
    this.mustBeOpen();
    await this.adopt(id);
    return this.carryOut(id, command);
  }

  private async carryOut(id: string, { name, payload }: Command): Promise<unknown> {
    const owned = this.owned.get(id);
    if (!owned) return this.answerUnowned(id, name, payload);
    switch (name) {
      case 'switchPrompt':
        return owned.switchPrompt(payload as SwitchPromptInput);
      case 'pause':
        return owned.pause();
      case 'resume':
        return owned.resume();
      case 'stop':
        return owned.stop();
      case 'touch':
        return owned.touch();
      default:
        throw new Error(`There is no command "${name}".`);
    }
  }

  /** What can be said of a finished session: stopping it changes nothing, a retried switch gets its receipt. */
  private async answerUnowned(id: string, name: string, payload: unknown): Promise<unknown> {
    const { session } = await this.load(id);
    if (name === 'stop' || name === 'touch') return session;
    const key = name === 'switchPrompt' ? (payload as SwitchPromptInput).idempotencyKey : undefined;
    const receipt =
      key === undefined ? undefined : session.receipts.find(({ idempotencyKey }) => idempotencyKey === key);
    if (receipt) return receipt;
    if (!isEnded(session.state)) throw new DomainError('CONFLICT', 'The session is changing hands; try again.');
    throw new DomainError('ENDED', `The session is over (${session.state}); create a new one.`);
  }

  // ---- reading what is stored ---------------------------------------------------------------------------------------

  private async load(id: string, signal?: AbortSignal): Promise<Loaded> {
    const loaded = await this.find(id, signal);
    if (!loaded) throw new DomainError('NOT_FOUND', 'There is no such session.', { field: 'sessionId' });
    return loaded;
  }

  private async find(id: string, signal?: AbortSignal): Promise<Loaded | undefined> {
    if (!ID.test(id)) return undefined;
    const stored = await readRecord(this.context.vault.until(signal), keysOf(id));
    if (!stored) return undefined;
    const { record, etag } = stored;
    let session = record.snapshot;
    if (!session.finishedAt) {
      for await (const event of this.logOf(id, signal).all(session.lastSequence)) session = applyEvent(session, event);
    }
    return { record, etag, session: { ...session, viewers: this.context.viewers(id) } };
  }

  private async listed(id: string, signal?: AbortSignal): Promise<Session | undefined> {
    return this.owned.get(id)?.view() ?? (await this.find(id, signal))?.session;
  }
}

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';

/** 130 bits in Crockford's alphabet. */
function encodeId(bytes: Uint8Array): string {
  return Array.from(bytes.subarray(0, 26), (byte) => ALPHABET[byte & 31]).join('');
}

function randomId(): string {
  return encodeId(randomBytes(26));
}

/** The key decides the id, so that whichever worker a retry reaches, it finds the same session. */
function idOfIdempotencyKey(key: string): string {
  return encodeId(createHash('sha256').update(`session:${key}`).digest());
}

/** Small enough to be typed and to survive JSON. */
function randomSeed(): bigint {
  return BigInt(randomBytes(4).readUInt32LE());
}

const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };
