/**
 * The closed list of what a session's owner can be asked, and how that travels: as JSON text, also within a process, so
 * that a wire between servers changes nothing. Every command has an id, which its receipt, its log lines, the events that
 * it causes and the chunk where it takes effect share.
 */

import { z } from 'zod';
import { DomainError, type DomainErrorCode, invalid } from '../errors.js';
import type {
  CreateSessionInput,
  ForkSessionInput,
  MovePromptInput,
  ResumeSessionInput,
  Session,
  SwitchPromptInput,
  SwitchReceipt,
  ViewerPosition,
} from '../session.js';
import {
  bigintAsText,
  decodeReceipt,
  decodeSnapshot,
  encodeSnapshot,
  type StoredReceipt,
  type StoredSnapshot,
} from '../stored/record.js';

/** How a value is put into JSON (big integers are text there, dates ISO 8601) and got out of it again. */
interface Codec<T> {
  decode(json: unknown): T;
}

const nothing: Codec<null> = { decode: () => null };

const session: Codec<Session> = { decode: (json) => decodeSnapshot(json as StoredSnapshot) };

const receipt: Codec<SwitchReceipt> = { decode: (json) => decodeReceipt(json as StoredReceipt) };

/** Only the shape: which prompts, modes and blocks are possible is for the owner to say. */
const SWITCH_INPUT = z.strictObject({
  prompt: z.string(),
  mode: z.string().optional(),
  transition: z
    .strictObject({ kind: z.string().optional(), chunks: z.number(), curve: z.string().optional() })
    .optional(),
  when: z.union([z.string(), z.strictObject({ block: z.number().nullable() })]).optional(),
  idempotencyKey: z.string().optional(),
});

const switchInput: Codec<SwitchPromptInput> = {
  decode: (json) => {
    const parsed = SWITCH_INPUT.safeParse(json);
    if (parsed.success) return withoutAbsent(parsed.data) as SwitchPromptInput;
    const field = parsed.error.issues[0]?.path.join('.') || 'prompt';
    throw invalid(field, `${field} has the wrong type.`);
  },
};

/** How a server asks another to make a session. */
export interface Placed {
  /** No server has room: it is to stand in the line. Earlier releases refuse it instead. */
  inLine?: boolean;
}

/** Only the shape here, too. */
const CREATE_INPUT = z.looseObject({ seed: z.string().optional() });

const createInput: Codec<CreateSessionInput & Placed> = {
  decode: (json) => {
    const { seed, ...rest } = CREATE_INPUT.parse(json);
    return { ...rest, ...(seed !== undefined && { seed: BigInt(seed) }) };
  },
};

const FORK_INPUT = z.object({ sessionId: z.string(), input: z.looseObject({}) });

const forkInput: Codec<{ sessionId: string; input: ForkSessionInput & Placed }> = {
  decode: (json) => FORK_INPUT.parse(json),
};

const SESSION_ID = z.object({ sessionId: z.string() });

const takeUpInput: Codec<{ sessionId: string }> = { decode: (json) => SESSION_ID.parse(json) };

const POSITION = z.strictObject({
  viewer: z.string(),
  seconds: z.number(),
  playing: z.boolean(),
  aheadSeconds: z.number().optional(),
});

const position: Codec<ViewerPosition> = { decode: (json) => withoutAbsent(POSITION.parse(json)) };

const RESUME = z.object({ maxWaitSeconds: z.number().optional() }).nullable();

/** Null where it is not to wait, and from earlier releases. */
const resumeInput: Codec<ResumeSessionInput | null> = {
  decode: (json) => {
    const input = RESUME.parse(json);
    return input && withoutAbsent(input);
  },
};

const MOVE_INPUT = z.strictObject({
  receiptId: z.string(),
  prompt: z.string().optional(),
  atBlock: z.number().optional(),
  mode: z.string().optional(),
  transition: SWITCH_INPUT.shape.transition.nullable(),
});

export type MoveInput = Omit<MovePromptInput, 'atSeconds'> & { receiptId: string };

const moveInput: Codec<MoveInput> = { decode: (json) => withoutAbsent(MOVE_INPUT.parse(json)) as MoveInput };

const RECEIPT_ID = z.object({ receiptId: z.string() });

const receiptId: Codec<{ receiptId: string }> = { decode: (json) => RECEIPT_ID.parse(json) };

/** Whether whoever generates the session has heard it. */
export interface Heard {
  heard: boolean;
}

const heard: Codec<Heard> = { decode: (json) => z.object({ heard: z.boolean() }).parse(json) };

