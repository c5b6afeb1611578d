/** A session is the fold of its log: `initialSnapshot`, then `applyEvent` for every stored event in order. */

import { firstFrameOf, startSecondsOf } from '../blocks.js';
import type {
  PromptMoved,
  PromptApplied,
  PromptRequested,
  PromptSettled,
  SessionEnded,
  StateChanged,
  StoredEvent,
} from '../events.js';
import type { DomainError } from '../errors.js';
import type { EncoderName, LoraChoice, LoraInfo, ModelInfo } from '../ports.js';
import { isEnded, type Session, type SwitchReceipt, type TimelineEntry } from '../session.js';
import type { SessionRequest } from '../validation.js';

/** A snapshot keeps so many settled receipts, and so many entries of the timeline: those before are read from the log. */
export const KEPT = 100;

/** What a log tells of a session before its first event. */
export const NOTHING_LOGGED = {
  ...{ timeline: [], receipts: [], prompts: { requested: 0, inherited: 0, applied: 0 } },
  ...{ chunks: 0, frames: 0, seconds: 0, lastSequence: 0, artifacts: [] },
} as const;

type KnownModel = Pick<ModelInfo, 'digest' | 'version' | 'fps' | 'framesPerBlock' | 'loras'>;

export function initialSnapshot(
  id: string,
  request: SessionRequest,
  model: KnownModel,
  now: number,
  encoder?: EncoderName,
): Session {
  return {
    id,
    ...(request.tenant !== undefined && { tenant: request.tenant }),
    state: 'QUEUED',
    createdAt: new Date(now),
    updatedAt: new Date(now),
    model: request.model,
    modelDigest: model.digest,
    ...(encoder && { encoder }),
    modelVersion: model.version,
    ...(request.loras && { loras: request.loras.map((choice) => ({ ...choice, digest: digestOf(choice, model) })) }),
    seed: request.seed,
    width: request.width,
    height: request.height,
    fps: model.fps,
    framesPerBlock: model.framesPerBlock,
    pace: request.pace,
    ...(request.maxSeconds === undefined ? {} : { maxSeconds: request.maxSeconds }),
    ...(request.wait && { wait: request.wait }),
    ...(request.parent && { parent: request.parent }),
    prompt: request.prompts[0]?.prompt ?? '',
    ...NOTHING_LOGGED,
    viewers: 0,
  };
}

/** What is shown of a session that cannot be read, so that others are: that it is there, since when, and what is wrong. */
export function damagedSession(id: string, createdAt: Date, { code, message }: DomainError): Session {
  const request: SessionRequest = { model: '', seed: 0n, width: 0, height: 0, pace: 'REALTIME', prompts: [] };
  const unknown = { digest: '', version: '', fps: 1, framesPerBlock: 1, loras: [] as readonly LoraInfo[] };
  const empty = initialSnapshot(id, request, unknown, createdAt.getTime());
  return { ...empty, state: 'FAILED', failure: { code, message } };
}

function digestOf({ name }: LoraChoice, { loras }: KnownModel): string {
  return loras.find((lora) => lora.name === name)?.digest ?? '';
}

export function applyEvent(session: Session, event: StoredEvent): Session {
  return { ...session, ...changes(session, event), lastSequence: event.sequence, updatedAt: new Date(event.at) };
}

function changes(session: Session, event: StoredEvent): Partial<Session> {
  switch (event.type) {
    case 'StateChanged':
      return stateChanges(session, event);
    case 'PromptRequested':
      return requestedChanges(session, event);
    case 'PromptApplied':
      return appliedChanges(session, event);
    case 'PromptMoved':
      return {
        receipts: session.receipts.map((receipt) =>
          receipt.id === event.receiptId ? moved(session, receipt, event) : receipt,
        ),
      };
    case 'PromptSuperseded':
    case 'PromptCancelled':
      return { receipts: settle(session, event) };
    case 'FrameChunk':
      return {
        chunks: event.chunk + 1,
        frames: event.firstFrame + event.frameCount,
        seconds: (event.firstFrame + event.frameCount) / session.fps,
        media: { codec: event.codec, initKey: event.initKey },
      };
    case 'SessionEnded':
      return endedChanges(event);
  }
}

