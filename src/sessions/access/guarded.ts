/** Sessions as one caller sees them: every transport asks here, so that all of them agree on who may do what. */

import { DomainError, invalid } from '../errors.js';
import type { SessionEvent } from '../events.js';
import type { ModelInfo } from '../ports.js';
import type {
  CreateSessionInput,
  ExportInput,
  ForkSessionInput,
  MovePromptInput,
  PlanPromptInput,
  ResumeSessionInput,
  Session,
  SessionExport,
  SessionLabel,
  SwitchPromptInput,
  SwitchReceipt,
  TimelineEntry,
  ViewerPosition,
} from '../session.js';
import type {
  DeletedSession,
  Page,
  PromptPage,
  PromptPageOptions,
  ServiceStatus,
  Sessions,
  SubscribeOptions,
} from '../sessions.js';
import { closable } from '../signal.js';
import {
  callerOf,
  DELEGABLE,
  type Delegate,
  maySee,
  mustHaveScope,
  type Principal,
  type Scope,
  tenantOf,
} from './principal.js';
import type { PromptGate, PromptOccasion } from './prompt-policy.js';
import type { Metered, Quota } from './quota.js';
import { noSuchSession } from './tenancy.js';

/** What is for the service itself, and not for callers. */
type ForTheServer = 'mustBeOf' | 'touch' | 'playlist' | 'checkMedia' | 'checkArtifact' | 'start' | 'shutdown';

/** What callers may ask for. */
type Asked = Omit<Sessions, ForTheServer>;

export interface CallerSessions extends Asked {
  /** FORBIDDEN or NOT_FOUND where the caller may not watch it, before anything is held for it. */
  mayWatch(sessionId: string, signal?: AbortSignal): Promise<void>;
  /** What may be handed on to somebody else. INVALID_INPUT, FORBIDDEN, NOT_FOUND. */
  delegate(sessionId: string, scopes: readonly Scope[]): Promise<Delegate>;
}

/** The scope that each needs; null for what every caller may. */
export const SCOPE_OF = {
  models: 'models:read',
  findModels: 'models:read',
  modelOf: 'session:watch',
  status: null,
  createSession: 'session:create',
  forkSession: 'session:fork',
  session: 'session:watch',
  sessions: 'session:list',
  label: 'session:watch',
  receipts: 'session:watch',
  timeline: 'session:watch',
  switchPrompt: 'session:prompt',
  planPrompt: 'session:prompt',
  movePrompt: 'session:prompt',
  cancelPrompt: 'session:prompt',
  pauseSession: 'session:control',
  resumeSession: 'session:control',
  stopSession: 'session:control',
  deleteSession: 'session:control',
  updateSession: 'session:control',
  remakeArtifacts: 'session:control',
  exportSession: 'session:control',
  export: 'session:watch',
  cancelExport: 'session:control',
  subscribe: 'session:watch',
  mayWatch: 'session:watch',
  delegate: 'session:watch',
  acknowledge: 'session:watch',
} as const satisfies Record<keyof CallerSessions, Scope | null>;

export class GuardedSessions implements CallerSessions {
  constructor(
    private readonly inner: Sessions,
    private readonly principal: Principal,
    /** Without bounds when absent. */
    private readonly quota?: Pick<Quota, 'spend' | 'enter'>,
    /** Every prompt passes when absent. */
    private readonly prompts?: Pick<PromptGate, 'create' | 'one'>,
  ) {}

  // ---- the service --------------------------------------------------------------------------------------------------

  models(): ModelInfo[] {
    this.need('models');
    return this.inner.models();
  }

  async findModels(): Promise<ModelInfo[]> {
    this.need('findModels');
    return this.inner.findModels();
  }

  async modelOf(session: Session): Promise<ModelInfo | undefined> {
    this.need('modelOf');
    return this.inner.modelOf(session);
  }

  /** How busy others keep the service is for the operator. */
  status(): ServiceStatus {
    const status = this.inner.status();
    if (this.isOperator) return status;
    const { accepting, detail, queued } = status;
    return {
      accepting,
      queued,
      ...(detail !== undefined && { detail }),
      devices: [],
      refusedRecordings: 0,
      sessions: {},
    };
  }

