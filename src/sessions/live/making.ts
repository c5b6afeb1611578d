/** How sessions are made at this server: once, however often it is asked for under the same idempotency key. */

import { randomBytes } from 'node:crypto';
import { DomainError } from '../errors.js';
import type { EncoderName, ModelInfo } from '../ports.js';
import { findSession, loadSession, type StoredSession } from '../read/stored-sessions.js';
import type { CreateSessionInput, ForkSessionInput, Session } from '../session.js';
import { DeletedError, digestInput, FORMAT_VERSION } from '../stored/record.js';
import type { DeploymentSecret } from '../stored/secret.js';
import { initialSnapshot } from '../stored/snapshot.js';
import { checkCreate, checkFork, type SessionRequest } from '../validation.js';
import type { ServerCommand } from './commands.js';
import type { Context } from './context.js';
import type { Directory } from './directory.js';
import type { OwnedSession } from './owned.js';
import type { Ownership } from './ownership.js';
import type { Presence } from './presence.js';
import { encoderOf, requireModel } from './required-model.js';

export interface MakingParts {
  context: Context;
  directory: Directory;
  ownership: Pick<Ownership, 'create' | 'adopt'>;
  presence: Pick<Presence, 'lives'>;
  secret: DeploymentSecret;
  session(id: string): Promise<Session>;
}

export class Making {
  constructor(private readonly parts: MakingParts) {}

  async create(input: CreateSessionInput): Promise<Session> {
    const { policy, engine, media } = this.parts.context;
    const { model: wanted } = input;
    if (wanted !== undefined && !engine.models().some(({ name }) => name === wanted)) await engine.refresh(wanted);
    const request = checkCreate(input, engine.models(), { seed: randomSeed, maxSeconds: policy.maxSeconds });
    const { idempotencyKey, ...rest } = input;
    return this.beginOnce(idempotencyKey, digestInput(rest), request, media.encoders[0], () => {
      engine.check(request.model, request);
      return engine.models().find(({ name }) => name === request.model) as ModelInfo;
    });
  }

  async fork(sessionId: string, input: ForkSessionInput): Promise<Session> {
    const { context } = this.parts;
    const parent = await this.parts.session(sessionId);
    const request = checkFork(input, parent, context.policy);
    const { idempotencyKey, ...rest } = input;
    const inputDigest = digestInput({ ...rest, sessionId });
    return this.beginOnce(idempotencyKey, inputDigest, request, encoderOf(parent), () => requireModel(context, parent));
  }

  /** What another server asks of this one. */
  async serve({ name, input }: ServerCommand): Promise<Session> {
    switch (name) {
      case 'create':
        return this.create(input);
      case 'fork':
        return this.fork(input.sessionId, input.input);
      case 'takeUp':
        // Its last owner knew that it was watched, or young; the news of that may not have come here yet.
        await this.parts.ownership.adopt(input.sessionId, true);
        return this.parts.session(input.sessionId);
    }
  }

  /** The session that this key has made already, or a new one. */
  private async beginOnce(
    idempotencyKey: string | undefined,
    inputDigest: string,
    request: SessionRequest,
    encoder: EncoderName | undefined,
    findModel: () => Promise<ModelInfo> | ModelInfo,
  ): Promise<Session> {
    const { directory, ownership, secret } = this.parts;
    const { clock, cluster, vault } = this.parts.context;
    const [id, ...old] = await secret.sessionIds(idempotencyKey);
    for (const known of idempotencyKey === undefined ? [] : [id, ...old]) {
      const owned = await directory.find(known);
      if (owned) return repeated(owned, inputDigest);
      const stored = await findSession(vault, known).catch(keyOfDeleted);
      if (stored) return this.repeatedElsewhere(stored, inputDigest);
    }
    const now = clock.now();
    const snapshot = initialSnapshot(id, request, await findModel(), now, encoder);
    const ownedSince = new Date(now).toISOString();
    const made = { since: FORMAT_VERSION, owner: cluster.serverId, ownedSince, epoch: 1 };
    const session = await ownership.create({ ...made, id, inputDigest, request, snapshot });
    if (session) return repeated(session, inputDigest);
    return this.repeatedElsewhere(await loadSession(vault, id), inputDigest);
  }

  /** One that was made, but not to its end, is begun now. */
  private async repeatedElsewhere(stored: StoredSession, inputDigest: string): Promise<Session> {
    const { record, session } = stored;
    const { ownership, presence, context } = this.parts;
    mustBeTheSame(record.inputDigest, inputDigest);
    const orphan = record.owner === null || !(await presence.lives(record.owner));
    const owned = session.state === 'QUEUED' && orphan ? await ownership.adopt(session.id, true) : undefined;
    return owned?.view() ?? { ...session, viewers: context.watching.viewers(session.id) };
  }
}

function repeated(owned: OwnedSession, inputDigest: string): Session {
  mustBeTheSame(owned.inputDigest, inputDigest);
  return owned.view();
}

function keyOfDeleted(error: unknown): never {
  if (!(error instanceof DeletedError)) throw error;
  throw new DomainError('CONFLICT', 'This idempotency key was used for a session that has been deleted.');
}

function mustBeTheSame(inputDigest: string, other: string): void {
  if (inputDigest === other) return;
  throw new DomainError('CONFLICT', 'This idempotency key was used for a session with other input.');
}

/** Small enough to be typed and to survive JSON. */
function randomSeed(): bigint {
  return BigInt(randomBytes(4).readUInt32LE());
}
