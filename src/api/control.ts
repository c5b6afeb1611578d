import type {
  CreateSessionInput,
  DeletedSession as Deleted,
  ForkSessionInput,
  CallerSessions,
  SwitchPromptInput,
  SwitchWhen as When,
  TimelineInput,
} from '../sessions/index.js';
import { invalid } from '../sessions/index.js';
import { builder } from './builder.js';
import type { ApiContext } from './context.js';
import {
  answering,
  AtCapacityError,
  ConflictError,
  ForbiddenError,
  InvalidInputError,
  NotFoundError,
  PROMPT_FAILURES,
  RateLimitError,
  SessionEndedError,
  UnavailableError,
} from './errors.js';
import { localId, SESSION_ID } from './ids.js';
import { type Nullable, withoutNulls } from './nulls.js';
import { seedFrom } from './scalars.js';
import { Pace, Session } from './session.js';
import { RecacheMode, SwitchReceipt, SwitchWhen } from './timeline.js';
import { type TransitionArgs, TransitionInput, transitionOf } from './transition.js';

const WAIT = 'Longest wait in line when there is no free capacity. Default: no wait; the answer is AtCapacityError.';

const TimelineEntryInput = builder.inputType('TimelineEntryInput', {
  description: 'A prompt and where it takes effect: at `atSeconds` or at `block`. The first entry starts at 0.',
  fields: (t) => ({
    prompt: t.string({ description: 'What the picture shows from there on.', required: true }),
    atSeconds: t.float({ description: 'The first block that starts at or after this time.' }),
    block: t.int({ description: 'The block before which it takes effect, counted from 0. Instead of `atSeconds`.' }),
    mode: t.field({
      description: 'What happens to the KV cache at the switch.',
      type: RecacheMode,
      defaultValue: 'RECACHE',
    }),
    transition: t.field({ type: TransitionInput, description: 'Not with the first entry. Default: at once.' }),
  }),
});

const LoraInput = builder.inputType('LoraInput', {
  description: 'An adapter to merge into the model.',
  fields: (t) => ({
    name: t.string({ required: true, description: 'The `name` of one of `Model.loras`.' }),
    weight: t.float({ defaultValue: 1, description: 'From -4 to 4, with at most two decimals.' }),
  }),
});

const CreateSession = builder.inputType('CreateSessionInput', {
  description: 'Give either `prompt` or `timeline`.',
  fields: (t) => ({
    prompt: t.string({ description: 'The prompt from the start.' }),
    timeline: t.field({ type: [TimelineEntryInput], description: 'All prompts in advance.' }),
    model: t.string({ description: "The `name` of a model. Default: the service's default model." }),
    loras: t.field({ type: [LoraInput], description: 'Merged into the model in this order; at most 4.' }),
    seed: t.field({ type: 'Seed', description: 'Default: random.' }),
    width: t.int({ description: "Default: the model's native size." }),
    height: t.int({ description: "Default: the model's native size." }),
    pace: t.field({ description: 'How fast blocks are generated.', type: Pace, defaultValue: 'REALTIME' }),
    maxSeconds: t.float({ description: 'Length at which the session ends. Default: endless.' }),
    maxWaitSeconds: t.float({ description: WAIT }),
    idempotencyKey: t.string({ description: 'The same key gives the same session.' }),
  }),
});

type CreateSessionArgs = Nullable<Omit<CreateSessionInput, 'seed' | 'timeline' | 'loras'>> & {
  loras?: { name: string; weight?: number | null }[] | null;
  seed?: string | number | null;
  timeline?: TimelineArgs[] | null;
};

type TimelineArgs = Nullable<Omit<TimelineInput, 'prompt' | 'transition'>> & {
  prompt: string;
  transition?: TransitionArgs | null;
};

builder.mutationField('createSession', (t) =>
  t.field({
    type: Session,
    description: 'Answers as soon as the session is admitted, or stands in the line, before anything is generated.',
    errors: {
      types: [InvalidInputError, ForbiddenError, ConflictError, AtCapacityError, RateLimitError, UnavailableError],
    },
    args: { input: t.arg({ type: CreateSession, required: true, description: 'What to generate.' }) },
    resolve: answering((_root: unknown, { input }: { input: CreateSessionArgs }, { sessions }: ApiContext) =>
      sessions.createSession(createInput(input)),
    ),
  }),
);

function createInput({ seed, timeline, loras, ...rest }: CreateSessionArgs): CreateSessionInput {
  return {
    ...withoutNulls(rest),
    ...(seed == null ? {} : { seed: seedFrom(seed) }),
    ...(timeline ? { timeline: timeline.map(timelineInput) } : {}),
    ...(loras ? { loras: loras.map(({ name, weight }) => ({ name, weight: weight ?? 1 })) } : {}),
  };
}

