import { describe, expect, it } from 'vitest';
import { DomainError, type Session, type SwitchReceipt } from '../../../src/sessions/index.js';
import {
  type Command,
  type CommandName,
  COMMANDS,
  decodeCommand,
  decodeReply,
  encodeCommand,
  encodeReply,
} from '../../../src/sessions/live/commands.js';

const RECEIPT: SwitchReceipt = {
  id: 'r1',
  sessionId: 's1',
  accepted: true,
  prompt: 'a „fox“ \u0000 \ud83e\udd8a',
  mode: 'KEEP_CACHE',
  when: { block: 7 },
  requestedAt: new Date(1_800_000_000_123),
  idempotencyKey: 'k',
  status: 'PENDING',
  expectedBlock: 7,
  expectedFrame: 81,
  expectedSeconds: 5.0625,
  sequence: 3,
};

const SESSION: Session = {
  id: 's1',
  state: 'FAILED',
  reason: 'ENGINE',
  failure: { code: 'ENGINE', message: 'broken' },
  createdAt: new Date(1_800_000_000_000),
  updatedAt: new Date(1_800_000_000_001),
  finishedAt: new Date(1_800_000_000_002),
  model: 'fake',
  modelDigest: 'd1',
  loras: [{ name: 'ink', weight: 0.5, digest: 'i1' }],
  seed: 2n ** 64n - 1n,
  width: 64,
  height: 64,
  fps: 16,
  framesPerBlock: 3,
  pace: 'FASTEST',
  maxSeconds: 12.5,
  prompt: 'a fox',
  timeline: [
    {
      prompt: 'a fox',
      mode: 'RECACHE',
      block: 0,
      frame: 0,
      seconds: 0,
      receiptId: 'r0',
      recacheMilliseconds: 1.5,
      sequence: 4,
    },
  ],
  receipts: [RECEIPT],
  prompts: { requested: 1, inherited: 0, applied: 1 },
  chunks: 3,
  frames: 33,
  seconds: 2.0625,
  lastSequence: 12,
  media: { codec: 'avc1.42c01e', initKey: 'sessions/s1/init.mp4' },
  viewers: 2,
  artifacts: [{ kind: 'MP4', key: 'sessions/s1/video.mp4', contentType: 'video/mp4', bytes: 10 }],
  parent: { sessionId: 's0', chunk: 1 },
};

const INPUTS: { [Name in CommandName]: Command & { name: Name } } = {
  switchPrompt: {
    id: 'c1',
    name: 'switchPrompt',
    input: { prompt: RECEIPT.prompt, mode: 'CLEAR_CACHE', when: { block: 7 }, idempotencyKey: 'k' },
  },
  movePrompt: {
    id: 'c9',
    name: 'movePrompt',
    input: { receiptId: 'r1', prompt: 'a bear', atBlock: 9, mode: 'RECACHE', transition: null },
  },
  cancelPrompt: { id: 'c10', name: 'cancelPrompt', input: { receiptId: 'r1' } },
  pause: { id: 'c2', name: 'pause', input: null },
  resume: { id: 'c3', name: 'resume', input: { maxWaitSeconds: 30 } },
  stop: { id: 'c4', name: 'stop', input: null },
  acknowledge: {
    id: 'c8',
    name: 'acknowledge',
    input: { viewer: 'v', seconds: 1.5, playing: false, aheadSeconds: 4 },
  },
  create: {
    id: 'c5',
    name: 'create',
    input: { prompt: 'a fox', seed: 2n ** 64n - 1n, loras: [{ name: 'ink', weight: 0.5 }], idempotencyKey: 'k' },
  },
  fork: { id: 'c6', name: 'fork', input: { sessionId: 's1', input: { atChunk: 2, prompt: 'a robot' } } },
  takeUp: { id: 'c7', name: 'takeUp', input: { sessionId: 's1' } },
};

const OUTPUTS = {
  ...{ movePrompt: RECEIPT, cancelPrompt: RECEIPT },
  ...{ switchPrompt: RECEIPT, pause: SESSION, resume: SESSION, stop: SESSION },
  ...{ create: SESSION, fork: SESSION, takeUp: SESSION, acknowledge: { heard: true } },
};

const ERRORS = [
  new DomainError('INVALID_INPUT', 'prompt is empty.', { field: 'prompt' }),
  new DomainError('AT_CAPACITY', 'All places are taken.', { retryAfterSeconds: 7 }),
  new DomainError('ENDED', 'over'),
  new DomainError('STORAGE', 'The store is away.', { cause: new Error('secret') }),
  new DomainError('OWNED_ELSEWHERE', 'not here', { owner: { serverId: 'a', since: new Date(1_800_000_000_000) } }),
  new DomainError('OWNED_ELSEWHERE', 'not here', { owner: { serverId: 'a' } }),
];

describe.each(Object.keys(COMMANDS) as CommandName[])('%s', (name) => {
  it('is the same behind a wire', () => {
    expect(decodeCommand(encodeCommand(INPUTS[name]))).toEqual(INPUTS[name]);
  });

  it('has an answer that is the same behind a wire', async () => {
    const reply = await encodeReply(async () => OUTPUTS[name]);
    expect(decodeReply(name, reply)).toEqual(OUTPUTS[name]);
  });

  it.each(ERRORS)('throws behind a wire what was thrown before it: $code', async (error) => {
    const reply = await encodeReply(() => Promise.reject(error));
    expect(reply).not.toContain('secret');
    let thrown: unknown;
    try {
      decodeReply(name, reply);
    } catch (caught) {
      thrown = caught;
    }
    expect(thrown).toBeInstanceOf(DomainError);
    const { code, message, field, retryAfterSeconds, owner } = error;
    expect(thrown).toMatchObject({ code, message });
    expect(thrown).toHaveProperty('field', field);
    expect(thrown).toHaveProperty('retryAfterSeconds', retryAfterSeconds);
    expect(thrown).toHaveProperty('owner', owner);
  });

  it('throws a bug of the owner as one', async () => {
    const reply = await encodeReply(() => Promise.reject(new TypeError('x is undefined')));
    expect(() => decodeReply(name, reply)).toThrow(/owner failed: x is undefined/);
    expect(() => decodeReply(name, reply)).not.toThrow(DomainError);
  });
});

describe('what is no command', () => {
  it.each([
    '',
    '{',
    'null',
    '[]',
    '{}',
    '{"id":"1","name":"explode","input":null}',
    '{"id":"1","name":"constructor","input":null}',
    '{"id":"","name":"stop","input":null}',
    '{"name":"stop","input":null}',
    '{"id":"1","name":"stop","input":null,"more":1}',
    '{"id":"1","name":"switchPrompt","input":{"prompt":1}}',
    '{"id":"1","name":"switchPrompt","input":{"prompt":"a","when":[]}}',
    '{"id":"1","name":"switchPrompt","input":{"prompt":"a","__proto__":{"mode":1}}}',
  ])('is refused: %s', (message) => {
    expect(() => decodeCommand(message)).toThrow();
  });
});
