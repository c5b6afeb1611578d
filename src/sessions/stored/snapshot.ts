/** A session is the fold of its log: `initialSnapshot`, then `applyEvent` for every stored event in order. */

import { firstFrameOf, startSecondsOf } from '../blocks.js';
import type { PromptApplied, PromptRequested, SessionEnded, StateChanged, StoredEvent } from '../events.js';
import type { LoraChoice, ModelInfo } from '../ports.js';
import { isEnded, type Session, type SwitchReceipt } from '../session.js';
import type { SessionRequest } from '../validation.js';

export function initialSnapshot(id: string, request: SessionRequest, model: ModelInfo, now: number): Session {
  return {
    id,
    state: 'QUEUED',
    createdAt: new Date(now),
    updatedAt: new Date(now),
    model: request.model,
    modelDigest: model.digest,
    ...(request.loras && { loras: request.loras.map((choice) => ({ ...choice, digest: digestOf(choice, model) })) }),
    seed: request.seed,
    width: request.width,
    height: request.height,
    fps: model.fps,
    framesPerBlock: model.framesPerBlock,
    pace: request.pace,
    ...(request.maxSeconds === undefined ? {} : { maxSeconds: request.maxSeconds }),
    ...(request.parent && { parent: request.parent }),
    prompt: request.prompts[0]?.prompt ?? '',
    timeline: [],
    receipts: [],
    chunks: 0,
    frames: 0,
    seconds: 0,
    lastSequence: 0,
    viewers: 0,
    artifacts: [],
  };
}

function digestOf({ name }: LoraChoice, { loras }: ModelInfo): string {
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
      return { receipts: [...session.receipts, receiptOf(session, event)] };
    case 'PromptApplied':
      return appliedChanges(session, event);
    case 'PromptSuperseded':
      return {
        receipts: updateReceipt(session, event.requestId, { status: 'SUPERSEDED', supersededBy: event.supersededBy }),
      };
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
    ? session.receipts.map((receipt) =>
        receipt.status === 'PENDING' ? { ...receipt, status: 'DISCARDED' as const } : receipt,
      )
    : session.receipts;
  return { state: event.state, reason: event.reason, error: event.error, receipts };
}

function appliedChanges(session: Session, event: PromptApplied): Partial<Session> {
  const { prompt, mode, block, frame, seconds, requestId, recacheMilliseconds } = event;
  return {
    prompt,
    timeline: [...session.timeline, { prompt, mode, block, frame, seconds, requestId, recacheMilliseconds }],
    receipts: updateReceipt(session, requestId, { status: 'APPLIED', appliedBlock: block }),
  };
}

function endedChanges(event: SessionEnded): Partial<Session> {
  return { artifacts: event.artifacts, finishedAt: new Date(event.at) };
}

function receiptOf(session: Session, event: PromptRequested): SwitchReceipt {
  return {
    id: event.requestId,
    sessionId: session.id,
    accepted: true,
    prompt: event.prompt,
    mode: event.mode,
    when: event.when,
    requestedAt: new Date(event.at),
    ...(event.idempotencyKey === undefined ? {} : { idempotencyKey: event.idempotencyKey }),
    status: 'PENDING',
    expectedBlock: event.expectedBlock,
    expectedFrame: firstFrameOf(session, event.expectedBlock),
    expectedSeconds: startSecondsOf(session, event.expectedBlock),
  };
}

function updateReceipt(session: Session, id: string, change: Partial<SwitchReceipt>): SwitchReceipt[] {
  return session.receipts.map((receipt) => (receipt.id === id ? { ...receipt, ...change } : receipt));
}