function timelineInput({ transition, ...rest }: TimelineArgs): TimelineInput {
  return { ...withoutNulls(rest), ...transitionOf(transition) };
}

interface ForkArgs {
  sessionId: string;
  atChunk?: number | null;
  atSeconds?: number | null;
  prompt?: string | null;
  mode?: ForkSessionInput['mode'] | null;
  transition?: TransitionArgs | null;
  pace?: ForkSessionInput['pace'] | null;
  maxSeconds?: number | null;
  maxWaitSeconds?: number | null;
  idempotencyKey?: string | null;
}

builder.mutationField('forkSession', (t) =>
  t.field({
    type: Session,
    description:
      'A new session with the model, adapters, seed and size of another, and its video up to a chunk; from there on it goes its own ' +
      'way. The other one may be in any state and stays as it is. Prompts that have not taken effect by then are not inherited.',
    errors: {
      types: [
        InvalidInputError,
        ForbiddenError,
        NotFoundError,
        ConflictError,
        AtCapacityError,
        RateLimitError,
        UnavailableError,
      ],
    },
    args: {
      sessionId: t.arg.id({ required: true, description: 'The session to branch off from.' }),
      atChunk: t.arg.int({
        description: "Index of the fork's first own chunk (at least 1). Default: the parent's end.",
      }),
      atSeconds: t.arg.float({
        description: 'Instead of `atChunk`: the first chunk that starts then or later, but for the first of all.',
      }),
      prompt: t.arg.string({ description: "Takes effect at that chunk. Default: the parent's prompt continues." }),
      mode: t.arg({ type: RecacheMode, defaultValue: 'RECACHE', description: 'What `prompt` does to the KV cache.' }),
      transition: t.arg({ type: TransitionInput, description: 'How `prompt` comes. Default: at once.' }),
      pace: t.arg({ type: Pace, defaultValue: 'REALTIME', description: 'How fast the fork generates.' }),
      maxSeconds: t.arg.float({
        description: 'Length of the whole video, inherited part included, at which the session ends. Default: endless.',
      }),
      maxWaitSeconds: t.arg.float({ description: WAIT }),
      idempotencyKey: t.arg.string({ description: 'The same key gives the same session.' }),
    },
    resolve: answering((_root: unknown, { sessionId, transition, ...input }: ForkArgs, { sessions }: ApiContext) =>
      sessions.forkSession(localId('Session', sessionId, 'sessionId'), {
        ...withoutNulls(input),
        ...transitionOf(transition),
      }),
    ),
  }),
);

interface SwitchArgs {
  sessionId: string;
  prompt: string;
  mode?: SwitchPromptInput['mode'] | null;
  transition?: TransitionArgs | null;
  when?: 'NEXT_BLOCK' | 'IMMEDIATE' | 'AT_BLOCK' | null;
  atBlock?: number | null;
  idempotencyKey?: string | null;
}

builder.mutationField('switchPrompt', (t) =>
  t.field({
    type: SwitchReceipt,
    description:
      'Answers at once with the expected block. The stream then carries exactly one of `PromptApplied` or `PromptSuperseded` with ' +
      'the id of the receipt, unless the session ends first. On a paused session the switch takes effect after resume.',
    errors: { types: PROMPT_FAILURES },
    args: {
      sessionId: t.arg.id({ required: true, description: 'The session to steer.' }),
      prompt: t.arg.string({ required: true, description: 'What the picture shows from the switch on.' }),
      mode: t.arg({ type: RecacheMode, defaultValue: 'RECACHE', description: 'What the switch does to the KV cache.' }),
      transition: t.arg({ type: TransitionInput, description: 'How the prompt comes. Default: at once.' }),
      when: t.arg({ type: SwitchWhen, defaultValue: 'NEXT_BLOCK', description: 'When the switch takes effect.' }),
      atBlock: t.arg.int({ description: 'Only with `when: AT_BLOCK`.' }),
      idempotencyKey: t.arg.string({ description: 'The same key within a session gives the same receipt.' }),
    },
    resolve: answering((_root: unknown, args: SwitchArgs, { sessions }: ApiContext) =>
      sessions.switchPrompt(localId('Session', args.sessionId, 'sessionId'), {
        prompt: args.prompt,
        mode: args.mode ?? undefined,
        ...transitionOf(args.transition),
        when: switchWhen(args),
        idempotencyKey: args.idempotencyKey ?? undefined,
      }),
    ),
  }),
);

function switchWhen({ when, atBlock }: SwitchArgs): When | undefined {
  if (when === 'AT_BLOCK') {
    if (atBlock == null) throw invalid('atBlock', 'when: AT_BLOCK needs atBlock, the number of the block.');
    return { block: atBlock };
  }
  if (atBlock != null) throw invalid('atBlock', 'atBlock requires when: AT_BLOCK. Set it, or leave atBlock out.');
  return when ?? undefined;
}