  // ---- making -------------------------------------------------------------------------------------------------------

  async createSession(input: CreateSessionInput): Promise<Session> {
    this.need('createSession');
    await this.spend('creations');
    const allowed = (await this.prompts?.create(input)) ?? input;
    const session = await this.inner.createSession({ ...allowed, ...this.caller() });
    return this.mine(session, this.principal.tenant);
  }

  /** A fork is its parent's tenant's. */
  async forkSession(sessionId: string, input: ForkSessionInput = {}): Promise<Session> {
    this.need('forkSession');
    await this.reach(sessionId);
    await this.spend('creations');
    const allowed = await this.allowed('fork', sessionId, input);
    const session = await this.inner.forkSession(sessionId, { ...allowed, ...this.caller() });
    return this.isOperator ? session : this.mine(session, this.principal.tenant);
  }

  private caller(): Pick<CreateSessionInput, 'caller'> {
    const caller = callerOf(this.principal);
    return caller ? { caller } : {};
  }

  /** A server of a release that knows no tenants gives what it makes to none; such a session does not stay. */
  private async mine(session: Session, tenant: string): Promise<Session> {
    if (tenantOf(session) === tenant) return session;
    await this.inner.deleteSession(session.id);
    throw new DomainError(
      'CONFLICT',
      'A server of an earlier release made the session without its tenant, so it was deleted. Try again when all servers are updated.',
    );
  }

  // ---- one session --------------------------------------------------------------------------------------------------

  async session(id: string, signal?: AbortSignal): Promise<Session> {
    await this.may('session', id, signal);
    return this.inner.session(id, signal);
  }

  async sessions(options: Parameters<Sessions['sessions']>[0] = {}): Promise<Page<Session>> {
    this.need('sessions');
    return this.inner.sessions(this.isOperator ? options : { ...options, tenant: this.principal.tenant });
  }

  async label(session: Session, signal?: AbortSignal): Promise<SessionLabel> {
    await this.may('label', session.id, signal);
    return this.inner.label(session, signal);
  }

  async receipts(session: Session, options: PromptPageOptions): Promise<PromptPage<SwitchReceipt>> {
    await this.may('receipts', session.id, options.signal);
    return this.inner.receipts(session, options);
  }

  async timeline(session: Session, options: PromptPageOptions): Promise<PromptPage<TimelineEntry>> {
    await this.may('timeline', session.id, options.signal);
    return this.inner.timeline(session, options);
  }

  async switchPrompt(sessionId: string, input: SwitchPromptInput): Promise<SwitchReceipt> {
    await this.may('switchPrompt', sessionId);
    await this.spend('prompts');
    return this.inner.switchPrompt(sessionId, await this.allowed('switch', sessionId, input));
  }

  async planPrompt(sessionId: string, input: PlanPromptInput): Promise<SwitchReceipt> {
    await this.may('planPrompt', sessionId);
    await this.spend('prompts');
    return this.inner.planPrompt(sessionId, await this.allowed('plan', sessionId, input));
  }

  async movePrompt(sessionId: string, receiptId: string, input: MovePromptInput): Promise<SwitchReceipt> {
    await this.may('movePrompt', sessionId);
    await this.spend('prompts');
    return this.inner.movePrompt(sessionId, receiptId, await this.allowed('move', sessionId, input));
  }

  async cancelPrompt(sessionId: string, receiptId: string): Promise<SwitchReceipt> {
    await this.may('cancelPrompt', sessionId);
    return this.inner.cancelPrompt(sessionId, receiptId);
  }

  async pauseSession(sessionId: string): Promise<Session> {
    await this.may('pauseSession', sessionId);
    return this.inner.pauseSession(sessionId);
  }

  async resumeSession(sessionId: string, input?: ResumeSessionInput): Promise<Session> {
    await this.may('resumeSession', sessionId);
    return this.inner.resumeSession(sessionId, input);
  }

  async stopSession(sessionId: string): Promise<Session> {
    await this.may('stopSession', sessionId);
    return this.inner.stopSession(sessionId);
  }

  async deleteSession(sessionId: string): Promise<DeletedSession> {
    await this.may('deleteSession', sessionId);
    return this.inner.deleteSession(sessionId);
  }

