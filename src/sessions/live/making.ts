/** How sessions are made at this server: once, however often it is asked for under the same idempotency key. */

import { randomBytes } from 'node:crypto';
import { DomainError } from '../errors.js';
import type { EncoderName, ModelInfo } from '../ports.js';
import { findSession, loadSession, type StoredSession } from '../read/stored-sessions.js';
import { type CreateSessionInput, type ForkSessionInput, isWaiting, type Session } from '../session.js';
import { DeletedError, digestInput, FORMAT_VERSION } from '../stored/record.js';
import type { DeploymentSecret } from '../stored/secret.js';
import { initialSnapshot } from '../stored/snapshot.js';
import { checkCreate, checkFork, checkMaxWait, type SessionRequest } from '../validation.js';
import type { Placed, ServerCommand } from './commands.js';
import type { Context } from './context.js';
import type { Directory } from './directory.js';
import type { OwnedSession } from './owned.js';
import type { Ownership } from './ownership.js';
import type { Presence } from './presence.js';
import { encoderOf, modelOf, requireModel } from './required-model.js';

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

  async create(input: CreateSessionInput & Placed): Promise<Session> {
    const { policy, engine, media } = this.parts.context;
    const { model: wanted } = input;
    if (wanted !== undefined && !engine.models().some(({ name }) => name === wanted)) await engine.refresh(wanted);
    const request = checkCreate(input, engine.models(), { seed: randomSeed, maxSeconds: policy.maxSeconds });
    return this.beginOnce(input, {}, request, media.encoders[0], async () => {
      await roomAside(input, () => engine.check(request.model, request));
      return engine.models().find(({ name }) => name === request.model) as ModelInfo;
    });
  }

  async fork(sessionId: string, input: ForkSessionInput & Placed): Promise<Session> {
    const { context } = this.parts;
    const parent = await this.parts.session(sessionId);
    const request = checkFork(input, parent, context.policy);
    return this.beginOnce(input, { sessionId }, request, encoderOf(parent), async () => {
      await roomAside(input, () => requireModel(context, parent));
      return modelOf(context.engine, parent);
    });
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
    {
      idempotencyKey,
      caller,
      maxWaitSeconds,
      inLine = false,
      ...input
    }: (CreateSessionInput | ForkSessionInput) & Placed,
    more: object,
    request: SessionRequest,
    encoder: EncoderName | undefined,
    findModel: () => Promise<ModelInfo> | ModelInfo,
  ): Promise<Session> {
    const { directory, ownership, secret } = this.parts;
    const { clock, cluster, vault, line } = this.parts.context;
    // How long it may wait is not what is made.
    const inputDigest = digestInput({ ...input, ...more });
    const [id, ...old] = await secret.sessionIds(idempotencyKey, caller);
    for (const known of idempotencyKey === undefined ? [] : [id, ...old]) {
      const owned = await directory.find(known);
      if (owned) return repeated(owned, inputDigest);
      const stored = await findSession(vault, known).catch(keyOfDeleted);
      if (stored) return this.repeatedElsewhere(stored, inputDigest);
    }
    const now = clock.now();
    const model = await findModel();
    const asked = inLine ? { ...request, wait: line.placeFor(checkMaxWait(maxWaitSeconds)) } : request;
    const snapshot = initialSnapshot(id, asked, model, now, encoder);
    const ownedSince = new Date(now).toISOString();
    const made = { since: FORMAT_VERSION, owner: cluster.serverId, ownedSince, epoch: 1 };
    const session = await ownership.create({ ...made, id, inputDigest, request: asked, snapshot });
    if (session) {
      const answer = repeated(session, inputDigest);
      await session.stepBack();
      return answer;
    }
    return this.repeatedElsewhere(await loadSession(vault, id), inputDigest);
  }

  /** One that was made, but not to its end, is begun now. */
  private async repeatedElsewhere(stored: StoredSession, inputDigest: string): Promise<Session> {
    const { record, session } = stored;
    const { ownership, presence, context } = this.parts;
    mustBeTheSame(record.inputDigest, inputDigest);
    const orphan = record.owner === null || !(await presence.lives(record.owner));
    const unmade = session.state === 'QUEUED' && !isWaiting(session);
    const owned = unmade && orphan ? await ownership.adopt(session.id, true) : undefined;
    return owned?.view() ?? { ...session, viewers: context.watching.viewers(session.id) };
  }
}

/** What is to stand in the line may be made although there is no room now. */
async function roomAside({ inLine = false }: Placed, work: () => unknown): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!inLine || !(error instanceof DomainError) || error.code !== 'AT_CAPACITY') throw error;
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