/** What a server is asked for, of which no session is the owner yet. */
const SERVER_COMMANDS = {
  create: { input: createInput, output: session },
  fork: { input: forkInput, output: session },
  /** Goes on with a session that its owner has let go of, if it is to go on. */
  takeUp: { input: takeUpInput, output: session },
} as const;

const SESSION_COMMANDS = {
  switchPrompt: { input: switchInput, output: receipt },
  movePrompt: { input: moveInput, output: receipt },
  cancelPrompt: { input: receiptId, output: receipt },
  pause: { input: nothing, output: session },
  resume: { input: resumeInput, output: session },
  stop: { input: nothing, output: session },
  acknowledge: { input: position, output: heard },
} as const;

export const COMMANDS = { ...SESSION_COMMANDS, ...SERVER_COMMANDS } as const;

type Commands = typeof COMMANDS;
export type CommandName = keyof Commands;
export type Input<Name extends CommandName> = ReturnType<Commands[Name]['input']['decode']>;
export type Output<Name extends CommandName> = ReturnType<Commands[Name]['output']['decode']>;

/** What some command answers with. */
export type Answer = Output<CommandName>;

type CommandOf<Names extends CommandName> = {
  [Name in Names]: { id: string; name: Name; input: Input<Name> };
}[Names];

export type Command = CommandOf<CommandName>;
export type SessionCommand = CommandOf<keyof typeof SESSION_COMMANDS>;
export type ServerCommand = CommandOf<keyof typeof SERVER_COMMANDS>;

export function isForServer(command: Command): command is ServerCommand {
  return command.name in SERVER_COMMANDS;
}

const MESSAGE = z.strictObject({
  id: z.string().min(1).max(100),
  name: z.enum(Object.keys(COMMANDS) as [CommandName, ...CommandName[]]),
  input: z.unknown(),
});

export function encodeCommand(command: Command): string {
  return JSON.stringify(command, bigintAsText);
}

/** Throws unless the text is a command with input of its kind. */
export function decodeCommand(message: string): Command {
  const { id, name, input } = MESSAGE.parse(JSON.parse(message));
  return { id, name, input: COMMANDS[name].input.decode(input) } as Command;
}

// ---- replies --------------------------------------------------------------------------------------------------------

const ERROR = z.strictObject({
  code: z.string(),
  message: z.string(),
  field: z.string().optional(),
  retryAfterSeconds: z.number().optional(),
  owner: z.strictObject({ serverId: z.string(), since: z.iso.datetime().optional() }).optional(),
});

/** A bug at the owner: only the text of it travels, for the log. */
const FAULT = 'FAULT';

const REPLY = z.union([z.strictObject({ value: z.unknown() }), z.strictObject({ error: ERROR })]);

/** Carries out the work and writes what came of it, failures too. */
export async function encodeReply(work: () => Promise<Answer>): Promise<string> {
  try {
    const answer = await work();
    return JSON.stringify({ value: 'timeline' in answer ? encodeSnapshot(answer) : answer }, bigintAsText);
  } catch (error) {
    return JSON.stringify({ error: encodeError(error) });
  }
}

/** What the owner answered; throws what it threw, a DomainError as a DomainError. */
export function decodeReply<Name extends CommandName>(name: Name, reply: string): Output<Name> {
  const answer = REPLY.parse(JSON.parse(reply));
  if ('error' in answer) throw decodeError(answer.error);
  return COMMANDS[name].output.decode(answer.value) as Output<Name>;
}

/** Why it was refused; `undefined` when it was carried out. */
export function refusalIn(reply: string): DomainErrorCode | undefined {
  const answer = REPLY.parse(JSON.parse(reply));
  return 'error' in answer ? (answer.error.code as DomainErrorCode) : undefined;
}

function encodeError(error: unknown): z.output<typeof ERROR> {
  if (!(error instanceof DomainError)) {
    return { code: FAULT, message: error instanceof Error ? error.message : String(error) };
  }
  const { code, message, field, retryAfterSeconds, owner } = error;
  return {
    code,
    message,
    ...(field !== undefined && { field }),
    ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
    ...(owner && { owner: { serverId: owner.serverId, ...(owner.since && { since: owner.since.toISOString() }) } }),
  };
}

function decodeError({ code, message, owner, ...details }: z.output<typeof ERROR>): Error {
  if (code === FAULT) return new Error(`The session's owner failed: ${message}`);
  return new DomainError(code as DomainErrorCode, message, {
    ...withoutAbsent(details),
    ...(owner && {
      owner: { serverId: owner.serverId, ...(owner.since !== undefined && { since: new Date(owner.since) }) },
    }),
  });
}

/** zod leaves keys of absent fields in the type as `undefined`. */
function withoutAbsent<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}