  async updateSession(sessionId: string, changes: Partial<SessionLabel>): Promise<Session> {
    await this.may('updateSession', sessionId);
    return this.inner.updateSession(sessionId, changes);
  }

  async remakeArtifacts(sessionId: string): Promise<Session> {
    await this.may('remakeArtifacts', sessionId);
    return this.inner.remakeArtifacts(sessionId);
  }

  async exportSession(sessionId: string, input?: ExportInput): Promise<SessionExport> {
    await this.may('exportSession', sessionId);
    return this.inner.exportSession(sessionId, input);
  }

  async export(sessionId: string, range: string): Promise<SessionExport> {
    await this.may('export', sessionId);
    return this.inner.export(sessionId, range);
  }

  async cancelExport(sessionId: string, range: string): Promise<SessionExport> {
    await this.may('cancelExport', sessionId);
    return this.inner.cancelExport(sessionId, range);
  }

  // ---- watching -----------------------------------------------------------------------------------------------------

  subscribe(sessionId: string, options: SubscribeOptions = {}): AsyncGenerator<SessionEvent, void, undefined> {
    return closable(options.signal, (signal) => this.watch(sessionId, { ...options, signal }));
  }

  private async *watch(sessionId: string, options: SubscribeOptions): AsyncGenerator<SessionEvent, void, undefined> {
    await this.may('subscribe', sessionId, options.signal);
    const leave = this.quota?.enter();
    try {
      yield* this.inner.subscribe(sessionId, options);
    } finally {
      leave?.();
    }
  }

  /** Nobody generates what is not there, and what is not the caller's. */
  async acknowledge(sessionId: string, position: ViewerPosition): Promise<boolean> {
    this.need('acknowledge');
    try {
      await this.reach(sessionId);
    } catch (error) {
      if (error instanceof DomainError && error.code === 'NOT_FOUND') return false;
      throw error;
    }
    return this.inner.acknowledge(sessionId, position);
  }

  async mayWatch(sessionId: string, signal?: AbortSignal): Promise<void> {
    await this.may('mayWatch', sessionId, signal);
  }

  async delegate(sessionId: string, scopes: readonly Scope[]): Promise<Delegate> {
    await this.may('delegate', sessionId);
    if (this.principal.sessionId !== undefined)
      throw new DomainError('FORBIDDEN', 'A client token cannot create tokens. Ask your server for one.');
    const unfit = scopes.find((scope) => !DELEGABLE.includes(scope));
    if (scopes.length === 0 || unfit !== undefined)
      throw invalid('scopes', `scopes must have one or more of ${DELEGABLE.join(', ')}.`);
    for (const scope of scopes) mustHaveScope(this.principal, scope);
    return { tenant: tenantOf(await this.inner.session(sessionId)), sessionId, scopes: new Set(scopes) };
  }

  // ---- who may ------------------------------------------------------------------------------------------------------

  private get isOperator(): boolean {
    return this.principal.scopes.has('admin');
  }

  /** Where it may do that at all: whoever may not uses nothing up. */
  private async spend(what: Metered): Promise<void> {
    await this.quota?.spend(what);
  }

  /** With the prompt as whoever decides on prompts lets it pass. INVALID_INPUT, POLICY. */
  private async allowed<Input extends { prompt?: string }>(
    occasion: PromptOccasion,
    sessionId: string,
    input: Input,
  ): Promise<Input> {
    return this.prompts ? this.prompts.one({ occasion, sessionId }, input) : input;
  }

  private async may(what: keyof CallerSessions, sessionId: string, signal?: AbortSignal): Promise<void> {
    this.need(what);
    await this.reach(sessionId, signal);
  }

  private need(what: keyof CallerSessions): void {
    const scope = SCOPE_OF[what];
    if (scope !== null && !maySee(this.principal, scope)) mustHaveScope(this.principal, scope);
  }

  /** NOT_FOUND for what is not there, and in the same words for what is not the caller's. */
  private async reach(sessionId: string, signal?: AbortSignal): Promise<void> {
    if (this.isOperator) return;
    const { tenant, sessionId: only } = this.principal;
    if (only !== undefined && only !== sessionId) throw noSuchSession();
    await this.inner.mustBeOf(tenant, sessionId, signal);
  }
}