function stateChanges(session: Session, event: StateChanged): Partial<Session> {
  const receipts = isEnded(event.state)
    ? newest(
        session.receipts.map((receipt) =>
          receipt.status === 'PENDING' ? { ...receipt, status: 'DISCARDED' as const } : receipt,
        ),
      )
    : session.receipts;
  return { state: event.state, reason: event.reason, failure: event.failure, wait: event.wait, receipts };
}

function requestedChanges(session: Session, event: PromptRequested): Partial<Session> {
  const { prompts, parent, chunks } = session;
  const inherited = parent !== undefined && chunks < parent.chunk;
  return {
    receipts: [...session.receipts, receiptOf(session, event)],
    prompts: { ...prompts, requested: prompts.requested + 1, inherited: prompts.inherited + (inherited ? 1 : 0) },
  };
}

function appliedChanges(session: Session, event: PromptApplied): Partial<Session> {
  return {
    prompt: event.prompt,
    timeline: [...session.timeline, entryOf(event)].slice(-KEPT),
    receipts: settle(session, event),
    prompts: { ...session.prompts, applied: session.prompts.applied + 1 },
  };
}

function endedChanges(event: SessionEnded): Partial<Session> {
  const { artifacts, unmade, at } = event;
  return { artifacts, ...(unmade && { unmade }), finishedAt: new Date(at) };
}

export function entryOf(event: PromptApplied): TimelineEntry {
  const { prompt, mode, transition, wholeSeconds, block, frame, seconds, receiptId, recacheMilliseconds, sequence } =
    event;
  return {
    ...{ prompt, mode },
    ...(transition && { transition, wholeSeconds }),
    ...{ block, frame, seconds, receiptId, recacheMilliseconds, sequence },
  };
}

export function receiptOf(
  session: Pick<Session, 'id' | 'fps' | 'framesPerBlock'>,
  event: PromptRequested,
): SwitchReceipt {
  return {
    id: event.receiptId,
    sessionId: session.id,
    accepted: true,
    prompt: event.prompt,
    mode: event.mode,
    ...(event.transition && { transition: event.transition }),
    when: event.when,
    requestedAt: new Date(event.at),
    ...(event.idempotencyKey === undefined ? {} : { idempotencyKey: event.idempotencyKey }),
    ...(event.unknownWords && { unknownWords: event.unknownWords }),
    status: 'PENDING',
    expectedBlock: event.expectedBlock,
    expectedFrame: firstFrameOf(session, event.expectedBlock),
    expectedSeconds: startSecondsOf(session, event.expectedBlock),
    sequence: event.sequence,
  };
}

/** What was asked for, as it is after it was moved. */
export function asMoved<Asked extends Pick<PromptMoved, 'transition' | 'unknownWords'>>(
  { transition: _transition, unknownWords: _words, ...rest }: Asked,
  { prompt, mode, transition, when, expectedBlock, unknownWords }: PromptMoved,
) {
  return {
    ...rest,
    ...{ prompt, mode, when, expectedBlock },
    ...(transition && { transition }),
    ...(unknownWords && { unknownWords }),
  };
}

/** What has come to its outcome stays. */
export function moved(
  session: Pick<Session, 'fps' | 'framesPerBlock'>,
  receipt: SwitchReceipt,
  event: PromptMoved,
): SwitchReceipt {
  if (receipt.status !== 'PENDING') return receipt;
  return {
    ...asMoved(receipt, event),
    moved: event.sequence,
    expectedFrame: firstFrameOf(session, event.expectedBlock),
    expectedSeconds: startSecondsOf(session, event.expectedBlock),
  };
}

export function settled(receipt: SwitchReceipt, event: PromptSettled): SwitchReceipt {
  switch (event.type) {
    case 'PromptApplied':
      return { ...receipt, status: 'APPLIED', appliedBlock: event.block };
    case 'PromptSuperseded':
      return { ...receipt, status: 'SUPERSEDED', supersededBy: event.supersededBy };
    case 'PromptCancelled':
      return { ...receipt, status: 'CANCELLED' };
  }
}

function settle({ receipts }: Session, event: PromptSettled): SwitchReceipt[] {
  return newest(receipts.map((receipt) => (receipt.id === event.receiptId ? settled(receipt, event) : receipt)));
}

/** Without the oldest of too many settled ones. */
export function newest(receipts: SwitchReceipt[]): SwitchReceipt[] {
  let surplus = receipts.filter(({ status }) => status !== 'PENDING').length - KEPT;
  return surplus <= 0 ? receipts : receipts.filter(({ status }) => status === 'PENDING' || surplus-- <= 0);
}
