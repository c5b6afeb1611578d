/** Commands reach the one who owns the session: here, elsewhere, or here after taking over what has no owner. */
import { randomUUID } from 'node:crypto';
import { DomainError } from '../errors.js';
import type { Session } from '../session.js';
import { OwnershipLost } from '../stored/vault.js';
import {
  type Command,
  type CommandName,
  decodeCommand,
  decodeReply,
  encodeCommand,
  encodeReply,
  type Input,
  type Output,
} from './commands.js';
import type { Context } from './context.js';
import type { Directory } from './directory.js';
import { type OwnedSession, SessionGone } from './owned.js';
import { receiptOfKey, sameRequest } from './switches.js';

/** How often a command is sent again to a session that has just changed hands. */
const MOST_ATTEMPTS = 5;

/** What delivery asks of the service. */
export interface Recipients {
  /** Becomes the session's owner; undefined where it is over. */
  takeOver(id: string): Promise<OwnedSession | undefined>;
  session(id: string): Promise<Session>;
}

export class Delivery {
  constructor(
    private readonly context: Context,
    private readonly directory: Directory,
    private readonly recipients: Recipients,
  ) {}

  async command<Name extends CommandName>(sessionId: string, name: Name, input: Input<Name>): Promise<Output<Name>> {
    const message = encodeCommand({ id: randomUUID(), name, input } as Command);
    return decodeReply(name, await this.send(sessionId, message));
  }

  private async send(id: string, message: string): Promise<string> {
    if (!(await this.directory.find(id))) {
      const reply = await this.context.cluster.send(id, message);
      if (reply !== undefined) return reply;
    }
    return this.receive(id, message);
  }

  /** Carries out a command that came from here or from another server; failures are part of the reply. */
  receive(id: string, message: string): Promise<string> {
    return encodeReply(async () => {
      const command = decodeCommand(message);
      const { logger } = this.context;
      try {
        const output = await this.ask(id, command);
        logger.info({ sessionId: id, commandId: command.id, command: command.name }, 'command carried out');
        return output;
      } catch (error) {
        logger.warn({ sessionId: id, commandId: command.id, command: command.name, error }, 'command refused');
        throw error;
      }
    });
  }

  private async ask(id: string, command: Command): Promise<unknown> {
    for (let attempt = 1; attempt <= MOST_ATTEMPTS; attempt++) {
      try {
        const owned = (await this.directory.find(id)) ?? (await this.recipients.takeOver(id));
        if (!owned) return await this.answerFinished(id, command);
        return await askOwner(owned, command);
      } catch (error) {
        if (!(error instanceof SessionGone) && !(error instanceof OwnershipLost)) throw error;
      }
    }
    throw new DomainError('CONFLICT', 'The session is moving to another server; try again.');
  }

  /** What can be said of a finished session: stopping it changes nothing, a retried switch gets its receipt. */
  private async answerFinished(id: string, command: Command): Promise<unknown> {
    const session = await this.recipients.session(id);
    if (command.name === 'stop') return session;
    const key = command.name === 'switchPrompt' ? command.input.idempotencyKey : undefined;
    const receipt = key === undefined ? undefined : receiptOfKey(session, key);
    if (receipt && command.name === 'switchPrompt') return sameRequest(receipt, command.input);
    throw new DomainError('ENDED', `The session is over (${session.state}); create a new one.`);
  }
}

async function askOwner(owned: OwnedSession, command: Command): Promise<unknown> {
  try {
    return await carryOut(owned, command);
  } catch (error) {
    if (error instanceof OwnershipLost) owned.lose();
    throw error;
  }
}

async function carryOut(owned: OwnedSession, command: Command): Promise<unknown> {
  switch (command.name) {
    case 'switchPrompt':
      return owned.switchPrompt(command.id, command.input);
    case 'pause':
      return owned.pause(command.id);
    case 'resume':
      return owned.resume(command.id);
    case 'stop':
      return owned.stop(command.id);
  }
}