type Control = 'pauseSession' | 'stopSession';

const CONTROL_FAILURES = [
  InvalidInputError,
  ForbiddenError,
  NotFoundError,
  SessionEndedError,
  AtCapacityError,
  RateLimitError,
  UnavailableError,
];

function controlField(name: Control, description: string): void {
  builder.mutationField(name, (t) =>
    t.field({
      type: Session,
      description,
      errors: { types: CONTROL_FAILURES },
      args: { sessionId: t.arg.id({ required: true, description: SESSION_ID }) },
      resolve: answering((_root: unknown, { sessionId }: { sessionId: string }, { sessions }: ApiContext) =>
        control(sessions, name, localId('Session', sessionId, 'sessionId')),
      ),
    }),
  );
}

function control(sessions: CallerSessions, name: Control, id: string) {
  return sessions[name](id);
}

controlField(
  'pauseSession',
  'Stops generating after the current block and frees the device. Repeating it has no effect.',
);
builder.mutationField('resumeSession', (t) =>
  t.field({
    type: Session,
    description:
      'Continues a paused session from its last checkpoint, even if its server was lost. Repeating it has no effect.',
    errors: { types: CONTROL_FAILURES },
    args: {
      sessionId: t.arg.id({ required: true, description: SESSION_ID }),
      maxWaitSeconds: t.arg.float({ description: WAIT }),
    },
    resolve: answering((_root: unknown, { sessionId, ...input }: ResumeArgs, { sessions }: ApiContext) =>
      sessions.resumeSession(localId('Session', sessionId, 'sessionId'), withoutNulls(input)),
    ),
  }),
);

interface ResumeArgs {
  sessionId: string;
  maxWaitSeconds?: number | null;
}

controlField('stopSession', 'Ends the session; its artifacts are then made. Repeating it has no effect.');

interface UpdateArgs {
  sessionId: string;
  title?: string | null;
  favourite?: boolean | null;
}

builder.mutationField('updateSession', (t) =>
  t.field({
    type: Session,
    description: 'Changes what people say of a session, whatever state it is in. What is left out stays as it is.',
    errors: { types: [InvalidInputError, ForbiddenError, NotFoundError, ConflictError, UnavailableError] },
    args: {
      sessionId: t.arg.id({ required: true, description: SESSION_ID }),
      title: t.arg.string({ description: 'What to call it; null for no title any more. At most 200 characters.' }),
      favourite: t.arg.boolean({ description: 'Whether to find it again among the favourites.' }),
    },
    resolve: answering((_root: unknown, { sessionId, title, favourite }: UpdateArgs, { sessions }: ApiContext) =>
      sessions.updateSession(localId('Session', sessionId, 'sessionId'), {
        ...(title !== undefined && { title }),
        ...(favourite != null && { favourite }),
      }),
    ),
  }),
);

builder.mutationField('remakeArtifacts', (t) =>
  t.field({
    type: Session,
    description:
      'Makes artifacts that could not be made when the session ended (`artifactStatus` FAILED), in the background. ' +
      'Answers at once. Repeating it has no effect while they are made, and when none is missing.',
    errors: { types: [InvalidInputError, ForbiddenError, NotFoundError, ConflictError, UnavailableError] },
    args: { sessionId: t.arg.id({ required: true, description: SESSION_ID }) },
    resolve: answering((_root: unknown, { sessionId }: { sessionId: string }, { sessions }: ApiContext) =>
      sessions.remakeArtifacts(localId('Session', sessionId, 'sessionId')),
    ),
  }),
);

const DeletedSession = builder.objectRef<Deleted>('DeletedSession').implement({
  description: 'A session that no longer exists.',
  fields: (t) => ({
    sessionId: t.id({ description: 'The id that it had.', resolve: ({ sessionId }) => `Session:${sessionId}` }),
    deletedAt: t.expose('deletedAt', { description: 'When it was deleted.', type: 'DateTime' }),
  }),
});

builder.mutationField('deleteSession', (t) =>
  t.field({
    type: DeletedSession,
    description:
      'Stops the session if necessary and deletes it with everything that was generated. Its forks stay complete. ' +
      'Repeating it has no effect.',
    errors: { types: [InvalidInputError, ForbiddenError, NotFoundError, ConflictError, UnavailableError] },
    args: { sessionId: t.arg.id({ required: true, description: SESSION_ID }) },
    resolve: answering((_root: unknown, { sessionId }: { sessionId: string }, { sessions }: ApiContext) =>
      sessions.deleteSession(localId('Session', sessionId, 'sessionId')),
    ),
  }),
);
