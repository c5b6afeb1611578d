/** Commands reach the one who owns the session: here, elsewhere, or here after taking over what has no owner. */
import { randomUUID } from 'node:crypto';
import { DomainError } from '../errors.js';
import type { Session, ViewerPosition } from '../session.js';
import { OwnershipLost } from '../stored/vault.js';
import {
  type Answer,
  type Command,
  type CommandName,
  decodeCommand,
  decodeReply,
  encodeCommand,
  encodeReply,
  type Heard,
  type Input,
  isForServer,
  type Output,
  refusalIn,
  type ServerCommand,
  type SessionCommand,
} from './commands.js';
import type { Context } from './context.js';
import type { Directory } from './directory.js';
import { type OwnedSession, SessionGone } from './owned.js';
import type { Placement } from './placement.js';
import type { Presence } from './presence.js';
import { findRecord } from '../read/stored-sessions.js';
import { checkPosition } from '../validation.js';
import { receiptOfKey, sameRequest } from './switches.js';

/** How often a command is sent again to a session that has just changed hands. */
const MOST_ATTEMPTS = 5;

/** How long a command is sent again to a session that changes hands between servers, and how long between, in milliseconds. */
const MOVING = 10_000;
const MOVING_PAUSE = 300;

/** What delivery asks of the service. */
export interface Recipients {
  /** Carries out what concerns no owned session. */
  serve(command: ServerCommand): Promise<Session>;
  /** Becomes the session's owner; undefined where it is over. */
  takeOver(id: string): Promise<OwnedSession | undefined>;
  session(id: string): Promise<Session>;
}

export class Delivery {
  constructor(
    private readonly context: Context,
    private readonly directory: Directory,
    private readonly placement: Placement,
    private readonly presence: Pick<Presence, 'lives'>,
    private readonly recipients: Recipients,
  ) {}

  async command<Name extends CommandName>(sessionId: string, name: Name, input: Input<Name>): Promise<Output<Name>> {
    const message = encodeCommand({ id: randomUUID(), name, input } as Command);
    const { clock } = this.context;
    const giveUpAt = clock.monotonic() + MOVING;
    for (;;) {
      const reply = await this.send(sessionId, message);
      const moves = ON_THE_MOVE.has(refusalIn(reply) ?? '') && this.placement.hasOthers;
      if (!moves || clock.monotonic() >= giveUpAt) return decodeReply(name, reply);
      await clock.sleep(MOVING_PAUSE);
    }
  }

  /** Only whoever has the session hears it; nothing is read, waited for or taken over for that, since the next one comes soon. */
  async acknowledge(sessionId: string, input: ViewerPosition): Promise<boolean> {
    checkPosition(input);
    const message = encodeCommand({ id: randomUUID(), name: 'acknowledge', input });
    const here = this.directory.at(sessionId);
    const reply = here ? await this.receive(sessionId, message) : await this.context.cluster.send(sessionId, message);
    return reply !== undefined && decodeReply('acknowledge', reply).heard;
  }

  private async send(id: string, message: string): Promise<string> {
    if (await this.directory.find(id)) return this.receive(id, message);
    const { cluster } = this.context;
    const reply = (await cluster.send(id, message)) ?? (await this.sendToStoredOwner(id, message));
    return reply ?? (this.placement.hasOthers ? this.sendToWorker(id, message) : this.receive(id, message));
  }

  /** The wire may have forgotten who has the session; the store has not. */
  private async sendToStoredOwner(id: string, message: string): Promise<string | undefined> {
    const { cluster, vault } = this.context;
    if (!this.placement.hasOthers) return undefined;
    const found = await findRecord(vault, id);
    const owner = found?.record.owner ?? cluster.serverId;
    if (owner === cluster.serverId || !(await this.presence.lives(owner))) return undefined;
    return cluster.send(id, message, owner);
  }

  /** Nobody has the session: whoever is best for it takes it and carries out the command. */
  private async sendToWorker(id: string, message: string): Promise<string> {
    const { cluster } = this.context;
    const session = await this.recipients.session(id);
    if (session.finishedAt) {
      return encodeReply(async () => this.answerFinished(session, decodeCommand(message) as SessionCommand));
    }
    for (const serverId of this.placement.ranked(session)) {
      if (serverId === cluster.serverId) return this.receive(id, message);
      const reply = await cluster.send(id, message, serverId);
      if (reply !== undefined && refusalIn(reply) !== 'SHUTTING_DOWN') return reply;
    }
    return encodeReply(async () => Promise.reject(this.placement.refusal(id)));
  }

  /** Carries out a command that came from here or from another server; failures are part of the reply. */
  receive(id: string, message: string): Promise<string> {
    return encodeReply(async () => {
      const command = decodeCommand(message);
      const { logger } = this.context;
      try {
        const output = isForServer(command) ? await this.recipients.serve(command) : await this.ask(id, command);
        const level = command.name === 'acknowledge' ? 'debug' : 'info';
        logger[level]({ sessionId: id, commandId: command.id, command: command.name }, 'command carried out');
        return output;
      } catch (error) {
        logger.warn({ sessionId: id, commandId: command.id, command: command.name, error }, 'command refused');
        throw error;
      }
    });
  }

  private hear(id: string, position: ViewerPosition): Heard {
    const owned = this.directory.at(id);
    owned?.acknowledge(position);
    return { heard: owned !== undefined };
  }

  private async ask(id: string, command: SessionCommand): Promise<Answer> {
    if (command.name === 'acknowledge') return this.hear(id, command.input);
    for (let attempt = 1; attempt <= MOST_ATTEMPTS; attempt++) {
      try {
        const owned = (await this.directory.find(id)) ?? (await this.recipients.takeOver(id));
        if (!owned) return this.answerFinished(await this.recipients.session(id), command);
        return await askOwner(owned, command);
      } catch (error) {
        if (!(error instanceof SessionGone) && !(error instanceof OwnershipLost)) throw error;
      }
    }
    throw new DomainError('CONFLICT', 'The session is moving to another server; try again.');
  }

  /** What can be said of a finished session: stopping it changes nothing, a retried switch gets its receipt. */
  private answerFinished(session: Session, command: SessionCommand): Answer {
    if (command.name === 'stop') return session;
    const key = command.name === 'switchPrompt' ? command.input.idempotencyKey : undefined;
    const receipt = key === undefined ? undefined : receiptOfKey(session, key);
    if (receipt && command.name === 'switchPrompt') return sameRequest(receipt, command.input);
    throw new DomainError('ENDED', `The session is over (${session.state}); create a new one.`);
  }
}

/** Refusals that are over when the session has come to its next owner. */
const ON_THE_MOVE: ReadonlySet<string> = new Set(['OWNED_ELSEWHERE', 'SHUTTING_DOWN']);

async function askOwner(owned: OwnedSession, command: OwnerCommand): Promise<Answer> {
  try {
    const answer = await carryOut(owned, command);
    await owned.stepBack();
    return answer;
  } catch (error) {
    if (error instanceof OwnershipLost) owned.lose();
    throw error;
  }
}

/** What changes the session. */
type OwnerCommand = Exclude<SessionCommand, { name: 'acknowledge' }>;

async function carryOut(owned: OwnedSession, command: OwnerCommand): Promise<Answer> {
  switch (command.name) {
    case 'switchPrompt':
      return owned.switchPrompt(command.id, command.input);
    case 'movePrompt': {
      const { receiptId, ...input } = command.input;
      return owned.movePrompt(receiptId, input);
    }
    case 'cancelPrompt':
      return owned.cancelPrompt(command.input.receiptId);
    case 'pause':
      return owned.pause(command.id);
    case 'resume':
      return owned.resume(command.id, command.input?.maxWaitSeconds);
    case 'stop':
      return owned.stop(command.id);
  }
}
